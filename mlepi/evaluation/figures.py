"""The figures of a judgement: parity, errors by distance, by pair of orbitals, and of levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mlepi.evaluation.breakdown import PARTS
from mlepi.evaluation.findings import Points
from mlepi.figures import BLUE, COLUMN, GREEN, GREY, RED, house_style, new_figure
from mlepi.training.electron_errors import SHIFTED
from mlepi.training.parity import draw_parity

LEVELS = "levels (eV)"
"""Points of levels from the Fermi energy, drawn as errors and not as parity."""

COLOURS = dict(zip(PARTS, (GREEN, BLUE, RED), strict=True))


def draw_all(
    result: Mapping[str, Any], points: Mapping[str, Points]
) -> Iterator[tuple[str, Figure, str]]:
    """Yield name, figure and caption of all figures."""
    for name, found in points.items():
        if name.endswith(LEVELS) or not len(found.label):
            continue
        quantity, unit = name.rstrip(")").split(" (")
        error = found.error / found.count
        with house_style():
            figure = draw_parity(quantity, unit, found.label, found.prediction, error)
        shown = f"{len(found.label)} of {found.count} values of all judged structures"
        caption = f"{quantity} against labels: {shown}, as they are; the error is of all of them."
        yield f"parity_{quantity.replace(' ', '_')}", figure, caption
    if any(name.endswith(LEVELS) and len(found.label) for name, found in points.items()):
        yield "levels", draw_levels(points), LEVEL_CAPTION
    if result.get("distances"):
        yield "distances", draw_distances(result), DISTANCE_CAPTION
    if result.get("orbitals"):
        yield "orbitals", draw_orbitals(result), ORBITAL_CAPTION


LEVEL_CAPTION = (
    "Errors of levels, paired by band index, against DFT's energy. The axis ends at the 99th "
    "percentile: ghosts lie far below it."
)
DISTANCE_CAPTION = (
    "Gauge-free MAE of H by distance (lines) beside the mean size of the labels (dashed)."
)
ORBITAL_CAPTION = "Gauge-free MAE of H by pair of orbitals, meV; a logarithmic scale of colours."


def draw_levels(points: Mapping[str, Points]) -> Figure:
    """Draw errors of levels against their energy, plain and with the level shift."""
    with house_style():
        figure = new_figure(2.0 * COLUMN, 0.8 * COLUMN)
        axes = figure.add_subplot()
        ends = []
        styles = (("", BLUE, "as predicted"), (SHIFTED, RED, "with the level shift"))
        for prefix, colour, words in styles:
            found = points.get(f"{prefix}{LEVELS}")
            if found is None or not len(found.label):
                continue
            error = 1e3 * (found.prediction - found.label)
            ends.append(float(np.quantile(np.abs(error), 0.99)))
            axes.plot(
                found.label, error, ".", markersize=1.5, color=colour, label=words, rasterized=True
            )
        end = 1.1 * max(ends) or 1.0
        axes.set(xlabel="E − E_F (eV)", ylabel="error (meV)", ylim=(-end, end))
        axes.axhline(0.0, color=GREY, linewidth=0.6, zorder=0)
        axes.legend(loc="upper left", markerscale=4)
    return figure


def draw_distances(result: Mapping[str, Any]) -> Figure:
    """Draw errors and sizes of blocks against their distance."""
    with house_style():
        figure = new_figure(1.5 * COLUMN, COLUMN)
        axes = figure.add_subplot()
        for part in PARTS:
            rows = [row for row in result["distances"] if row["part"] == part]
            if not rows:
                continue
            middle = [sum(row["distance"]) / 2.0 for row in rows]
            marker = "s" if part == PARTS[0] else "o"
            for key, style in (("mae_mev", "-"), ("mean_absolute_label_mev", "--")):
                axes.plot(
                    middle,
                    [row[key] for row in rows],
                    style,
                    marker=marker,
                    color=COLOURS[part],
                    label=part if style == "-" else None,
                    alpha=1.0 if style == "-" else 0.4,
                )
        axes.set(xlabel="distance (Å)", ylabel="meV", yscale="log")
        axes.legend()
    return figure


def draw_orbitals(result: Mapping[str, Any]) -> Figure:
    """Draw one map per block type and pair of elements."""
    tables = result["orbitals"]
    n_columns = min(len(tables), 3)
    n_rows = -(-len(tables) // n_columns)
    values = [np.array(table["mae_mev"]) for table in tables]
    positive = np.concatenate([value[value > 0.0].ravel() for value in values])
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    with house_style():
        figure = new_figure(2.0 * COLUMN, 0.75 * COLUMN * n_rows)
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        image = None
        for axes, table, value in zip(grid.flat, tables, values, strict=False):
            image = axes.imshow(value, norm="log", vmin=low, vmax=max(high, 1.01 * low))
            axes.set_title(table["part"])
            axes.set_xticks(range(len(table["columns"])), table["columns"], rotation=90)
            axes.set_yticks(range(len(table["rows"])), table["rows"])
            axes.tick_params(length=0.0, labelsize=5.0)
        for axes in grid.flat[len(tables) :]:
            axes.set_axis_off()
        if image is not None:
            figure.colorbar(image, ax=grid, label="MAE (meV)", shrink=0.8)
    return figure
