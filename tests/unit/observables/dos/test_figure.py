"""What the figure of the density of states shows of a record."""

from dataclasses import replace

import numpy as np
from drawn_data import legend
from matplotlib.collections import PolyCollection
from spectra_records import dos_record

from mlepi.observables.dos.figure import PRESENTATION, plot_dos


def test_densities_at_rest_and_at_every_temperature():
    record = dos_record()
    record = replace(record, dos=record.dos * np.array([[1.0], [1.1], [1.2]]))
    axes = plot_dos(record).axes[0]
    assert axes.get_xlabel() == "E − E$_F$ (eV)"
    assert axes.get_ylabel() == "DOS (1/eV per cell and spin)"
    assert legend(axes) == ["undisplaced", "0 K", "150 K", "300 K"]
    rest, *hot = axes.lines[:4]
    np.testing.assert_allclose(rest.get_data(), [record.energies, record.equilibrium])
    np.testing.assert_allclose([line.get_ydata() for line in hot], record.dos)
    assert axes.get_ylim()[0] == 0.0


def test_bands_are_one_standard_error_wide():
    record = dos_record()
    bands = [c for c in plot_dos(record).axes[0].collections if isinstance(c, PolyCollection)]
    assert len(bands) == 3
    corners = bands[-1].get_paths()[0].vertices
    at_first = corners[np.isclose(corners[:, 0], record.energies[0]), 1]
    expected = record.dos[-1, 0] + 0.05 * np.array([-1.0, 1.0])
    np.testing.assert_allclose([at_first.min(), at_first.max()], expected)


def test_projections_of_the_hottest_samples_beside_those_at_rest():
    """The hottest temperature need not be the last one."""
    record = dos_record()
    record = replace(
        record,
        temperatures=np.array([0.0, 300.0, 150.0]),
        projections=record.projections * np.array([1.0, 2.0, 3.0])[:, None, None],
    )
    axes = plot_dos(record).axes[1]
    assert axes.get_title() == "300 K, dashed: undisplaced"
    assert legend(axes) == ["C p", "C s"]
    for number in range(2):
        hot, rest = axes.lines[2 * number : 2 * number + 2]
        np.testing.assert_allclose(hot.get_ydata(), record.projections[1, number])
        np.testing.assert_allclose(rest.get_ydata(), record.equilibrium_projections[number])
        assert hot.get_color() == rest.get_color()
        assert rest.get_linestyle() == "--"


def test_presentation_draws_one_figure():
    (drawing,) = PRESENTATION.drawings
    assert (drawing.name, drawing.plot) == ("dos", plot_dos)
