"""The states of an energy window, followed from k-point to k-point, proven or near a proof.

Three ways to the states of a point, the cheapest first: those of the points behind, corrected by
factors of one of them (``carried_states``); the same, expanded by factors of this point, whose
inertia counts as well (``followed_states``); and without a start (``shift_invert``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.eigenstates.block_lanczos import Operator
from mlepi.physics.eigenstates.carried_states import (
    carry_inverse,
    carry_states,
    correct_states,
    extrapolate_states,
)
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks
from mlepi.physics.eigenstates.followed_states import (
    GUARD,
    FollowedStates,
    choose_shift,
    factorise,
    follow_states,
    single_precision,
)
from mlepi.physics.eigenstates.kpoint_sequence import (
    EDGE,
    KpointSequence,
    WindowStates,
    find_ends,
    missed_states,
)
from mlepi.physics.eigenstates.shift_invert import count_states_below, solve_states_within

FOLLOWED_ORBITALS = 192
"""Cells with fewer orbitals are diagonalised at every k-point; in larger ones states are followed
from point to point."""

NEIGHBOURS = 3
"""Solved k-points whose states start the expansion at the next one; three make it converge with one
solve."""

PROOF_DISTANCE = 0.05
"""Å⁻¹; over it no band of a solid moves by more than ``GUARD``."""

PATIENCE = 2
"""Failures of corrections in a row after which none are tried at the points ahead."""

STRAIGHT = 0.05
"""Two steps that differ in direction by more than this part are not on one line."""

SHIFT_REACH = 0.5
"""Share of the energy window in which the shift of a followed solution may lie."""

Pair = tuple[NDArray[Any], NDArray[Any]]
"""H(k), eV, and S(k)."""


def follow_points(
    sequence: KpointSequence,
    layouts: tuple[DenseBlocks, DenseBlocks],
    centre: float,
    window: float,
) -> list[WindowStates]:
    """Solve all k-points, the middle one first and the others from their neighbours.

    The inertia at both ends of the window proves that no state is missing at the first and at the
    last point, and wherever k is further than ``PROOF_DISTANCE`` from all points with a proof:
    between them no state passes the followed ones unseen. Where it contradicts the number of states
    carried on from point to point, all points are solved once more and counted one by one.

    Args:
        sequence: of k-points.
        layouts: of the Hamiltonian, eV, and the overlap.
        centre: eV, of the window.
        window: eV, half width.

    Returns:
        One result per k-point.

    Raises:
        PhysicsError: the solver missed a state, or did not converge.
    """
    order = sorted(range(len(sequence.kpoints)), key=lambda n: abs(sequence.distances[n]))
    buffers = [np.empty((len(sequence.sites),) * 2, dtype=np.complex128) for _ in layouts]
    for carry in (True, False):
        follower = StateFollower(sequence, centre, window, carry=carry)
        solved: dict[int, WindowStates] = {}
        for number in order:
            h, s = (
                layout.at(sequence.kpoints[number], out)
                for layout, out in zip(layouts, buffers, strict=True)
            )
            solved[number] = follower.go_on(number, (h, s), last=number == order[-1])
        if not follower.contradicted:
            break
    return [solved[number] for number in range(len(solved))]


@dataclass(frozen=True)
class Counted:
    """States of one point, and the number of all states below the first of them."""

    states: FollowedStates
    n_below: int

    def count_below(self, energy: float) -> int:
        """Count all states below an energy among those of the point, eV."""
        return self.n_below + int(np.count_nonzero(self.states.values < energy))


class StateFollower:
    """Finds the states of one k-point after the other.

    Args:
        sequence: of k-points.
        centre: eV, of the window.
        window: eV, half width.
        carry: whether the number of states below a gap may come from a neighbouring point.

    Attributes:
        contradicted: whether states were counted that are not as many as were carried on.
    """

    def __init__(
        self, sequence: KpointSequence, centre: float, window: float, *, carry: bool = True
    ) -> None:
        self.sequence, self.centre, self.window, self.carry = sequence, centre, window, carry
        self.contradicted = False
        self._known: dict[int, Counted] = {}
        self._proven: list[int] = []  # in the window
        self._complete: list[int] = []  # and beyond, as far as states are followed
        self._factors: tuple[int, Operator, float] | None = None
        self._failures = 0

    def go_on(self, number: int, pair: Pair, *, last: bool) -> WindowStates:
        """Find all states of the window at one point more.

        Args:
            number: of the point.
            pair: H and S there.
            last: whether this is the end of the way, where states are proven complete.

        Raises:
            PhysicsError: the solver missed a state, or did not converge.
        """
        counted = None if last else self._correct(number, pair)
        counted = counted or self._follow(number, pair, last) or self._solve_afresh(number, pair)
        values = counted.states.values
        low, high = find_ends(values, self.centre, self.window)
        inside = (values > low) & (values < high)
        self._known[number] = counted
        return WindowStates(
            first=counted.count_below(low),
            values=values[inside],
            mapped=counted.states.mapped[:, inside],
            vectors=counted.states.vectors[:, inside],
        )

    def _correct(self, number: int, pair: Pair) -> Counted | None:
        """Correct the states of the points behind, by factors of one of them.

        None where a state could come into the window that is not among them, and where corrections
        do not converge.
        """
        if self._factors is None or self._failures >= PATIENCE:
            return None
        if not self._is_near(number, self._complete):
            return None
        origin, solve, shift = self._factors
        inverse = carry_inverse(solve, self.sequence.sites, self.sequence.step(origin, number))
        states = correct_states(
            pair, self.centre, self.window + EDGE, self._extrapolate(number), (inverse, shift)
        )
        self._failures = self._failures + 1 if states is None else 0
        if states is None:
            return None
        below = self._carry_count(number, states.values)
        if below is None:
            low, _ = find_ends(states.values, self.centre, self.window)
            below = _count_under(_round(pair), states.values, low)
        return Counted(states, below)

    def _follow(self, number: int, pair: Pair, last: bool) -> Counted | None:
        """Expand the states of the points behind by factors of this one.

        None where they do not lead to its states, or the inertia contradicts them.
        """
        if not self._known or len(self.sequence.sites) < FOLLOWED_ORBITALS:
            return None
        near = self._nearest(number)[:NEIGHBOURS]
        start = [self._carry(other, number).vectors for other in near]
        levels = self._known[near[0]].states.values
        shift = choose_shift(levels, self.centre, SHIFT_REACH * self.window)
        self._factors = None  # large cells hold one set of them at a time
        factors = factorise(*pair, shift)
        if factors is None:
            return None
        self._factors = number, factors[0], shift
        states = follow_states(
            pair, self.centre, self.window + EDGE, np.concatenate(start, axis=1), shift, factors
        )
        if states is None:
            return None
        below = states.n_below - int(np.count_nonzero(states.values < shift))
        prove = last or not self._is_near(number, self._proven)
        if prove and self._prove(number, _round(pair), states.values, below) is None:
            return None
        return self._close(number, states, below)

    def _solve_afresh(self, number: int, pair: Pair) -> Counted:
        """Find the states without a start, and those further out that other points may need."""
        reach = self.window + EDGE + GUARD
        values, vectors = solve_states_within(*pair, self.centre, reach)
        if len(self.sequence.sites) >= FOLLOWED_ORBITALS and self._factors is None:
            shift = choose_shift(values, self.centre, SHIFT_REACH * self.window)
            factors = factorise(*pair, shift)
            self._factors = None if factors is None else (number, factors[0], shift)
        states = FollowedStates(values, vectors, pair[1] @ vectors, self.centre, -1)
        below = self._prove(number, _round(pair), values)  # safe between levels
        below = self._prove(number, pair, values) if below is None else below
        if below is None:
            raise missed_states(values.size, self.window, self.centre)
        return self._close(number, states, below)

    def _close(self, number: int, states: FollowedStates, below: int) -> Counted:
        """Compare a count of this point with the one carried on from the points behind."""
        carried = self._carry_count(number, states.values)
        self.contradicted |= carried is not None and carried != below
        return Counted(states, below)

    def _nearest(self, number: int) -> list[int]:
        """Return the points behind, the nearest first."""
        step, length = self.sequence.step, self.sequence.length
        return sorted(self._known, key=lambda other: length(step(other, number)))

    def _is_near(self, number: int, others: list[int]) -> bool:
        """Tell whether a point is within ``PROOF_DISTANCE`` of one of some others."""
        step, length = self.sequence.step, self.sequence.length
        return any(length(step(other, number)) <= PROOF_DISTANCE for other in others)

    def _carry(self, other: int, number: int) -> FollowedStates:
        """Turn the states of a point behind to another point."""
        step = self.sequence.step(other, number)
        return carry_states(self._known[other].states, self.sequence.sites, step)

    def _extrapolate(self, number: int) -> NDArray[Any]:
        """Carry the states of the nearest point on, along the line from the next but one."""
        near, *others = self._nearest(number)[:2]
        states, ahead = self._carry(near, number), self.sequence.step(near, number)
        behind = self.sequence.step(others[0], near) if others else np.zeros(3)
        if not np.any(behind):
            return states.vectors
        ratio = float(behind @ ahead) / float(behind @ behind)
        if np.linalg.norm(ahead - ratio * behind) > STRAIGHT * np.linalg.norm(ahead):
            return states.vectors
        return extrapolate_states(states, self._carry(others[0], number), ratio)

    def _carry_count(self, number: int, values: NDArray[np.float64]) -> int | None:
        """Count the states below those of a point by a gap that stays open on the way to it.

        None where there is no gap twice as wide as bands move on the way.
        """
        if not self.carry or not self._known:
            return None
        near = self._nearest(number)[0]
        moved = GUARD * self.sequence.length(self.sequence.step(near, number)) / PROOF_DISTANCE
        reach = self.window + GUARD
        levels = self._known[near].states.values - self.centre
        edges = np.sort(np.concatenate([[-reach, reach], levels[np.abs(levels) < reach]]))
        widest = int(np.argmax(np.diff(edges)))
        if edges[widest + 1] - edges[widest] <= 2.0 * moved:
            return None
        gap = self.centre + 0.5 * float(edges[widest] + edges[widest + 1])
        return self._known[near].count_below(gap) - int(np.count_nonzero(values < gap))

    def _prove(
        self, number: int, pair: Pair, values: NDArray[np.float64], below: int | None = None
    ) -> int | None:
        """Count the states below those found, and prove these complete.

        Beyond the window as well where that can be, else in the window.

        Args:
            number: of the point.
            pair: H and S.
            values: eV.
            below: number of states below the levels; None counts them.

        Returns:
            Number of states below the levels, None where states are missing in the window.
        """
        for beyond in (GUARD, 0.0):
            low, high = find_ends(values, self.centre, self.window + beyond)
            under = _count_under(pair, values, low) if below is None else below
            if _count_under(pair, values, high) == under:
                self._proven.append(number)
                self._complete += [number] if beyond else []
                return under
        return None


def _round(pair: Pair) -> Pair:
    return single_precision(pair[0]), single_precision(pair[1])


def _count_under(pair: Pair, values: NDArray[np.float64], energy: float) -> int:
    """Count the states below an energy that are none of those found."""
    return count_states_below(*pair, energy) - int(np.count_nonzero(values < energy))
