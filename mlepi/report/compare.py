"""Runs side by side: settings that differ, quantities with errors, figures over each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

from mlepi.doubts import Doubt, rank_doubts
from mlepi.errors import DataError, message
from mlepi.figures.numbers import plain_numbers
from mlepi.figures.panels import Choice, build_plot
from mlepi.figures.style import COLD_TO_HOT
from mlepi.pipeline.discovery import Stages
from mlepi.project_files import write_whole
from mlepi.report.answers import Answer, find_answers
from mlepi.report.error_budgets import collect_budgets, write_size, write_value
from mlepi.report.page_parts import ShownFigure, ShownTable, describe_figure
from mlepi.report.run_facts import collect_provenance, describe_run, last_config
from mlepi.report.run_records import list_doubts, list_error_parts, read_records
from mlepi.report.screen import TABLE_WIDTH, list_facts
from mlepi.report.templates import fill_page
from mlepi.results import ResultsStore

APART = ("folder", "hydra", "report", "stage.folder")
"""Settings whose difference says nothing about the results."""

NONE = "–"


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        name: of its folder, with as many parents as tell it from the others.
        config: settings of its last record.
        facts: what was run, in words.
        answers: its headlines.
        numbers: (quantity, temperature) → value and total error.
        doubts: from the worst.
        found: facts of its stages, where it has no headlines.
    """

    name: str
    config: Mapping[str, Any]
    facts: Mapping[str, str]
    answers: Sequence[Answer]
    numbers: Mapping[tuple[str, float], tuple[float, float]]
    doubts: Sequence[Doubt]
    found: Mapping[str, str] = field(default_factory=dict)


def compare_runs(folders: Sequence[Path], stages: Stages) -> list[ComparedRun]:
    """Read several runs.

    Args:
        folders: run folders.
        stages: all that there are.

    Raises:
        DataError: fewer than two, one twice, or a folder without records.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < 2 or len(set(resolved)) < len(resolved):
        got = f"{len(folders)} folders, {len(set(resolved))} different"
        fix = "Name two or more run folders."
        raise DataError(message("mlepi compare", got, "different run folders", fix))
    return [
        read_run(folder, name, stages)
        for folder, name in zip(folders, name_folders(resolved), strict=True)
    ]


def name_folders(folders: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that tell them apart."""
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return ["/".join(folder.parts[-depth:]) for folder in folders]


def read_run(folder: Path, name: str, stages: Stages) -> ComparedRun:
    """Read what is compared of one run.

    Args:
        folder: of the run.
        name: by which it is told from the others.
        stages: all that there are.
    """
    store = ResultsStore(folder)
    records = read_records(store, stages)
    parts = list_error_parts(records, stages)
    config = last_config(collect_provenance(store, records))
    numbers = {}
    for stage, budgets in collect_budgets(records, parts).items():
        for quantity, budget in budgets:
            total = budget.total()
            for place in np.ndindex(quantity.values.shape):
                words = quantity.path.replace("/", ": ").replace("_", " ")
                if len(place) > 1:
                    names = quantity.components
                    words += f", {names[place[-1]] if names else place[1:]}"
                unit = "" if quantity.unit == "1" else f" ({quantity.unit})"
                key = f"{stage.replace('_', ' ')}: {words}{unit}"
                where = float(quantity.temperatures[place[0]])
                numbers[key, where] = (float(quantity.values[place]), float(total[place]))
    answers = find_answers(records, stages, parts)
    return ComparedRun(
        name=name,
        config=config,
        facts=dict(describe_run(store, records, config, stages)),
        answers=answers,
        numbers=numbers,
        doubts=rank_doubts(list_doubts(records, stages, store)),
        found={} if answers else dict(list_facts(records, stages)),
    )


def list_differences(runs: Sequence[ComparedRun]) -> ShownTable:
    """Tabulate the settings that are not the same in all runs, a column per run."""
    flat = [dict(_flatten(run.config)) for run in runs]
    keys = sorted({key for each in flat for key in each})
    rows = [
        [key, *(each.get(key, NONE) for each in flat)]
        for key in keys
        if len({each.get(key, NONE) for each in flat}) > 1
        and not any(key == name or key.startswith(f"{name}.") for name in APART)
    ]
    header = ("setting", *(run.name for run in runs))
    return ShownTable("settings", "Settings that differ", header, rows, "facts")


def _flatten(config: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from _flatten(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(config, ensure_ascii=False)


def list_numbers(runs: Sequence[ComparedRun]) -> ShownTable:
    """Tabulate all quantities: values with total errors, and how far they are from the first run.

    The distance is in standard errors of the difference, as if the runs were independent; runs of
    one seed share their random numbers, and are closer than that.
    """
    keys = dict.fromkeys(key for run in runs for key in run.numbers)
    header = ["quantity", "T (K)", *(run.name for run in runs)]
    header += [f"{run.name} less first, in errors" for run in runs[1:]]
    rows = []
    for quantity, temperature in keys:
        found = [run.numbers.get((quantity, temperature)) for run in runs]
        told = [NONE if each is None else write_number(*each) for each in found]
        apart = [_distance(found[0], other) for other in found[1:]]
        rows.append([quantity, f"{temperature:g}", *told, *apart])
    return ShownTable("numbers", "Quantities", header, rows)


def write_number(value: float, error: float) -> str:
    """Write a value with its error, with a power of ten where it is large or small."""
    if not np.isfinite(value):
        return NONE
    power = int(np.floor(np.log10(abs(value)))) if value else 0
    if -4 < power < 5:
        return f"{write_value(value, error)} ± {write_size(error)}"
    scale = 10.0**-power
    inner = f"{write_value(scale * value, scale * error)} ± {write_size(scale * error)}"
    return f"({inner})e{power}"


def _distance(first: tuple[float, float] | None, other: tuple[float, float] | None) -> str:
    if first is None or other is None:
        return NONE
    error = float(np.hypot(first[1], other[1]))
    apart = (other[0] - first[0]) / error if error > 0.0 else np.nan
    return f"{apart:+.1f}" if np.isfinite(apart) else NONE


def draw_comparison(runs: Sequence[ComparedRun]) -> ShownFigure | None:
    """Return the headlines of all runs against temperature; None where there are none."""
    names = dict.fromkeys(name_quantity(answer) for run in runs for answer in run.answers)
    if not names:
        return None
    traces: list[dict[str, Any]] = []
    shades = np.linspace(0.0, 1.0, len(runs))
    for number, run in enumerate(runs):
        red, green, blue, _ = COLD_TO_HOT(shades[number])
        colour = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
        for answer in run.answers:
            name = name_quantity(answer)
            common = {"name": run.name, "legendgroup": run.name, "choose": {"quantity": name}}
            traces.append(
                {
                    **common,
                    "mode": "lines+markers",
                    "x": plain_numbers(answer.temperatures),
                    "y": plain_numbers(answer.values),
                    "line": {"color": colour, "width": 1.8},
                    "marker": {"color": colour, "size": 8},
                    "error_y": {
                        "type": "data",
                        "array": plain_numbers(answer.budget.total()),
                        "color": colour,
                    },
                }
            )
    panel = build_plot(
        traces, (("temperature (K)", ""),), (Choice("quantity", list(names)),), note=""
    )
    content = {"kind": panel.kind, "height": 340, **panel.content}
    caption = "Quantities against temperature; bars: total errors, as far as they were measured."
    return ShownFigure("runs", caption, describe_figure(caption, content), "estimates", content)


def name_quantity(answer: Answer) -> str:
    """Return the name of a headline with its unit."""
    unit = "" if answer.unit == "1" else f" ({answer.unit})"
    return f"{answer.headline.name}{unit}"


def write_comparison(runs: Sequence[ComparedRun], path: Path) -> Path:
    """Write the page of a comparison, which appears as a whole; return its path."""
    figure = draw_comparison(runs)
    names = list(dict.fromkeys(name for run in runs for name in run.facts))
    header = ("", *(run.name for run in runs))
    rows = [[name, *(run.facts.get(name, NONE) for run in runs)] for name in names]
    page = {
        "title": f"{len(runs)} runs side by side",
        "names": [run.name for run in runs],
        "figure": figure,
        "facts": ShownTable("facts", "What was run", header, rows, "facts"),
        "differences": list_differences(runs),
        "numbers": list_numbers(runs),
        "runs": runs,
    }
    figures = {} if figure is None else {figure.name: figure.content}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, fill_page("compare.html.j2", page, figures))
    return path


def print_comparison(runs: Sequence[ComparedRun]) -> None:
    """Print the settings that differ, and the headlines of every run."""
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH, highlight=False)
    differences = list_differences(runs)
    console.print(_screen(differences.label, differences.header, differences.rows))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for run in runs:
        for answer in run.answers:
            for place, temperature in enumerate(answer.temperatures):
                row = rows.setdefault((name_quantity(answer), f"{temperature:g}"), {})
                row[run.name] = answer.number(place)
    names = [run.name for run in runs]
    told = [[*key, *(cells.get(name, NONE) for name in names)] for key, cells in rows.items()]
    console.print(_screen("Quantities, total errors", ("quantity", "T (K)", *names), told))


def _screen(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
    table = RichTable(title=title, title_justify="left", box=SIMPLE)
    for number, name in enumerate(header):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
