"""When a study stops, and how many labels it would need."""

import math

import numpy as np
import pytest

from mlepi.errors import ConfigError, PhysicsError
from mlepi.physics.averages.error_budget import ErrorBudget
from mlepi.study import Round, decide, forecast_labels


def rounds(errors, sampling=0.0, labels=None, hours_per_label=0.5):
    """Rounds with given errors of the networks, each with twice the labels of the one before."""
    numbers = labels or [20 * 2**k for k in range(len(errors))]
    return [
        Round(n, {"network": e, "statistical": sampling}, hours_per_label * n)
        for n, e in zip(numbers, errors, strict=True)
    ]


def test_parts_add_in_squares():
    one = Round(10, {"network": 3.0, "statistical": 4.0}, 0.0)
    assert (one.error, one.rest) == (5.0, 4.0)


def test_a_power_law_is_found_and_followed():
    """Errors 8, 4 at 20 and 40 labels fall as 1/n: 1 is reached at 160, with 0.5 h each."""
    forecast = forecast_labels(rounds([8.0, 4.0]), 1.0)
    assert forecast.power == pytest.approx(1.0)
    assert forecast.n_labels == pytest.approx(160.0)
    assert forecast.hours == pytest.approx(80.0)
    with_noise = forecast_labels(rounds([8.0, 4.0], sampling=0.6), 1.0)
    assert with_noise.n_labels == pytest.approx(160.0 / 0.8)
    assert forecast_labels(rounds([8.0]), 1.0) is None
    assert forecast_labels(rounds([4.0, 8.0]), 1.0).n_labels == math.inf
    assert forecast_labels(rounds([8.0, 4.0], sampling=2.0), 1.0).hours == math.inf
    assert forecast_labels(rounds([8.0, 8.0 - 1e-12]), 1e-12).n_labels == math.inf


@pytest.mark.parametrize(
    ("given", "options", "action", "words"),
    [
        (rounds([8.0, 4.0]), {}, "label", "about 160 needed"),
        (rounds([8.0, 0.7], sampling=0.7), {}, "reached", "error 0.99 of 1"),
        (rounds([8.0, 4.0]), {"max_hours": 20.0}, "spent", "20 hours spent"),
        (rounds([8.0, 4.0]), {"max_hours": 20.5}, "label", "network 4"),
        (rounds([8.0, 0.1], sampling=1.2), {}, "elsewhere", "lower that of statistical first"),
        (rounds([4.0, 4.0, 4.1, 4.2]), {}, "flat", "no better in 3 rounds"),
        (rounds([4.0, 4.0, 4.1]), {}, "label", "80 labels"),
        (rounds([4.0, 4.1]), {"patience": 1}, "flat", "no better in 1 rounds"),
    ],
)
def test_the_rule(given, options, action, words):
    decision = decide(given, 1.0, **options)
    assert decision.action == action
    assert words in decision.reason
    assert decision.stop == (action != "label")


def test_a_target_that_is_reached_stops_even_when_the_hours_are_spent():
    assert decide(rounds([8.0, 0.5]), 1.0, max_hours=1.0).action == "reached"


def test_parts_are_those_of_an_error_budget_that_are_measured():
    values = np.zeros(2)
    network = {"network": np.array([0.3, 0.1]), "cell": np.array([np.nan, np.nan])}
    budget = ErrorBudget(values, np.array([0.4, 0.2]), 1e9, network)
    one = Round.of(30, budget, 2.0, (0,))
    assert one.parts == pytest.approx({"statistical": 0.4, "network": 0.3}, rel=1e-6)
    assert one.error == pytest.approx(float(budget.total()[0]))
    with pytest.raises(PhysicsError, match="expected that of the networks"):
        decide([Round.of(30, ErrorBudget(values, values, 9.0), 2.0, (0,))], 1.0)


def test_nothing_to_decide_is_told():
    with pytest.raises(ConfigError, match="0 rounds"):
        decide([], 1.0)
    with pytest.raises(ConfigError, match="target_error=0"):
        decide(rounds([1.0]), 0.0)
