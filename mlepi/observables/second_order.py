"""The terms of second-order perturbation theory near K.

Derivatives of H and S in a supercell, sums over wave vectors.

The Debye–Waller term needs ½ Σ_ab ⟨u_a u_b⟩ ∂²H/∂u_a∂u_b averaged over the cells of a crystal. By
translation symmetry a runs over the coordinates of one cell alone: mixed second derivatives along
u_a and c_a = Σ_b ⟨u_a u_b⟩ u_b. At all temperatures and meshes the c_a of one coordinate span a few
directions; only those are differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.observables.near_k.reference_bands import ReferenceBands
from mlepi.physics.bands.unfolding import AtomMap, average_cells
from mlepi.physics.coupling.cell_response import collect_response
from mlepi.physics.coupling.linear_response import (
    BlockResponses,
    adiabatic_fan,
    debye_waller,
    moving_norm,
    nonadiabatic_fan,
    perturb,
    share_degenerate,
)
from mlepi.physics.coupling.mode_interpolation import covariance_rows, mode_variances, mode_vectors
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks, lay_out_blocks
from mlepi.predictors import BlockDerivatives, compute_derivatives, compute_second_derivatives

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.physics.vibrations.thermal import HarmonicEnsemble
    from mlepi.pipeline.sources import ElectronModel

RANK_TOLERANCE = 1e-3
"""Directions of the covariance with a coordinate that are smaller than this part of its variance
are left out."""


@dataclass(frozen=True)
class Crystal:
    """What all sums share.

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
        """Return all energies (n_k, n_orbitals), eV, and states (n_k, n_orbitals, n_orbitals) of the primitive cell."""
        solved: tuple[NDArray[np.float64], NDArray[np.complex128]] = solve_bands(
            self.hamiltonian.at_many(kpoints), self.overlap.at_many(kpoints), vectors=True
        )
        return solved


@dataclass(frozen=True)
class Bands:
    """States whose shifts are wanted.

    Attributes:
        kpoints: (n_points, 3) fractional.
        energies: (n_points, n_bands), eV.
        states: (n_points, n_orbitals, n_bands), c†Sc = 1.
    """

    kpoints: NDArray[np.float64]
    energies: NDArray[np.float64]
    states: NDArray[np.complex128]


def choose_bands(
    reference: ReferenceBands, points: NDArray[np.integer], bands: NDArray[np.integer]
) -> Bands:
    """Take some points and bands of a cone; ``bands`` counts from the first unoccupied one."""
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
                    "Return it from the model's derivatives().",
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


def sum_fan(
    crystal: Crystal,
    responses: BlockResponses,
    bands: Bands,
    ensemble: HarmonicEnsemble,
    chemical_potential: float,
    broadening: float,
    advance: Callable[[], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum the Fan terms over the wave vectors of an ensemble.

    Args:
        crystal: for the states at k + q.
        responses: of H and S.
        bands: whose shifts are wanted.
        ensemble: phonons and temperatures.
        chemical_potential: eV.
        broadening: η, eV.
        advance: called after every wave vector.

    Returns:
        Adiabatic shifts and what phonon energies add, (n_temperatures, n_points, n_bands) each, eV.
    """
    qpoints, masses = ensemble.modes.qpoints, ensemble.modes.masses
    variances, vectors, temperatures = (
        mode_variances(ensemble),
        mode_vectors(ensemble),
        np.array(ensemble.temperatures),
    )
    static = np.zeros((len(temperatures), *bands.energies.shape))
    change = np.zeros_like(static)
    for q, qpoint in enumerate(qpoints):
        final = crystal.solve(bands.kpoints + qpoint)
        perturbations = perturb(
            responses, qpoint, bands.kpoints, (bands.energies, bands.states), final
        )
        for point, cartesian in enumerate(perturbations):
            modes = cartesian.along(vectors[q], masses)
            static[:, point] += adiabatic_fan(modes, variances[:, q], broadening)
            if not np.any(qpoint):
                static[:, point] += moving_norm(modes, variances[:, q])
            change[:, point] += nonadiabatic_fan(
                modes,
                variances[:, q],
                ensemble.frequencies[q],
                temperatures,
                chemical_potential,
                broadening,
            )
        advance()
    for shifts in (static, change):
        for point, energies in enumerate(bands.energies):
            shifts[:, point] = share_degenerate(shifts[:, point], energies)
    return static / len(qpoints), change / len(qpoints)


def sum_debye_waller(
    crystal: Crystal,
    bands: Bands,
    ensembles: Sequence[HarmonicEnsemble],
    start: Callable[[int], None],
    advance: Callable[[], None],
) -> list[NDArray[np.float64]]:
    """Contract the second derivatives of H and S with the covariance of several ensembles.

    Args:
        crystal: with its model.
        bands: whose shifts are wanted.
        ensembles: of the same temperatures, on different meshes.
        start: told how many second derivatives there are.
        advance: called after every one.

    Returns:
        One array (n_temperatures, n_points, n_bands) per ensemble, eV.
    """
    rows = np.concatenate(
        [covariance_rows(ensemble, crystal.atom_map.supercell) for ensemble in ensembles]
    )
    n_cases, n_coordinates = rows.shape[:2]
    factors = [_compress(rows[:, c].reshape(n_cases, -1)) for c in range(n_coordinates)]
    start(sum(len(directions) for _, directions in factors))
    supercell, n_points = crystal.supercell, len(bands.kpoints)
    size = int(crystal.offsets[-1])
    matrices = np.zeros((2, n_cases, n_points, size, size), dtype=np.complex128)
    for coordinate, (weights, directions) in enumerate(factors):
        first = np.zeros((1, len(supercell), 3))
        first[0, coordinate // 3, coordinate % 3] = 1.0
        for weight, direction in zip(weights.T, directions, strict=True):
            found = compute_second_derivatives(
                crystal.model,
                supercell,
                first,
                direction.reshape(1, -1, 3),
                device=crystal.device,
                step=crystal.step,
            )
            for matrix, derivative in zip(
                matrices, (found.hamiltonian, found.overlap), strict=True
            ):
                matrix += weight[:, None, None, None] * _cell_sum(
                    crystal, derivative, bands.kpoints
                )
            advance()
    shifts = np.array(
        [
            [
                share_degenerate(debye_waller(h, s, energies, states), energies)
                for h, s, energies, states in zip(*case, bands.energies, bands.states, strict=True)
            ]
            for case in zip(*matrices, strict=True)
        ]
    )
    return list(shifts.reshape(len(ensembles), -1, *bands.energies.shape))


def _compress(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Write rows (n_cases, n) as weights (n_cases, rank) times orthonormal directions (rank, n)."""
    left, values, directions = np.linalg.svd(rows, full_matrices=False)
    kept = values > RANK_TOLERANCE * np.abs(rows).max()
    return left[:, kept] * values[kept], directions[kept]


def _cell_sum(
    crystal: Crystal, derivative: BlockDerivatives, kpoints: NDArray[np.float64]
) -> NDArray[np.complex128]:
    """Return half the sum over all cells, as a matrix of the primitive cell.

    (n_k, n_orbitals, n_orbitals).
    """
    blocks = 0.5 * crystal.atom_map.n_cells * derivative.values[0]
    edge_index, shift, averaged = average_cells(
        crystal.atom_map, derivative.edge_index, derivative.edge_cell_shift, blocks
    )
    return lay_out_blocks(averaged, edge_index, shift, crystal.offsets).at_many(kpoints)
