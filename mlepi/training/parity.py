"""Parity plots of a trained network: prediction against label on the test subset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlepi.training.task import Task

MAX_POINTS = 20_000
"""Points per plot; beyond that a selection is drawn."""


def select_points(n_points: int, most: int) -> NDArray[np.int64]:
    """Choose at most so many points, the same every time: (n_chosen,) int, ascending.

    At random, since equal steps would meet the same orbitals in every block.
    """
    if n_points <= most:
        return np.arange(n_points)
    return np.sort(np.random.default_rng(0).choice(n_points, most, replace=False))


def plot_parity(task: Task, batches: Iterable[Any], folder: Path) -> dict[str, Path]:
    """Draw one parity plot per predicted quantity.

    Args:
        task: with the weights to judge in place.
        batches: of the test subset.
        folder: gets ``parity_<quantity>.png``.

    Returns:
        Quantity → file.
    """
    collected: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    task.eval()
    with torch.no_grad():
        for graph in batches:
            for name, pair in task.parity_data(graph.to(task.device)).items():
                collected.setdefault(name, []).append(pair)
    files = {}
    for name, pairs in collected.items():
        label, prediction = (
            torch.cat([pair[k].cpu().to(torch.float64) for pair in pairs]) for k in (0, 1)
        )
        if len(label) == 0:
            continue
        quantity, unit = name.rstrip(")").split(" (")
        error = (prediction - label).abs().mean().item()
        chosen = select_points(len(label), MAX_POINTS)
        path = folder / f"parity_{quantity.replace(' ', '_')}.png"
        drawn = label.numpy()[chosen], prediction.numpy()[chosen]
        draw_parity(quantity, unit, *drawn, error).savefig(path, dpi=150)
        files[quantity] = path
    return files


def draw_parity(
    quantity: str,
    unit: str,
    label: NDArray[np.float64],
    prediction: NDArray[np.float64],
    error: float,
) -> Figure:
    """Draw predictions against labels.

    Args:
        quantity: what it is, for the title.
        unit: of it.
        label: (n_points,), those that are drawn, at least one.
        prediction: (n_points,).
        error: mean absolute error of all points, also of those that are not drawn.
    """
    figure = Figure(figsize=(4.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(label, prediction, ".", markersize=2, color="tab:blue", rasterized=True)
    low, high = float(label.min()), float(label.max())
    axes.plot([low, high], [low, high], "-", color="0.5", linewidth=0.8)
    axes.set(
        xlabel=f"label ({unit})",
        ylabel=f"prediction ({unit})",
        title=f"{quantity}: MAE {1e3 * error:.3g} m{unit}",
    )
    return figure
