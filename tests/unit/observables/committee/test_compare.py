"""Records are compared by their fields alone."""

from dataclasses import dataclass, field

import numpy as np

from mlepi.observables.committee.compare import LARGEST, list_numbers, measure_deviations


@dataclass(frozen=True)
class Inner:
    values: np.ndarray
    velocity_errors: np.ndarray = field(default_factory=lambda: np.ones(2))


@dataclass(frozen=True)
class Outer:
    number: float
    count: int
    name: str
    inner: Inner
    parts: dict
    nothing: None = None
    large: np.ndarray = field(default_factory=lambda: np.zeros(LARGEST + 1))
    integers: np.ndarray = field(default_factory=lambda: np.arange(3))


def build(x, n=2):
    inner = Inner(np.full(n, x))
    return Outer(3.0 * x, 4, "a", inner, {"b": np.array([x, np.nan]), "c": Inner(np.zeros(1))})


def test_real_numbers_are_found_wherever_they_are():
    assert list_numbers(build(1.0)).keys() == {
        "number",
        "inner.values",
        "parts.b",
        "parts.c.values",
    }


def test_deviations_of_what_differs():
    found = measure_deviations([build(1.0), build(2.0), build(4.0)])
    assert found.keys() == {"number", "inner.values", "parts.b"}
    deviation = np.std([1.0, 2.0, 4.0], ddof=1)
    np.testing.assert_allclose(found["number"], 3.0 * deviation)
    np.testing.assert_allclose(found["inner.values"], [deviation, deviation])
    np.testing.assert_allclose(found["parts.b"], [deviation, np.nan])
    assert "inner.values" not in measure_deviations([build(1.0), build(2.0, n=3)])
