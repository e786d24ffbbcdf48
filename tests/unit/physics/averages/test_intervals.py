"""Quantiles against tables of Student's t, and effective degrees of freedom."""

import numpy as np
import pytest

from mlepi.physics.averages.intervals import (
    ONE_SIGMA,
    TWO_SIGMA,
    combined_degrees_of_freedom,
    half_widths,
    quantile,
)


def test_quantiles_are_those_of_the_tables():
    # Abramowitz and Stegun, table 26.10
    for degrees, expected in ((1, 12.706), (3, 3.182), (7, 2.365), (24, 2.064), (120, 1.980)):
        assert quantile(degrees, TWO_SIGMA) == pytest.approx(expected, abs=6e-4)
    assert quantile(1e9, TWO_SIGMA) == pytest.approx(1.95996, abs=1e-4)
    assert quantile(1e9) == pytest.approx(1.0, abs=1e-6)
    # Student's t of one degree of freedom is Cauchy's: tan(πp/2)
    assert quantile(1) == pytest.approx(np.tan(0.5 * np.pi * ONE_SIGMA))


def test_what_is_not_measured_has_no_interval():
    assert np.isnan(quantile(0.0))
    assert np.isnan(quantile(np.nan))
    np.testing.assert_array_equal(np.isnan(half_widths([1.0, np.nan], 3.0)), [False, True])


def test_combined_degrees_of_freedom():
    equal = combined_degrees_of_freedom(np.array([[2.0], [2.0]]), [5.0, 5.0])
    np.testing.assert_allclose(equal, [10.0])
    # an exact term adds nothing but its variance
    one = combined_degrees_of_freedom(np.array([1.0, 0.0]), [4.0, 9.0])
    assert float(one) == pytest.approx(4.0)
    assert np.isnan(combined_degrees_of_freedom(np.array([1.0, 1.0]), [4.0, 0.0]))
    assert np.isnan(combined_degrees_of_freedom(np.array([0.0, 0.0]), [4.0, 4.0]))
