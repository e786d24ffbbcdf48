"""v_F against 1/N, with the limits of infinite cells."""

from __future__ import annotations

from matplotlib.figure import Figure

from mlepi.figures import BLUE, COLUMN, GREEN, GREY, RED, house_style, new_figure
from mlepi.observables.cell_sizes.record import CellSizesRecord

COLOURS = {
    "spectral peak": BLUE,
    "self-energy": GREY,
    "velocity operator": GREEN,
    "sorted average": RED,
}
"""Of every estimator."""


def plot_cell_sizes(record: CellSizesRecord) -> Figure:
    """Draw v_F and the mean slope against 1/N at the last temperature, with their limits.

    One colour per estimator.
    """
    with house_style():
        figure = new_figure(1.8 * COLUMN, 0.95 * COLUMN)
        panels = figure.subplots(1, 2)
        inverse = 1.0 / record.sizes
        for kind, (axes, quantity) in enumerate(zip(panels, ("v$_F$", "mean slope"), strict=True)):
            axes.axhline(
                1e-5 * record.equilibrium[0, kind],
                color="black",
                linestyle="--",
                linewidth=0.7,
                label="undisplaced",
            )
            for row, name in enumerate(record.estimators):
                values, errors = (
                    1e-5 * record.values[row, kind, :, -1],
                    1e-5 * record.errors[row, kind, :, -1],
                )
                limit, limit_error = (
                    1e-5 * record.limits[row, kind, -1],
                    1e-5 * record.limit_errors[row, kind, -1],
                )
                axes.errorbar(
                    inverse,
                    values,
                    errors,
                    color=COLOURS[name],
                    marker="o",
                    linestyle="",
                    label=name,
                )
                axes.errorbar(
                    [0.0], [limit], [limit_error], color=COLOURS[name], marker="D", linestyle=""
                )
            axes.set_xlim(left=-0.02)
            axes.set_xlabel("1/N")
            axes.set_ylabel(f"{quantity} (10⁵ m/s)")
            axes.set_title(f"{record.temperatures[-1]:g} K; diamonds: 1/N → 0")
        panels[0].legend()
    return figure
