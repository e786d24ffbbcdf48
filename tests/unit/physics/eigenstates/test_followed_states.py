"""States followed from neighbouring k-points against full diagonalisation."""

from __future__ import annotations

import numpy as np
import pytest
from test_shift_invert import pencil
from toys import honeycomb, tight_binding

from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.physics.eigenstates.followed_states import (
    choose_shift,
    follow_states,
    single_precision,
    turn_states,
)


def perturbed(h, s, size, seed=1):
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=h.shape) * np.sqrt(np.outer(np.diag(s).real, np.diag(s).real)) * size
    return h + 0.5 * (noise + noise.T)


@pytest.mark.parametrize("real", [True, False])
def test_states_of_a_neighbouring_pencil(real):
    h, s, _ = pencil(real=real)
    values, vectors = solve_bands(h, s, vectors=True)
    start = vectors[:, np.abs(values) < 1.5]
    near = perturbed(h, s, 2e-4)
    expected, exact = solve_bands(near, s, vectors=True)
    found = follow_states((near, s), 0.0, 1.0, start, choose_shift(expected, 0.0, 0.6))
    inside = np.abs(found.values) <= 1.0
    wanted = np.abs(expected) <= 1.0
    np.testing.assert_allclose(found.values[inside], expected[wanted], atol=5e-5)
    np.testing.assert_allclose(
        found.vectors.conj().T @ s @ found.vectors, np.eye(len(found.values)), atol=1e-9
    )
    np.testing.assert_allclose(found.mapped, s @ found.vectors, atol=1e-9)
    assert found.n_below == np.count_nonzero(expected < found.shift)
    overlaps = np.linalg.svd(exact[:, wanted].conj().T @ found.mapped)[1]
    assert overlaps[: np.count_nonzero(wanted)].min() > 1 - 1e-4
    assert np.iscomplexobj(found.vectors) != real


def test_complex_states_lead_to_those_of_a_real_pencil():
    """A point like K folded onto Γ: H is real, the states of the crystal are not."""
    h, s, _ = pencil(real=True)
    values, vectors = solve_bands(h, s, vectors=True)
    near = perturbed(h, s, 2e-4)
    expected = solve_bands(near, s)
    start = vectors[:, np.abs(values) < 1.5]
    rng = np.random.default_rng(2)
    turned = np.linalg.qr(rng.normal(size=(2, *(start.shape[1],) * 2)).T @ [1.0, 1.0j])[0]
    found = follow_states((near, s), 0.0, 1.0, start @ turned, choose_shift(expected, 0.0, 0.6))
    np.testing.assert_allclose(
        found.values[np.abs(found.values) <= 1.0], expected[np.abs(expected) <= 1.0], atol=5e-5
    )


def test_a_tighter_tolerance_is_kept():
    h, s, _ = pencil()
    values, vectors = solve_bands(h, s, vectors=True)
    near = perturbed(h, s, 2e-4)
    expected = solve_bands(near, s)
    found = follow_states(
        (near, s), 0.0, 1.0, vectors[:, np.abs(values) < 1.5], -0.25, tolerance=1e-6
    )
    np.testing.assert_allclose(
        found.values[np.abs(found.values) <= 1.0], expected[np.abs(expected) <= 1.0], atol=1e-6
    )


def test_where_following_must_not_be_trusted():
    h, s, values = pencil()
    _, vectors = solve_bands(h, s, vectors=True)
    start = vectors[:, np.abs(values) < 1.5]
    level = values[np.abs(values - 0.3) < 1e-6][0]
    # a count in single precision would be a guess
    assert follow_states((h, s), 0.0, 1.0, start, level + 1e-4) is None
    far = vectors[:, np.abs(values) > 15]
    poor = follow_states((h, s), 0.0, 1.0, far[:, :3], -0.25)
    assert poor is None or np.all(
        np.abs(poor.values[:, None] - values).min(axis=1)[np.abs(poor.values) <= 1.0] < 5e-5
    )
    assert (
        follow_states((np.zeros((300, 300)), np.eye(300)), 0.0, 1.0, np.eye(300)[:, :4], 0.0)
        is None
    )


def test_turned_states_solve_an_undisplaced_crystal_at_the_next_point():
    """The energy of a turned state is off in second order of the step only, and least of all ways.

    Turned the other way, or not at all, states are off in second order as well, by more.
    """
    atoms = honeycomb(bilayer=True).repeat((2, 2, 1))
    edge_index, shifts, h, s, offsets = tight_binding(atoms, overlap=0.1)
    sites = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
    k = np.array([0.1, 0.2, 0.0])
    errors = {way: [] for way in (1.0, 0.0, -1.0)}
    for length in (0.02, 0.01):
        step = np.array([length, -0.5 * length, 0.0])
        (h0, h1), (s0, s1) = (
            bloch_sum(x, edge_index, shifts, offsets, [k, k + step]) for x in (h, s)
        )
        _, vectors = solve_bands(h0, s0, vectors=True)
        exact = solve_bands(h1, s1)
        for way in errors:
            start = turn_states(vectors[:, :1], sites, way * step)
            expectation = (start.conj().T @ h1 @ start).real / (start.conj().T @ s1 @ start).real
            errors[way].append(float(expectation[0, 0] - exact[0]))
    assert 0 <= errors[1.0][1] < 0.3 * errors[1.0][0] < 0.01  # second order in the step
    assert errors[1.0][1] < 0.5 * errors[0.0][1] < 0.25 * errors[-1.0][1]


def test_shift_lies_in_the_widest_gap():
    assert choose_shift(np.array([-0.4, -0.1, 0.0, 0.05, 3.0]), 0.0, 0.6) == pytest.approx(0.325)
    assert choose_shift(np.array([]), 1.0, 0.5) == 1.0
    assert single_precision(np.eye(2)).dtype == np.float32
    assert single_precision(1j * np.eye(2)).dtype == np.complex64
