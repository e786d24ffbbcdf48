"""The files of a judgement: all numbers, and one self-contained page with figures."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, message
from mlepi.evaluation.figures import draw_all
from mlepi.evaluation.findings import Points
from mlepi.evaluation.judgement import Judgement
from mlepi.evaluation.tables import (
    distance_table,
    full_table,
    outlier_table,
    shell_table,
    structure_table,
    summary_rows,
)
from mlepi.figures import Paragraph, Section, Table, house_style
from mlepi.report.html import (
    build_page,
    format_details,
    format_image,
    format_section,
    format_warning,
)

JSON_NAME, PAGE_NAME = "eval.json", "eval.html"

MEANING = {
    "electron": (
        "Differences of all existing elements of H, both directions of every pair. Gauge-free: "
        "with the shift μ of each structure that minimises Σ|ΔH − μS|. In the metric of S: "
        "√(Tr[(S⁻¹(ΔH − μS))²]/N) at one k-point per structure. Levels: paired by band index; less "
        "the median of each structure, a common shift. Ghost: a level more than 1 eV below the "
        "lowest of DFT at these k-points. Soft state: up to 2 eV above E_F with more than twice "
        "the |c|² of any training state. Slopes: ‖ΔH − ΔH_DFT‖/‖ΔH_DFT‖ between ±u."
    ),
    "phonon": "Energies per atom, force components and stresses, as they are.",
}
"""Kind of network → what the numbers are."""


def write_files(judgement: Judgement, folder: Path) -> tuple[Path, Path]:
    """Write ``eval.json`` and ``eval.html``; each replaces an earlier one as a whole.

    Both are finished before either is replaced.

    Args:
        judgement: numbers and points.
        folder: made if it does not exist.

    Returns:
        Paths of the numbers and of the page.

    Raises:
        DataError: the folder cannot be written to.
    """
    result = judgement.result
    contents = {
        JSON_NAME: json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        PAGE_NAME: build_page(f"mlepi eval: {result['checkpoint']}", _format_body(judgement)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = {name: folder / f".{name}.{os.getpid()}.unfinished" for name in contents}
        try:
            for name, text in contents.items():
                unfinished[name].write_text(text, encoding="utf-8")
            for name, path in unfinished.items():
                path.replace(folder / name)
        finally:
            for path in unfinished.values():
                path.unlink(missing_ok=True)
    except OSError as error:
        fix = "Choose another folder with --output."
        raise DataError(message(str(folder), str(error.strerror), "a folder", fix)) from error
    return folder / JSON_NAME, folder / PAGE_NAME


def _format_body(judgement: Judgement) -> Iterator[str]:
    result = judgement.result
    yield f"<h1>{result['checkpoint']} on {result['data']['path']}</h1>"
    for note in result["notes"]:
        yield format_warning(note)
    for section in list_sections(result):
        yield from format_section(section)
    yield "<h2>Figures</h2>"
    yield from _format_figures(result, judgement.points)
    yield "<h2>Provenance</h2>"
    yield format_details(f"commit {result['provenance']['commit']}", result["provenance"])


def list_sections(result: Mapping[str, Any]) -> list[Section]:
    """Return the parts of the page with their tables."""
    subsets, sizes = (summary_rows(result, title) for title in ("subsets", "sizes"))
    sections = [
        Section("By subset", [Paragraph(MEANING[result["kind"]]), Table(subsets[0], subsets[1:])]),
        Section("By size of the cell", [Table(sizes[0], sizes[1:])]),
    ]
    first = next(iter(result["subsets"]))
    words = f"Gauge-free errors of the structures of {first}."
    if result.get("distances"):
        sections.append(Section("By distance", [Paragraph(words), distance_table(result)]))
    if result.get("shells"):
        sections.append(Section("By pair of shells", [Paragraph(words), shell_table(result)]))
    outliers = outlier_table(result)
    none = Paragraph("No structure has errors that stand out (modified z-score above 3.5).")
    blocks = [outliers if outliers.rows else none, structure_table(result)]
    sections.append(Section("By structure", blocks))
    sections.append(Section("All metrics", [full_table(result)]))
    return sections


def _format_figures(result: Mapping[str, Any], points: Mapping[str, Points]) -> Iterator[str]:
    for name, figure, caption in draw_all(result, points):
        stream = io.BytesIO()
        with house_style():
            figure.savefig(stream, format="png", dpi=150)
        yield format_image(stream.getvalue(), name, caption)
