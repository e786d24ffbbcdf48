"""Matplotlib figures as plotly figures, so that what a stage draws can be explored in a browser.

A stage draws once, with matplotlib: files for papers and the page show the same numbers. What the
figures of this package use is understood: lines, error bars, filled bands, scatter, bars, colour
maps, shared and logarithmic axes. A figure with anything else stays a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import (
    Collection,
    FillBetweenPolyCollection,
    LineCollection,
    PathCollection,
    PolyCollection,
    QuadMesh,
)
from matplotlib.colors import LogNorm, to_hex, to_rgba
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Polygon
from matplotlib.ticker import FixedLocator

from mlepi.figures.numbers import pack_numbers, plain_numbers
from mlepi.figures.plotly_labels import plain_label, read_label
from mlepi.figures.plotly_shapes import (
    DASHES,
    is_rule,
    is_span,
    list_shapes,
    list_texts,
    place_shape,
    place_text,
)

Json = dict[str, Any]

MARKERS = {
    "o": "circle", ".": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down",
    "D": "diamond", "d": "diamond-tall", "x": "x-thin-open", "+": "cross-thin-open",
    "_": "line-ew-open", "|": "line-ns-open", "*": "star",
}  # fmt: skip
POINTS_PER_PIXEL = 1.35
"""Lines and markers of a printed column look thin on a screen."""


class UnknownArtistError(Exception):
    """The figure holds something that has no counterpart here."""


def convert_figure(figure: Figure) -> Json | None:
    """Return a figure for plotly, or None where it holds what this module does not know.

    Args:
        figure: drawn in the style of the package.

    Returns:
        ``data`` and ``layout`` as plotly takes them, and ``grid``: rows, columns and the cell of
        every pair of axes, from which the page lays them out for the width of a screen.
    """
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.axison]
    colour_bars = [axes for axes in panels if axes.get_label() == "<colorbar>"]
    panels = [axes for axes in panels if axes not in colour_bars]
    if not panels or any(axes.get_subplotspec() is None for axes in panels):
        return None
    try:
        return _convert(panels, colour_bars)
    except UnknownArtistError:
        return None


def _convert(panels: list[Axes], colour_bars: list[Axes]) -> Json:
    data: list[Json] = []
    layout: Json = {"annotations": [], "shapes": []}
    cells = []
    for number, axes in enumerate(panels, start=1):
        suffix = "" if number == 1 else str(number)
        layout[f"xaxis{suffix}"] = _axis(axes, axes.xaxis, "x", panels, f"y{suffix}")
        layout[f"yaxis{suffix}"] = _axis(axes, axes.yaxis, "y", panels, f"x{suffix}")
        if axes.get_aspect() == 1.0:
            layout[f"yaxis{suffix}"]["scaleanchor"] = f"x{suffix}"
        place = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
        data += [{**trace, **place} for trace in _traces(axes)]
        layout["shapes"] += [place_shape(shape, suffix) for shape in list_shapes(axes)]
        layout["annotations"] += [place_text(each, suffix) for each in list_texts(axes)]
        cells.append(_cell(axes, suffix))
    _colour_axis(data, layout, panels, colour_bars)
    grid = panels[0].get_subplotspec().get_gridspec()  # type: ignore[union-attr]
    rows, columns = grid.get_geometry()
    widths = np.asarray(grid.get_width_ratios(), dtype=np.float64).tolist()
    return {
        "data": data,
        "layout": layout,
        "grid": {"rows": rows, "columns": columns, "widths": widths, "cells": cells},
    }


def _cell(axes: Axes, suffix: str) -> Json:
    spec = cast(SubplotSpec, axes.get_subplotspec())
    return {
        "axes": suffix,
        "row": spec.rowspan.start,
        "column": spec.colspan.start,
        "columns": len(spec.colspan),
        "title": plain_label(axes.get_title()),
    }


def _axis(axes: Axes, axis: Axis, letter: str, panels: list[Axes], anchor: str) -> Json:
    low, high = axes.get_xlim() if letter == "x" else axes.get_ylim()
    logarithmic = axis.get_scale() == "log"
    if logarithmic:
        low, high = np.log10(low), np.log10(high)
    made: Json = {
        "anchor": anchor,
        "title": {"text": plain_label(axis.get_label_text())},
        "type": "log" if logarithmic else "linear",
        "range": [float(low), float(high)],
        "showticklabels": True,
    }
    if isinstance(axis.get_major_locator(), FixedLocator):
        places = np.asarray(axis.get_majorticklocs(), dtype=np.float64)
        labels = axis.get_major_formatter().format_ticks(places.tolist())
        made["tickvals"] = plain_numbers(places)
        made["ticktext"] = [plain_label(str(label)) for label in labels]
    elif letter == "x" and not logarithmic and not len(axis.get_majorticklocs()):
        made["showticklabels"] = False
    shared = axes.get_shared_x_axes() if letter == "x" else axes.get_shared_y_axes()
    first = next(other for other in panels if shared.joined(axes, other) or other is axes)
    if first is not axes:
        number = panels.index(first) + 1
        made["matches"] = f"{letter}{'' if number == 1 else number}"
        made["inner"] = True
    return made


def _traces(axes: Axes) -> Iterator[Json]:
    """Yield what is drawn in data coordinates, in the order in which it was added."""
    owned: set[Any] = set()
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            line, caps, bars = container.lines
            owned |= {line, *caps, *bars}
            if line is not None:
                yield _error_bars(line, bars, container)
        elif isinstance(container, BarContainer):
            owned |= set(container.patches)
            yield _bars(container)
    for collection in axes.collections:
        if collection not in owned and collection.get_visible():
            yield from _collection(collection)
    for line in axes.lines:
        if line not in owned and line.get_visible() and not is_rule(axes, line):
            yield _line(line)
        elif line not in owned and read_label(line):
            yield _named_rule(axes, line)
    for patch in axes.patches:
        if patch not in owned and not is_span(axes, patch):
            yield _outline(patch)
    if axes.images or axes.tables:
        raise UnknownArtistError


def _named(trace: Json, label: str) -> Json:
    return {**trace, "name": label, "legendgroup": label} if label else trace


def _line_style(line: Line2D) -> Json:
    style = line.get_linestyle()
    marker = line.get_marker()
    drawn, marked = style not in ("None", "", " "), marker not in ("None", "", None, " ")
    made: Json = {
        "type": "scatter",
        "mode": "+".join(word for word, on in (("lines", drawn), ("markers", marked)) if on),
    }
    colour = to_hex(line.get_color())
    if drawn:
        made["line"] = {
            "color": colour,
            "width": POINTS_PER_PIXEL * line.get_linewidth(),
            "dash": DASHES.get(str(style), "dash"),
            "shape": "hv" if "steps" in line.get_drawstyle() else "linear",
        }
    if marked:
        size = POINTS_PER_PIXEL * 1.2 * line.get_markersize() * (0.5 if marker == "." else 1.0)
        symbol = MARKERS.get(str(marker), "circle")
        made["marker"] = {"color": colour, "size": size, "symbol": symbol, "line": {"width": 1.5}}
        if "open" not in symbol:
            made["marker"]["line"] = {"width": 0}
    if not made["mode"]:
        made["mode"] = "none"
    opacity = line.get_alpha()
    return {**made, "opacity": opacity} if opacity is not None else made


def _line(line: Line2D) -> Json:
    x, y = (np.asarray(values, dtype=np.float64) for values in line.get_data(orig=False))
    return _named(
        {**_line_style(line), "x": pack_numbers(x), "y": pack_numbers(y)}, read_label(line)
    )


def _error_bars(line: Line2D, bars: Any, container: ErrorbarContainer) -> Json:
    trace = _line(line)
    x, y = (np.asarray(values, dtype=np.float64) for values in line.get_data(orig=False))
    directions = [("error_x", x, 0)] * container.has_xerr + [("error_y", y, 1)] * container.has_yerr
    for collection, (name, centre, axis) in zip(bars, directions, strict=False):
        ends = {float(s[0][1 - axis]): s[:, axis] for s in collection.get_segments() if len(s) == 2}
        other = y if axis == 0 else x
        found = [ends.get(float(place)) for place in other]
        up = [
            float(e.max() - c) if e is not None else 0.0 for e, c in zip(found, centre, strict=True)
        ]
        down = [
            float(c - e.min()) if e is not None else 0.0 for e, c in zip(found, centre, strict=True)
        ]
        trace[name] = {
            "type": "data",
            "symmetric": False,
            "array": plain_numbers(np.array(up)),
            "arrayminus": plain_numbers(np.array(down)),
            "color": to_hex(line.get_color()),
            "thickness": 1.3,
            "width": 3,
        }
    return _named(trace, read_label(container))


def _bars(container: BarContainer) -> Json:
    boxes = container.patches
    low = np.array([box.get_y() for box in boxes])
    return _named(
        {
            "type": "bar",
            "x": plain_numbers(np.array([box.get_x() + 0.5 * box.get_width() for box in boxes])),
            "y": plain_numbers(np.array([box.get_height() for box in boxes])),
            "base": plain_numbers(low),
            "width": plain_numbers(np.array([box.get_width() for box in boxes])),
            "marker": {"color": to_hex(boxes[0].get_facecolor()) if boxes else "#718096"},
            "opacity": boxes[0].get_alpha() or 1.0 if boxes else 1.0,
        },
        read_label(container),
    )


def _collection(collection: Collection) -> Iterator[Json]:
    if isinstance(collection, QuadMesh):
        yield _colour_map(collection)
    elif isinstance(collection, LineCollection):
        yield from _segments(collection)
    elif isinstance(collection, PathCollection):
        offsets = np.asarray(collection.get_offsets(), dtype=np.float64)
        colour = (
            to_hex(_rgba(collection.get_facecolor())[0])
            if len(_rgba(collection.get_facecolor()))
            else "#718096"
        )
        size = POINTS_PER_PIXEL * float(np.sqrt(np.mean(collection.get_sizes())))
        yield _named(
            {
                "type": "scatter",
                "mode": "markers",
                "x": pack_numbers(offsets[:, 0]),
                "y": pack_numbers(offsets[:, 1]),
                "marker": {"color": colour, "size": size},
                "opacity": collection.get_alpha() or 1.0,
            },
            read_label(collection),
        )
    elif type(collection) in (PolyCollection, FillBetweenPolyCollection):
        yield from _filled(cast(PolyCollection, collection))
    else:
        raise UnknownArtistError


def _rgba(colours: Any) -> list[tuple[float, float, float, float]]:
    """Return the colours of a collection, which always keeps them as rows of red to opacity."""
    return [(r, g, b, a) for r, g, b, a in np.asarray(colours, dtype=np.float64).tolist()]


def _filled(collection: PolyCollection) -> Iterator[Json]:
    faces = _rgba(collection.get_facecolor())
    for path in collection.get_paths():
        corners = np.asarray(path.vertices, dtype=np.float64)
        red, green, blue, opacity = to_rgba(faces[0])
        colour = f"rgba({round(255 * red)},{round(255 * green)},{round(255 * blue)},{opacity:g})"
        yield _named(
            {
                "type": "scatter",
                "mode": "lines",
                "x": pack_numbers(corners[:, 0]),
                "y": pack_numbers(corners[:, 1]),
                "fill": "toself",
                "fillcolor": colour,
                "line": {"width": 0},
                "hoverinfo": "skip",
                "band": to_hex(faces[0]),
            },
            read_label(collection),
        )


def _segments(collection: LineCollection) -> Iterator[Json]:
    points: list[np.ndarray] = []
    for segment in collection.get_segments():
        points += [np.asarray(segment, dtype=np.float64), np.full((1, 2), np.nan)]
    if points:
        every = np.concatenate(points)
        colour = to_hex(_rgba(collection.get_color())[0])
        yield _named(
            {
                "type": "scatter",
                "mode": "lines",
                "x": pack_numbers(every[:, 0]),
                "y": pack_numbers(every[:, 1]),
                "line": {"color": colour, "width": float(np.ravel(collection.get_linewidth())[0])},
            },
            read_label(collection),
        )


def _colour_map(mesh: QuadMesh) -> Json:
    corners = np.asarray(mesh.get_coordinates(), dtype=np.float64)
    values = np.ma.filled(np.ma.asarray(mesh.get_array(), dtype=np.float64), np.nan)
    if values.ndim == 1:
        values = values.reshape(corners.shape[0] - 1, corners.shape[1] - 1)
    low, high = mesh.get_clim()
    logarithmic = isinstance(mesh.norm, LogNorm)
    if logarithmic:
        values = np.log10(np.where(values > 0, values, np.nan))
        low, high = np.log10(low), np.log10(high)
    shades = np.linspace(0.0, 1.0, 17)
    return {
        "type": "heatmap",
        "x": plain_numbers(corners[0, :, 0]),
        "y": plain_numbers(corners[:, 0, 1]),
        "z": pack_numbers(values),
        "coloraxis": "coloraxis",
        "colours": [[float(s), to_hex(mesh.get_cmap()(s))] for s in shades],
        "range": [float(low), float(high)],
        "logarithmic": logarithmic,
        "zsmooth": "best" if corners.shape[:2] == values.shape else False,
    }


def _colour_axis(
    data: list[Json], layout: Json, panels: list[Axes], colour_bars: list[Axes]
) -> None:
    """Give all colour maps of a figure one scale, as their one colour bar says."""
    maps = [trace for trace in data if trace["type"] == "heatmap"]
    if not maps:
        return
    if len(colour_bars) > 1:
        raise UnknownArtistError
    label = colour_bars[0].get_ylabel() if colour_bars else ""
    low, high = maps[-1]["range"]
    bar: Json = {"title": {"text": plain_label(label), "side": "right"}, "thickness": 14}
    if maps[-1]["logarithmic"]:
        powers = list(range(int(np.ceil(low)), int(np.floor(high)) + 1))
        bar |= {"tickvals": powers, "ticktext": [f"10<sup>{power}</sup>" for power in powers]}
    layout["coloraxis"] = {
        "colorscale": maps[-1]["colours"],
        "cmin": low,
        "cmax": high,
        "colorbar": bar,
    }
    for trace in maps:
        for key in ("colours", "range", "logarithmic"):
            del trace[key]


def _outline(patch: Patch) -> Json:
    """Return the steps of a histogram."""
    if not isinstance(patch, Polygon):
        raise UnknownArtistError
    corners = np.asarray(patch.get_xy(), dtype=np.float64)
    return _named(
        {
            "type": "scatter",
            "mode": "lines",
            "x": pack_numbers(corners[:, 0]),
            "y": pack_numbers(corners[:, 1]),
            "line": {"color": to_hex(patch.get_edgecolor()), "width": 1.6},
        },
        read_label(patch),
    )


def _named_rule(axes: Axes, line: Line2D) -> Json:
    """Return a labelled rule as a trace, so that it has an entry among the names."""
    x, y = (np.asarray(values, dtype=np.float64) for values in line.get_data(orig=False))
    horizontal = line.get_transform() == axes.get_yaxis_transform("grid")
    ends = {"x": list(axes.get_xlim()), "y": [float(y[0])] * 2}
    if not horizontal:
        ends = {"x": [float(x[0])] * 2, "y": list(axes.get_ylim())}
    ends = {name: [float(value) for value in values] for name, values in ends.items()}
    return _named({**_line_style(line), **ends, "hoverinfo": "name"}, read_label(line))
