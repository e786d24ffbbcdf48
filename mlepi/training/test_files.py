"""What a test leaves in the run folder: its table, and the errors of every structure."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mlepi.graphs import fields
from mlepi.project_files import write_json
from mlepi.training.graph_data import GraphDataModule
from mlepi.training.task import Task
from mlepi.training.test_table import format_rows, group_by_size, tabulate

log = logging.getLogger(__name__)

METRICS_FILE = "test_metrics.json"
STRUCTURES_FILE = "test_structures.json"


@dataclass(frozen=True)
class Effort:
    """What a training took.

    Attributes:
        parameters: numbers that were trained.
        steps: of the optimizer.
        processor_seconds: of the first process, all its threads; training and validation.
        complete: the training came to its end; False when a time limit stopped it.
    """

    parameters: int
    steps: int
    processor_seconds: float
    complete: bool


def finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics with None for what JSON has no number for."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def write_test(
    name: str,
    data: GraphDataModule,
    task: Task,
    metrics: Mapping[str, float],
    effort: Effort,
    best: str,
    folder: Path,
) -> None:
    """Write both files and show the table, also by named subset and size of the cell.

    Args:
        name: of the run.
        data: with the structures that were tested.
        task: after the test.
        metrics: of the whole test subset.
        effort: what the training took.
        best: checkpoint that was tested.
        folder: run folder.
    """
    seen = set(task.seen("test"))
    numbers = {
        structure: int(graph[fields.STRUCTURE])
        for structure, (_, graph) in data.evaluated().items()
        if int(graph[fields.STRUCTURE]) in seen
    }
    structures = {
        numbers[structure]: labelled.atoms
        for structure, (labelled, _) in data.evaluated().items()
        if structure in numbers
    }
    subsets = data.number_subsets()["test"]
    measure = partial(task.measure, "test")
    tables = {
        title: tabulate(groups, structures, measure)
        for title, groups in (("subsets", subsets), ("sizes", group_by_size(structures)))
    }
    members = {
        subset: [structure for structure, number in numbers.items() if number in set(chosen)]
        for subset, chosen in subsets.items()
    }
    errors = {structure: finite(measure([number])) for structure, number in numbers.items()}
    counts = {structure: task.count("test", number) for structure, number in numbers.items()}
    found = {"subsets": members, "counts": counts, "structures": errors}
    write_json(folder / STRUCTURES_FILE, found)
    epoch = 1 + int(torch.load(best, map_location="cpu", weights_only=True)["epoch"])
    content: dict[str, Any] = {
        "name": name,
        "kind": task.kind,
        "main_metric": task.main_metric,
        "columns": dict(task.columns),
        "checkpoint": Path(best).name,
        "epoch": epoch,
        **vars(effort),
        "data": data.describe(),
        "metrics": finite(metrics),
        **tables,
    }
    write_json(folder / METRICS_FILE, content)
    width = max(len(metric) for metric in metrics)
    lines = [f"  {metric:<{width}}  {value:12.5g}" for metric, value in metrics.items()]
    for title, table in tables.items():
        lines += ["", *format_rows(title, table, task.columns)]
    log.info(
        "test set, best checkpoint (epoch %d) in %s\n%s",
        epoch,
        Path(best).parent,
        "\n".join(lines),
    )
