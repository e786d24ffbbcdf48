"""When there are enough labels: the error budget of the target, round by round.

The parts of the budget are independent, so that they add in squares. Labels lower that of the
networks alone; it is taken to fall as a power of their number, which the rounds so far tell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.physics.averages.error_budget import NETWORK, STATISTICAL, SYSTEMATIC, ErrorBudget

REACHED, SPENT, FLAT, ELSEWHERE, GO_ON = "reached", "spent", "flat", "elsewhere", "label"
"""Why a study stops: the error is small enough, the hours are spent, labels do not help any more,
or another part of the error is too large by itself; or that it goes on with labels."""
PATIENCE = 3
"""Rounds in which the error of the networks must fall."""
MANY = 1e9
"""Labels that nobody makes."""


@dataclass(frozen=True)
class Round:
    """One round of a study.

    Attributes:
        n_labels: that the networks were trained on.
        parts: that are measured of the error budget, that of the networks above all → half width
            of the 68 % interval, in the unit of the target.
        hours: spent so far.
    """

    n_labels: int
    parts: Mapping[str, float]
    hours: float

    @classmethod
    def of(
        cls, n_labels: int, budget: ErrorBudget, hours: float, index: tuple[int, ...] = ()
    ) -> Round:
        """Take the parts of an error budget that are measured.

        Args:
            n_labels: that the networks were trained on.
            budget: of the target.
            hours: spent so far.
            index: of the value, such as one temperature.
        """
        found = {name: float(budget.part(name)[index]) for name in (STATISTICAL, *SYSTEMATIC)}
        measured = {name: part for name, part in found.items() if math.isfinite(part)}
        return cls(n_labels, measured, hours)

    @property
    def error(self) -> float:
        """Half width of all parts together."""
        return math.sqrt(sum(part**2 for part in self.parts.values()))

    @property
    def rest(self) -> float:
        """What is left without the error of the networks."""
        return math.sqrt(sum(part**2 for name, part in self.parts.items() if name != NETWORK))


@dataclass(frozen=True)
class Forecast:
    """How many labels the target needs.

    Attributes:
        n_labels: in all; infinite where they cannot help.
        power: p of the error of the networks, ∝ n^−p.
        hours: in all, at what a label has cost so far; NaN where that is not known.
    """

    n_labels: float
    power: float
    hours: float


@dataclass(frozen=True)
class Decision:
    """What is to be done next.

    Attributes:
        action: "label" to go on, or why to stop: "reached", "spent", "flat" or "elsewhere".
        reason: in words, with the numbers.
        forecast: of the labels that are needed; None before two rounds.
    """

    action: str
    reason: str
    forecast: Forecast | None

    @property
    def stop(self) -> bool:
        """Whether the study ends."""
        return self.action != GO_ON


def forecast_labels(rounds: Sequence[Round], target_error: float) -> Forecast | None:
    """Say how many labels bring the whole error to what is wanted, at the trend so far.

    Args:
        rounds: in order.
        target_error: half width that is wanted, in the unit of the target.

    Returns:
        None where fewer than two numbers of labels, or no error of the networks, are known.
    """
    known = [one for one in rounds if one.parts.get(NETWORK, 0.0) > 0.0 and one.n_labels > 0]
    if len({one.n_labels for one in known}) < 2:
        return None
    labels = np.log([one.n_labels for one in known])
    errors = np.log([one.parts[NETWORK] for one in known])
    slope, height = np.polyfit(labels, errors, 1)
    power, last = -float(slope), known[-1]
    allowed = target_error**2 - last.rest**2
    if allowed <= 0.0 or power <= 0.0:
        return Forecast(math.inf, power, math.inf)
    exponent = (float(height) - 0.5 * math.log(allowed)) / power
    if exponent > math.log(MANY):
        return Forecast(math.inf, power, math.inf)
    needed = math.exp(exponent)
    first = known[0]
    added = last.n_labels - first.n_labels
    rate = (last.hours - first.hours) / added if added > 0 else math.nan
    return Forecast(needed, power, last.hours + rate * max(0.0, needed - last.n_labels))


def decide(
    rounds: Sequence[Round],
    target_error: float,
    *,
    max_hours: float | None = None,
    patience: int = PATIENCE,
) -> Decision:
    """Decide whether a study needs further labels.

    Args:
        rounds: in order, one at least.
        target_error: half width of the 68 % interval that is wanted, in the unit of the target.
        max_hours: that may be spent; None for no bound.
        patience: rounds after which labels that did not lower the error of the networks stop it.

    Raises:
        ConfigError: there are no rounds, or the wanted error is not positive.
        PhysicsError: the error of the networks was not measured.
    """
    if not rounds or not target_error > 0.0:
        got, fix = f"{len(rounds)} rounds, target_error={target_error:g}", "Set target_error."
        raise ConfigError(message("target_error", got, "a round, and an error above 0", fix))
    last, forecast = rounds[-1], forecast_labels(rounds, target_error)
    if NETWORK not in last.parts:
        got, fix = f"the parts {sorted(last.parts)}", "Train two networks or more."
        raise PhysicsError(message("error budget", got, "that of the networks", fix))
    parts = ", ".join(f"{name} {part:.3g}" for name, part in last.parts.items())
    told = f"error {last.error:.3g} of {target_error:.3g} ({parts}) with {last.n_labels} labels"
    if last.error <= target_error:
        return Decision(REACHED, told, forecast)
    if max_hours is not None and last.hours >= max_hours:
        return Decision(SPENT, f"{told}; {last.hours:.3g} hours spent", forecast)
    if last.rest > target_error:
        others = {name: part for name, part in last.parts.items() if name != NETWORK}
        largest = max(others, key=lambda name: others[name])
        return Decision(ELSEWHERE, f"{told}; lower that of {largest} first", forecast)
    errors = [one.parts.get(NETWORK, 0.0) for one in rounds]
    if len(errors) > patience and min(errors[-patience:]) >= errors[-patience - 1]:
        return Decision(FLAT, f"{told}; no better in {patience} rounds", forecast)
    if forecast is not None and math.isfinite(forecast.n_labels):
        told += f"; about {forecast.n_labels:.0f} needed"
    return Decision(GO_ON, told, forecast)
