"""One self-contained HTML page of a run: doubts, tables with units, figures, provenance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlepi.pipeline.discovery import Stages
from mlepi.report.html import (
    build_page,
    format_details,
    format_image,
    format_section,
    format_table,
    format_warning,
)
from mlepi.report.run_records import (
    draw_figures,
    list_doubts,
    list_figures,
    list_ghosts,
    list_presentations,
    list_sections,
    read_records,
)
from mlepi.results import ResultsStore

FILE_NAME = "report.html"


def write_report(folder: str | Path, stages: Stages) -> Path:
    """Draw the figures and write ``report.html``, one file without links to others.

    Args:
        folder: run folder.
        stages: all that there are.

    Returns:
        Path of the report.

    Raises:
        DataError: the folder holds no records, or they are damaged.
    """
    store = ResultsStore(folder)
    records = read_records(store, stages)
    images = draw_figures(records, stages, store.folder)
    body = [
        "<h1>Electron-phonon report</h1>",
        *(format_warning(doubt) for doubt in list_doubts(records, stages, store)),
        *(part for section in list_sections(records, stages) for part in format_section(section)),
        *_format_figures(records, stages, images),
        *_format_facts(records, stages, store),
        *_format_provenance(store, records),
    ]
    path = store.folder / FILE_NAME
    path.write_text(build_page("mlepi report", body), encoding="utf-8")
    return path


def _format_figures(
    records: dict[str, Any], stages: Stages, images: dict[str, Path]
) -> Iterator[str]:
    for name, drawing in list_figures(records, stages):
        png = images[drawing.name].read_bytes()
        yield format_image(png, f"{drawing.name} ({name})", drawing.caption)


def _format_facts(records: dict[str, Any], stages: Stages, store: ResultsStore) -> Iterator[str]:
    rows = [
        fact
        for name, presentation in list_presentations(records, stages)
        if presentation.facts is not None
        for fact in presentation.facts(records[name])
    ]
    rows += list_ghosts(records, stages, store)
    if rows:
        yield "<h2>Facts</h2>"
        yield format_table(("quantity", "value"), rows)


def _format_provenance(store: ResultsStore, records: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Provenance</h2>"
    for name in records:
        provenance = store.provenance(name)
        commit = str(provenance.get("commit", "unknown"))
        summary = f"{name}: commit {commit}, content {str(store.content(name))[:16]}"
        yield format_details(summary, provenance)
