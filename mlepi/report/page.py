"""One self-contained HTML page of a run: doubts, tables with units, figures, provenance."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlepi.figures import Paragraph, Section
from mlepi.pipeline.discovery import Stages
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

CSS = """
body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#1a202c}
h1{font-size:1.6em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #cbd5e0}
table{border-collapse:collapse;margin:1em 0}
td,th{padding:.25em .8em;border-bottom:1px solid #e2e8f0;text-align:right}
th:first-child,td:first-child{text-align:left}
figure{margin:1.5em 0}img{max-width:100%}figcaption{color:#4a5568;font-size:.9em}
.warning{background:#fffaf0;border-left:4px solid #dd6b20;padding:.5em 1em;margin:.5em 0}
pre{overflow-x:auto;font-size:.8em;background:#f7fafc;padding:1em}
"""


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
        *(
            f'<div class="warning">{_text(doubt)}</div>'
            for doubt in list_doubts(records, stages, store)
        ),
        *(part for section in list_sections(records, stages) for part in _format(section)),
        *_format_figures(records, stages, images),
        *_format_facts(records, stages, store),
        *_format_provenance(store, records),
    ]
    head = f'<meta charset="utf-8"><title>mlepi report</title><style>{CSS}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>'
    path = store.folder / FILE_NAME
    path.write_text(page + "\n".join(body) + "</body></html>\n", encoding="utf-8")
    return path


def _text(words: str) -> str:
    return html.escape(words)


def _format(section: Section) -> Iterator[str]:
    yield f"<h2>{_text(section.title)}</h2>"
    for block in section.blocks:
        if isinstance(block, Paragraph):
            if block.heading:
                yield f"<h3>{_text(block.heading)}</h3>"
            yield f"<p>{_text(block.text)}</p>"
        else:
            yield _format_table(block.header, block.rows)


def _format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{_text(name)}</th>" for name in header)
    lines = ("".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _format_figures(
    records: dict[str, Any], stages: Stages, images: dict[str, Path]
) -> Iterator[str]:
    for name, drawing in list_figures(records, stages):
        data = base64.b64encode(images[drawing.name].read_bytes()).decode()
        yield (
            f'<figure><img alt="{drawing.name} ({name})" src="data:image/png;base64,{data}">'
            f"<figcaption>{_text(drawing.caption)}</figcaption></figure>"
        )


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
        yield _format_table(("quantity", "value"), rows)


def _format_provenance(store: ResultsStore, records: dict[str, Any]) -> Iterator[str]:
    yield "<h2>Provenance</h2>"
    for name in records:
        provenance = store.provenance(name)
        details = json.dumps(provenance, indent=2, ensure_ascii=False, sort_keys=True)
        commit = str(provenance.get("commit", "unknown"))
        summary = f"{name}: commit {commit}, content {str(store.content(name))[:16]}"
        yield (f"<details><summary>{_text(summary)}</summary><pre>{_text(details)}</pre></details>")
