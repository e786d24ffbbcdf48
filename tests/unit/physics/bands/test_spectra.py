"""Line shapes, moments, densities of states and peaks against algebra."""

from __future__ import annotations

import numpy as np
import pytest

from mlepi.errors import ConfigError, PhysicsError
from mlepi.physics.bands import spectra

GRID = np.linspace(-60.0, 60.0, 240001)


@pytest.mark.parametrize("shape", spectra.SHAPES)
def test_lines_are_normalised_and_have_the_stated_width(shape):
    line = spectra.line_shape(GRID, 0.05, shape)
    tail = 2 * 0.05 / np.pi / 60.0 if shape == "lorentzian" else 0.0  # outside the grid
    assert np.trapezoid(line, GRID) + tail == pytest.approx(1.0, abs=1e-6)
    at_width = spectra.line_shape(np.array([0.0, 0.05]), 0.05, shape)
    assert at_width[1] / at_width[0] == pytest.approx(
        0.5 if shape == "lorentzian" else np.exp(-0.5)
    )


def test_moments_of_the_spectral_function():
    levels, weights = np.array([-0.4, 0.1, 0.7]), np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    a = spectra.compute_spectral_function(GRID, levels, weights, 0.05, "gaussian")
    assert a.shape == (2, len(GRID))
    np.testing.assert_allclose(np.trapezoid(a, GRID), weights.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(np.trapezoid(a * GRID, GRID), weights @ levels, atol=1e-9)
    np.testing.assert_allclose(
        np.trapezoid(a * GRID**2, GRID),
        weights @ levels**2 + 0.05**2 * weights.sum(axis=1),
        atol=1e-9,
    )


def test_dos_of_a_chain():
    k = (np.arange(20000) + 0.5) / 20000
    energies = np.linspace(-3, 3, 601)
    dos = spectra.compute_dos(
        energies, 2 * np.cos(2 * np.pi * k)[:, None], np.full(20000, 7.0), 0.02
    )
    assert np.trapezoid(dos, energies) == pytest.approx(1.0, abs=1e-6)
    middle = np.abs(energies) < 1.5
    np.testing.assert_allclose(
        dos[middle], 1 / (np.pi * np.sqrt(4 - energies[middle] ** 2)), rtol=2e-3
    )


def test_peaks_are_found_between_grid_points():
    grid = np.linspace(-1, 1, 101)
    centres = np.array([-0.313, 0.2071, 0.5])
    lines = np.stack([spectra.line_shape(grid - c, 0.08, "gaussian") for c in centres])
    np.testing.assert_allclose(spectra.find_peaks(grid, lines), centres, atol=5e-4)
    with pytest.raises(PhysicsError, match="a maximum at the end of the grid"):
        spectra.find_peaks(grid, grid)


def test_sorted_levels_come_from_the_right_place():
    np.testing.assert_array_equal(
        spectra.sorted_levels(np.array([1.0, 2.0, 3.0]), 10, [11, 12]), [2.0, 3.0]
    )
    with pytest.raises(PhysicsError, match=r"got states 10 … 12; expected states 12 … 13"):
        spectra.sorted_levels(np.array([1.0, 2.0, 3.0]), 10, [12, 13])


def test_bad_line_is_refused():
    with pytest.raises(ConfigError, match="line shape"):
        spectra.line_shape(GRID, 0.0, "gaussian")
    with pytest.raises(ConfigError, match="'voigt'"):
        spectra.line_shape(GRID, 0.1, "voigt")
