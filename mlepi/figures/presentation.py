"""What a stage shows of its record: drawings, facts, and sections of text and tables.

The module ``figure`` beside a stage's own holds one ``Presentation``; report and command line ask
for it. Everything comes from records, so that a run opened in a year shows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlepi.physics.averages.error_budget import ErrorPart

if TYPE_CHECKING:
    from ase import Atoms
    from matplotlib.figure import Figure

    from mlepi.figures.panels import Panel

Tab = Literal["phonons", "electrons", "estimates", "errors", "trust"]
"""Parts of the report that stages contribute to."""

Records = Mapping[str, Any]
"""Stage → record, as many as a run has."""

Fact = tuple[str, str]
"""Quantity and value, in words."""


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: of its files.
        plot: draws it from the record of the stage.
        caption: what is to be seen, one sentence.
        tab: part of the report; None for that of the stage.
        interactive: builds what the report shows in its place, from the records of the run; without
            it the figure itself is shown there, as far as it can be converted.
    """

    name: str
    plot: Callable[[Any], Figure]
    caption: str
    tab: Tab | None = None
    interactive: Callable[[Records], Panel] | None = None


@dataclass(frozen=True)
class Comparison:
    """One figure of the records of several stages.

    Attributes:
        name: of its files.
        plot: draws it from the records of the run.
        caption: what is to be seen, one sentence.
        possible: whether the records of a run allow it.
        tab: part of the report; None for that of the stage.
        interactive: as of ``Drawing``.
    """

    name: str
    plot: Callable[[Records], Figure]
    caption: str
    possible: Callable[[Records], bool]
    tab: Tab | None = None
    interactive: Callable[[Records], Panel] | None = None


@dataclass(frozen=True)
class Paragraph:
    """Running text, with a heading of its own where it begins a part.

    Attributes:
        text: without markup.
        heading: empty for none.
    """

    text: str
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes:
        header: names of the columns.
        rows: as many cells each.
        title: of the table on a screen, where it stands alone; empty keeps it in the report.
        screen_columns: numbers of the columns that fit on a screen; None takes all.
        screen_rows: numbers of the rows that are shown on a screen; None takes all.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    screen_columns: Sequence[int] | None = None
    screen_rows: Sequence[int] | None = None


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: heading.
        blocks: paragraphs and tables in their order.
        tab: part of the report; None for that of the stage that names it first.
    """

    title: str
    blocks: Sequence[Paragraph | Table]
    tab: Tab | None = None


@dataclass(frozen=True)
class Headline:
    """The quantity of a stage that a reader asks for first.

    Its values, errors and their parts are those of the error budget.

    Attributes:
        quantity: path of its field in the record, such as "spectral/slopes".
        name: in words, as a sentence has it.
        at_rest: value of the undisplaced structure, from the record; None without one.
        scale: factor from the unit of the record to ``unit``.
        unit: in which it is told; empty for that of the record.
        component: of the last axis, where there is one.
        detail: what the number depends on, from the record; a few words.
        same_as: stage and path of another estimate of the same quantity, of which it has the
            systematic errors, the number of the undisplaced structure and what it depends on; empty
            for none.
    """

    quantity: str
    name: str
    at_rest: Callable[[Any], float] | None = None
    scale: float = 1.0
    unit: str = ""
    component: int = 0
    detail: Callable[[Any], str] | None = None
    same_as: str = ""


@dataclass(frozen=True)
class Presentation:
    """All that a stage shows.

    Attributes:
        drawings: figures of its record.
        facts: rows of the table of facts, from its record.
        sections: parts of the report from the records of the run, None where there is nothing to
            say; a part that several stages name is shown once.
        comparisons: figures of the records of several stages.
        error_parts: what the record of the stage says of systematic errors, of quantities of any
            stage, from the records of the run; rows of the error budget, whose statistical part is
            found without a word (``mlepi.results.quantities``).
        headlines: quantities for the first screen, the most wanted first.
        atoms: structure for the first screen, from its record.
        tab: part of the report where all this stands, unless it says otherwise.
    """

    drawings: Sequence[Drawing] = ()
    facts: Callable[[Any], Sequence[Fact]] | None = None
    sections: Sequence[Callable[[Records], Section | None]] = ()
    comparisons: Sequence[Comparison] = field(default=())
    error_parts: Sequence[Callable[[Records], Iterable[ErrorPart]]] = ()
    headlines: Sequence[Headline] = ()
    atoms: Callable[[Any], Atoms] | None = None
    tab: Tab = "electrons"
