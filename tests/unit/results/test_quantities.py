"""Quantities of a record are found by what its fields declare, at any depth."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.intervals import TWO_SIGMA, quantile
from mlepi.results import unit
from mlepi.results.quantities import half_interval, list_quantities, with_half_intervals


@dataclass(frozen=True)
class Inner:
    slopes: NDArray = field(metadata=unit("m/s"))
    slope_errors: NDArray = field(metadata=unit("m/s", error_of="slopes"))
    map: NDArray = field(metadata=unit("1"))
    map_errors: NDArray = field(metadata=unit("1", error_of="map"))


@dataclass(frozen=True)
class Outer:
    temperatures: NDArray = field(metadata=unit("K"))
    gaps: NDArray = field(metadata=unit("eV"))
    errors: NDArray = field(metadata=unit("eV", error_of="gaps", components=("low", "high")))
    exact: NDArray = field(metadata=unit("eV", quantity=True))
    inner: Inner
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))


def record(**changes):
    inner = Inner(np.ones(2), np.full(2, 0.1), np.ones((2, 9)), np.ones((2, 9)))
    given = {
        "temperatures": np.array([0.0, 300.0]),
        "gaps": np.ones((2, 2)),
        "errors": np.full((2, 2), 0.5),
        "exact": np.full(2, 3.0),
        "inner": inner,
    }
    return Outer(**{**given, "degrees_of_freedom": 7.0, **changes})


def test_fields_with_errors_are_quantities():
    found = {each.path: each for each in list_quantities(record())}
    assert list(found) == ["gaps", "exact", "inner/slopes"]  # a map has no row in a table
    assert found["gaps"].components == ("low", "high")
    assert found["inner/slopes"].unit == "m/s"
    assert found["inner/slopes"].degrees_of_freedom == 7.0
    np.testing.assert_array_equal(found["inner/slopes"].errors, 0.1)
    assert np.isnan(found["exact"].errors).all()


def test_a_record_without_temperatures_has_none():
    assert list_quantities(record().inner) == []


def test_error_bars_take_the_quantile_of_few_groups():
    whole = record()
    np.testing.assert_allclose(half_interval(whole, "errors"), 0.5 * quantile(7.0))
    inner = half_interval(whole.inner, "slope_errors", TWO_SIGMA, whole)
    np.testing.assert_allclose(inner, 0.1 * quantile(7.0, TWO_SIGMA))


def test_records_of_earlier_versions_keep_their_standard_errors():
    old = record(degrees_of_freedom=float("nan"))
    np.testing.assert_array_equal(half_interval(old, "errors"), 0.5)
    assert np.isnan(half_interval(old, "errors", TWO_SIGMA)).all()
    assert np.isnan(half_interval(record(degrees_of_freedom=0.0), "errors")).all()


def test_records_for_tables_hold_half_intervals_at_any_depth():
    shown = with_half_intervals(record().inner, 3.0)
    np.testing.assert_allclose(shown.slope_errors, 0.1 * quantile(3.0))
    np.testing.assert_array_equal(shown.slopes, 1.0)
    outer = with_half_intervals(record(), 3.0)
    np.testing.assert_allclose(outer.inner.slope_errors, 0.1 * quantile(3.0))
    same = record()
    assert with_half_intervals(same, float("nan")) is same
