"""What the figure of effective masses shows of a record."""

from dataclasses import replace

import numpy as np
from drawn_data import error_bars, legend, levels
from spectra_records import effective_mass_record

from mlepi.observables.effective_mass.figure import PRESENTATION, plot_effective_masses


def test_bands_along_the_line_when_cold_and_hot():
    record = effective_mass_record()
    record = replace(record, band_energies=record.band_energies * np.ones((3, 1, 1)) + 0.01)
    axes = plot_effective_masses(record).axes[0]
    assert axes.get_xlabel() == "distance from the k-point (Å⁻¹)"
    assert axes.get_ylabel() == "E (meV)"
    rest = [line for line in axes.lines if line.get_linestyle() == "--"]
    np.testing.assert_allclose([line.get_ydata() for line in rest], 1e3 * record.equilibrium.T)
    series = error_bars(axes)
    assert len(series) == 4  # two bands at two temperatures
    assert legend(axes) == ["0 K", "300 K"]
    for points, band in zip(series, (0, 1, 0, 1), strict=True):
        np.testing.assert_allclose(points.x, record.distances)
        np.testing.assert_allclose(points.y, 1e3 * record.band_energies[0, :, band])
        np.testing.assert_allclose(points.errors, 2.0)


def test_masses_against_temperature():
    record = replace(effective_mass_record(), masses=np.array([[-0.06, 0.06]] * 3) * 1.1)
    axes = plot_effective_masses(record).axes[1]
    assert axes.get_ylabel() == "effective mass (m$_e$)"
    assert axes.get_title() == "6×6 cell, 30 samples"
    assert levels(axes) == [-0.06, 0.06]
    valence, conduction = error_bars(axes)
    assert (valence.label, conduction.label) == ("valence", "conduction")
    np.testing.assert_allclose(valence.y, -0.066)
    np.testing.assert_allclose(conduction.y, 0.066)
    np.testing.assert_allclose(conduction.errors, 0.003)


def test_a_single_temperature_is_drawn_once():
    record = effective_mass_record()
    fields = ("temperatures", "band_energies", "band_errors", "masses", "mass_errors")
    cold = replace(record, **{name: getattr(record, name)[:1] for name in fields})
    assert len(error_bars(plot_effective_masses(cold).axes[0])) == 2


def test_presentation_draws_one_figure():
    (drawing,) = PRESENTATION.drawings
    assert (drawing.name, drawing.plot) == ("effective_mass", plot_effective_masses)
