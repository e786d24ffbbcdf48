"""All estimates of v_F of a run in one figure: by estimator, model, window and temperature."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlepi.figures import BLUE, GREEN, GREY, RED, Records
from mlepi.figures.numbers import plain_numbers
from mlepi.figures.panels import Choice, Panel, build_plot
from mlepi.observables.near_k.record import Estimate, VelocityAverage
from mlepi.observables.near_k.velocity_tables import list_estimates
from mlepi.observables.near_k.window_models import MODELS, ModelEstimates, compare_models
from mlepi.results.quantities import half_interval

STYLES = {
    "spectral peak": (BLUE, "circle"),
    "self-energy": ("#8b5fbf", "diamond"),
    "velocity operator": (GREEN, "triangle-up"),
    "sorted average": (RED, "square"),
}
"""Colour and symbol of every estimator."""

RATIO = "v / undisplaced"


def describe_window(record: VelocityAverage) -> str:
    """Say what a velocity of a record depends on."""
    low, high = record.velocity_window
    return f"mean slope of the low bands at |k − K| = {low:g}–{high:g} Å⁻¹"


def build_estimates(records: Records) -> Panel:
    """Return velocities over those at rest, against temperature and against the window.

    Buttons choose the model of the bands, the window of the first panel, and the temperature of the
    second; bars are half the 68 % intervals.

    Args:
        records: of the run; one of them has estimates.
    """
    traces: list[dict[str, Any]] = []
    windows: dict[str, None] = {}
    models: dict[str, None] = {}
    temperatures: dict[str, None] = {}
    for estimate in list_estimates(records):
        found = compare_models(estimate)
        bars = half_interval(found, "ratio_errors", around=estimate.velocity)
        names = [f"{low:g}–{high:g}" for low, high in found.windows]
        kelvin = [f"{t:g} K" for t in estimate.record.temperatures]
        for model, title in enumerate(MODELS):
            known = np.isfinite(found.ratios[:, model])
            if not known.any():
                continue
            models[title] = None
            for window, name in enumerate(names):
                if known[window].any():
                    windows[name] = None
                    traces.append(_against_temperature(estimate, found, bars, window, model, name))
            for place in reversed(range(len(kelvin))):
                temperatures[kelvin[place]] = None
                traces.append(_against_window(estimate, found, bars, place, model, names))
    return build_plot(
        traces,
        (("temperature (K)", RATIO), ("window |k − K| (Å⁻¹)", "")),
        (
            Choice("model", tuple(models)),
            Choice("window", tuple(windows)),
            Choice("temperature", tuple(temperatures)),
        ),
        {"xaxis2": {"type": "category", "categoryarray": sorted(windows, key=_lowest)}},
        note="Right: the same by the window of the fit; open symbols: windows that begin inside "
        "the parabolic core, where a slope tells v²/γ₁. Bars: 68 % intervals.",
    )


def _lowest(window: str) -> tuple[float, ...]:
    return tuple(float(end) for end in window.split("–"))


def _style(estimate: Estimate) -> dict[str, Any]:
    colour, symbol = STYLES.get(estimate.name, (GREY, "circle"))
    return {
        "name": estimate.name,
        "legendgroup": estimate.name,
        "marker": {"color": colour, "symbol": symbol, "size": 8},
        "line": {"color": colour, "width": 1.5},
    }


def _bars(errors: Any, colour: str) -> dict[str, Any]:
    return {"type": "data", "array": plain_numbers(errors), "color": colour, "thickness": 1.3}


def _against_temperature(
    estimate: Estimate, found: ModelEstimates, bars: Any, window: int, model: int, name: str
) -> dict[str, Any]:
    style = _style(estimate)
    return {
        **style,
        "mode": "lines+markers",
        "x": plain_numbers(np.asarray(estimate.record.temperatures)),
        "y": plain_numbers(found.ratios[window, model]),
        "error_y": _bars(bars[window, model], style["line"]["color"]),
        "choose": {"model": MODELS[model], "window": name},
    }


def _against_window(
    estimate: Estimate,
    found: ModelEstimates,
    bars: Any,
    place: int,
    model: int,
    names: list[str],
) -> dict[str, Any]:
    style = _style(estimate)
    symbol = style["marker"]["symbol"]
    symbols = [symbol if outside else f"{symbol}-open" for outside in found.outside_core]
    kelvin = f"{estimate.record.temperatures[place]:g} K"
    return {
        **style,
        "marker": {**style["marker"], "symbol": symbols},
        "panel": 1,
        "mode": "markers",
        "x": names,
        "y": plain_numbers(found.ratios[:, model, place]),
        "error_y": _bars(bars[:, model, place], style["line"]["color"]),
        "choose": {"model": MODELS[model], "temperature": kelvin},
    }
