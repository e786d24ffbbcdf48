"""The neighbourhood of K that all samples share, and what one displaced supercell contributes to it.

k-points run along M–K–Γ. Supercell k-points serve primitive ones at k or, because H is real, at −k: where K folds onto Γ one
supercell solution serves K→Γ and K→M at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, StructureError, message
from mlepi.physics import lattice, unfolding
from mlepi.physics.bloch import BlochPattern, build_bloch_pattern, count_valence_electrons, solve_bands
from mlepi.physics.shift_invert import count_states_below, solve_states_within

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix

EDGE = 0.01
"""eV, the strip around the energy window in which its exact end may lie, so that no level sits on it."""


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
        states: (n_points, n_orbitals, n_bands), equilibrium states of the bands followed: the low pair, and the next pair on
            either side where there is one.
        overlaps: (n_points, n_orbitals, n_orbitals), equilibrium overlap.
        eigenvalues: (n_points, n_bands) eV, equilibrium.
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
    overlaps: NDArray[np.complex128]
    eigenvalues: NDArray[np.float64]


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
    n_electrons = count_valence_electrons(hamiltonian.numbers, valence_electrons)
    if n_electrons % 2:
        raise PhysicsError(
            message("observables stage", f"{n_electrons} electrons per cell", "an even number", "Check `valence_electrons`.")
        )
    n_occupied = int(n_electrons) // 2
    atom_map = unfolding.cell_major_map(len(atoms), supercell)
    solved, index, reversed_ = unfolding.match_folded(atom_map, kpoints)
    corner = 2.0 * atom_map.fold(points["K"])
    patterns = bloch_patterns(hamiltonian, overlap)
    overlaps = np.array([patterns[1].dense(overlap.blocks, k) for k in kpoints])
    matrices = np.array([patterns[0].dense(hamiltonian.blocks, k) for k in kpoints])
    eigenvalues, vectors = solve_bands(matrices, overlaps, vectors=True)
    n_pairs = min(2, n_occupied, eigenvalues.shape[1] - n_occupied)
    at_corner = solve_point(patterns, hamiltonian, overlap, points["K"])
    return Cone(
        atom_map=atom_map,
        counts=np.diff(hamiltonian.offsets),
        numbers=np.asarray(hamiltonian.numbers),
        n_occupied=n_occupied,
        n_cones=2 if np.max(np.abs(corner - np.round(corner))) < unfolding.FOLD_TOLERANCE else 1,
        dirac_energy=float(np.mean(at_corner[n_occupied - 1 : n_occupied + 1])),
        kpoints=kpoints,
        distances=signed,
        solved=solved,
        index=index,
        reversed_=reversed_,
        states=vectors[:, :, n_occupied - n_pairs : n_occupied + n_pairs],
        overlaps=overlaps,
        eigenvalues=eigenvalues,
    )


def unfold_sample(cone: Cone, hamiltonian: BlockMatrix, overlap: BlockMatrix, window: float) -> dict[str, NDArray]:
    """Solve and unfold one displaced supercell; returns small arrays for the store.

    Args:
        cone: of ``build_cone``.
        hamiltonian: of the sample, eV.
        overlap: of the sample.
        window: eV, half width around the Dirac energy.

    Returns:
        ``levels`` (n_solved, n_states) eV relative to the Dirac energy, padded with NaN; ``first`` (n_solved,) position of the
        first one in the complete spectrum; ``weights`` (n_points, n_bands + 1, n_states) of the bands followed, ascending, and
        of all bands together, zero where padded.

    Raises:
        StructureError: the atoms are not those of the repeated primitive cell.
        PhysicsError: the solver missed a state of the window, or did not converge.
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
    patterns = bloch_patterns(hamiltonian, overlap)
    solutions, start = [], None
    weights: list[NDArray[np.float64]] = [np.empty(0)] * len(cone.kpoints)
    for number in sorted(range(len(cone.solved)), key=lambda n: np.abs(cone.distances[cone.index == n]).min()):
        h, s = (
            pattern.dense(matrix.blocks, cone.solved[number])
            for pattern, matrix in zip(patterns, (hamiltonian, overlap), strict=True)
        )
        first, values, vectors = _solve_window(h, s, cone.dirac_energy, window, start, prove=start is None)
        start = vectors
        solutions.append((number, first, values - cone.dirac_energy))
        for point in np.flatnonzero(cone.index == number):
            components = unfolding.unfold_states(
                vectors, s, cone.atom_map, cone.counts, cone.kpoints[point], reverse=bool(cone.reversed_[point])
            )
            by_band = unfolding.band_weights(components, cone.states[point], cone.overlaps[point])
            weights[point] = np.concatenate([by_band, unfolding.total_weights(components)[None]])
    n_states = max(int(values.size) for _, _, values in solutions)
    levels, firsts = np.full((len(cone.solved), n_states), np.nan), np.empty(len(cone.solved), dtype=np.int64)
    for number, first_index, values in solutions:
        levels[number, : len(values)] = values
        firsts[number] = first_index
    padded = np.zeros((len(cone.kpoints), cone.states.shape[2] + 1, n_states))
    for row, shares in enumerate(weights):
        padded[row, :, : shares.shape[1]] = shares
    return {"levels": levels, "first": firsts, "weights": padded}


def _solve_window(
    hamiltonian_k: NDArray[np.complex128],
    overlap_k: NDArray[np.complex128],
    centre: float,
    window: float,
    start: NDArray[np.complex128] | None,
    prove: bool,
) -> tuple[int, NDArray[np.float64], NDArray[np.complex128]]:
    """Find all states of the window and the position of the first in the spectrum.

    The position is the inertia at the lower end; with ``prove`` the inertia at the upper end proves that no state is missing.
    That costs as much as a quarter of the solution, so it is done at one k-point per sample, the one nearest to K.
    """
    values, vectors = solve_states_within(hamiltonian_k, overlap_k, centre, window + EDGE, start=start)
    low = _free_energy(values, centre - window - EDGE, centre - window)
    high = _free_energy(values, centre + window, centre + window + EDGE)
    inside = (values > low) & (values < high)
    first = count_states_below(hamiltonian_k, overlap_k, low)
    behind = count_states_below(hamiltonian_k, overlap_k, high) if prove else first + np.count_nonzero(inside)
    if behind - first != np.count_nonzero(inside):
        raise PhysicsError(
            message(
                "observables stage",
                f"{np.count_nonzero(inside)} states between {low:.3f} and {high:.3f} eV",
                f"{behind - first} by the inertia of H − ES",
                "The solver missed a state: this is a defect of the program, please report it with the structure.",
            )
        )
    return first, values[inside], vectors[:, inside]


def _free_energy(values: NDArray[np.float64], low: float, high: float) -> float:
    """Return the middle of the widest gap between the levels inside a strip, eV."""
    levels = np.sort(np.concatenate([[low, high], values[(values > low) & (values < high)]]))
    widest = int(np.argmax(np.diff(levels)))
    return float(0.5 * (levels[widest] + levels[widest + 1]))


def bloch_patterns(hamiltonian: BlockMatrix, overlap: BlockMatrix) -> tuple[BlochPattern, BlochPattern]:
    """Return the Bloch patterns of both matrices, built once where they share their edges."""
    first = build_bloch_pattern(
        hamiltonian.edge_index, hamiltonian.edge_cell_shift, hamiltonian.offsets, hamiltonian.blocks.shape[-1]
    )
    if np.array_equal(hamiltonian.edge_index, overlap.edge_index) and np.array_equal(
        hamiltonian.edge_cell_shift, overlap.edge_cell_shift
    ):
        return first, first
    return first, build_bloch_pattern(overlap.edge_index, overlap.edge_cell_shift, overlap.offsets, overlap.blocks.shape[-1])


def solve_point(
    patterns: tuple[BlochPattern, BlochPattern], hamiltonian: BlockMatrix, overlap: BlockMatrix, kpoint: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return all eigenvalues at one k-point, eV."""
    return solve_bands(patterns[0].dense(hamiltonian.blocks, kpoint), patterns[1].dense(overlap.blocks, kpoint))
