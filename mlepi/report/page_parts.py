"""What stands in every part of the report: figures, sections and facts of the stages, sorted."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlepi.figures import Comparison, Drawing, Section, Table, save_figure
from mlepi.figures.panels import Panel
from mlepi.figures.plotly_figure import convert_figure
from mlepi.figures.presentation import Tab
from mlepi.pipeline.discovery import Stages
from mlepi.report.run_records import (
    FIGURES_FOLDER,
    list_figures,
    list_ghosts,
    list_precisions,
    list_presentations,
    list_tabbed_sections,
)
from mlepi.results import ResultsStore

TITLES: dict[Tab, str] = {
    "phonons": "Phonons",
    "electrons": "Electrons",
    "estimates": "Estimates",
    "errors": "Convergence and errors",
    "trust": "Trust",
}
"""Parts of the report that stages contribute to, in their order."""


@dataclass(frozen=True)
class ShownFigure:
    """A figure of the page.

    Attributes:
        name: also that of its files.
        caption: what is to be seen.
        alt: the same for those who cannot see it.
        tab: where it stands.
        content: what the script draws; None for a picture.
        picture: PNG in base64, where the figure could not be converted.
        title: above it.
    """

    name: str
    caption: str
    alt: str
    tab: Tab
    content: dict[str, Any] | None
    picture: str = ""
    title: str = ""


@dataclass(frozen=True)
class ShownTable:
    """A table of the page.

    Attributes:
        id: unique.
        label: in words.
        header: names of the columns.
        rows: cells.
        kind: "numbers" or "facts", words that wrap.
    """

    id: str
    label: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "numbers"


@dataclass
class TabParts:
    """What stands in one part of the report."""

    figures: list[ShownFigure] = field(default_factory=list)
    sections: list[dict[str, Any]] = field(default_factory=list)
    facts: ShownTable | None = None


def draw_figures(
    records: dict[str, Any], stages: Stages, folder: Path, files: bool = True
) -> list[ShownFigure]:
    """Draw the figures of records, into files and for the page.

    Args:
        records: stage → record.
        stages: all that there are.
        folder: run folder; PNG and PDF go into ``figures`` there.
        files: whether to write them.
    """
    tabs = {name: shown.tab for name, shown in list_presentations(records, stages)}
    return [
        _draw(drawing, records, records[name], folder, drawing.tab or tabs[name], files)
        for name, drawing in list_figures(records, stages)
    ]


def _draw(
    drawing: Drawing | Comparison,
    records: dict[str, Any],
    record: Any,
    folder: Path,
    tab: Tab,
    files: bool,
) -> ShownFigure:
    figure = drawing.plot(records if isinstance(drawing, Comparison) else record)
    path = folder / FIGURES_FOLDER / f"{drawing.name}.png"
    if files:
        save_figure(figure, path.parent, drawing.name)
    content = (
        convert_figure(figure)
        if drawing.interactive is None
        else _as_content(drawing.interactive(records))
    )
    picture = ""
    if content is None:
        if not files:
            save_figure(figure, path.parent, drawing.name)
        picture = base64.b64encode(path.read_bytes()).decode()
    else:
        content = {"kind": "plot", **content}
    words = drawing.name.replace("_", " ")
    return ShownFigure(
        name=drawing.name,
        caption=" ".join(filter(None, (drawing.caption, (content or {}).get("note", "")))),
        alt=describe_figure(drawing.caption, content),
        tab=tab,
        content=content,
        picture=picture,
        title=words[:1].upper() + words[1:],
    )


def _as_content(panel: Panel) -> dict[str, Any]:
    return {"kind": panel.kind, **panel.content}


def describe_figure(caption: str, content: Mapping[str, Any] | None) -> str:
    """Say in words what a figure shows: its caption, axes and lines."""
    said = caption
    if content is None or content["kind"] != "plot":
        return said
    titles = [
        re.sub(r"<[^>]+>", "", value["title"]["text"])
        for key, value in content["layout"].items()
        if re.fullmatch(r"[xy]axis\d*", key) and value.get("title", {}).get("text")
    ]
    names = dict.fromkeys(trace["name"] for trace in content["data"] if trace.get("name"))
    if titles:
        said += f" Axes: {', '.join(dict.fromkeys(titles))}."
    if names:
        said += f" Shown: {', '.join(names)}."
    return said


def collect_parts(
    records: dict[str, Any], stages: Stages, store: ResultsStore, figures: Sequence[ShownFigure]
) -> dict[Tab, TabParts]:
    """Sort everything that stages show into the parts of the report; empty ones are left out.

    Args:
        records: stage → record.
        stages: all that there are.
        store: of the run.
        figures: all of the run.
    """
    parts = {tab: TabParts() for tab in TITLES}
    for figure in figures:
        parts[figure.tab].figures.append(figure)
    count = 0
    for tab, section in list_tabbed_sections(records, stages):
        blocks = []
        for block in section.blocks:
            count += isinstance(block, Table)
            blocks.append(_block(block, section, count))
        parts[tab].sections.append({"title": section.title, "blocks": blocks})
    for tab, rows in _facts(records, stages, store).items():
        parts[tab].facts = ShownTable(
            f"{tab}-numbers", f"{TITLES[tab]}: numbers", ("quantity", "value"), rows, "facts"
        )
    return {
        tab: part
        for tab, part in parts.items()
        if part.figures or part.sections or part.facts or tab == "trust"
    }


def _block(block: Any, section: Section, count: int) -> Any:
    if not isinstance(block, Table):
        return block
    label = block.title or section.title
    return ShownTable(f"table-{count}", label, block.header, block.rows)


def _facts(
    records: dict[str, Any], stages: Stages, store: ResultsStore
) -> dict[Tab, list[tuple[str, str]]]:
    found: dict[Tab, list[tuple[str, str]]] = {}
    for name, presentation in list_presentations(records, stages):
        if presentation.facts is not None:
            found.setdefault(presentation.tab, []).extend(presentation.facts(records[name]))
    more: dict[Tab, list[tuple[str, str]]] = {
        "errors": list_precisions(records, store),
        "trust": list_ghosts(records, stages, store),
    }
    for tab, rows in more.items():
        if rows:
            found.setdefault(tab, []).extend(rows)
    return {tab: rows for tab, rows in found.items() if rows}


def list_tables(parts: Mapping[Tab, TabParts]) -> Iterator[ShownTable]:
    """Yield all tables of the page."""
    for part in parts.values():
        for section in part.sections:
            yield from (block for block in section["blocks"] if isinstance(block, ShownTable))
        if part.facts is not None:
            yield part.facts
