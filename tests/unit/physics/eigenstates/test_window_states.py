"""All states of an energy window at several k-points: every way of solving, and lost states."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from real_supercells import real_supercell
from toys import honeycomb, tight_binding

from mlepi.errors import PhysicsError
from mlepi.physics.eigenstates import state_follower, window_states
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import lay_out_blocks
from mlepi.physics.eigenstates.kpoint_sequence import KpointSequence
from mlepi.physics.eigenstates.window_states import solve_points

WINDOW = 1.2


@pytest.fixture(scope="module")
def supercell():
    """Layouts of H and S, five k-points on a line through Γ, and the middle of the bands there."""
    atoms, _, h, s = real_supercell()
    steps = np.array([0.0, 0.03, -0.03, 0.06, 0.1])
    kpoints = steps[:, None] * np.array([1.0, 0.5, 0.0])
    cell = 3.0 * atoms.cell.array
    distances = np.sign(steps) * np.linalg.norm(2 * np.pi * kpoints @ np.linalg.inv(cell).T, axis=1)
    primitive = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
    cells = np.stack(np.meshgrid(range(3), range(3), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    sites = (cells[:, None] + primitive).reshape(-1, 3) / [3, 3, 1]
    sequence = KpointSequence(
        kpoints, distances, np.repeat(sites, np.diff(h.offsets), axis=0), cell
    )
    layouts = h.lay_out(), s.lay_out()
    levels = [solve_bands(layouts[0].at(k), layouts[1].at(k)) for k in kpoints]
    n_occupied = 36 * 4 // 2
    centre = float(np.mean(levels[0][n_occupied - 1 : n_occupied + 1]))
    return sequence, layouts, centre, levels


def check(found, centre, levels):
    for states, exact in zip(found, levels, strict=True):
        count = len(states.values)
        np.testing.assert_allclose(
            states.values, exact[states.first : states.first + count], atol=5e-5
        )
        assert exact[states.first - 1] < centre - WINDOW
        assert exact[states.first + count] > centre + WINDOW
        norms = np.sum(states.vectors.conj() * states.mapped, axis=0)
        np.testing.assert_allclose(norms, 1.0, atol=1e-6)


def count_calls(monkeypatch, name):
    """Have a solver of the follower note its calls; returns the list of their results."""
    solve, results = getattr(state_follower, name), []

    def noted(*arguments):
        results.append(solve(*arguments))
        return results[-1]

    monkeypatch.setattr(state_follower, name, noted)
    return results


def test_every_way_of_solving_finds_all_states(supercell, monkeypatch):
    sequence, layouts, centre, levels = supercell
    together = window_states.solve_points_together(sequence, layouts, centre, WINDOW, "cpu")
    check(together, centre, levels)
    check(solve_points(sequence, layouts, centre, WINDOW), centre, levels)
    monkeypatch.setattr(state_follower, "correct_states", lambda *arguments: None)
    check(solve_points(sequence, layouts, centre, WINDOW), centre, levels)
    monkeypatch.setattr(state_follower, "follow_states", lambda *arguments: None)
    check(solve_points(sequence, layouts, centre, WINDOW), centre, levels)


def test_near_a_proof_no_point_is_factorised(supercell, monkeypatch):
    """Factors of the first point serve those around it; the inertia proves both ends."""
    sequence, layouts, centre, levels = supercell
    near = np.abs(sequence.distances) < 0.9 * state_follower.PROOF_DISTANCE
    assert np.count_nonzero(near) == 3
    few = replace(sequence, kpoints=sequence.kpoints[near], distances=sequence.distances[near])
    corrected, factors, counts = (
        count_calls(monkeypatch, name)
        for name in ("correct_states", "factorise", "count_states_below")
    )
    found = solve_points(few, layouts, centre, WINDOW)
    check(found, centre, [exact for exact, taken in zip(levels, near, strict=True) if taken])
    assert [states is not None for states in corrected] == [True]
    assert len(factors) == 2  # of the first point and of the last
    assert len(counts) == 3


def test_a_point_may_come_twice(supercell, monkeypatch):
    sequence, layouts, centre, levels = supercell
    monkeypatch.setattr(state_follower, "PROOF_DISTANCE", 1.0)
    chosen = [0, 1, 1, 3, 4]
    twice = replace(
        sequence, kpoints=sequence.kpoints[chosen], distances=sequence.distances[chosen]
    )
    check(solve_points(twice, layouts, centre, WINDOW), centre, [levels[n] for n in chosen])


def test_corrections_are_given_up_where_they_fail(supercell, monkeypatch):
    sequence, layouts, centre, levels = supercell
    monkeypatch.setattr(state_follower, "PROOF_DISTANCE", 1.0)
    attempts = []
    monkeypatch.setattr(
        state_follower, "correct_states", lambda *arguments: attempts.append(arguments)
    )
    check(solve_points(sequence, layouts, centre, WINDOW), centre, levels)
    assert len(attempts) == state_follower.PATIENCE


def test_a_count_that_was_carried_wrongly_is_found_and_counted_again(supercell, monkeypatch):
    """The inertia of the last point contradicts it, and all points are counted one by one."""
    sequence, layouts, centre, levels = supercell
    carry = state_follower.StateFollower._carry_count
    asked = []

    def carry_wrongly(self, number, values):
        count = carry(self, number, values)
        asked.append(self.carry)
        return None if count is None else count + 1

    monkeypatch.setattr(state_follower.StateFollower, "_carry_count", carry_wrongly)
    check(solve_points(sequence, layouts, centre, WINDOW), centre, levels)
    assert set(asked) == {True, False}


def test_a_count_is_carried_through_an_open_gap_only(supercell, monkeypatch):
    """Where bands could close every gap on the way, the inertia is asked at each point."""
    sequence, _, centre, _ = supercell
    monkeypatch.setattr(state_follower, "GUARD", 30.0 * state_follower.GUARD)
    monkeypatch.setattr(state_follower, "PROOF_DISTANCE", 0.5 * state_follower.PROOF_DISTANCE)
    follower = state_follower.StateFollower(sequence, centre, WINDOW)
    states = SimpleNamespace(values=np.array([centre - 0.6, centre + 0.6]))
    follower._known[0] = state_follower.Counted(states, 70)
    assert follower._carry_count(1, states.values) is None
    monkeypatch.undo()
    assert follower._carry_count(1, states.values) == 70
    assert follower._carry_count(1, states.values[1:]) == 71


def test_a_state_lost_on_the_way_is_found_again(supercell, monkeypatch):
    """The proof at the last point sees what following missed, and the point is solved afresh."""
    sequence, layouts, centre, levels = supercell
    follow = state_follower.follow_states
    lost = []

    def lose_the_highest(*arguments):
        states = follow(*arguments)
        lost.append(states)
        return replace(
            states,
            values=states.values[:-1],
            vectors=states.vectors[:, :-1],
            mapped=states.mapped[:, :-1],
        )

    monkeypatch.setattr(state_follower, "follow_states", lose_the_highest)
    two = replace(sequence, kpoints=sequence.kpoints[:2], distances=sequence.distances[:2])
    check(solve_points(two, layouts, centre, WINDOW), centre, levels[:2])
    assert lost


@pytest.fixture
def toy():
    atoms = honeycomb(bilayer=True).repeat((3, 3, 1))
    atoms.positions += 0.02 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    edge_index, shifts, h, s, offsets = tight_binding(atoms, overlap=0.1, onsite=0.2)
    sequence = KpointSequence(
        np.zeros((1, 3)), np.zeros(1), np.zeros((len(atoms), 3)), atoms.cell.array
    )
    return sequence, tuple(lay_out_blocks(x, edge_index, shifts, offsets) for x in (h, s))


def test_a_missed_state_is_an_error_on_a_device(toy, monkeypatch):
    count = window_states.count_batch_below
    monkeypatch.setattr(
        window_states, "count_batch_below", lambda *arguments: [2 * n for n in count(*arguments)]
    )
    with pytest.raises(PhysicsError, match="as many as the inertia of H − ES counts"):
        window_states.solve_points_together(*toy, 0.2, WINDOW, "cpu")


def test_a_missed_state_is_an_error(toy, monkeypatch):
    solve = state_follower.solve_states_within
    monkeypatch.setattr(
        state_follower,
        "solve_states_within",
        lambda *a, **k: tuple(part[..., :-1] for part in solve(*a, **k)),
    )
    with pytest.raises(PhysicsError, match="The solver missed a state"):
        solve_points(*toy, 0.2, WINDOW)
