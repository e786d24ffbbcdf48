"""Rules, spans and texts of a panel as shapes and annotations of plotly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon, Rectangle

from mlepi.figures.plotly_labels import plain_label, read_label

Json = dict[str, Any]

DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
"""Style of a line in matplotlib → in plotly."""


def is_rule(axes: Axes, line: Line2D) -> bool:
    """Tell a line across the whole panel, whose ends are not data."""
    return line.get_transform() in (
        axes.get_yaxis_transform("grid"),
        axes.get_xaxis_transform("grid"),
    )


def is_span(axes: Axes, patch: Patch) -> bool:
    """Tell a filled stretch across the whole panel."""
    return isinstance(patch, Rectangle | Polygon) and patch.get_transform() != axes.transData


def list_shapes(axes: Axes) -> Iterator[Json]:
    """Yield the rules without a name and the spans of a panel; see ``place_shape``."""
    for line in axes.lines:
        if is_rule(axes, line) and not read_label(line):
            x, y = (np.asarray(values, dtype=np.float64) for values in line.get_data(orig=False))
            horizontal = line.get_transform() == axes.get_yaxis_transform("grid")
            ends = {"x0": 0, "x1": 1, "y0": float(y[0]), "y1": float(y[0])}
            if not horizontal:
                ends = {"x0": float(x[0]), "x1": float(x[0]), "y0": 0, "y1": 1}
            style = {"color": to_hex(line.get_color()), "width": line.get_linewidth()}
            dash = {"dash": DASHES.get(str(line.get_linestyle()), "solid")}
            whole = "x" if horizontal else "y"
            yield {
                "type": "line",
                **ends,
                "line": {**style, **dash},
                "whole": whole,
                "layer": "below",
            }
    for patch in axes.patches:
        if is_span(axes, patch) and isinstance(patch, Rectangle | Polygon):
            yield _span(axes, patch)


def _span(axes: Axes, patch: Rectangle | Polygon) -> Json:
    corners = patch.get_path().transformed(patch.get_patch_transform()).vertices
    corners = np.asarray(corners, dtype=np.float64)
    vertical = patch.get_transform() == axes.get_xaxis_transform("grid") or not np.isclose(
        np.ptp(corners[:, 0]), 1.0
    )
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    ends = {"x0": x0, "x1": x1, "y0": 0.0, "y1": 1.0}
    if not vertical:
        ends = {"x0": 0.0, "x1": 1.0, "y0": y0, "y1": y1}
    return {
        "type": "rect",
        **{name: float(value) for name, value in ends.items()},
        "fillcolor": to_hex(patch.get_facecolor()),
        "opacity": patch.get_alpha() or 0.2,
        "line": {"width": 0},
        "whole": "y" if vertical else "x",
        "layer": "below",
    }


def place_shape(shape: Json, suffix: str) -> Json:
    """Tie a shape to a panel, of whose width or height it takes the whole.

    Args:
        shape: of ``list_shapes``.
        suffix: number of the panel in the names of its axes.
    """
    whole = shape.pop("whole")
    refs = {f"{letter}ref": f"{letter}{suffix}" for letter in "xy"}
    refs[f"{whole}ref"] += " domain"
    return {**shape, **refs}


def list_texts(axes: Axes) -> Iterator[Json]:
    """Yield what is written into a panel; see ``place_text``."""
    for text in axes.texts:
        if text.get_text():
            x, y = text.get_position()
            inside = text.get_transform() == axes.transAxes
            yield {
                "text": plain_label(text.get_text()),
                "x": float(x),
                "y": float(y),
                "showarrow": False,
                "inside": inside,
            }


def place_text(annotation: Json, suffix: str) -> Json:
    """Tie a text to a panel, at its data or within its frame.

    Args:
        annotation: of ``list_texts``.
        suffix: number of the panel in the names of its axes.
    """
    end = " domain" if annotation.pop("inside") else ""
    return {**annotation, "xref": f"x{suffix}{end}", "yref": f"y{suffix}{end}"}
