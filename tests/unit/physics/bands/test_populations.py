"""Mulliken populations and counted states."""

import numpy as np
import pytest

from mlepi.physics.bands.populations import energy_of_count, integrated_lines, mulliken_weights
from mlepi.physics.eigenstates.bloch import solve_bands


def test_populations_obey_both_sum_rules():
    rng = np.random.default_rng(0)
    h, s = rng.normal(size=(2, 12, 12))
    h, s = h + h.T, s @ s.T + 2.0 * np.eye(12)
    _, vectors = solve_bands(h, s, vectors=True)
    weights = mulliken_weights(vectors, s @ vectors)
    np.testing.assert_allclose(weights.sum(axis=0), 1.0, atol=1e-10)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-10)


def test_populations_of_a_dimer():
    """Two equal sites with overlap s: half on each, in both states."""
    s = np.array([[1.0, 0.3], [0.3, 1.0]])
    _, vectors = solve_bands(np.array([[0.0, -1.0], [-1.0, 0.0]]), s, vectors=True)
    np.testing.assert_allclose(mulliken_weights(vectors, s @ vectors), 0.5, atol=1e-12)


def test_integrated_lines_are_the_integral_of_the_density():
    energies, levels = np.linspace(-3, 3, 6001), np.array([-1.0, -0.2, 0.5])
    density = np.exp(-0.5 * ((energies[:, None] - levels) / 0.1) ** 2).sum(axis=1) / (
        0.1 * np.sqrt(2 * np.pi)
    )
    counts = integrated_lines(energies, levels, 0.1)
    np.testing.assert_allclose(np.gradient(counts, energies)[1:-1], density[1:-1], atol=1e-4)
    assert counts[-1] == pytest.approx(3.0)


def test_the_energy_of_a_count():
    energies = np.linspace(-3, 3, 601)
    counts = integrated_lines(energies, np.array([-1.0, 1.0]), 0.05)
    # the middle of the gap
    assert energy_of_count(energies, counts, 1.0) == pytest.approx(0.0, abs=0.01)
    assert energy_of_count(energies, counts, 0.5) == pytest.approx(-1.0, abs=1e-6)
    assert np.isnan(energy_of_count(energies, counts, 2.5))
    assert np.isnan(energy_of_count(energies, counts, 0.0))
