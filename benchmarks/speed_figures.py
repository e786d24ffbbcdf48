"""Time and peak memory against the number of atoms, and the labels of DFT beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from speed_results import LABELS, Row

from mlepi.figures import BLUE, COLUMN, GREEN, GREY, RED, house_style, new_figure, save_figure

SIDES = {
    "ours": (BLUE, "o", "mlepi"),
    "compiled": (GREEN, "s", "mlepi, compiled"),
    "peer": (RED, "^", "peer"),
}
"""Side → colour, marker, name in the legend."""

AXES = {"seconds": "time (s)", "peak_mb": "peak memory (MB)"}


def select(
    rows: Sequence[Row], work: str, side: str, quantity: str, threads: int, size: str
) -> list[tuple[int, float]]:
    """Return (n_atoms, value) of one side, by size."""
    points = [
        (row["n_atoms"], row["sides"][side][quantity])
        for row in rows
        if row["comparison"] == "peer"
        and row["work"] == work
        and row["threads"] == threads
        and row["size"] == size
        and row["sides"].get(side, {}).get(quantity) is not None
    ]
    return sorted(points)


def draw(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    """Draw points on logarithmic axes."""
    if points:
        axes.loglog(*zip(*points, strict=True), **style)


def mark_sizes(axes: Axes) -> None:
    """Put a tick at every size that was measured, as far as their labels have room."""
    sizes = sorted(
        {
            float(n)
            for line in axes.lines
            for n in np.atleast_1d(np.asarray(line.get_xdata(), dtype=np.float64))
        }
    )
    if not sizes:
        return
    axes.set_xlim(0.7 * sizes[0], 1.4 * sizes[-1])
    apart = 0.08 * np.log(2.0 * sizes[-1] / sizes[0])
    shown = [sizes[0]]
    for size in sizes[1:]:
        if np.log(size / shown[-1]) > apart:
            shown.append(size)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(shown, [f"{size:.0f}" for size in shown])


def plot_growth(rows: Sequence[Row], quantity: str, folder: Path) -> Path:
    """Draw time or peak memory of the four works against the number of atoms."""
    threads = min((row["threads"] for row in rows), default=1)
    with house_style():
        figure = new_figure(2 * COLUMN, 1.6 * COLUMN)
        for axes, (work, label) in zip(figure.subplots(2, 2).flat, LABELS.items(), strict=True):
            for side, (colour, marker, name) in SIDES.items():
                draw(
                    axes,
                    select(rows, work, side, quantity, threads, "published"),
                    color=colour,
                    marker=marker,
                    label=name,
                )
            draw(
                axes,
                select(rows, work, "ours", quantity, threads, "small"),
                color=BLUE,
                marker="o",
                markerfacecolor="none",
                linestyle="none",
                label="mlepi, size small",
            )
            axes.set_title(label)
            axes.set_xlabel("atoms")
            axes.set_ylabel(AXES[quantity])
            mark_sizes(axes)
            if axes.lines:
                axes.legend()
    return save_figure(figure, folder, f"speed_{quantity.split('_')[0]}")


def plot_labels(rows: Sequence[Row], labels: Path, folder: Path) -> Path:
    """Draw the time of our networks beside the time of DFT, as in the paper's Fig. 5.

    Args:
        rows: of the benchmark.
        labels: JSON file of ``label_seconds.py``.
        folder: of the figure.
    """
    found = json.loads(labels.read_text(encoding="utf-8"))
    threads = min((row["threads"] for row in rows), default=1)
    with house_style():
        figure = new_figure(COLUMN, 0.85 * COLUMN)
        axes = figure.subplots()
        points = sorted((entry["n_atoms"], entry["seconds"]) for entry in found["structures"])
        draw(axes, points, color=GREY, marker="x", linestyle="none", label=found["code"])
        for work, colour in (("hamiltonian", BLUE), ("energy_forces", RED)):
            for size, fill in (("published", colour), ("small", "none")):
                name = LABELS[work] + ("" if size == "published" else ", size small")
                chosen = select(rows, work, "ours", "seconds", threads, size)
                draw(axes, chosen, color=colour, marker="o", markerfacecolor=fill, label=name)
        axes.set_xlabel("atoms")
        axes.set_ylabel("time (s)")
        mark_sizes(axes)
        axes.legend()
    return save_figure(figure, folder, "speed_labels")
