"""The report of a run: one self-contained page, the answer first, then all that it rests on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlepi.doubts import Doubt, rank_doubts
from mlepi.figures.structure_view import describe_structure, draw_structure
from mlepi.pipeline.discovery import Stages
from mlepi.project_files import write_whole
from mlepi.report.answers import Answer, draw_answer, find_answers, unit_after
from mlepi.report.page_parts import (
    TITLES,
    ShownFigure,
    collect_parts,
    describe_figure,
    draw_figures,
    list_tables,
)
from mlepi.report.run_facts import (
    collect_provenance,
    describe_run,
    find_command,
    find_target,
    last_config,
    list_packages,
    list_records,
)
from mlepi.report.run_records import list_doubts, list_error_parts, list_presentations, read_records
from mlepi.report.templates import fill_page
from mlepi.results import ResultsStore
from mlepi.results.provenance import find_version

FILE_NAME = "report.html"
RELOAD = 20
"""Seconds after which the page of a run that is still going loads itself again."""


def write_report(
    folder: str | Path,
    stages: Stages,
    progress: str = "",
    path: str | Path | None = None,
    files: bool = True,
) -> Path:
    """Draw the figures and write ``report.html``, one file without links to others.

    Args:
        folder: run folder.
        stages: all that there are.
        progress: how far a run is that is still going, a sentence; its page loads itself again, and
            its figures are not written as files. Empty for a finished run.
        path: of the page; in the run folder without.
        files: whether the figures are written as PNG and PDF too.

    Returns:
        Path of the report, which appears as a whole.

    Raises:
        DataError: the folder holds no records, or they are damaged.
    """
    store = ResultsStore(folder)
    records = read_records(store, stages)
    figures = draw_figures(records, stages, store.folder, files=files and not progress)
    answers = _list_answers(records, stages, store, figures)
    shown = {figure.name: figure.content or {"kind": "picture"} for figure in figures}
    shown |= {each["figure"].name: each["figure"].content for each in answers if each["figure"]}
    page = _describe(records, stages, store, figures)
    page |= {"answers": answers, "progress": progress, "reload": RELOAD if progress else 0}
    target = store.folder / FILE_NAME if path is None else Path(path)
    write_whole(target, fill_page("report.html.j2", page, shown))
    return target


def _describe(
    records: dict[str, Any], stages: Stages, store: ResultsStore, figures: list[ShownFigure]
) -> dict[str, Any]:
    provenance = collect_provenance(store, records)
    config = last_config(provenance)
    doubts = rank_doubts(list_doubts(records, stages, store))
    parts = collect_parts(records, stages, store, figures)
    packages = list_packages(provenance, config)
    structure, words = _draw_structure(records, stages)
    return {
        "title": _title(records, config),
        "subtitle": f"{store.folder.resolve().name} · mlepi {find_version()}",
        "tabs": _list_tabs(parts, doubts),
        "doubts": doubts,
        "structure": structure,
        "structure_alt": words,
        "run": describe_run(store, records, config, stages),
        "command": find_command(store.folder),
        "packages": packages,
        "records": list_records(store, provenance, config),
        "config": json.dumps(config, indent=2, ensure_ascii=False) if config else "",
        "figures": figures,
        "tables": [*list_tables(parts), packages],
        "footer": "Made by mlepi from results.h5; figures drawn with plotly.js (MIT licence).",
    }


def _title(records: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    structure = records.get("structure")
    if structure is None or not hasattr(structure, "atoms"):
        return "Electron-phonon report"
    atoms = structure.atoms
    layers = len(set(atoms.arrays["layer"])) if "layer" in atoms.arrays else 1
    kind = {1: "", 2: ", bilayer", 3: ", trilayer"}.get(layers, f", {layers} layers")
    return (
        f"{atoms.get_chemical_formula(empirical=True)}{kind}: electrons and phonons at temperature"
    )


def _list_tabs(parts: Mapping[Any, Any], doubts: list[Doubt]) -> list[dict[str, Any]]:
    tabs = [{"name": "overview", "title": "Overview", "parts": None, "count": 0, "grade": ""}]
    for name, part in parts.items():
        trust = name == "trust"
        tabs.append(
            {
                "name": name,
                "title": TITLES[name],
                "parts": part,
                "count": len(doubts) if trust else 0,
                "grade": doubts[0].severity if trust and doubts else "",
            }
        )
    for name in ("provenance", "downloads"):
        tabs.append({"name": name, "title": name.title(), "parts": None, "count": 0, "grade": ""})
    return tabs


def _draw_structure(records: Mapping[str, Any], stages: Stages) -> tuple[str, str]:
    for name, presentation in list_presentations(dict(records), stages):
        if presentation.atoms is not None:
            atoms = presentation.atoms(records[name])
            return draw_structure(atoms), describe_structure(atoms)
    return "", ""


def _list_answers(
    records: dict[str, Any], stages: Stages, store: ResultsStore, figures: list[ShownFigure]
) -> list[dict[str, Any]]:
    """Return what the first screen says; a run without averages shows a first fact and figure."""
    parts = list_error_parts(records, stages)
    target = find_target(collect_provenance(store, records))
    found = find_answers(records, stages, parts, target)
    if not found:
        return [_first_fact(records, stages, figures)]
    return [_show(number, answer) for number, answer in enumerate(found, start=1)]


def _show(number: int, answer: Answer) -> dict[str, Any]:
    panel = draw_answer(answer)
    content = {"kind": panel.kind, "height": 268, **panel.content}
    caption = (
        f"{answer.headline.name[:1].upper()}{answer.headline.name[1:]} against temperature. Thick "
        "bars: 68 % interval of the samples; thin bars: with all measured parts of the error, "
        "which stand beside."
    )
    figure = ShownFigure(
        f"answer_{number}", caption, describe_figure(caption, content), "estimates", content
    )
    return {
        "id": f"answer-{number}",
        "name": answer.headline.name,
        "number": answer.number(),
        "unit": unit_after(answer.unit),
        "condition": answer.condition(),
        "sentence": answer.sentence(),
        "figure": figure,
    }


def _first_fact(
    records: dict[str, Any], stages: Stages, figures: list[ShownFigure]
) -> dict[str, Any]:
    """Show the first fact and the first figure of the last stage that has some."""
    number, name = "", "No averages so far"
    for stage, presentation in list_presentations(records, stages):
        facts = presentation.facts(records[stage]) if presentation.facts is not None else []
        if facts and presentation.tab != "trust":
            name, number = facts[0]
    figure = next((each for each in reversed(figures) if each.content is not None), None)
    if figure is not None:
        figure = ShownFigure(
            "answer_1", figure.caption, figure.alt, figure.tab, figure.content, title=""
        )
    sentence = f"{name[:1].upper()}{name[1:]}." if number else f"{name}."
    return {
        "id": "answer-1",
        "name": name,
        "number": number,
        "unit": "",
        "condition": "",
        "sentence": sentence,
        "figure": figure,
    }
