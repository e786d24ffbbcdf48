"""Figure of a comparison of inferences: quantities against what was swept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlepi.figures import COLUMN, house_style, new_figure, temperature_colours
from mlepi.report.answers import Answer
from mlepi.report.compare import ComparedRun, name_quantity
from mlepi.report.training_figures import MARKERS, MOST_PANELS, find_number

Swept = Sequence[tuple[Mapping[str, str], ComparedRun]]
"""What is swept of every run, and the run."""

MOST_LABELS = 8
"""Lines of a panel that are named."""


def plot_inferences(runs: Swept) -> Figure | None:
    """Draw the headlines of all runs with their total errors, a panel each.

    Against the one number that was swept, if there is one, and else run beside run. Colours are
    temperatures, unless every run has one alone.

    Args:
        runs: of a sweep.

    Returns:
        None where no run has a headline.
    """
    names = list(dict.fromkeys(name_quantity(a) for _, run in runs for a in run.answers))
    if not names:
        return None
    key = find_number([settings for settings, _ in runs])
    shown = names[:MOST_PANELS]
    with house_style():
        figure = new_figure(COLUMN * (0.4 + len(shown)), COLUMN)
        for axes, name in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
            _draw_quantity(axes, name, runs, key)
    return figure


def _draw_quantity(axes: Axes, name: str, runs: Swept, key: str | None) -> None:
    """Draw one quantity: points of one line differ in what is on the axis alone."""
    lines: dict[tuple[float | None, str], list[tuple[float, float, float]]] = {}
    found = [[a for a in run.answers if name_quantity(a) == name] for _, run in runs]
    together = any(len(answer.temperatures) > 1 for each in found for answer in each)
    kelvin = sorted({float(t) for each in found for a in each for t in a.temperatures})
    for place, ((settings, _), answers) in enumerate(zip(runs, found, strict=True)):
        if key is not None and key not in settings:
            continue
        for answer in answers:
            x = float(place) if key is None else float(settings[key])
            rest = ", ".join(v for other, v in settings.items() if key and other != key)
            for temperature, value, error in _numbers(answer):
                line = (temperature if together else None, rest)
                lines.setdefault(line, []).append((x, value, error))
    colours = dict(zip(kelvin, temperature_colours(np.array(kelvin)), strict=True))
    rests = list(dict.fromkeys(rest for _, rest in lines))
    for number, ((at, rest), points) in enumerate(lines.items()):
        plain, marker = MARKERS[rests.index(rest) % len(MARKERS)]
        colour = plain if at is None else colours[at]
        label = ", ".join(text for text in (_kelvin(at), rest) if text)
        x, y, error = np.array(sorted(points)).T
        style = "none" if key is None else "-"
        shown = label if label and number < MOST_LABELS else None
        axes.errorbar(x, y, error, color=colour, marker=marker, linestyle=style, label=shown)
    if key is None:
        names = [run.name for _, run in runs]
        axes.set_xticks(range(len(runs)), names, rotation=30, ha="right", rotation_mode="anchor")
        axes.margins(x=0.2)
    axes.set_xlabel(key or "")
    axes.set_ylabel(name)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()


def _kelvin(temperature: float | None) -> str:
    return "" if temperature is None else f"{temperature:g} K"


def _numbers(answer: Answer) -> list[tuple[float, float, float]]:
    """Return temperature, value and total error (0 where none was measured) of what is known."""
    totals = answer.budget.total()
    return [
        (float(t), float(value), float(error) if np.isfinite(error) else 0.0)
        for t, value, error in zip(answer.temperatures, answer.values, totals, strict=True)
        if np.isfinite(value)
    ]
