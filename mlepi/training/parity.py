"""Parity plots of a trained network: prediction against label on the test subset."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlepi.training.task import Task

MAX_POINTS = 20_000
"""Points per plot; beyond that an evenly spaced selection is drawn."""


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
        path = folder / f"parity_{quantity.replace(' ', '_')}.png"
        _draw(quantity, unit, label, prediction, path)
        files[quantity] = path
    return files


def _draw(
    quantity: str, unit: str, label: torch.Tensor, prediction: torch.Tensor, path: Path
) -> None:
    step = max(1, len(label) // MAX_POINTS)
    error = (prediction - label).abs().mean().item()
    figure = Figure(figsize=(4.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(
        label[::step], prediction[::step], ".", markersize=2, color="tab:blue", rasterized=True
    )
    low, high = float(label.min()), float(label.max())
    axes.plot([low, high], [low, high], "-", color="0.5", linewidth=0.8)
    axes.set(
        xlabel=f"label ({unit})",
        ylabel=f"prediction ({unit})",
        title=f"{quantity}: MAE {1e3 * error:.3g} m{unit}",
    )
    figure.savefig(path, dpi=150)
