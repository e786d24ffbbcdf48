"""What figures and facts show of a record of the conductivity."""

import numpy as np
import pytest
from drawn_data import error_bars, legend, levels
from matplotlib.collections import PolyCollection
from spectra_records import conductivity_record

from mlepi.observables.conductivity.figure import (
    PRESENTATION,
    list_facts,
    plot_conductivity,
    plot_conductivity_convergence,
)


def test_conductivity_in_units_of_the_universal_one_and_in_siemens():
    record = conductivity_record()
    figure = plot_conductivity(record)
    axes = figure.axes[0]
    assert axes.get_xlabel() == "photon energy (eV)"
    assert axes.get_ylabel() == "Re σ per layer (e²/4ħ)"
    assert axes.get_xlim() == (0.0, 2.0)
    assert levels(axes) == [1.0]
    assert legend(axes) == ["undisplaced", "0 K", "150 K", "300 K"]
    rest, *hot = axes.lines[1:]
    np.testing.assert_allclose(rest.get_data(), [record.energies, record.equilibrium_conductivity])
    np.testing.assert_allclose([line.get_ydata() for line in hot], record.conductivities)
    (right,) = axes.child_axes
    assert right.get_ylabel() == "µS"
    figure.draw_without_rendering()
    assert right.get_ylim() == pytest.approx(60.853 * np.array(axes.get_ylim()))


def test_joint_density_is_drawn_in_thousandths():
    record = conductivity_record()
    axes = plot_conductivity(record).axes[1]
    assert axes.get_ylabel() == "joint density per layer (10⁻³/(eV Å²))"
    rest, *hot = axes.lines
    np.testing.assert_allclose(rest.get_ydata(), 1e3 * record.equilibrium_joint_density)
    np.testing.assert_allclose([x.get_ydata() for x in hot], 1e3 * record.joint_densities)


def test_bands_are_one_standard_error_wide():
    record = conductivity_record()
    for axes, values, width in zip(
        plot_conductivity(record).axes,
        (record.conductivities[0], 1e3 * record.joint_densities[0]),
        (0.02, 0.1),
        strict=True,
    ):
        bands = [c for c in axes.collections if isinstance(c, PolyCollection)]
        assert len(bands) == 3
        corners = bands[0].get_paths()[0].vertices
        at_last = corners[np.isclose(corners[:, 0], 2.0), 1]
        expected = values[-1] + width * np.array([-1.0, 1.0])
        np.testing.assert_allclose([at_last.min(), at_last.max()], expected)


def test_convergence_of_the_mean_in_the_window():
    record = conductivity_record()
    (axes,) = plot_conductivity_convergence(record).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("samples", "mean σ, 0.5–1.5 eV (e²/4ħ)")
    assert levels(axes) == [1.0]
    series = error_bars(axes)
    assert [points.label for points in series] == ["0 K", "150 K", "300 K"]
    for index, points in enumerate(series):
        np.testing.assert_allclose(points.x, [2, 30])
        np.testing.assert_allclose(points.y, record.convergence_means[:, index])
        np.testing.assert_allclose(points.errors, 0.02)


def test_facts_give_means_with_errors_in_both_units():
    facts = list_facts(conductivity_record())
    assert facts[0] == ("mean conductivity per layer, undisplaced", "1.000 e²/4ħ")
    assert facts[-1] == (
        "mean conductivity per layer, 0.5–1.5 eV, 300 K",
        "0.970 ± 0.010 e²/4ħ = 59.03 ± 0.61 µS",
    )
    assert len(facts) == 4


def test_presentation_names_the_files_of_both_figures():
    assert [each.name for each in PRESENTATION.drawings] == [
        "conductivity",
        "conductivity_convergence",
    ]
    assert PRESENTATION.facts is list_facts
