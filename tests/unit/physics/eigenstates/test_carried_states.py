"""States carried on to the next k-point, and corrected there, against full diagonalisation."""

from __future__ import annotations

import numpy as np
import pytest
from test_followed_states import perturbed
from test_shift_invert import pencil
from toys import honeycomb, tight_binding

from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.carried_states import (
    carry_inverse,
    carry_states,
    correct_states,
    extrapolate_states,
)
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.physics.eigenstates.followed_states import FollowedStates, factorise

WINDOW = 1.0


def take(values, vectors, s, reach):
    inside = np.abs(values) < reach
    return FollowedStates(values[inside], vectors[:, inside], s @ vectors[:, inside], 0.0, -1)


def isolated(real=False):
    """A pencil with no state between 1.5 and 3.5 eV on either side, and its solution."""
    h, s, _ = pencil(real=real)
    values, vectors = solve_bands(h, s, vectors=True)
    values = np.where(np.abs(values) < 1.5, values, values + 2.0 * np.sign(values))
    dual = s @ vectors
    return (dual * values) @ dual.conj().T, s, values, vectors


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("tolerance", [5e-5, 1e-7])
def test_factors_of_one_pencil_correct_states_of_a_neighbouring_one(real, tolerance):
    h, s, values, vectors = isolated(real)
    start = vectors[:, np.abs(values) < 1.5]
    near = perturbed(h, s, 2e-4)
    expected, exact = solve_bands(near, s, vectors=True)
    solve, _ = factorise(h, s, -0.25)
    found = correct_states((near, s), 0.0, WINDOW, start, (solve, -0.25), tolerance=tolerance)
    inside, wanted = np.abs(found.values) <= WINDOW, np.abs(expected) <= WINDOW
    np.testing.assert_allclose(found.values[inside], expected[wanted], atol=tolerance)
    np.testing.assert_allclose(
        found.vectors.conj().T @ s @ found.vectors, np.eye(len(found.values)), atol=1e-9
    )
    np.testing.assert_allclose(found.mapped, s @ found.vectors, atol=1e-9)
    overlaps = np.linalg.svd(exact[:, wanted].conj().T @ found.mapped[:, inside])[1]
    assert overlaps.min() > 1 - 1e-4
    assert found.n_below < 0  # nobody has counted


def test_what_does_not_lead_to_the_states_is_told():
    h, s, values, vectors = isolated()
    solve, _ = factorise(h, s, -0.25)
    start = vectors[:, np.abs(values) < 1.5]
    other = pencil(seed=5)[:2]
    assert correct_states(other, 0.0, WINDOW, start, (solve, -0.25)) is None
    assert correct_states((h, s), 0.0, WINDOW, start[:, :0], (solve, -0.25)) is None
    twice = np.concatenate([start, start], axis=1)
    assert correct_states((h, s), 0.0, WINDOW, twice, (solve, -0.25)) is None
    dense, s, values = pencil()
    near = solve_bands(dense, s, vectors=True)[1][:, np.abs(values) < 1.5]
    assert correct_states((perturbed(dense, s, 2e-3), s), 0.0, WINDOW, near, (solve, -0.25)) is None
    outside = vectors[:, np.abs(values) > 15]
    assert correct_states((h, s), 0.0, WINDOW, outside, (solve, -0.25)) is None


@pytest.fixture(scope="module")
def line():
    """H, S and the solutions of a crystal with an overlap at four k-points of a line, and sites."""
    atoms = honeycomb(bilayer=True).repeat((3, 3, 1))
    atoms.positions += 0.03 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    edge_index, shifts, h, s, offsets = tight_binding(atoms, overlap=0.1)
    step = np.array([0.02, 0.01, 0.0])
    kpoints = np.arange(4)[:, None] * step + [0.11, 0.05, 0.0]
    pairs = list(
        zip(*(bloch_sum(x, edge_index, shifts, offsets, kpoints) for x in (h, s)), strict=True)
    )
    solutions = [take(*solve_bands(*pair, vectors=True), pair[1], 3.0) for pair in pairs]
    return pairs, solutions, np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T, step


def miss(start, exact):
    """How far the space of some vectors is from that of the exact states: the largest sine."""
    overlap = np.linalg.lstsq(start, exact.vectors, rcond=None)[0]
    return float(np.linalg.norm(exact.vectors - start @ overlap, axis=0).max())


def test_states_extrapolated_along_a_line_are_closer(line):
    _, solutions, sites, step = line
    near = carry_states(solutions[1], sites, step)
    far = carry_states(solutions[0], sites, 2 * step)
    carried = extrapolate_states(near, far, 1.0)
    assert carried.shape == near.vectors.shape
    alone, together = (miss(start, solutions[2]) for start in (near.vectors, carried))
    assert together < 0.5 * alone


def test_neighbours_with_other_states_are_left_out(line):
    _, solutions, sites, step = line
    near = carry_states(solutions[1], sites, step)
    fewer = FollowedStates(
        near.values[:-1], near.vectors[:, :-1], near.mapped[:, :-1], near.shift, -1
    )
    np.testing.assert_array_equal(extrapolate_states(near, fewer, 1.0), near.vectors)


def test_an_inverse_is_carried_with_the_gauge(line):
    """At the next point it inverts better than taken as it is, or with the opposite gauge."""
    pairs, solutions, sites, step = line
    below = -12.0  # eV, of all states: no level is near
    solve, count = factorise(*pairs[1], below)
    assert count == 0
    h, s = pairs[2]
    exact = np.linalg.solve(h - below * s, solutions[0].mapped)
    right, none, wrong = (
        np.linalg.norm(carry_inverse(solve, sites, way * step)(solutions[0].mapped) - exact)
        for way in (1.0, 0.0, -1.0)
    )
    assert right < 0.01 * np.linalg.norm(exact)
    assert right < 0.7 * none < 0.7 * wrong
