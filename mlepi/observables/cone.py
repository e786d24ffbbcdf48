"""The neighbourhood of K that all samples share, and what one displaced supercell contributes to it.

k-points run along M–K–Γ. Supercell k-points serve primitive ones at k or, because H is real, at −k:
where K folds onto Γ one supercell solution serves K→Γ and K→M at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, StructureError, message
from mlepi.observables.cone_states import solve_points
from mlepi.physics.bands import lattice, unfolding
from mlepi.physics.bands.state_slopes import share_slopes, state_velocity_matrix
from mlepi.physics.bands.velocity_matrices import band_velocities, derivatives_at_many
from mlepi.physics.eigenstates.bloch import count_valence_electrons, solve_bands

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix


@dataclass(frozen=True)
class Cone:
    """What all samples share: the k-points near K and the equilibrium states there.

    Attributes:
        atom_map: atoms of the supercell.
        counts: (n_atoms,) int, orbitals of every primitive atom.
        numbers: (n_atoms,) int, atomic numbers of the primitive cell.
        n_occupied: occupied bands of the primitive cell.
        n_cones: cones (K, K') that fold onto one supercell k-point.
        dirac_energy: eV, middle of the low bands at K.
        kpoints: (n_points, 3) fractional.
        distances: (n_points,) Å⁻¹, k − K, negative towards M.
        solved: (n_solved, 3) fractional k-points of the supercell that serve them.
        index: (n_points,) int, which of them serves each point.
        reversed_: (n_points,) bool, True where it serves −k.
        states: (n_points, n_orbitals, n_bands), equilibrium states of the bands followed: the low
            pair, and the next pair on either side where there is one.
        references: (n_points, n_bands, n_orbitals), the same Löwdin-orthonormalised, as rows.
        sites: (n_supercell_orbitals, 3), fractional coordinates of the orbitals' equilibrium sites
            in the supercell.
        eigenvalues: (n_points, n_bands) eV, equilibrium.
        slopes: (n_points, n_bands) eV·Å, of the bands followed along the line, equilibrium;
            positive where E grows towards Γ.
        cell: (3, 3) rows, Å, of the supercell.
        direction: (3,) unit vector from M through K towards Γ, Cartesian.
    """

    atom_map: unfolding.AtomMap
    counts: NDArray[np.int64]
    numbers: NDArray[np.int64]
    n_occupied: int
    n_cones: int
    dirac_energy: float
    kpoints: NDArray[np.float64]
    distances: NDArray[np.float64]
    solved: NDArray[np.float64]
    index: NDArray[np.int64]
    reversed_: NDArray[np.bool_]
    states: NDArray[np.complex128]
    references: NDArray[np.complex128]
    sites: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    slopes: NDArray[np.float64]
    cell: NDArray[np.float64]
    direction: NDArray[np.float64]


def build_cone(
    atoms: Atoms,
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    supercell: Sequence[int],
    distances: Sequence[float],
    valence_electrons: Mapping[int, float],
) -> Cone:
    """Place k-points along M–K–Γ and solve the equilibrium primitive cell there.

    Raises:
        PhysicsError: an odd number of electrons, so that no band is half way.
        StructureError: the cell is not hexagonal.
    """
    cell = atoms.cell.array
    points = lattice.hexagonal_points(cell)
    signed = np.array([-d for d in reversed(distances) if d > 0] + list(distances))
    kpoints = lattice.build_line(points["K"], points["Γ"], signed, cell)
    n_occupied = count_occupied(hamiltonian, valence_electrons)
    at_corner = solve_bands(hamiltonian.dense(points["K"]), overlap.dense(points["K"]))
    corner = 2.0 * points["K"] * np.array(supercell)
    direction = lattice.to_cartesian(points["Γ"] - points["K"], cell)
    return build_points(
        (atoms, hamiltonian, overlap),
        supercell,
        kpoints,
        signed,
        n_occupied,
        centre=float(np.mean(at_corner[n_occupied - 1 : n_occupied + 1])),
        direction=direction / np.linalg.norm(direction),
        n_cones=2 if np.max(np.abs(corner - np.round(corner))) < unfolding.FOLD_TOLERANCE else 1,
    )


def count_occupied(hamiltonian: BlockMatrix, valence_electrons: Mapping[int, float]) -> int:
    """Return the number of occupied bands of a primitive cell.

    Raises:
        PhysicsError: an odd number of electrons, so that no band is half way.
    """
    n_electrons = count_valence_electrons(hamiltonian.numbers, valence_electrons)
    if n_electrons % 2:
        raise PhysicsError(
            message(
                "primitive cell",
                f"{n_electrons} electrons per cell",
                "an even number",
                "Check `valence_electrons`.",
            )
        )
    return int(n_electrons) // 2


def sort_distances(stage: str, distances: Sequence[float]) -> tuple[float, ...]:
    """Return the distances from K that a stage was given, ascending, 1/Å.

    Raises:
        ConfigError: a distance is negative or comes twice.
    """
    if not len(distances) or min(distances) < 0 or len(set(distances)) != len(distances):
        raise ConfigError(
            message(
                f"stage.{stage}.distances",
                f"{list(distances)}",
                "different numbers ≥ 0, in 1/Å",
                "Correct the list.",
            )
        )
    return tuple(sorted(float(d) for d in distances))


def build_points(
    equilibrium: tuple[Atoms, BlockMatrix, BlockMatrix],
    supercell: Sequence[int],
    kpoints: NDArray[np.float64],
    distances: NDArray[np.float64],
    n_occupied: int,
    *,
    centre: float,
    direction: NDArray[np.float64],
    n_cones: int = 1,
) -> Cone:
    """Solve the equilibrium primitive cell at any k-points and settle which supercell k-points serve them.

    Args:
        equilibrium: structure, H (eV) and S.
        supercell: cells along each lattice vector.
        kpoints: (n_points, 3) fractional.
        distances: (n_points,) Å⁻¹; the difference of two must not exceed the distance of the
            points.
        n_occupied: occupied bands.
        centre: eV, of the energy window; "Dirac energy" in what follows.
        direction: (3,) unit vector of the slopes, Cartesian; zero where none are wanted.
        n_cones: low bands of different primitive k-points that fold onto one supercell k-point.
    """
    atoms, hamiltonian, overlap = equilibrium
    cell = atoms.cell.array
    atom_map = unfolding.cell_major_map(len(atoms), supercell)
    solved, index, reversed_ = unfolding.match_folded(atom_map, kpoints)
    overlaps = overlap.lay_out().at_many(kpoints)
    eigenvalues, vectors = solve_bands(
        hamiltonian.lay_out().at_many(kpoints), overlaps, vectors=True
    )
    n_pairs = min(2, n_occupied, eigenvalues.shape[1] - n_occupied)
    states = vectors[:, :, n_occupied - n_pairs : n_occupied + n_pairs]
    followed = eigenvalues[:, n_occupied - n_pairs : n_occupied + n_pairs]
    dh, ds = (
        derivatives_at_many(matrix.lay_out_derivatives(cell, direction=direction), kpoints)[0]
        for matrix in (hamiltonian, overlap)
    )
    slopes = [
        band_velocities(*each[:2], *(d[None] for d in each[2:]))[0]
        for each in zip(followed, states, dh, ds, strict=True)
    ]
    sites = np.linalg.solve(cell.T, atoms.positions.T).T[atom_map.primitive_atoms] + atom_map.cells
    counts = np.diff(hamiltonian.offsets)
    return Cone(
        atom_map=atom_map,
        counts=counts,
        numbers=np.asarray(hamiltonian.numbers),
        n_occupied=n_occupied,
        n_cones=n_cones,
        dirac_energy=centre,
        kpoints=kpoints,
        distances=distances,
        solved=solved,
        index=index,
        reversed_=reversed_,
        states=states,
        references=np.array(
            [unfolding.loewdin_references(u, s) for u, s in zip(states, overlaps, strict=True)]
        ),
        sites=np.repeat(
            sites / np.array(atom_map.supercell), counts[atom_map.primitive_atoms], axis=0
        ),
        eigenvalues=eigenvalues,
        slopes=np.array(slopes),
        cell=np.array(atom_map.supercell)[:, None] * cell,
        direction=direction,
    )


def unfold_sample(
    cone: Cone,
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    window: float,
    device: str = "cpu",
    moving: Sequence[int] | NDArray[np.int64] = (),
) -> dict[str, NDArray]:
    """Solve and unfold one displaced supercell; returns small arrays for the store.

    Args:
        cone: of ``build_cone``.
        hamiltonian: of the sample, eV.
        overlap: of the sample.
        window: eV, half width around the Dirac energy.
        device: where the states are computed.
        moving: numbers of the points at which slopes are wanted.

    Returns:
        ``levels`` (n_solved, n_states) eV relative to the Dirac energy, padded with NaN; ``first``
        (n_solved,) position of the first one in the complete spectrum; ``weights`` (n_points,
        n_bands + 1, n_states) of the bands followed, ascending, and of all bands together, zero
        where padded.

    Raises:
        StructureError: the atoms are not those of the repeated primitive cell.
        PhysicsError: the solver missed a state of the window, or did not converge.
    """
    check_elements(cone, hamiltonian)
    layouts = hamiltonian.lay_out(), overlap.lay_out()
    bloch_overlaps = average_overlaps(cone, overlap)
    weights: list[NDArray[np.float64]] = [np.empty(0)] * len(cone.kpoints)
    slopes: dict[int, NDArray[np.float64]] = {}
    derivatives = (
        (
            hamiltonian.lay_out_derivatives(cone.cell, direction=cone.direction),
            overlap.lay_out_derivatives(cone.cell, direction=cone.direction),
        )
        if len(moving)
        else None
    )
    solutions = solve_points(cone, layouts, window, device)
    for number, solution in enumerate(solutions):
        points = np.flatnonzero(cone.index == number)
        matrix = None
        if derivatives is not None and np.any(np.isin(points, moving)):
            matrix = state_velocity_matrix(
                solution.values, solution.vectors, cone.solved[number], derivatives
            )
        for point in points:
            reverse, kpoint = bool(cone.reversed_[point]), cone.kpoints[point]
            components = unfolding.unfold_mapped(
                solution.mapped,
                bloch_overlaps[point],
                cone.atom_map,
                cone.counts,
                kpoint,
                reverse=reverse,
            )
            amplitudes = cone.references[point] @ components
            by_band = np.abs(amplitudes) ** 2
            if (
                matrix is not None
            ):  # a state of −k has the conjugate amplitudes, and the slope −∂E/∂k of that at k
                slopes[int(point)] = (
                    -share_slopes(matrix, amplitudes.conj())
                    if reverse
                    else share_slopes(matrix, amplitudes)
                )
            weights[point] = np.concatenate([by_band, unfolding.total_weights(components)[None]])
    n_states = max(solution.values.size for solution in solutions)
    levels = np.full((len(cone.solved), n_states), np.nan)
    for number, solution in enumerate(solutions):
        levels[number, : len(solution.values)] = solution.values - cone.dirac_energy
    padded = np.zeros((len(cone.kpoints), cone.states.shape[2] + 1, n_states))
    for row, shares in enumerate(weights):
        padded[row, :, : shares.shape[1]] = shares
    moved = np.zeros((len(moving), cone.states.shape[2], n_states))
    for row, point in enumerate(moving):
        moved[row, :, : slopes[int(point)].shape[1]] = slopes[int(point)]
    first = np.array([solution.first for solution in solutions])
    return {"levels": levels, "first": first, "weights": padded, "slopes": moved}


def check_elements(cone: Cone, hamiltonian: BlockMatrix) -> None:
    """Refuse a sample whose atoms are not those of the repeated primitive cell, in its order.

    Raises:
        StructureError: they are not.
    """
    if not np.array_equal(hamiltonian.numbers, cone.numbers[cone.atom_map.primitive_atoms]):
        raise StructureError(
            message(
                "sample",
                f"{len(hamiltonian.numbers)} atoms whose elements differ from the repeated cell",
                f"{len(cone.atom_map.primitive_atoms)} atoms in the order of Atoms.repeat",
                "Do not reorder the atoms.",
            )
        )


def average_overlaps(cone: Cone, overlap: BlockMatrix) -> NDArray[np.complex128]:
    """Return B†SB of one sample at all k-points (at −k for the reversed ones).

    (n_points, n_orbitals, n_orbitals).
    """
    bloch_overlap = unfolding.lay_out_average(
        cone.atom_map, overlap.edge_index, overlap.edge_cell_shift, overlap.blocks, cone.counts
    )
    return bloch_overlap.at_many(np.where(cone.reversed_[:, None], -cone.kpoints, cone.kpoints))
