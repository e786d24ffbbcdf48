"""The levels of the fit are drawn against those of the network."""

import numpy as np
from plain_records import tight_binding_record

from mlepi.observables.tight_binding.figure import PRESENTATION, plot_tight_binding


def test_levels_lie_around_the_diagonal():
    record = tight_binding_record()
    [axes] = plot_tight_binding(record).axes
    diagonal, points = axes.lines
    np.testing.assert_array_equal(diagonal.get_xdata(), [-0.8, 0.8])
    np.testing.assert_array_equal(diagonal.get_ydata(), [-0.8, 0.8])
    np.testing.assert_array_equal(points.get_xdata(), record.levels.ravel())
    np.testing.assert_allclose(points.get_ydata() - points.get_xdata(), 0.02)
    assert points.get_marker() == "o"
    assert axes.get_xlabel() == "level of the network (eV)"
    assert axes.get_ylabel() == "level of the tight binding (eV)"
    assert axes.get_title() == "root mean square misfit 21 meV"


def test_the_figure_keeps_its_name():
    assert [drawing.name for drawing in PRESENTATION.drawings] == ["tight_binding"]
