"""First and second derivatives of H and S with respect to the positions of the atoms.

Networks are differentiated in forward mode (one evaluation gives the exact derivative of every
block along one direction) in double precision, overlaps through the splines of their table. Edges
are those of the structure at rest, because blocks vanish smoothly at the cutoff. Models that offer
nothing of the kind are differentiated by central differences.

References:
    Griewank and Walther, Evaluating Derivatives (2008), doi:10.1137/1.9780898717761, chapter 3
    (forward mode).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor, nn

from mlepi.errors import PhysicsError, message
from mlepi.graphs import fields
from mlepi.graphs.block_pairs import find_pairs, list_pairs
from mlepi.graphs.build import AtomGraph
from mlepi.predictors.forward_mode import push_forward
from mlepi.predictors.orbital_slopes import find_orbital_slopes

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix

FORWARD_MODE = "forward-mode differentiation"
"""How a network's derivatives are made, in the words of a record."""

LOST_BLOCK = 1e-6
"""Largest element, eV or 1, of a block that a displaced structure may have and the one at rest has
not."""


@dataclass(frozen=True)
class BlockDerivatives:
    """Derivatives of the blocks of a real-space matrix along several directions.

    Attributes:
        edge_index: (2, n_edges) int, as ``BlockMatrix``, of the structure at rest.
        edge_cell_shift: (n_edges, 3) int.
        values: (n_directions, n_edges, p, p); unit of the blocks per Å (first) or Å² (second
            derivatives).
    """

    edge_index: NDArray[np.int64]
    edge_cell_shift: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class MatrixDerivatives:
    """Derivatives of H and S.

    Attributes:
        hamiltonian: eV/Å or eV/Å².
        overlap: 1/Å or 1/Å².
        ket_overlap: of S where only the orbital on the right moves, 1/Å; None with second
            derivatives, and where unknown.
        method: how they were made, in words.
    """

    hamiltonian: BlockDerivatives
    overlap: BlockDerivatives
    ket_overlap: BlockDerivatives | None
    method: str


class HamiltonianModel(Protocol):
    """Whatever predicts H and S of a structure."""

    def hamiltonian(self, atoms: Atoms, *, device: str = ..., dtype: str = ...) -> BlockMatrix:
        """Return the Hamiltonian, eV."""
        ...

    def overlap(self, atoms: Atoms) -> BlockMatrix:
        """Return the overlap."""
        ...


@runtime_checkable
class DifferentiableModel(HamiltonianModel, Protocol):
    """A model that knows the derivatives of its matrices."""

    def derivatives(
        self, atoms: Atoms, directions: NDArray[np.float64], *, device: str = ...
    ) -> MatrixDerivatives:
        """Return first derivatives along directions (n_directions, n_atoms, 3)."""
        ...

    def second_derivatives(
        self,
        atoms: Atoms,
        first: NDArray[np.float64],
        second: NDArray[np.float64],
        *,
        device: str = ...,
    ) -> MatrixDerivatives:
        """Return second derivatives along pairs of directions, (n_directions, n_atoms, 3) each."""
        ...


def compute_derivatives(
    model: HamiltonianModel,
    atoms: Atoms,
    directions: NDArray[np.float64],
    *,
    device: str = "cpu",
    step: float = 0.01,
) -> MatrixDerivatives:
    """Differentiate H and S along directions, by central differences if the model cannot.

    Args:
        model: of H and S.
        atoms: structure at rest; not modified.
        directions: (n_directions, n_atoms, 3), dimensionless; the derivative is with respect to
            their factor in Å.
        device: where a network runs.
        step: Å, of central differences: the displacement of the atom that moves most.

    Returns:
        The derivatives; ``method`` says which of the two it was.

    Raises:
        PhysicsError: a displaced structure has blocks that the one at rest has not.
    """
    if isinstance(model, DifferentiableModel):
        return model.derivatives(atoms, directions, device=device)
    rest = _evaluate(model, atoms, device)
    parts: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for direction in directions:
        h = step / np.abs(direction).max()
        ends = [_displaced(model, atoms, sign * h * direction, device, rest) for sign in (1, -1)]
        changes = [(plus - minus) / (2.0 * h) for plus, minus in zip(*ends, strict=True)]
        parts[0].append(changes[0])
        parts[1].append(changes[1])
        moved = _move_kets(model, rest[1], changes[1], direction)
        if moved is not None:
            parts[2].append(moved)
    hamiltonian, overlap = (
        _collect(matrix, values) for matrix, values in zip(rest, parts[:2], strict=True)
    )
    ket = _collect(rest[1], parts[2]) if len(parts[2]) == len(directions) else None
    return MatrixDerivatives(hamiltonian, overlap, ket, f"central differences of {step:g} Å")


def compute_second_derivatives(
    model: HamiltonianModel,
    atoms: Atoms,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    *,
    device: str = "cpu",
    step: float = 0.01,
) -> MatrixDerivatives:
    """Return ∂²/∂first∂second of H and S for pairs of directions.

    Arguments and errors as ``compute_derivatives``.

    Args:
        model: of H and S.
        atoms: structure at rest; not modified.
        first: (n_directions, n_atoms, 3).
        second: (n_directions, n_atoms, 3).
        device: where a network runs.
        step: Å, of central differences, for either direction.
    """
    if isinstance(model, DifferentiableModel):
        return model.second_derivatives(atoms, first, second, device=device)
    rest = _evaluate(model, atoms, device)
    parts: tuple[list[Any], list[Any]] = ([], [])
    for one, other in zip(first, second, strict=True):
        h, g = step / np.abs(one).max(), step / np.abs(other).max()
        corners = [
            [
                a * b * blocks
                for blocks in _displaced(model, atoms, a * h * one + b * g * other, device, rest)
            ]
            for a in (1, -1)
            for b in (1, -1)
        ]
        for part, blocks in zip(parts, zip(*corners, strict=True), strict=True):
            part.append(np.sum(blocks, axis=0) / (4.0 * h * g))
    hamiltonian, overlap = (
        _collect(matrix, values) for matrix, values in zip(rest, parts, strict=True)
    )
    return MatrixDerivatives(hamiltonian, overlap, None, f"central differences of {step:g} Å")


def differentiate_network(
    network: nn.Module,
    graph: AtomGraph,
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Differentiate the blocks of an electron network in forward mode, one way at a time.

    Args:
        network: float64, with plain (not compiled) kernels.
        graph: of the structure at rest, float64, on the network's device.
        first: (n_directions, n_atoms, 3).
        second: (n_directions, n_atoms, 3) for mixed second derivatives.

    Returns:
        (n_directions, n_blocks, p, p), on-site blocks first, then those of ``fields.RELATIONS`` in
        turn; eV/Å or eV/Å².
    """

    def blocks(positions: Tensor) -> Tensor:
        moved = graph.clone()
        moved[fields.ATOM][fields.POSITIONS] = positions
        predicted = network(moved)
        return torch.cat(
            [
                predicted["onsite_blocks"],
                *(predicted["edge_blocks"][name] for name in fields.RELATIONS),
            ]
        )

    return push_forward(blocks, graph[fields.ATOM][fields.POSITIONS], first, second)


def _move_kets(
    model: HamiltonianModel,
    overlap: BlockMatrix,
    change: NDArray[np.float64],
    direction: NDArray[np.float64],
) -> NDArray[np.float64] | None:
    """Return the part of ∂S where only the orbital on the right moves, 1/Å, for a single atom.

    None where several atoms move, or where the model does not tell the slopes of its orbitals.

    Args:
        model: of S.
        overlap: at rest.
        change: (n_edges, p, p), ∂S, 1/Å.
        direction: (n_atoms, 3).
    """
    moving = np.any(direction != 0.0, axis=1)
    if moving.sum() != 1:
        return None
    (atom,) = np.flatnonzero(moving)
    slopes = find_orbital_slopes(model, overlap, int(overlap.numbers[atom]))
    if slopes is None:
        return None
    source, target = overlap.edge_index
    # the orbital on the right sits on that atom, and not the one on the left
    ket = change * (moving[source] & ~moving[target])[:, None, None]
    own = (source == atom) & (target == atom) & ~np.any(overlap.edge_cell_shift, axis=1)
    ket[own] = np.tensordot(direction[atom], slopes, axes=1)
    return np.asarray(ket)


def _evaluate(
    model: HamiltonianModel, atoms: Atoms, device: str
) -> tuple[BlockMatrix, BlockMatrix]:
    return model.hamiltonian(atoms, device=device, dtype="float64"), model.overlap(atoms)


def _displaced(
    model: HamiltonianModel,
    atoms: Atoms,
    displacement: NDArray[np.float64],
    device: str,
    rest: tuple[BlockMatrix, BlockMatrix],
) -> list[NDArray[np.float64]]:
    """Return the blocks of H and S of a displaced structure, in the order of those at rest."""
    moved = atoms.copy()
    moved.positions += displacement
    return [
        _align(matrix, at_rest)
        for matrix, at_rest in zip(_evaluate(model, moved, device), rest, strict=True)
    ]


def _align(matrix: BlockMatrix, rest: BlockMatrix) -> NDArray[np.float64]:
    """Sort the blocks of one matrix as those of another; pairs that it lacks are zero."""
    found = find_pairs(*(list_pairs(m.edge_index, m.edge_cell_shift) for m in (rest, matrix)))
    lost = np.abs(matrix.blocks[found < 0]).max(initial=0.0)
    if lost > LOST_BLOCK:
        raise PhysicsError(
            message(
                "derivatives by differences",
                f"a block of {lost:.2e} for a pair that the structure at rest lacks",
                f"at most {LOST_BLOCK:g}: blocks that fade out at the cutoff",
                "Use a smaller step, or a model with smooth cutoffs.",
            )
        )
    blocks = np.zeros_like(rest.blocks)
    blocks[found[found >= 0]] = matrix.blocks[found >= 0]
    return blocks


def _collect(matrix: BlockMatrix, values: Sequence[NDArray[np.float64]]) -> BlockDerivatives:
    return BlockDerivatives(matrix.edge_index, matrix.edge_cell_shift, np.array(values))
