"""What the figure of the gap shows of a record."""

from dataclasses import replace

import numpy as np
from drawn_data import error_bars, legend, levels
from spectra_records import gap_record

from mlepi.observables.gap.figure import PRESENTATION, plot_gap


def test_gap_of_both_estimators_in_milli_electronvolts():
    record = gap_record()
    axes = plot_gap(record).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("temperature (K)", "gap (meV)")
    assert axes.get_title() == "6×6 cell, 30 samples"
    assert levels(axes) == [500.0]
    peaks, own = error_bars(axes)
    assert legend(axes) == ["undisplaced", "spectral peaks", "supercells' own"]
    np.testing.assert_allclose(peaks.x, record.temperatures)
    np.testing.assert_allclose(peaks.y, 1e3 * record.gaps)
    np.testing.assert_allclose(peaks.errors, 4.0)
    np.testing.assert_allclose(own.y, 480.0)
    np.testing.assert_allclose(own.errors, 2.0)


def test_shifts_of_the_edges_start_from_the_crystal_at_rest():
    record = gap_record()
    axes = plot_gap(record).axes[1]
    assert axes.get_ylabel() == "shift of the band (meV)"
    assert levels(axes) == [0.0]
    valence, conduction = error_bars(axes)
    assert valence.label == "valence at (0.33, 0.33, 0)"
    assert conduction.label == "conduction at (0.33, 0.33, 0)"
    # edges at ∓250 meV come closer by 5 % at each temperature
    np.testing.assert_allclose(valence.y, [0.0, 12.5, 25.0], atol=1e-9)
    np.testing.assert_allclose(conduction.y, [0.0, -12.5, -25.0], atol=1e-9)
    np.testing.assert_allclose(valence.errors, 3.0)


def test_every_k_point_has_its_own_pair_of_edges():
    record = gap_record()
    two = replace(
        record,
        kpoints=np.array([[1 / 3, 1 / 3, 0.0], [0.0, 0.0, 0.0]]),
        equilibrium=np.tile(record.equilibrium, (2, 1)),
        band_energies=np.concatenate([record.band_energies, 2 * record.band_energies], axis=1),
        band_errors=np.tile(record.band_errors, (1, 2, 1)),
    )
    series = error_bars(plot_gap(two).axes[1])
    assert [points.label.split(" at ")[1] for points in series[2:]] == ["(0, 0, 0)"] * 2
    np.testing.assert_allclose(series[3].y, 1e3 * (two.band_energies[:, 1, 1] - 0.25))


def test_presentation_draws_one_figure_without_facts():
    (drawing,) = PRESENTATION.drawings
    assert (drawing.name, drawing.plot) == ("gap", plot_gap)
    assert PRESENTATION.facts is None
