"""Derivatives of H and S of a model in a supercell, for second-order perturbation theory near K.

The sums over wave vectors and coordinates are those of ``mlepi.physics.coupling.second_order``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.observables.near_k.reference_bands import ReferenceBands
from mlepi.physics.bands.unfolding import AtomMap
from mlepi.physics.coupling.cell_response import collect_response
from mlepi.physics.coupling.linear_response import BlockResponses
from mlepi.physics.coupling.second_order import Bands, SecondDerivatives, half_cell_sum
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.pipeline.sources import ElectronModel
    from mlepi.predictors import BlockDerivatives


@dataclass(frozen=True)
class Crystal:
    """What all derivatives share.

    Attributes:
        model: of H and S.
        atoms: the primitive cell.
        atom_map: atoms of the supercell in which H and S are differentiated.
        hamiltonian: of the primitive cell, for all its k-points.
        overlap: likewise.
        device: where a network runs.
        step: Å, of central differences, for models without derivatives.
    """

    model: ElectronModel
    atoms: Atoms
    atom_map: AtomMap
    hamiltonian: DenseBlocks
    overlap: DenseBlocks
    device: str
    step: float

    @property
    def offsets(self) -> NDArray[np.int64]:
        """First matrix row of every primitive atom, matrix size last."""
        return np.append(0, np.cumsum(self.hamiltonian.counts))

    @property
    def supercell(self) -> Atoms:
        """The cell in which H and S are differentiated."""
        return self.atoms.repeat(self.atom_map.supercell)

    def solve(
        self, kpoints: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
        """Solve the primitive cell.

        Args:
            kpoints: (n_k, 3) fractional.

        Returns:
            All energies (n_k, n_orbitals), eV, and states (n_k, n_orbitals, n_orbitals).
        """
        solved: tuple[NDArray[np.float64], NDArray[np.complex128]] = solve_bands(
            self.hamiltonian.at_many(kpoints), self.overlap.at_many(kpoints), vectors=True
        )
        return solved


def choose_bands(
    reference: ReferenceBands, points: NDArray[np.integer], bands: NDArray[np.integer]
) -> Bands:
    """Take some points and bands; ``bands`` counts from the first unoccupied one."""
    middle = reference.states.shape[2] // 2
    energies = reference.eigenvalues[np.ix_(points, reference.n_occupied + bands)]
    return Bands(
        reference.kpoints[points], energies, reference.states[points][:, :, middle + bands]
    )


def build_responses(crystal: Crystal, advance: Callable[[], None]) -> tuple[BlockResponses, str]:
    """Differentiate H and S with respect to every coordinate of cell 0.

    Args:
        crystal: with its model.
        advance: called after every atom.

    Returns:
        The responses, and how they were made, in words.

    Raises:
        PhysicsError: the model does not tell what the overlap owes to the orbitals on the right.
    """
    from mlepi.predictors import compute_derivatives  # imports much

    supercell = crystal.supercell
    parts: list[list[BlockDerivatives]] = [[], [], []]
    method = ""
    for atom in range(len(crystal.atoms)):
        directions = np.zeros((3, len(supercell), 3))
        directions[:, atom] = np.eye(3)
        found = compute_derivatives(
            crystal.model, supercell, directions, device=crystal.device, step=crystal.step
        )
        if found.ket_overlap is None:
            raise PhysicsError(
                message(
                    "electron model",
                    "derivatives without ket_overlap",
                    "the part of ∂S where only the orbital on the right moves",
                    "Return it from the model's derivatives(), or give the model an overlap_table.",
                )
            )
        for part, derivative in zip(
            parts, (found.hamiltonian, found.overlap, found.ket_overlap), strict=True
        ):
            part.append(derivative)
        method = found.method
        advance()
    hamiltonian, overlap, ket_overlap = (
        collect_response(
            crystal.atom_map,
            part[0].edge_index,
            part[0].edge_cell_shift,
            np.concatenate([derivative.values for derivative in part]),
            crystal.atoms.positions,
            crystal.atoms.cell.array,
            crystal.offsets,
        )
        for part in parts
    )
    return BlockResponses(hamiltonian, overlap, ket_overlap), method


def differentiate_twice(
    crystal: Crystal, kpoints: NDArray[np.float64], advance: Callable[[], None]
) -> SecondDerivatives:
    """Return the second derivatives of H and S, for ``sum_debye_waller``.

    Args:
        crystal: with its model.
        kpoints: (n_k, 3) fractional, primitive.
        advance: called after every one.
    """
    from mlepi.predictors import compute_second_derivatives  # imports much

    supercell, counts = crystal.supercell, crystal.hamiltonian.counts

    def differentiate(
        coordinate: int, direction: NDArray[np.float64]
    ) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        first = np.zeros((1, len(supercell), 3))
        first[0, coordinate // 3, coordinate % 3] = 1.0
        found = compute_second_derivatives(
            crystal.model,
            supercell,
            first,
            direction[None],
            device=crystal.device,
            step=crystal.step,
        )
        hamiltonian, overlap = (
            half_cell_sum(
                crystal.atom_map,
                derivative.edge_index,
                derivative.edge_cell_shift,
                derivative.values[0],
                counts,
                kpoints,
            )
            for derivative in (found.hamiltonian, found.overlap)
        )
        advance()
        return hamiltonian, overlap

    return differentiate
