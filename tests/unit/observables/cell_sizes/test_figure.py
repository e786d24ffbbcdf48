"""The figure of a series of cell sizes shows its numbers."""

import numpy as np
from matplotlib.colors import to_hex

from mlepi.observables.cell_sizes.figure import COLOURS, plot_cell_sizes
from mlepi.observables.cell_sizes.record import CellSizesRecord


def record():
    sizes, temperatures = np.array([3, 6]), np.array([0.0, 300.0])
    estimators = ("spectral peak", "sorted average")
    values = 1e5 * (8.0 + np.arange(16.0).reshape(2, 2, 2, 2))
    return CellSizesRecord(
        sizes=sizes,
        n_samples=np.array([30, 10]),
        temperatures=temperatures,
        velocity_window=(0.04, 0.1),
        dispersion="linear",
        estimators=estimators,
        equilibrium=np.array([[8.7e5, 7.6e5]] * 2),
        values=values,
        errors=np.full_like(values, 0.1e5),
        limits=values[:, :, 1] + 1e5,
        limit_errors=np.full((2, 2, 2), 0.3e5),
        chi_squared=np.zeros((2, 2, 2)),
        degrees_of_freedom=np.zeros((2, 2, 2), dtype=np.int64),
    )


def test_sizes_and_limits_are_drawn_with_their_error_bars():
    given = record()
    panels = plot_cell_sizes(given).axes
    assert [axes.get_ylabel() for axes in panels] == ["v$_F$ (10⁵ m/s)", "mean slope (10⁵ m/s)"]
    for kind, axes in enumerate(panels):
        assert axes.get_xlabel() == "1/N"
        assert axes.get_title() == "300 K; diamonds: 1/N → 0"
        np.testing.assert_allclose(axes.lines[0].get_ydata(), 1e-5 * given.equilibrium[0, kind])
        # two estimators, each with the sizes and the limit
        assert len(axes.containers) == 4
        for row, name in enumerate(given.estimators):
            sizes, limit = axes.containers[2 * row : 2 * row + 2]
            np.testing.assert_allclose(sizes.lines[0].get_xdata(), [1 / 3, 1 / 6])
            np.testing.assert_allclose(
                sizes.lines[0].get_ydata(), 1e-5 * given.values[row, kind, :, -1]
            )
            np.testing.assert_allclose(
                limit.lines[0].get_xydata(), [[0.0, 1e-5 * given.limits[row, kind, -1]]]
            )
            low, high = limit.lines[2][0].get_segments()[0][:, 1]
            np.testing.assert_allclose(high - low, 0.6)
            assert to_hex(sizes.lines[0].get_color()) == COLOURS[name]
    labels = [text.get_text() for text in panels[0].get_legend().get_texts()]
    assert labels == ["undisplaced", "spectral peak", "sorted average"]
