"""How an average settles with the number of samples, drawn the same way everywhere."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mlepi.figures.style import temperature_colours


def draw_convergence(
    axes: Axes,
    counts: NDArray[np.integer],
    values: NDArray[np.float64],
    errors: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    marker: str = "o",
) -> None:
    """Draw an average of the first n samples against n, one line per temperature.

    Args:
        axes: receives the lines; the vertical axis is the caller's.
        counts: (n_counts,), numbers of samples.
        values: (n_counts, n_temperatures), in the unit of the axis.
        errors: (n_counts, n_temperatures), half lengths of the bars.
        temperatures: (n_temperatures,), K.
        marker: of the points.
    """
    for index, colour in enumerate(temperature_colours(temperatures)):
        axes.errorbar(
            counts,
            values[:, index],
            errors[:, index],
            color=colour,
            marker=marker,
            label=f"{temperatures[index]:g} K",
        )
    axes.set_xlabel("samples")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
