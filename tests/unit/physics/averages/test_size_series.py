"""Straight lines in 1/N through a series of sizes."""

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.averages.size_series import extrapolate_sizes


def test_a_straight_line_in_the_inverse_size_is_found_with_its_error():
    sizes, errors = np.array([3, 6, 9, 12]), np.array([0.1, 0.2, 0.1, 0.3])
    fit = extrapolate_sizes(sizes, 8.0 - 2.0 / sizes, errors)
    assert (fit.limit, fit.slope, fit.chi_squared) == pytest.approx((8.0, -2.0, 0.0), abs=1e-10)
    assert fit.degrees_of_freedom == 2
    rng = np.random.default_rng(0)
    many = [
        extrapolate_sizes(sizes, 8.0 - 2.0 / sizes + errors * rng.normal(size=4), errors)
        for _ in range(4000)
    ]
    assert np.std([each.limit for each in many]) == pytest.approx(
        fit.limit_error, rel=0.05
    )  # 1/√8000 of it is 1 %
    assert np.mean([each.chi_squared for each in many]) == pytest.approx(
        2.0, abs=0.15
    )  # χ² of two degrees of freedom: ±2/√4000
    with pytest.raises(PhysicsError, match="at two different sizes or more"):
        extrapolate_sizes(np.array([6, 6]), np.ones(2), np.ones(2))
    with pytest.raises(PhysicsError, match="positive error bars"):
        extrapolate_sizes(np.array([3, 6]), np.ones(2), np.zeros(2))
