"""What one displaced supercell contributes: its levels near an energy, unfolded onto bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.observables.near_k.reference_bands import ReferenceBands
from mlepi.physics.bands import unfolding
from mlepi.physics.bands.state_slopes import share_slopes, state_velocity_matrix
from mlepi.physics.eigenstates.window_states import solve_points

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix


def unfold_sample(
    reference: ReferenceBands,
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    window: float,
    device: str = "cpu",
    moving: Sequence[int] | NDArray[np.int64] = (),
) -> dict[str, NDArray]:
    """Solve and unfold one displaced supercell; returns small arrays for the store.

    Args:
        reference: bands that the sample is unfolded onto.
        hamiltonian: of the sample, eV.
        overlap: of the sample.
        window: eV, half width around ``reference.centre``.
        device: where the states are computed.
        moving: numbers of the points at which slopes are wanted.

    Returns:
        ``levels`` (n_solved, n_states) eV relative to the centre, padded with NaN; ``first``
        (n_solved,) position of the first one in the complete spectrum; ``weights`` (n_points,
        n_bands + 1, n_states) of the bands followed, ascending, and of all bands together, zero
        where padded; ``slopes`` (n_moving, n_bands, n_states) eV·Å, of the states times their
        weight on each band, zero where padded.

    Raises:
        StructureError: the atoms are not those of the repeated primitive cell.
        PhysicsError: the solver missed a state of the window, or did not converge.
    """
    check_elements(reference, hamiltonian)
    layouts = hamiltonian.lay_out(), overlap.lay_out()
    bloch_overlaps = average_overlaps(reference, overlap)
    derivatives = [
        matrix.lay_out_derivatives(reference.cell, direction=reference.direction)[0]
        for matrix in (hamiltonian, overlap)
        if len(moving)
    ]
    memory = np.empty((len(reference.sites),) * 2, dtype=np.complex128) if len(moving) else None
    solutions = solve_points(reference.sequence, layouts, reference.centre, window, device)
    weights: dict[int, NDArray[np.float64]] = {}
    slopes: dict[int, NDArray[np.float64]] = {}
    for number, solution in enumerate(solutions):
        points = np.flatnonzero(reference.index == number)
        matrix = None
        if np.any(np.isin(points, moving)):
            matrix = state_velocity_matrix(
                solution.values,
                solution.vectors,
                reference.solved[number],
                (derivatives[0], derivatives[1]),
                memory,
            )
        for point in points:
            reverse = bool(reference.reversed_[point])
            components = unfolding.unfold_mapped(
                solution.mapped,
                bloch_overlaps[point],
                reference.atom_map,
                reference.counts,
                reference.kpoints[point],
                reverse=reverse,
            )
            amplitudes = reference.projectors[point] @ components
            weights[int(point)] = np.concatenate(
                [np.abs(amplitudes) ** 2, unfolding.total_weights(components)[None]]
            )
            if matrix is not None:
                slopes[int(point)] = _share_slopes(matrix, amplitudes, reverse)
    n_states = max(solution.values.size for solution in solutions)
    n_bands = reference.states.shape[2]
    return {
        "levels": stack_padded(
            [s.values - reference.centre for s in solutions], (n_states,), np.nan
        ),
        "first": np.array([solution.first for solution in solutions]),
        "weights": stack_padded(
            [weights[n] for n in range(len(weights))], (n_bands + 1, n_states), 0.0
        ),
        "slopes": stack_padded([slopes[int(point)] for point in moving], (n_bands, n_states), 0.0),
    }


def _share_slopes(
    matrix: NDArray[np.complex128], amplitudes: NDArray[np.complex128], reverse: bool
) -> NDArray[np.float64]:
    """Share the slopes of the states solved at k, or at −k, out to the bands at k."""
    if reverse:  # a state of −k has the conjugate amplitudes, and the slope −∂E/∂k of that at k
        return -share_slopes(matrix, amplitudes.conj())
    return share_slopes(matrix, amplitudes)


def stack_padded(
    rows: Sequence[NDArray[np.float64]], shape: tuple[int, ...], value: float
) -> NDArray[np.float64]:
    """Stack arrays (…, n) of different n, filled up to one shape with a value."""
    padded = np.full((len(rows), *shape), value)
    for target, row in zip(padded, rows, strict=True):
        target[..., : row.shape[-1]] = row
    return padded


def check_elements(reference: ReferenceBands, hamiltonian: BlockMatrix) -> None:
    """Refuse a sample whose atoms are not those of the repeated primitive cell, in its order.

    Raises:
        StructureError: they are not.
    """
    if not np.array_equal(
        hamiltonian.numbers, reference.numbers[reference.atom_map.primitive_atoms]
    ):
        raise StructureError(
            message(
                "sample",
                f"{len(hamiltonian.numbers)} atoms whose elements differ from the repeated cell",
                f"{len(reference.atom_map.primitive_atoms)} atoms in the order of Atoms.repeat",
                "Do not reorder the atoms.",
            )
        )


def average_overlaps(reference: ReferenceBands, overlap: BlockMatrix) -> NDArray[np.complex128]:
    """Return B†SB of one sample at all k-points (at −k for the reversed ones).

    (n_points, n_orbitals, n_orbitals).
    """
    bloch_overlap = unfolding.lay_out_average(
        reference.atom_map,
        overlap.edge_index,
        overlap.edge_cell_shift,
        overlap.blocks,
        reference.counts,
    )
    return bloch_overlap.at_many(
        np.where(reference.reversed_[:, None], -reference.kpoints, reference.kpoints)
    )
