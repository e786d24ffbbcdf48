"""The tables of a run on the screen: its summary, and all error budgets."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

from mlepi.figures import Table
from mlepi.pipeline.discovery import Stages
from mlepi.report.answers import PART_NAMES, Answer, find_answers, unit_after
from mlepi.report.error_budgets import write_size, write_value
from mlepi.report.run_facts import collect_provenance, count_samples, find_target
from mlepi.report.run_records import (
    list_error_parts,
    list_presentations,
    list_sections,
    read_records,
)
from mlepi.results import ResultsStore

TABLE_WIDTH = 110
"""Characters, when the output is not a terminal."""
SUMMARY_WIDTH = 100
"""Characters of the summary at the end of a run, or fewer on a narrower terminal."""
MOST_TEMPERATURES = 8
"""Temperatures of a quantity in the summary; beyond that the lowest, the highest and some between
are shown."""
HEADER = ("quantity", "at rest", "T (K)", "value ± error", "change", "not in the error")


def print_tables(folder: str | Path, stages: Stages) -> None:
    """Print the tables that stages show on a screen.

    Args:
        folder: run folder; without such tables nothing is printed.
        stages: all that there are.
    """
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    for section in list_sections(read_records(ResultsStore(folder), stages), stages):
        for block in section.blocks:
            if isinstance(block, Table) and block.title:
                console.print(_format(block))


def _format(block: Table) -> RichTable:
    table = RichTable(title=block.title, title_justify="left", box=SIMPLE)
    columns = block.screen_columns or range(len(block.header))
    for column in columns:
        table.add_column(block.header[column], justify="right")
    shown = range(len(block.rows)) if block.screen_rows is None else block.screen_rows
    for row in (block.rows[number] for number in shown):
        table.add_row(*(row[column] for column in columns))
    return table


def format_summary(folder: str | Path, stages: Stages, width: int = SUMMARY_WIDTH) -> str:
    """Return the table at the end of a run: its headlines at every temperature.

    A run without averages has facts of its stages instead.

    Args:
        folder: run folder.
        stages: all that there are.
        width: characters of a line at most.
    """
    store = ResultsStore(folder)
    records = read_records(store, stages)
    target = find_target(collect_provenance(store, records))
    answers = find_answers(records, stages, list_error_parts(records, stages), target)
    title = _title(records, count_samples(store, records))
    table = RichTable(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    if answers:
        for name in HEADER:
            words = name in (HEADER[0], HEADER[-1])
            table.add_column(name, justify="left" if words else "right", no_wrap=not words)
        for answer in answers:
            for row in _rows(answer):
                table.add_row(*row)
    else:
        table.add_column("quantity", justify="left")
        table.add_column("value", justify="left")
        for row in list_facts(records, stages):
            table.add_row(*row)
    text = io.StringIO()
    # in a notebook rich would show the table instead of writing it
    console = Console(file=text, width=width, color_system=None, force_jupyter=False)
    console.print(table, markup=False)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _title(records: Mapping[str, Any], n_samples: str) -> str:
    structure, sampling = records.get("structure"), records.get("sampling")
    atoms = getattr(structure, "atoms", None)
    parts = [] if atoms is None else [atoms.get_chemical_formula()]
    if sampling is not None:
        parts.append(f"{n_samples} samples per temperature ({sampling.sampler})")
    return ", ".join(["Summary", *parts])


def _rows(answer: Answer) -> Iterator[tuple[str, ...]]:
    """Write a row per temperature; what all of them share stands in the first."""
    known = np.flatnonzero(np.isfinite(answer.values))
    order = known[np.argsort(answer.temperatures[known], kind="stable")]
    if len(order) > MOST_TEMPERATURES:
        order = order[np.linspace(0, len(order) - 1, MOST_TEMPERATURES).round().astype(int)]
    name = answer.headline.name
    unit = unit_after(answer.unit).strip()
    first = f"{name[:1].upper()}{name[1:]}" + (f" ({unit.removeprefix('× ')})" if unit else "")
    at_rest = answer.at_rest
    rest = "" if at_rest is None or not np.isfinite(at_rest) else f"{at_rest:.4g}"
    totals, before = answer.budget.total(), ""
    for place in order:
        value, error = float(answer.values[place]), float(totals[place])
        told = write_value(value, error)
        told = f"{told} ± {write_size(error)}" if np.isfinite(error) else told
        lacks = [PART_NAMES.get(part, part) for part in answer.budget.missing((int(place),))]
        missing = ", ".join(lacks) or "nothing"
        same = "″" if missing == before else missing
        before = missing
        yield (first, rest, f"{answer.temperatures[place]:g}", told, answer.change(place), same)
        first = rest = ""


def list_facts(records: dict[str, Any], stages: Stages) -> Iterator[tuple[str, str]]:
    """Return what the stages of a run without averages say of their records."""
    for name, shown in list_presentations(records, stages):
        if shown.facts is not None and shown.tab != "trust":
            yield from ((fact, told) for fact, told in shown.facts(records[name])[:3])
