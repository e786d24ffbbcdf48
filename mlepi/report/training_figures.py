"""Figures of a comparison of trainings, from what ``comparison.json`` holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlepi.figures import BLUE, COLUMN, GREEN, GREY, RED, house_style, new_figure

MOST_PANELS = 4
"""Subsets that are drawn, the test subset itself first."""

MARKERS = ((BLUE, "o"), (RED, "s"), (GREEN, "^"), (GREY, "D"))


def plot_bars(content: Mapping[str, Any]) -> Figure:
    """Draw the compared metric of every row by subset: bars, standard deviations, every start.

    Args:
        content: of ``mlepi.report.trainings.describe_sweep``.
    """
    subsets = list(content["subsets"])[:MOST_PANELS]
    rows = content["rows"]
    with house_style():
        figure = new_figure(COLUMN * (1 + 0.6 * len(subsets)), 0.8 + 0.28 * len(rows))
        panels = figure.subplots(1, len(subsets), sharey=True, squeeze=False)[0]
        for axes, subset in zip(panels, subsets, strict=True):
            _draw_bars(axes, rows, subset, content)
        panels[0].set_yticks(range(len(rows)), [row["label"] for row in rows])
        panels[0].invert_yaxis()
    return figure


def _draw_bars(
    axes: Axes, rows: Sequence[Mapping[str, Any]], subset: str, content: Mapping[str, Any]
) -> None:
    metric = content["main_metric"]
    for place, row in enumerate(rows):
        found = row["metrics"][subset].get(metric)
        if found is None or found["mean"] is None:
            continue
        axes.barh(place, found["mean"], color=BLUE, height=0.6, alpha=0.5)
        if found["sd"] is not None:
            axes.errorbar(found["mean"], place, xerr=found["sd"], color=GREY)
        axes.plot(found["values"], [place] * len(found["values"]), ".", color=GREY)
    axes.set_xlabel(content["columns"].get(metric, metric))
    axes.set_title(f"{subset} ({content['subsets'][subset]})")


def find_number(settings: Iterable[Mapping[str, str]]) -> str | None:
    """Return the one swept key whose values are three or more numbers; None unless it is one.

    Args:
        settings: key → value of what is swept, of every row.
    """
    values: dict[str, set[str]] = {}
    for each in settings:
        for key, value in each.items():
            values.setdefault(key, set()).add(value)
    found = [key for key, each in values.items() if len(each) > 2 and all(map(_is_number, each))]
    return found[0] if len(found) == 1 else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plot_curves(content: Mapping[str, Any]) -> Figure | None:
    """Draw the compared metric against a number that was swept, both logarithmic where possible.

    Args:
        content: of ``mlepi.report.trainings.describe_sweep``.

    Returns:
        None where no number, or more than one, was swept.
    """
    key = find_number([row["settings"] for row in content["rows"]])
    if key is None:
        return None
    metric = content["main_metric"]
    lines: dict[str, list[tuple[float, float, float]]] = {}
    subset = next(iter(content["subsets"]))
    for row in content["rows"]:
        found = row["metrics"][subset].get(metric)
        if key not in row["settings"] or found is None or found["mean"] is None:
            continue
        rest = ", ".join(value for other, value in row["settings"].items() if other != key)
        point = (float(row["settings"][key]), found["mean"], found["sd"] or 0.0)
        lines.setdefault(rest, []).append(point)
    with house_style():
        figure = new_figure(COLUMN, 0.8 * COLUMN)
        axes = figure.subplots()
        for place, (label, points) in enumerate(lines.items()):
            colour, marker = MARKERS[place % len(MARKERS)]
            x, y, error = np.array(sorted(points)).T
            axes.errorbar(x, y, error, color=colour, marker=marker, label=label or None)
            if (x > 0).all() and (y > 0).all():
                axes.set_xscale("log")
                axes.set_yscale("log")
        axes.set_xlabel(key)
        axes.set_ylabel(content["columns"].get(metric, metric))
        if any(lines):
            axes.legend()
    return figure
