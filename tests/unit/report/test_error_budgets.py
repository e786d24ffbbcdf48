"""Budgets join what records declare with what stages measured."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.error_budget import CELL, NETWORK, STATIC, ErrorPart
from mlepi.physics.averages.intervals import quantile
from mlepi.report.error_budgets import HEADER, NOT_MEASURED, budget_section, collect_budgets
from mlepi.results import unit


@dataclass(frozen=True)
class Record:
    temperatures: NDArray = field(metadata=unit("K"))
    slopes: NDArray = field(metadata=unit("m/s"))
    errors: NDArray = field(metadata=unit("m/s", error_of="slopes"))
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))
    changes: NDArray = field(
        default_factory=lambda: np.empty(0), metadata=unit("m/s", quantity=True, secondary=True)
    )


def records(**changes):
    given = {"slopes": np.array([8.0e5, 7.5e5]), "errors": np.array([3.0e3, 2.0e3])}
    given |= {"degrees_of_freedom": 3.0, **changes}
    return {"a_velocity": Record(np.array([0.0, 300.0]), **given), "other": object}


def part(name, sizes, quantity="a_velocity/slopes"):
    return ErrorPart(name, quantity, np.array(sizes), f"by {name}")


def rows(some, parts=()):
    section = budget_section({"a_velocity": some["a_velocity"]}, list(parts))
    return [dict(zip(HEADER, row, strict=True)) for row in section.blocks[-1].rows]


def test_parts_reach_their_quantity():
    parts = [
        part(CELL, [np.nan, -4.0e3]),
        part(STATIC, [1.0e3, 1.0e3]),
        part(STATIC, [5.0e2, 2.0e3]),
        part(NETWORK, [1.0, 1.0], "another/slopes"),
    ]
    ((_, budget),) = collect_budgets({"a_velocity": records()["a_velocity"]}, parts)["a_velocity"]
    np.testing.assert_allclose(budget.part(STATIC), [1.0e3, 2.0e3])  # the larger of two
    np.testing.assert_allclose(
        budget.total()[1], np.hypot(np.hypot(quantile(3.0) * 2.0e3, 4.0e3), 2.0e3)
    )


def test_rows_say_what_is_missing():
    cold, hot = rows(records(), [part(CELL, [np.nan, 4.0e3])])
    assert cold["quantity"] == "slopes (10⁵ m/s)"
    assert (cold["T (K)"], cold["value"]) == ("0", "8.000")
    assert cold["stat. 68 %"] == f"{0.03 * quantile(3.0):.2g}"
    assert cold["cell"] == cold["network"] == NOT_MEASURED
    assert hot["cell"] == "0.04"
    assert hot["not in the total"] == "network, estimator, harmonic/static"
    assert cold["not in the total"] == "network, cell, estimator, harmonic/static"


def test_one_group_of_samples_is_not_measured():
    alone = records(errors=np.full(2, np.nan), degrees_of_freedom=0.0)
    for row in rows(alone):
        assert row["stat. 68 %"] == row["stat. 95 %"] == row["total 68 %"] == NOT_MEASURED
        assert row["value"] in ("8", "7.5")


def test_the_screen_shows_the_last_temperature_and_nothing_secondary():
    changes = np.array([0.0, -5.0e4])
    section = budget_section({"a_velocity": records(changes=changes)["a_velocity"]}, [])
    table = section.blocks[-1]
    assert [row[0].split()[0] for row in table.rows] == ["slopes"] * 2 + ["changes"] * 2
    (shown,) = table.screen_rows
    assert table.rows[shown][:2] == ["slopes (10⁵ m/s)", "300"]


def test_a_run_without_quantities_has_no_section():
    assert budget_section({}, []) is None
