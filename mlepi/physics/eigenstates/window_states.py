"""All states of one cell in an energy window, at a sequence of k-points.

On a processor the states are followed from the point nearest to the middle of the sequence
outwards; a GPU solves all points in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.batched_states import count_batch_below, solve_batch_within
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks
from mlepi.physics.eigenstates.followed_states import (
    GUARD,
    FollowedStates,
    choose_shift,
    follow_states,
    single_precision,
    turn_states,
)
from mlepi.physics.eigenstates.shift_invert import count_states_below, solve_states_within

EDGE = 0.01
"""eV, the strip around the energy window in which its exact end may lie, so that no level sits on
it."""

FOLLOWED_ORBITALS = 192
"""Cells with fewer orbitals are diagonalised at every k-point; in larger ones states are followed
from point to point."""

NEIGHBOURS = 3
"""Solved k-points whose states start the solution of the next one; three make it converge with one
solve."""

PROOF_DISTANCE = 0.05
"""Å⁻¹; over it no band of a solid moves by more than ``GUARD``."""

SHIFT_REACH = 0.5
"""Share of the energy window in which the shift of a followed solution may lie."""


@dataclass(frozen=True)
class KpointSequence:
    """k-points of one cell whose states are followed from one to the next.

    Attributes:
        kpoints: (n_k, 3) fractional.
        distances: (n_k,) Å⁻¹, signed, from the middle of the sequence; the difference of two must
            not exceed the distance of the points.
        sites: (n_orbitals, 3), fractional coordinates of the orbitals' sites.
    """

    kpoints: NDArray[np.float64]
    distances: NDArray[np.float64]
    sites: NDArray[np.float64]


@dataclass(frozen=True)
class WindowStates:
    """All states of the energy window at one k-point.

    Attributes:
        first: position of the first one in the complete spectrum.
        values: (n_states,) eV, ascending.
        mapped: (n_orbitals, n_states), S times the states.
        vectors: (n_orbitals, n_states), c†Sc = 1.
    """

    first: int
    values: NDArray[np.float64]
    mapped: NDArray[Any]
    vectors: NDArray[Any]


def solve_points(
    sequence: KpointSequence,
    layouts: tuple[DenseBlocks, DenseBlocks],
    centre: float,
    window: float,
    device: str = "cpu",
) -> list[WindowStates]:
    """Find all states of the energy window at every k-point.

    Args:
        sequence: of k-points.
        layouts: of the Hamiltonian, eV, and the overlap.
        centre: eV, of the window.
        window: eV, half width.
        device: a processor follows the states from point to point; a GPU takes all points together.

    Returns:
        One result per k-point.

    Raises:
        PhysicsError: the solver missed a state, or did not converge.
    """
    if device.startswith("cpu"):
        return _follow_points(sequence, layouts, centre, window)
    return solve_points_together(sequence, layouts, centre, window, device)


def solve_points_together(
    sequence: KpointSequence,
    layouts: tuple[DenseBlocks, DenseBlocks],
    centre: float,
    window: float,
    device: str,
) -> list[WindowStates]:
    """Solve all k-points in one batch on a device, and prove each complete.

    Arguments and result as ``solve_points``.
    """
    h, s = (
        torch.from_numpy(
            np.stack([layout.at(k).astype(np.complex128) for k in sequence.kpoints])
        ).to(device)
        for layout in layouts
    )
    solved = solve_batch_within(h, s, centre, window + EDGE)
    mapped = [
        (overlap @ states.vectors).cpu().numpy() for overlap, states in zip(s, solved, strict=True)
    ]
    vectors = [states.vectors.cpu().numpy() for states in solved]
    levels = [states.values.cpu().numpy() for states in solved]
    ends = np.array([_find_ends(values, centre, window) for values in levels])
    below = [
        np.array(count_batch_below(h, s, torch.from_numpy(ends[:, side]).to(device)))
        for side in range(2)
    ]
    results = []
    for values, columns, states, (low, high), first, behind in zip(
        levels, mapped, vectors, ends, *below, strict=True
    ):
        inside = (values > low) & (values < high)
        if behind - first != np.count_nonzero(inside):
            raise _missed(int(np.count_nonzero(inside)), window, centre)
        results.append(
            WindowStates(int(first), values[inside], columns[:, inside], states[:, inside])
        )
    return results


def _follow_points(
    sequence: KpointSequence,
    layouts: tuple[DenseBlocks, DenseBlocks],
    centre: float,
    window: float,
) -> list[WindowStates]:
    """Solve all k-points, the middle one first and the others from their neighbours.

    The inertia at both ends of the window proves that no state is missing at the first and at the
    last point, and wherever k is further than ``PROOF_DISTANCE`` from all points with a proof:
    between them no state passes the followed ones unseen.
    """
    signed = [float(distance) for distance in sequence.distances]
    order = sorted(range(len(signed)), key=lambda n: abs(signed[n]))
    proven: list[float] = []
    buffers = [np.empty((len(sequence.sites),) * 2, dtype=np.complex128) for _ in layouts]
    solved: dict[int, WindowStates] = {}
    known: dict[int, tuple[NDArray[Any], NDArray[np.float64]]] = {}
    for number in order:
        h, s = (
            layout.at(sequence.kpoints[number], out)
            for layout, out in zip(layouts, buffers, strict=True)
        )
        distance = signed[number]
        prove = number == order[-1] or all(
            abs(distance - other) > PROOF_DISTANCE for other in proven
        )
        proven += [distance] if prove else []
        states, found = None, None
        if known and len(sequence.sites) >= FOLLOWED_ORBITALS:
            start, levels = _gather_neighbours(sequence, known, number)
            shift = choose_shift(levels, centre, SHIFT_REACH * window)
            states = follow_states(h, s, centre, window + EDGE, start, shift)
        if states is not None:
            found = _close_window(h, s, states, centre, window, prove)
        if states is None or found is None:
            states = _solve_afresh(h, s, centre, window)
            found = _close_window(h, s, states, centre, window, prove)
        if found is None:
            raise _missed(states.values.size, window, centre)
        solved[number], known[number] = found, (states.vectors, states.values)
    return [solved[number] for number in range(len(signed))]


def _gather_neighbours(
    sequence: KpointSequence,
    known: Mapping[int, tuple[NDArray[Any], NDArray[np.float64]]],
    number: int,
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Carry the states of the nearest solved k-points to another one.

    Returns:
        The states, (n_orbitals, n_states), and the levels of the nearest point, eV.
    """
    steps = {}
    for other in known:
        step = sequence.kpoints[number] - sequence.kpoints[other]
        steps[other] = step - np.round(step)
    nearest = sorted(steps, key=lambda other: float(np.linalg.norm(steps[other])))[:NEIGHBOURS]
    turned = [turn_states(known[other][0], sequence.sites, steps[other]) for other in nearest]
    return np.concatenate(turned, axis=1), known[nearest[0]][1]


def _solve_afresh(
    hamiltonian_k: NDArray[Any], overlap_k: NDArray[Any], centre: float, window: float
) -> FollowedStates:
    """Find all states of the window, and those further out that neighbouring k-points may need."""
    values, vectors = solve_states_within(hamiltonian_k, overlap_k, centre, window + EDGE + GUARD)
    return FollowedStates(values, vectors, overlap_k @ vectors, centre, -1)


def _close_window(
    hamiltonian_k: NDArray[Any],
    overlap_k: NDArray[Any],
    states: FollowedStates,
    centre: float,
    window: float,
    prove: bool,
) -> WindowStates | None:
    """Choose the exact ends of the window and count the states below.

    States solved afresh are always proven complete, followed ones where ``prove`` asks for it.

    Returns:
        The states inside, or None when the counts contradict the states found.
    """
    values = states.values
    low, high = _find_ends(values, centre, window)
    inside = (values > low) & (values < high)
    n_inside = int(np.count_nonzero(inside))
    proven = prove or states.n_below < 0
    matrices = (hamiltonian_k, overlap_k)
    rounded = (
        (single_precision(hamiltonian_k), single_precision(overlap_k)) if proven else matrices
    )  # safe between levels
    if states.n_below >= 0:
        first = states.n_below - int(np.count_nonzero(inside & (values < states.shift)))
        complete = not prove or count_states_below(*rounded, high) - first == n_inside
    else:
        first = count_states_below(*rounded, low)
        complete = count_states_below(*rounded, high) - first == n_inside
        if not complete:
            first = count_states_below(*matrices, low)
            complete = count_states_below(*matrices, high) - first == n_inside
    found = WindowStates(first, values[inside], states.mapped[:, inside], states.vectors[:, inside])
    return found if complete else None


def _missed(n_found: int, window: float, centre: float) -> PhysicsError:
    return PhysicsError(
        message(
            "states of an energy window",
            f"{n_found} states within {window} eV of {centre:.3f} eV",
            "as many as the inertia of H − ES counts",
            "The solver missed a state: this is a defect of the program, please report it with "
            "the structure.",
        )
    )


def _find_ends(values: NDArray[np.float64], centre: float, window: float) -> tuple[float, float]:
    """Return the exact ends of the energy window, between levels, eV."""
    return _free_energy(values, centre - window - EDGE, centre - window), _free_energy(
        values, centre + window, centre + window + EDGE
    )


def _free_energy(values: NDArray[np.float64], low: float, high: float) -> float:
    """Return the middle of the widest gap between the levels inside a strip, eV."""
    levels = np.sort(np.concatenate([[low, high], values[(values > low) & (values < high)]]))
    widest = int(np.argmax(np.diff(levels)))
    return float(0.5 * (levels[widest] + levels[widest + 1]))
