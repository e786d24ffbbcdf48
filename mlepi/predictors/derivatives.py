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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mlepi.errors import PhysicsError, message
from mlepi.graphs import fields
from mlepi.graphs.block_pairs import find_pairs, list_pairs
from mlepi.graphs.build import AtomGraph
from mlepi.models.compilation import plain_operations
from mlepi.physics.overlaps import OverlapTable
from mlepi.physics.overlaps.evaluate import compute_overlap_blocks_torch

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
        source, target = rest[1].edge_index
        moving = np.any(direction != 0.0, axis=1)
        if (
            moving.sum() == 1
        ):  # an orbital on the right moves where it sits on that atom, and not the one on the left
            parts[2].append(changes[1] * (moving[source] & ~moving[target])[:, None, None])
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

    return _push_forward(blocks, graph[fields.ATOM][fields.POSITIONS], first, second)


def differentiate_overlaps(
    table: OverlapTable,
    numbers: NDArray[np.integer],
    edge_index: NDArray[np.integer],
    vectors: NDArray[np.float64],
    size: int,
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Differentiate overlap blocks along changes of the edge vectors.

    Args:
        table: radial overlap functions.
        numbers: (n_atoms,) atomic numbers.
        edge_index: (2, n_edges) int.
        vectors: (n_edges, 3), from target to source, Å.
        size: p, of the padded blocks.
        first: (n_directions, n_edges, 3), changes of the vectors.
        second: the same, for mixed second derivatives.

    Returns:
        (n_directions, n_edges, p, p), 1/Å or 1/Å².
    """
    atoms = torch.from_numpy(np.asarray(numbers, dtype=np.int64))
    edges = torch.from_numpy(np.asarray(edge_index))
    result = np.zeros((len(first), len(vectors), size, size))
    for n, change in enumerate(first):
        moving = np.any(change != 0.0, axis=1)
        if second is not None:
            moving &= np.any(second[n] != 0.0, axis=1)
        chosen = np.flatnonzero(moving)
        if not len(chosen):
            continue

        blocks = partial(_overlap_blocks, table, atoms, edges[:, torch.from_numpy(chosen)], size)
        point = torch.from_numpy(vectors[chosen])
        with torch.no_grad():
            blocks(point)  # couplings are computed at their first use, which must be a plain one
        other = None if second is None else second[n : n + 1, chosen]
        result[n, chosen] = _push_forward(blocks, point, change[None, chosen], other)[0]
    return result


def _overlap_blocks(
    table: OverlapTable, numbers: Tensor, edge_index: Tensor, size: int, vectors: Tensor
) -> Tensor:
    return compute_overlap_blocks_torch(table, numbers, edge_index, vectors, size)


class _SmoothActivations(TorchFunctionMode):
    """Write SiLU as x·sigmoid(x), because torch's own has no second derivative in forward mode."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is nn.functional.silu:
            return args[0] * torch.sigmoid(args[0])
        return func(*args, **(kwargs or {}))


def _push_forward(
    function: Callable[[Tensor], Tensor],
    point: Tensor,
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Differentiate a function along directions, or twice along pairs of them."""

    def along(x: Tensor, direction: Tensor) -> Tensor:
        derivative: Tensor = torch.func.jvp(function, (x,), (direction,))[1]
        return derivative

    results = []
    with torch.no_grad(), plain_operations(), _SmoothActivations():
        for n, direction in enumerate(first):
            tangent = torch.as_tensor(direction).to(point)
            if second is None:
                result = along(point, tangent)
            else:
                other = torch.as_tensor(second[n]).to(point)
                result = torch.func.jvp(lambda x, t=tangent: along(x, t), (point,), (other,))[1]
            results.append(result.cpu().numpy())
    return np.array(results)


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
