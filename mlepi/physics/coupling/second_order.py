"""Second-order shifts of bands, summed over the wave vectors and coordinates of an ensemble.

The Debye–Waller term needs ½ Σ_ab ⟨u_a u_b⟩ ∂²H/∂u_a∂u_b averaged over the cells of a crystal. By
translation symmetry a runs over the coordinates of one cell alone: mixed second derivatives along
u_a and c_a = Σ_b ⟨u_a u_b⟩ u_b. At all temperatures and meshes the c_a of one coordinate span a few
directions; only those are differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.bands.unfolding import AtomMap, lay_out_average
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
from mlepi.physics.vibrations.thermal import HarmonicEnsemble

SolveBands = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.complex128]]]
"""k-points (n_k, 3), fractional → all energies (n_k, n_orbitals), eV, and states (n_k, n_orbitals,
n_orbitals) of the primitive cell."""

SecondDerivatives = Callable[
    [int, NDArray[np.float64]], tuple[NDArray[np.complex128], NDArray[np.complex128]]
]
"""Coordinate of cell 0 and direction (n_supercell, 3) → mixed second derivatives of H and S, as of
``half_cell_sum``, (n_k, n_orbitals, n_orbitals) each."""

RANK_TOLERANCE = 1e-3
"""Directions of the covariance with a coordinate that are smaller than this part of its variance
are left out."""


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


@dataclass(frozen=True)
class CovarianceFactors:
    """Covariance of one coordinate with all atoms of a supercell, in all cases, as a low rank.

    Attributes:
        weights: (n_cases, rank), Å²; the cases are temperatures, ensemble by ensemble.
        directions: (rank, n_supercell, 3), orthonormal.
    """

    weights: NDArray[np.float64]
    directions: NDArray[np.float64]


def factor_covariance(
    ensembles: Sequence[HarmonicEnsemble], supercell: Sequence[int]
) -> list[CovarianceFactors]:
    """Find the directions in which second derivatives are needed.

    Args:
        ensembles: of the same temperatures, on different meshes.
        supercell: cells along each lattice vector in which H and S are differentiated.

    Returns:
        One per coordinate of the primitive cell.
    """
    rows = np.concatenate([covariance_rows(ensemble, supercell) for ensemble in ensembles])
    n_cases, n_coordinates = rows.shape[:2]
    return [_compress(rows[:, c].reshape(n_cases, -1)) for c in range(n_coordinates)]


def sum_fan(
    solve: SolveBands,
    responses: BlockResponses,
    bands: Bands,
    ensemble: HarmonicEnsemble,
    chemical_potential: float,
    broadening: float,
    advance: Callable[[], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum the Fan terms over the wave vectors of an ensemble.

    Args:
        solve: energies and states of the primitive cell, for those at k + q.
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
        final = solve(bands.kpoints + qpoint)
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
    bands: Bands,
    factors: Sequence[CovarianceFactors],
    second_derivatives: SecondDerivatives,
    n_ensembles: int,
) -> list[NDArray[np.float64]]:
    """Contract the second derivatives of H and S with the covariance of several ensembles.

    Args:
        bands: whose shifts are wanted.
        factors: of ``factor_covariance``.
        second_derivatives: called once for every coordinate and direction, at the k-points of the
            bands.
        n_ensembles: ensembles among the cases of the factors.

    Returns:
        One array (n_temperatures, n_points, n_bands) per ensemble, eV.
    """
    n_points, size = bands.states.shape[:2]
    matrices = np.zeros((2, len(factors[0].weights), n_points, size, size), dtype=np.complex128)
    for coordinate, factor in enumerate(factors):
        for weight, direction in zip(factor.weights.T, factor.directions, strict=True):
            found = second_derivatives(coordinate, direction)
            for matrix, derivative in zip(matrices, found, strict=True):
                matrix += weight[:, None, None, None] * derivative
    shifts = np.array(
        [
            [
                share_degenerate(debye_waller(h, s, energies, states), energies)
                for h, s, energies, states in zip(*case, bands.energies, bands.states, strict=True)
            ]
            for case in zip(*matrices, strict=True)
        ]
    )
    return list(shifts.reshape(n_ensembles, -1, *bands.energies.shape))


def half_cell_sum(
    atom_map: AtomMap,
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    blocks: NDArray[np.float64],
    primitive_counts: NDArray[np.integer],
    kpoints: NDArray[np.float64],
) -> NDArray[np.complex128]:
    """Sum the mixed second derivatives over the cells of the moved coordinate, and halve them.

    Args:
        atom_map: atoms of the supercell.
        edge_index: (2, n_edges) int, of the supercell.
        edge_cell_shift: (n_edges, 3) int, in supercell lattice vectors.
        blocks: (n_edges, p, p), the coordinate being one of cell 0.
        primitive_counts: (n_primitive_atoms,) orbitals of every primitive atom.
        kpoints: (n_k, 3) fractional, primitive.

    Returns:
        (n_k, n_orbitals, n_orbitals), of the primitive cell.
    """
    summed = 0.5 * atom_map.n_cells * blocks
    layout = lay_out_average(atom_map, edge_index, edge_cell_shift, summed, primitive_counts)
    return layout.at_many(kpoints)


def _compress(rows: NDArray[np.float64]) -> CovarianceFactors:
    """Write rows (n_cases, n) as weights times orthonormal directions."""
    left, values, directions = np.linalg.svd(rows, full_matrices=False)
    kept = values > RANK_TOLERANCE * np.abs(rows).max()
    return CovarianceFactors(
        left[:, kept] * values[kept], directions.reshape(len(directions), -1, 3)[kept]
    )
