"""Points of parity plots: a fixed selection that favours no orbital, and the plot."""

import numpy as np

from mlepi.training.parity import draw_parity, select_points


def test_few_points_are_all_and_many_are_a_fixed_selection():
    assert select_points(5, 5).tolist() == [0, 1, 2, 3, 4]
    chosen = select_points(64_000, 1_000)
    assert len(set(chosen.tolist())) == 1_000
    assert (np.diff(chosen) > 0).all()
    assert select_points(64_000, 1_000).tolist() == chosen.tolist()
    # elements of blocks of 8 × 8 orbitals: equal steps of 64 would meet one of them
    counts = np.bincount(chosen % 64, minlength=64)
    assert counts.min() > 0
    assert counts.max() < 40


def test_the_title_holds_the_error_of_all_points():
    label = np.array([0.0, 1.0, 2.0])
    figure = draw_parity("H intra", "eV", label, label + 0.1, 0.25)
    (axes,) = figure.axes
    assert axes.get_title() == "H intra: MAE 250 meV"
    np.testing.assert_allclose(axes.lines[0].get_ydata() - axes.lines[0].get_xdata(), 0.1)
    assert axes.get_xlabel() == "label (eV)"
