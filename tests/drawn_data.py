"""What a figure shows, read back from its axes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.container import ErrorbarContainer


class Points(NamedTuple):
    """One series of points with error bars, in the units of its axes."""

    label: str
    x: np.ndarray
    y: np.ndarray
    errors: np.ndarray


def error_bars(axes) -> list[Points]:
    """All series with error bars, in the order in which they were drawn."""
    found = []
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line, _, (bars,) = container.lines
        ends = np.array(bars.get_segments())[:, :, 1]
        half = 0.5 * (ends[:, 1] - ends[:, 0])
        found.append(Points(container.get_label(), *line.get_data(), half))
    return found


def levels(axes) -> list[float]:
    """Heights of the horizontal lines across the whole axes."""
    across = [line for line in axes.lines if line.get_transform() == axes.get_yaxis_transform()]
    return [float(line.get_ydata()[0]) for line in across]


def legend(axes) -> list[str]:
    """Texts of the legend."""
    return [text.get_text() for text in axes.get_legend().get_texts()]
