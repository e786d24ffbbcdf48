"""The few-state solver against full diagonalisation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from mlepi.errors import PhysicsError
from mlepi.physics.eigenstates import shift_invert
from mlepi.physics.eigenstates.block_lanczos import block_lanczos
from mlepi.physics.eigenstates.shift_invert import count_states_below, solve_states_within


def pencil(n=320, real=False, seed=0):
    """A pencil of known eigenvalues, two degenerate; the smallest of the overlap is 1e-3."""
    rng = np.random.default_rng(seed)
    imaginary = 0.0 if real else 1j
    unitary = np.linalg.qr(rng.normal(size=(n, n)) + imaginary * rng.normal(size=(n, n)))[0]
    root = (unitary * np.sqrt(np.geomspace(1e-3, 3.0, n))) @ unitary.conj().T
    values = np.sort(
        np.concatenate(
            [
                rng.uniform(-20, 30, n - 12),
                [-0.9, -0.4, -0.4, -0.1, 0.05, 0.05, 0.3, 0.31, 0.5, 0.8, 1.2, 1.4],
            ]
        )
    )
    vectors = np.linalg.qr(rng.normal(size=(n, n)) + imaginary * rng.normal(size=(n, n)))[0]
    h = root @ ((vectors * values) @ vectors.conj().T) @ root
    s = root @ root
    return 0.5 * (h + h.conj().T), 0.5 * (s + s.conj().T), values


@pytest.mark.parametrize("real", [True, False])
def test_all_states_of_a_window(real):
    h, s, values = pencil(real=real)
    expected = values[np.abs(values - 0.07) <= 1.5]
    for tolerance in (1e-4, 1e-8):
        found, vectors = solve_states_within(h, s, 0.07, 1.5, tolerance=tolerance)
        np.testing.assert_allclose(found, expected, atol=max(tolerance, 1e-8))
        np.testing.assert_allclose(vectors.conj().T @ s @ vectors, np.eye(len(found)), atol=1e-10)
    reference = scipy.linalg.eigh(h, s, eigvals_only=True)
    np.testing.assert_allclose(found, reference[np.abs(reference - 0.07) <= 1.5], atol=1e-8)
    assert np.iscomplexobj(vectors) != real


def test_start_vectors_change_nothing_but_the_time():
    h, s, values = pencil()
    expected = values[np.abs(values) <= 1.0]
    poor = np.linalg.qr(np.random.default_rng(5).normal(size=(320, 6)))[0]
    _, good = solve_states_within(h, s, 0.0, 1.0)
    for start in (poor, good, good[:, :2]):
        np.testing.assert_allclose(
            solve_states_within(h, s, 0.0, 1.0, start=start)[0], expected, atol=5e-5
        )


def test_shift_on_an_eigenvalue():
    h, s, values = pencil()
    found, _ = solve_states_within(h, s, 0.05, 1.0)
    np.testing.assert_allclose(found, values[np.abs(values - 0.05) <= 1.0], atol=5e-5)
    diagonal = np.diag(np.arange(300.0)) - 100.0 * np.eye(300)
    found, _ = solve_states_within(diagonal, np.eye(300), 0.0, 3.5)
    np.testing.assert_allclose(found, np.arange(-3, 4), atol=5e-5)


def test_empty_window_and_small_matrix():
    diagonal = np.diag(np.where(np.arange(300) < 150, -3.0, 3.0) + np.linspace(0, 0.5, 300))
    values, vectors = solve_states_within(diagonal, np.eye(300), 0.2, 1.0)
    assert values.shape == (0,)
    assert vectors.shape == (300, 0)
    h, s, values = pencil(n=40)
    np.testing.assert_allclose(
        solve_states_within(h, s, 0.0, 1.0)[0], values[np.abs(values) <= 1.0], atol=1e-9
    )


def test_too_many_states_raise():
    with pytest.raises(PhysicsError, match="Narrow the window"):
        solve_states_within(np.diag(np.linspace(-1, 1, 500)), np.eye(500), 1e-4, 5.0)


@pytest.mark.parametrize("real", [True, False])
def test_inertia_counts_states(real):
    h, s, values = pencil(n=120, real=real)
    for energy in (-30.0, -5.0, 0.0, 0.4, 31.0):
        assert count_states_below(h, s, energy) == np.count_nonzero(values < energy)
    # a vanishing diagonal forces 2×2 pivots
    blocks = np.kron(np.eye(4), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert count_states_below(blocks, np.eye(8), 0.0) == 4


def test_wider_blocks_follow_narrow_ones_that_do_not_converge(monkeypatch):
    rng = np.random.default_rng(3)
    h = np.diag(rng.uniform(-8.0, 8.0, size=600))
    widths = []

    def reluctant(solve, multiply, first, *arguments):
        widths.append(first.shape[1])
        return (
            None
            if first.shape[1] == shift_invert.BLOCK_WIDTH
            else block_lanczos(solve, multiply, first, *arguments)
        )

    monkeypatch.setattr(shift_invert, "block_lanczos", reluctant)
    values, _ = shift_invert.solve_states_within(h, np.eye(600), 0.0, 0.5)
    assert widths == [24, 72]
    levels = np.sort(np.diag(h))
    np.testing.assert_allclose(values, levels[np.abs(levels) <= 0.5], atol=5e-5)
