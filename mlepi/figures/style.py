"""The one matplotlib style of the package, and how a figure reaches the disk.

PNG for the screen, PDF for the paper.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLUMN = 3.4
"""Width of one journal column, inch."""

BLUE, RED, GREEN, GREY = "#2b6cb0", "#c05621", "#2f855a", "#718096"

COLD_TO_HOT = LinearSegmentedColormap.from_list(
    "cold_to_hot", ["#2f74d0", "#7c5fc4", "#b4508f", "#d2483f"]
)
"""Colours of temperatures, of one lightness: none of them vanishes on white or on black."""

STYLE: Any = {
    "font.size": 8.0,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.7,
    "axes.formatter.min_exponent": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.5,
    "errorbar.capsize": 2.0,
    "image.cmap": "magma_r",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the style of the package, leaving the caller's matplotlib settings as they were."""
    with mpl.rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, inch, that no global state knows of."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, folder: Path, name: str) -> Path:
    """Write ``name.png`` and ``name.pdf``.

    Args:
        figure: to write.
        folder: made if it does not exist.
        name: without extension.

    Returns:
        Path of the PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    with house_style():
        figure.savefig(path)
        figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    return path


def temperature_colours(
    temperatures: NDArray[np.float64],
) -> list[tuple[float, float, float, float]]:
    """Return one colour per temperature, blue for the coldest to red for the hottest.

    All of them stand out from white paper and from a dark screen.
    """
    return [COLD_TO_HOT(shade) for shade in np.linspace(0.0, 1.0, len(temperatures))]


def label_path(axes: Axes, distances: NDArray[np.float64], labels: tuple[str, ...]) -> None:
    """Name the special points of a path on the horizontal axis."""
    axes.set_xticks(distances, [{"G": "Γ", "GAMMA": "Γ"}.get(label, label) for label in labels])
    axes.set_xlim(distances[0], distances[-1])
    for distance in distances[1:-1]:
        axes.axvline(distance, color="0.75", linewidth=0.6, zorder=0)
