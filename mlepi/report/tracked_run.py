"""An inference in the services of ``mlepi.tracking``: what its report shows, as they show it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.doubts import Doubt, rank_doubts
from mlepi.figures import Table
from mlepi.physics.averages.error_budget import STATISTICAL, SYSTEMATIC
from mlepi.pipeline import Run
from mlepi.pipeline.discovery import Stages
from mlepi.report.answers import PART_NAMES, Answer, find_answers
from mlepi.report.run_facts import collect_provenance, find_target
from mlepi.report.run_records import (
    FIGURES_FOLDER,
    list_doubts,
    list_error_parts,
    list_figures,
    list_sections,
    read_records,
)
from mlepi.results.provenance import hide_secrets
from mlepi.tracking import Job, Trackers, start_trackers

LOGGER = "logger"
"""Key of the settings of services in the config of a run."""
LONGEST = 80
"""Characters of the name of a table."""


def track_run(run: Run, stages: Stages, sweep: str = "", page: Path | None = None) -> None:
    """Send a finished run to the services that its config names.

    Args:
        run: that is done.
        stages: all that there are.
        sweep: name of the sweep that the run belongs to; empty for none.
        page: its report, None where none was written.
    """
    config = hide_secrets(run.settings.config)
    services = config.get(LOGGER) or {}
    settings = {key: value for key, value in config.items() if key != LOGGER}
    folder = run.store.folder
    name = folder.resolve().name
    job = Job(folder, f"{sweep}/{name}" if sweep else name, "infer", sweep, settings)
    trackers = start_trackers(services, job)
    if trackers:
        log_run(run, stages, trackers)
        if page is not None:
            trackers.log_file("report", page, "report")
    trackers.close()


def log_run(run: Run, stages: Stages, trackers: Trackers) -> None:
    """Log headlines as tables and plots, error budgets, doubts and all figures.

    Args:
        run: that is done.
        stages: all that there are.
        trackers: services of the run.
    """
    store = run.store
    records = read_records(store, stages)
    parts = list_error_parts(records, stages)
    answers = find_answers(records, stages, parts, find_target(collect_provenance(store, records)))
    for answer in answers:
        log_answer(answer, trackers)
    for section in list_sections(records, stages):
        for block in section.blocks:
            if isinstance(block, Table) and block.title:
                trackers.log_table(f"tables/{_plain(block.title)}", block.header, block.rows)
    doubts = rank_doubts(list_doubts(records, stages, store))
    log_doubts(doubts, trackers)
    for _, drawing in list_figures(records, stages):
        path = store.folder / FIGURES_FOLDER / f"{drawing.name}.png"
        if path.is_file():
            trackers.log_image(f"figures/{drawing.name}", path)
    trackers.log_summary(summarize(answers, doubts))


def log_answer(answer: Answer, trackers: Trackers) -> None:
    """Log one headline: its table with all parts of the error, and its plot over temperature."""
    name = answer.headline.name
    unit = "" if answer.unit in ("", "1") else f" ({answer.unit})"
    budget, order = answer.budget, np.argsort(answer.temperatures, kind="stable")
    parts = {PART_NAMES.get(part, part): budget.part(part) for part in (STATISTICAL, *SYSTEMATIC)}
    header = ("T (K)", f"value{unit}", "total error", *parts)
    columns = (answer.temperatures, answer.values, budget.total(), *parts.values())
    rows = [[_number(column[place]) for column in columns] for place in order]
    trackers.log_table(f"{name}/table", header, rows)
    known = [place for place in order if np.isfinite(answer.values[place])]
    x, y = ([float(column[place]) for place in known] for column in columns[:2])
    trackers.log_curve(f"{name}/{name} against temperature", ("T (K)", f"{name}{unit}"), x, y)


def log_doubts(doubts: Sequence[Doubt], trackers: Trackers) -> None:
    """Log what to doubt, from the worst; nothing where there is nothing."""
    if doubts:
        rows = [[x.severity, x.seen, x.means, x.remedy] for x in doubts]
        trackers.log_table("doubts", ("severity", "seen", "means", "to do"), rows)


def summarize(answers: Sequence[Answer], doubts: Sequence[Doubt]) -> Mapping[str, float]:
    """Return the numbers by which runs are compared: headlines at their highest temperature."""
    found: dict[str, float] = {}
    for answer in answers:
        name, last = answer.headline.name, answer.last
        found[name] = float(answer.values[last])
        error = float(answer.budget.total()[last])
        if np.isfinite(error):
            found[f"{name} error"] = error
        if answer.at_rest is not None:
            found[f"{name} at rest"] = float(answer.at_rest)
    for severity in ("serious", "caution"):
        found[f"doubts/{severity}"] = float(sum(x.severity == severity for x in doubts))
    return found


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _plain(title: str) -> str:
    """Return what names a table in its title, which services also make names of files of."""
    return re.sub(r"[^\w ,.×-]+", "-", re.split("[;:]", title)[0]).strip("- ")[:LONGEST]
