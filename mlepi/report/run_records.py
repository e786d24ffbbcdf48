"""The records of a run folder in the order of its stages, and the figures that they draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlepi.doubts import REMARKS, Doubt, join_doubts
from mlepi.errors import DataError, message
from mlepi.figures import Comparison, Drawing, Presentation, Section
from mlepi.figures.presentation import Tab
from mlepi.physics.averages.error_budget import ErrorPart
from mlepi.pipeline.discovery import Stages, order_stages
from mlepi.pipeline.ghosts import GhostSummary
from mlepi.pipeline.precision import Precision
from mlepi.pipeline.sampled_stage import averages
from mlepi.report.error_budgets import budget_section
from mlepi.results import ResultsStore

FIGURES_FOLDER = "figures"


def read_records(store: ResultsStore, stages: Stages) -> dict[str, Any]:
    """Read every record that a stage of today can read.

    Args:
        store: of the run.
        stages: all that there are.

    Returns:
        Stage → record, in the order in which the stages run.

    Raises:
        DataError: the folder holds no records, or they are damaged.
    """
    present = [name for name in stages if name in store.stages()]
    if not present:
        where = str(store.folder)
        raise DataError(message(where, "no records", "the folder of a run", "Run infer.py first."))
    ordered = [name for name in order_stages(present, stages) if name in present]
    return {name: store.read(name, stages[name].record) for name in ordered}


def list_presentations(
    records: dict[str, Any], stages: Stages
) -> Iterator[tuple[str, Presentation]]:
    """Yield what every stage of a run shows."""
    for name in records:
        yield name, stages[name].presentation()


def list_figures(records: dict[str, Any], stages: Stages) -> list[tuple[str, Drawing | Comparison]]:
    """Return stage and drawing of every figure of a run; comparisons of records come last."""
    shown = list(list_presentations(records, stages))
    own = [(name, each) for name, presentation in shown for each in presentation.drawings]
    return own + [
        (name, each)
        for name, presentation in shown
        for each in presentation.comparisons
        if each.possible(records)
    ]


def list_sections(records: dict[str, Any], stages: Stages) -> list[Section]:
    """Return the sections of a run; one that several stages name comes once, the budget last."""
    return [section for _, section in list_tabbed_sections(records, stages)]


def list_tabbed_sections(records: dict[str, Any], stages: Stages) -> list[tuple[Tab, Section]]:
    """Return the sections as ``list_sections``, each with the part of the report it stands in."""
    makers: dict[Any, Tab] = {}
    for _, presentation in list_presentations(records, stages):
        for make in presentation.sections:
            makers.setdefault(make, presentation.tab)
    found: list[tuple[Tab, Section | None]] = [(tab, make(records)) for make, tab in makers.items()]
    found.append(("errors", budget_section(records, list_error_parts(records, stages))))
    return [(section.tab or tab, section) for tab, section in found if section is not None]


def list_error_parts(records: dict[str, Any], stages: Stages) -> list[ErrorPart]:
    """Return what the stages of a run have measured of systematic errors."""
    return [
        part
        for _, presentation in list_presentations(records, stages)
        for find in presentation.error_parts
        for part in find(records)
    ]


def list_doubts(
    records: dict[str, Any], stages: Stages, store: ResultsStore | None = None
) -> list[Doubt]:
    """Say in words what a reader of the numbers must know, one text per reason for caution.

    What holds for several stages is said once, with their names in front.

    Args:
        records: of the run.
        stages: all that there are.
        store: of the run; with it, samples that were left out are told too.
    """
    return join_doubts(name_doubts(records, stages, store))


def name_doubts(
    records: dict[str, Any], stages: Stages, store: ResultsStore | None = None
) -> list[tuple[str, Doubt]]:
    """Return the stages, in words, and their doubts; arguments as those of ``list_doubts``."""
    named: list[tuple[str, Doubt]] = []
    for name, record in records.items():
        texts = list(stages[name].doubts(record))
        if store is not None:
            found = find_ghosts(name, stages, store)
            texts += [] if found is None else found.doubts()
            texts += [Doubt.from_dict(x) for x in store.provenance(name).get(REMARKS, ())]
        named += [(name.replace("_", " "), Doubt.of(text)) for text in texts]
    return named


def find_ghosts(name: str, stages: Stages, store: ResultsStore) -> GhostSummary | None:
    """Return the ghost states of the samples that an average rests on, None where unknown."""
    if not averages(stages[name]):
        return None
    return GhostSummary.from_provenance(store.provenance(name))


def list_ghosts(
    records: dict[str, Any], stages: Stages, store: ResultsStore
) -> list[tuple[str, str]]:
    """Return a line per different set of samples: which stages, and their ghost states."""
    lines: dict[str, list[str]] = {}
    for name in records:
        found = find_ghosts(name, stages, store)
        if found is not None:
            lines.setdefault(found.describe(), []).append(name.replace("_", " "))
    return [(f"ghost states: {', '.join(names)}", text) for text, names in lines.items()]


def list_precisions(records: dict[str, Any], store: ResultsStore) -> list[tuple[str, str]]:
    """Return a line per error bar that a run was asked for: target, reached error and samples."""
    found = (Precision.from_provenance(store.provenance(name)) for name in records)
    return [row for precision in found if precision is not None for row in precision.rows()]
