"""The comparison that a sweep of inferences leaves in its folder, whatever was swept.

``python -m mlepi.report.inferences FOLDER`` makes it again.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlepi.errors import DataError, MlepiError, message
from mlepi.figures import save_figure
from mlepi.figures.tables import format_csv, tabulate
from mlepi.pipeline.discovery import Stages
from mlepi.project_files import TRACEBACK_FILE
from mlepi.report.answers import Answer
from mlepi.report.compare import (
    APART,
    NONE,
    ComparedRun,
    name_quantity,
    read_run,
    write_comparison,
)
from mlepi.report.inference_figure import plot_inferences
from mlepi.report.run_facts import read_overrides
from mlepi.results.store import FILE_NAME
from mlepi.sweep_names import find_swept, order_naturally, split_override, write_label
from mlepi.tracking import log_comparison

NAME = "comparison"
"""Of the files in the folder of a sweep, with ``.md``, ``.csv``, ``.html``, ``.png``, ``.pdf``."""

Cell = float | str | None


@dataclass(frozen=True)
class SweptRun:
    """One run of a sweep.

    Attributes:
        settings: key → value of what is swept.
        run: what is compared of it, named by ``settings``.
    """

    settings: Mapping[str, str]
    run: ComparedRun


def finish_inferences(folder: Path, stages: Stages) -> str:
    """Compare the runs below a folder.

    Writes tables, numbers, a figure, and of two or more runs a page, ``comparison.*``; table and
    figure go to the services that the runs went to.

    Args:
        folder: of the sweep.
        stages: all that there are.

    Returns:
        The text of the tables.

    Raises:
        DataError: no run has come to a result.
    """
    runs, unfinished = read_runs(folder, stages)
    if not runs:
        got = f"no run with results, and {len(unfinished)} others"
        raise DataError(
            message(str(folder), got, "the folder of a sweep", "Run infer.py -m first.")
        )
    text = format_inferences(folder.resolve().name, runs, unfinished)
    header, rows = lay_out(runs)
    (folder / f"{NAME}.md").write_text(text, encoding="utf-8")
    (folder / f"{NAME}.csv").write_text(format_csv(header, rows), encoding="utf-8")
    figures = {}
    drawn = plot_inferences([(each.settings, each.run) for each in runs])
    if drawn is not None:
        figures["quantities"] = save_figure(drawn, folder, NAME)
    if len(runs) > 1:
        write_comparison([each.run for each in runs], folder / f"{NAME}.html")
    log_comparison(folder, runs[0].run.config.get("logger") or {}, header, rows, figures)
    return f"{text}\nTables, numbers, figure and page: {folder / NAME}.*"


def read_runs(folder: Path, stages: Stages) -> tuple[list[SweptRun], dict[str, str]]:
    """Read the runs below the folder of a sweep.

    Args:
        folder: of the sweep.
        stages: all that there are.

    Returns:
        Those with results, in the order of their names, and name → what is the matter with those
        that failed.
    """
    folders = {path.parent.parent for path in folder.glob("*/.hydra/overrides.yaml")}
    folders |= {path.parent for path in folder.glob(f"*/{FILE_NAME}")}
    ordered = sorted(folders, key=lambda path: order_naturally(path.name))
    unfinished = {path.name: told for path in ordered if (told := _find_failure(path))}
    finished = [path for path in ordered if (path / FILE_NAME).is_file()]
    given = [_read_settings(path) for path in finished]
    keys = find_swept(given)
    settings = [{key: each[key] for key in keys if key in each} for each in given]
    labels = [write_label(each, keys) for each in settings]
    names = [
        label if label and labels.count(label) == 1 else path.name
        for label, path in zip(labels, finished, strict=True)
    ]
    runs = [
        SweptRun(each, read_run(path, name, stages))
        for each, name, path in zip(settings, names, finished, strict=True)
    ]
    return runs, unfinished


def _read_settings(folder: Path) -> dict[str, str]:
    """Return key → value of the overrides of a run that may decide its results."""
    settings = dict(split_override(text) for text in read_overrides(folder) or ())
    return {
        key: value
        for key, value in settings.items()
        if not any(key == name or key.startswith(f"{name}.") for name in APART)
    }


def _find_failure(folder: Path) -> str:
    """Return the last error of a run; empty where there is none."""
    traceback = folder / TRACEBACK_FILE
    if traceback.is_file():
        lines = re.findall(r"^[\w.]*?(\w+: .*)$", traceback.read_text(encoding="utf-8"), re.M)
        return f"failed: {lines[-1]}" if lines else "failed"
    return "" if (folder / FILE_NAME).is_file() else "no results"


def format_inferences(name: str, runs: Sequence[SweptRun], unfinished: Mapping[str, str]) -> str:
    """Write a table per quantity, a row per run and a column per temperature, as Markdown.

    Runs without averages have a table of what their stages say.

    Args:
        name: of the sweep.
        runs: with results.
        unfinished: name → what is the matter with others.
    """
    lines = [
        f"{name}: {len(runs)} runs. Values ± total errors, 68 %, as far as they were measured."
    ]
    quantities = dict.fromkeys(name_quantity(a) for each in runs for a in each.run.answers)
    for quantity in quantities:
        lines += ["", quantity, "", *_tabulate_quantity(quantity, runs)]
    facts = dict.fromkeys(fact for each in runs for fact in each.run.found)
    if facts:
        cells = [[each.run.name, *(each.run.found.get(f, NONE) for f in facts)] for each in runs]
        lines += ["", *tabulate(["", *facts], cells)]
    doubted = {each.run.name: _count_serious(each.run) for each in runs}
    told = ", ".join(f"{label} ({n})" for label, n in doubted.items() if n)
    lines += ["", f"Serious doubts, each in its report: {told}."] if told else []
    lines += [f"Not finished: {label}, {reason}." for label, reason in unfinished.items()]
    return "\n".join(lines) + "\n"


def _count_serious(run: ComparedRun) -> int:
    return sum(doubt.severity == "serious" for doubt in run.doubts)


def _find_answer(run: ComparedRun, quantity: str) -> Answer | None:
    return next((each for each in run.answers if name_quantity(each) == quantity), None)


def _tabulate_quantity(quantity: str, runs: Sequence[SweptRun]) -> list[str]:
    found = {each.run.name: _find_answer(each.run, quantity) for each in runs}
    known = [answer for answer in found.values() if answer is not None]
    temperatures = sorted({float(t) for answer in known for t in answer.temperatures})
    rows = []
    for label, answer in found.items():
        if answer is None:
            rows.append([label, NONE, *(NONE for _ in temperatures)])
            continue
        rest = _finite(answer.at_rest)
        numbers = {
            float(t): answer.number(n)
            for n, t in enumerate(answer.temperatures)
            if np.isfinite(answer.values[n])
        }
        told = NONE if rest is None else f"{rest:.4g}"
        rows.append([label, told, *(numbers.get(t, NONE) for t in temperatures)])
    return tabulate(["", "at rest", *(f"{t:g} K" for t in temperatures)], rows)


def lay_out(runs: Sequence[SweptRun]) -> tuple[list[str], list[list[Cell]]]:
    """Return header and rows of all numbers: a row per run, quantity and temperature.

    Facts of runs without averages stand in the column of values as text.
    """
    keys = list(dict.fromkeys(key for each in runs for key in each.settings))
    header = ["run", *keys, "quantity", "temperature_K", "value", "error", "at_rest"]
    rows: list[list[Cell]] = []
    for each in runs:
        own: list[Cell] = [each.run.name, *(each.settings.get(key) for key in keys)]
        for answer in each.run.answers:
            totals = answer.budget.total()
            for place, temperature in enumerate(answer.temperatures):
                numbers = (temperature, answer.values[place], totals[place], answer.at_rest)
                rows.append([*own, name_quantity(answer), *map(_finite, numbers)])
        rows += [[*own, fact, None, text, None, None] for fact, text in each.run.found.items()]
    return header, rows


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def main() -> None:
    """Run as a script."""
    from mlepi.observables import all_stages

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the sweep")
    try:
        print(finish_inferences(parser.parse_args().folder, all_stages()))
    except MlepiError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
