"""The answer of a run: the quantities that readers ask for, with number, sentence and figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.figures import BLUE, GREY, RED, Headline
from mlepi.figures.numbers import plain_numbers
from mlepi.figures.panels import Panel, build_plot
from mlepi.figures.plotly_labels import plain_label
from mlepi.physics.averages.error_budget import STATISTICAL, SYSTEMATIC, ErrorBudget, ErrorPart
from mlepi.pipeline.companion_stage import CompanionStage
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.stage import Stage
from mlepi.report.error_budgets import collect_budgets, write_size, write_value

PART_NAMES = {STATISTICAL: "samples", "harmonic/static": "phonon energies"}
"""Parts of an error in the words of the first screen; the others keep their names."""


LARGE_CHANGE = 2.0
"""A change by more than this times the value at rest is not told in per cent."""


def unit_after(unit: str) -> str:
    """Write a unit behind a number, with a times sign before a power of ten."""
    if unit in ("", "1"):
        return ""
    return f" × {unit}" if unit.startswith("10") else f" {unit}"


@dataclass(frozen=True)
class Answer:
    """One quantity against temperature.

    Attributes:
        stage: whose record holds it.
        headline: what it is.
        temperatures: (n_temperatures,), K.
        values: (n_temperatures,), in ``unit``.
        budget: of these values.
        at_rest: of the undisplaced structure; None where nobody says.
        unit: of the values.
        detail: what they depend on; may be empty.
    """

    stage: str
    headline: Headline
    temperatures: NDArray[np.float64]
    budget: ErrorBudget
    at_rest: float | None
    unit: str
    detail: str

    @property
    def values(self) -> NDArray[np.float64]:
        """(n_temperatures,), in ``unit``."""
        return self.budget.values

    @property
    def last(self) -> int:
        """Return the place of the highest temperature with a value."""
        known = np.where(np.isfinite(self.values), self.temperatures, -np.inf)
        return int(np.argmax(known))

    def number(self, place: int | None = None) -> str:
        """Write the value with its total error at one temperature, the highest by default."""
        place = self.last if place is None else place
        value, error = float(self.values[place]), float(self.budget.total()[place])
        told = write_value(value, error)
        return f"{told} ± {write_size(error)}" if np.isfinite(error) else told

    def condition(self) -> str:
        """Say where the number was taken."""
        return f"{self.temperatures[self.last]:g} K"

    def change(self, place: int) -> str:
        """Write the change from the structure at rest in per cent; empty where it says nothing."""
        if self.at_rest is None or not self.at_rest:
            return ""
        change = float(self.values[place] / self.at_rest - 1.0)
        if not (np.isfinite(change) and abs(change) < LARGE_CHANGE):
            return ""
        return f"{100.0 * change:+.1f} %".replace("-", "−")

    def sentence(self) -> str:
        """Say the answer, how far it is from the structure at rest, and what no error bar holds."""
        name = self.headline.name
        unit = unit_after(self.unit)
        detail = f" ({self.detail})" if self.detail else ""
        said = f"{name[:1].upper()}{name[1:]}{detail} at {self.condition()}: {self.number()}{unit}"
        if self.at_rest is not None and np.isfinite(self.at_rest):
            said += f", against {self.at_rest:.4g}{unit} of the undisplaced structure"
            change = self.change(self.last)
            said += f" ({change})" if change else ""
        missing = [PART_NAMES.get(part, part) for part in self.budget.missing((self.last,))]
        if len(missing) == 1 + len(SYSTEMATIC):
            return f"{said}. No part of its error was measured."
        left_out = f", without what was not measured: {', '.join(missing)}" if missing else ""
        return f"{said}. The error is the 68 % interval{left_out}."


def find_answers(
    records: Mapping[str, Any], stages: Stages, parts: Sequence[ErrorPart], target: str = ""
) -> list[Answer]:
    """Return the headlines of a run, in the order in which stages are listed.

    Args:
        records: stage → record.
        stages: all that there are.
        parts: systematic errors that stages have measured.
        target: name of the error bar that the run was asked for; its stage comes first.
    """
    budgets = collect_budgets(records, parts)
    names = [name for name in stages if name in records]
    names.sort(key=lambda name: _precedence(stages[name], target))
    found: list[Answer] = []
    for name in names:
        for headline in stages[name].presentation().headlines:
            found += _read(name, records[name], headline, budgets)
    known = {f"{answer.stage}/{answer.headline.quantity}": answer for answer in found}
    return [_share(answer, known.get(answer.headline.same_as)) for answer in found]


def _share(answer: Answer, other: Answer | None) -> Answer:
    """Return an answer with what it shares with another estimate of the same quantity."""
    if other is None:
        return answer
    systematic = {part: other.budget.part(part) for part in SYSTEMATIC}
    budget = replace(answer.budget, systematic=systematic)
    return replace(answer, budget=budget, at_rest=other.at_rest, detail=other.detail)


def _read(
    stage: str, record: Any, headline: Headline, budgets: Mapping[str, Sequence[Any]]
) -> Iterator[Answer]:
    for quantity, budget in budgets.get(stage, ()):
        if quantity.path != headline.quantity or not np.isfinite(quantity.values).any():
            continue

        def take(values: Any) -> NDArray[np.float64]:
            array = headline.scale * np.asarray(values, dtype=np.float64)
            return array if array.ndim == 1 else array[..., headline.component]

        yield Answer(
            stage=stage,
            headline=headline,
            temperatures=np.asarray(quantity.temperatures),
            budget=ErrorBudget(
                take(budget.values),
                take(budget.errors),
                budget.degrees_of_freedom,
                {part: take(budget.part(part)) for part in SYSTEMATIC},
            ),
            at_rest=None if headline.at_rest is None else headline.scale * headline.at_rest(record),
            unit=headline.unit or quantity.unit,
            detail=headline.detail(record) if headline.detail is not None else "",
        )


def _precedence(stage: type[Stage], target: str) -> tuple[bool, bool]:
    """Put the stages of the target first, and of them one that corrects another."""
    return target not in getattr(stage, "targets", ()), not issubclass(stage, CompanionStage)


def draw_answer(answer: Answer) -> Panel:
    """Return the quantity against temperature beside the parts of its error at the highest one."""
    unit = "" if answer.unit == "1" else f" ({answer.unit})"
    total, statistical = answer.budget.total(), answer.budget.statistical()
    traces: list[dict[str, Any]] = []
    temperatures = plain_numbers(answer.temperatures)
    if answer.at_rest is not None:
        ends = [float(answer.temperatures.min()), float(answer.temperatures.max())]
        if ends[0] == ends[1]:
            ends = [ends[0] - 10.0, ends[1] + 10.0]
        traces.append(
            {
                "x": ends,
                "y": [answer.at_rest] * 2,
                "mode": "lines",
                "name": "undisplaced",
                "legendgroup": "undisplaced",
                "line": {"color": GREY, "dash": "dash", "width": 1.6},
            }
        )
    for name, errors, width, marked in (
        ("total error", total, 1.6, False),
        ("samples alone", statistical, 5.0, True),
    ):
        traces.append(
            {
                "x": temperatures,
                "y": plain_numbers(answer.values),
                "mode": "lines+markers" if marked else "markers",
                "name": name,
                "legendgroup": name,
                "line": {"color": BLUE, "width": 1.8},
                "marker": {"color": BLUE, "size": 9 if marked else 2},
                "error_y": {
                    "type": "data",
                    "array": plain_numbers(errors),
                    "color": BLUE,
                    "thickness": width,
                    "width": 0 if marked else 5,
                },
            }
        )
    traces.append(_draw_budget(answer))
    name = answer.headline.name
    return build_plot(
        traces,
        (("temperature (K)", f"{name}{unit}"), (f"error at {answer.condition()}{unit}", "")),
        layout={
            "yaxis2": {"automargin": True, "showgrid": False, "ticks": ""},
            "xaxis2": {"rangemode": "tozero", "nticks": 4},
            "annotations": _missing_marks(answer),
        },
        widths=(2.3, 1.0),
        gap=128,
    )


def _draw_budget(answer: Answer) -> dict[str, Any]:
    sizes = _sizes(answer)
    return {
        "panel": 1,
        "type": "bar",
        "orientation": "h",
        "x": list(sizes.values()),
        "y": list(sizes),
        "width": 0.55,
        "marker": {"color": [GREY if name == "total" else RED for name in sizes]},
        "hovertemplate": "%{y}: %{x:.2g}<extra></extra>",
    }


def _sizes(answer: Answer) -> dict[str, float | None]:
    """Return part → size at the highest temperature, the total first since it is drawn lowest."""
    parts = {"total": answer.budget.total()} | {
        PART_NAMES.get(part, part): answer.budget.part(part)
        for part in (*reversed(SYSTEMATIC), STATISTICAL)
    }
    sizes = {name: float(values[answer.last]) for name, values in parts.items()}
    return {name: size if np.isfinite(size) else None for name, size in sizes.items()}


def _missing_marks(answer: Answer) -> list[dict[str, Any]]:
    return [
        {
            "text": "not measured",
            "x": 0.0,
            "xref": "x2 domain",
            "y": plain_label(name),
            "yref": "y2",
            "xanchor": "left",
            "xshift": 4,
            "showarrow": False,
        }
        for name, size in _sizes(answer).items()
        if size is None
    ]
