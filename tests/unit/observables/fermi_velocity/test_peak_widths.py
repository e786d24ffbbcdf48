"""Wider lines are the same spectra convolved once more, and pull the maxima."""

from __future__ import annotations

import numpy as np
import pytest

from mlepi.observables.fermi_velocity.record import PeakWidthRecord
from mlepi.observables.fermi_velocity.stage import _doubt_width
from mlepi.physics.bands.spectra import compute_spectral_function, find_peaks, widen_spectra

ENERGIES = np.arange(-4.0, 4.0, 0.01)


@pytest.mark.parametrize(("shape", "atol"), [("gaussian", 1e-12), ("lorentzian", 3e-3)])
def test_a_convolution_gives_the_wider_line(shape, atol):
    """To the accuracy of the arithmetic for Gaussians; Lorentzians lose their tails at the ends."""
    levels, weights = np.array([-0.3, 0.1, 0.15]), np.array([[0.2, 0.5, 0.3]])
    narrow, wide = (
        compute_spectral_function(ENERGIES, levels, weights, width, shape) for width in (0.05, 0.12)
    )
    found = widen_spectra(ENERGIES, narrow, 0.05, 0.12, shape)
    inside = np.abs(ENERGIES) < 1.0
    np.testing.assert_allclose(found[:, inside], wide[:, inside], atol=atol)
    np.testing.assert_array_equal(widen_spectra(ENERGIES, narrow, 0.05, 0.05, shape), narrow)


def test_a_side_band_pulls_the_maximum_of_wide_lines():
    """A band at 0.4 eV with a fifth of its weight 0.25 eV below: known at zero width."""
    spectrum = compute_spectral_function(
        ENERGIES, np.array([0.4, 0.15]), np.array([0.8, 0.2]), 0.05, "gaussian"
    )
    peaks = [
        float(find_peaks(ENERGIES, widen_spectra(ENERGIES, spectrum, 0.05, width, "gaussian")))
        for width in (0.05, 0.07, 0.1, 0.14)
    ]
    assert peaks[0] == pytest.approx(0.4, abs=1e-4)
    assert peaks[1] == pytest.approx(0.4, abs=1e-3)
    assert peaks[3] < peaks[2] - 0.005 < 0.4 - 0.007


def test_widths_that_decide_are_told():
    def record(change, error):
        ratios = np.array([[0.94, 0.93], [0.94, 0.93 + change], [0.95, 0.95]])
        errors = np.full((3, 2), error)
        return PeakWidthRecord(np.array([0.07, 0.1, 0.14]), ratios, errors, errors, ratios, errors)

    temperatures = np.array([0.0, 300.0])
    assert _doubt_width(record(0.005, 0.001), temperatures) == []
    assert _doubt_width(record(0.015, 0.01), temperatures) == []
    (text,) = _doubt_width(record(0.015, 0.002), temperatures)
    assert text.startswith("lines of 100 instead of 70 meV change the slope ratio at 300 K by +1.5")
