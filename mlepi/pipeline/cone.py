"""The neighbourhood of K that all samples share, and what one displaced supercell contributes to it.

k-points run along M–K–Γ. Supercell k-points serve primitive ones at k or, because H is real, at −k: where K folds onto Γ one
supercell solution serves K→Γ and K→M at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, StructureError, message
from mlepi.physics import lattice, unfolding
from mlepi.physics.bloch import count_valence_electrons, solve_bands
from mlepi.physics.dense_bloch import DenseBlocks, lay_out_blocks
from mlepi.physics.followed_states import GUARD, FollowedStates, choose_shift, follow_states, single_precision, turn_states
from mlepi.physics.shift_invert import count_states_below, solve_states_within

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix

EDGE = 0.01
"""eV, the strip around the energy window in which its exact end may lie, so that no level sits on it."""

FOLLOWED_ORBITALS = 192
"""Cells with fewer orbitals are diagonalised at every k-point; in larger ones states are followed from point to point."""

NEIGHBOURS = 3
"""Solved k-points whose states start the solution of the next one; three make it converge with one solve."""

PROOF_DISTANCE = 0.05
"""Å⁻¹; over it no band of a solid moves by more than ``GUARD``."""

SHIFT_REACH = 0.5
"""Share of the energy window in which the shift of a followed solution may lie."""


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
        references: (n_points, n_bands, n_orbitals), the same Löwdin-orthonormalised, as rows.
        sites: (n_supercell_orbitals, 3), fractional coordinates of the orbitals' equilibrium sites in the supercell.
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
    references: NDArray[np.complex128]
    sites: NDArray[np.float64]
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
    layouts = lay_out(hamiltonian), lay_out(overlap)
    overlaps = np.array([layouts[1].at(k) for k in kpoints])
    eigenvalues, vectors = solve_bands(np.array([layouts[0].at(k) for k in kpoints]), overlaps, vectors=True)
    n_pairs = min(2, n_occupied, eigenvalues.shape[1] - n_occupied)
    states = vectors[:, :, n_occupied - n_pairs : n_occupied + n_pairs]
    at_corner = solve_bands(*(layout.at(points["K"]) for layout in layouts))
    sites = np.linalg.solve(cell.T, atoms.positions.T).T[atom_map.primitive_atoms] + atom_map.cells
    counts = np.diff(hamiltonian.offsets)
    return Cone(
        atom_map=atom_map,
        counts=counts,
        numbers=np.asarray(hamiltonian.numbers),
        n_occupied=n_occupied,
        n_cones=2 if np.max(np.abs(corner - np.round(corner))) < unfolding.FOLD_TOLERANCE else 1,
        dirac_energy=float(np.mean(at_corner[n_occupied - 1 : n_occupied + 1])),
        kpoints=kpoints,
        distances=signed,
        solved=solved,
        index=index,
        reversed_=reversed_,
        states=states,
        references=np.array([unfolding.loewdin_references(u, s) for u, s in zip(states, overlaps, strict=True)]),
        sites=np.repeat(sites / np.array(atom_map.supercell), counts[atom_map.primitive_atoms], axis=0),
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
    layouts = lay_out(hamiltonian), lay_out(overlap)
    averaged = unfolding.average_cells(cone.atom_map, overlap.edge_index, overlap.edge_cell_shift, overlap.blocks)
    bloch_overlap = lay_out_blocks(averaged[2], averaged[0], averaged[1], np.append(0, np.cumsum(cone.counts)))
    weights: list[NDArray[np.float64]] = [np.empty(0)] * len(cone.kpoints)
    solutions = _solve_points(cone, layouts, window)
    for number, solution in enumerate(solutions):
        for point in np.flatnonzero(cone.index == number):
            reverse, kpoint = bool(cone.reversed_[point]), cone.kpoints[point]
            at_point = bloch_overlap.at(-kpoint if reverse else kpoint)
            components = unfolding.unfold_mapped(solution.mapped, at_point, cone.atom_map, cone.counts, kpoint, reverse=reverse)
            by_band = np.abs(cone.references[point] @ components) ** 2
            weights[point] = np.concatenate([by_band, unfolding.total_weights(components)[None]])
    n_states = max(solution.values.size for solution in solutions)
    levels = np.full((len(cone.solved), n_states), np.nan)
    for number, solution in enumerate(solutions):
        levels[number, : len(solution.values)] = solution.values - cone.dirac_energy
    padded = np.zeros((len(cone.kpoints), cone.states.shape[2] + 1, n_states))
    for row, shares in enumerate(weights):
        padded[row, :, : shares.shape[1]] = shares
    return {"levels": levels, "first": np.array([solution.first for solution in solutions]), "weights": padded}


@dataclass(frozen=True)
class _Window:
    """All states of the energy window at one supercell k-point.

    Attributes:
        first: position of the first one in the complete spectrum.
        values: (n_states,) eV, ascending.
        mapped: (n_orbitals, n_states), S times the states.
    """

    first: int
    values: NDArray[np.float64]
    mapped: NDArray[Any]


def _solve_points(cone: Cone, layouts: tuple[DenseBlocks, DenseBlocks], window: float) -> list[_Window]:
    """Solve all k-points of one sample, the one nearest to K first and the others from their neighbours.

    The inertia at both ends of the window proves that no state is missing at the first and at the last point, and wherever
    k is further than ``PROOF_DISTANCE`` from all points with a proof: between them no state passes the followed ones unseen.
    """
    signed = [float(min(cone.distances[cone.index == n], key=abs)) for n in range(len(cone.solved))]
    order = sorted(range(len(cone.solved)), key=lambda n: abs(signed[n]))
    proven: list[float] = []
    buffers = [np.empty((len(cone.sites),) * 2, dtype=np.complex128) for _ in layouts]
    solved: dict[int, _Window] = {}
    known: dict[int, tuple[NDArray[Any], NDArray[np.float64]]] = {}
    for number in order:
        h, s = (layout.at(cone.solved[number], out) for layout, out in zip(layouts, buffers, strict=True))
        distance = signed[number]
        prove = number == order[-1] or all(abs(distance - other) > PROOF_DISTANCE for other in proven)
        proven += [distance] if prove else []
        states, found = None, None
        if known and len(cone.sites) >= FOLLOWED_ORBITALS:
            start, levels = _gather_neighbours(cone, known, number)
            shift = choose_shift(levels, cone.dirac_energy, SHIFT_REACH * window)
            states = follow_states(h, s, cone.dirac_energy, window + EDGE, start, shift)
        if states is not None:
            found = _close_window(h, s, states, cone.dirac_energy, window, prove)
        if states is None or found is None:
            states = _solve_afresh(h, s, cone.dirac_energy, window)
            found = _close_window(h, s, states, cone.dirac_energy, window, prove)
        if found is None:
            raise PhysicsError(
                message(
                    "observables stage",
                    f"{states.values.size} states within {window} eV of {cone.dirac_energy:.3f} eV",
                    "as many as the inertia of H − ES counts",
                    "The solver missed a state: this is a defect of the program, please report it with the structure.",
                )
            )
        solved[number], known[number] = found, (states.vectors, states.values)
    return [solved[number] for number in range(len(cone.solved))]


def _gather_neighbours(
    cone: Cone, known: Mapping[int, tuple[NDArray[Any], NDArray[np.float64]]], number: int
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Carry the states of the nearest solved k-points to another one; return them, and the levels of the nearest."""
    steps = {}
    for other in known:
        step = cone.solved[number] - cone.solved[other]
        steps[other] = step - np.round(step)
    nearest = sorted(steps, key=lambda other: float(np.linalg.norm(steps[other])))[:NEIGHBOURS]
    turned = [turn_states(known[other][0], cone.sites, steps[other]) for other in nearest]
    return np.concatenate(turned, axis=1), known[nearest[0]][1]


def _solve_afresh(hamiltonian_k: NDArray[Any], overlap_k: NDArray[Any], centre: float, window: float) -> FollowedStates:
    """Find all states of the window, and those a little further out that neighbouring k-points may need."""
    values, vectors = solve_states_within(hamiltonian_k, overlap_k, centre, window + EDGE + GUARD)
    return FollowedStates(values, vectors, overlap_k @ vectors, centre, -1)


def _close_window(
    hamiltonian_k: NDArray[Any], overlap_k: NDArray[Any], states: FollowedStates, centre: float, window: float, prove: bool
) -> _Window | None:
    """Choose the exact ends of the window and count the states below; None when the counts contradict the states found."""
    values = states.values
    low = _free_energy(values, centre - window - EDGE, centre - window)
    high = _free_energy(values, centre + window, centre + window + EDGE)
    inside = (values > low) & (values < high)
    if states.n_below < 0:
        first = count_states_below(hamiltonian_k, overlap_k, low)
    else:
        first = states.n_below - int(np.count_nonzero(inside & (values < states.shift)))
    if prove:
        matrices = (hamiltonian_k, overlap_k)
        if states.n_below >= 0:  # counted in single precision already; a wrong count costs a solution afresh
            matrices = (single_precision(hamiltonian_k), single_precision(overlap_k))
        if count_states_below(*matrices, high) - first != np.count_nonzero(inside):
            return None
    return _Window(first, values[inside], states.mapped[:, inside])


def _free_energy(values: NDArray[np.float64], low: float, high: float) -> float:
    """Return the middle of the widest gap between the levels inside a strip, eV."""
    levels = np.sort(np.concatenate([[low, high], values[(values > low) & (values < high)]]))
    widest = int(np.argmax(np.diff(levels)))
    return float(0.5 * (levels[widest] + levels[widest + 1]))


def lay_out(matrix: BlockMatrix) -> DenseBlocks:
    """Lay out a matrix once, for all its k-points."""
    return lay_out_blocks(matrix.blocks, matrix.edge_index, matrix.edge_cell_shift, matrix.offsets)
