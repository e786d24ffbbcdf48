"""Straight lines in 1/N through a series of sizes."""

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.averages.size_series import extrapolate_sizes, interpolate_sizes


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


def test_distances_from_the_limit_have_errors_of_their_own():
    """Values and limit are correlated: the spread of many series tells how much."""
    sizes, errors = np.array([3, 6, 9, 12]), np.array([0.1, 0.2, 0.1, 0.3])
    exact = 8.0 - 2.0 / sizes
    fit = extrapolate_sizes(sizes, exact, errors)
    np.testing.assert_allclose(fit.distances, -2.0 / sizes, atol=1e-12)
    rng = np.random.default_rng(1)
    many = np.array(
        [
            extrapolate_sizes(sizes, exact + errors * rng.normal(size=4), errors).distances
            for _ in range(4000)
        ]
    )
    np.testing.assert_allclose(many.std(axis=0), fit.distance_errors, rtol=0.05)


def test_sizes_off_every_line_leave_the_limit_uncertain():
    sizes, errors = np.array([3, 6, 9, 12]), np.full(4, 0.01)
    straight = extrapolate_sizes(sizes, 8.0 - 2.0 / sizes, errors)
    crooked = extrapolate_sizes(sizes, 8.0 + np.array([0.0, 0.3, 0.0, 0.3]), errors)
    factor = np.sqrt(crooked.chi_squared / 2.0)
    assert factor > 5.0
    np.testing.assert_allclose(crooked.distance_errors, factor * straight.distance_errors)
    # two sizes cannot be off a line
    two = extrapolate_sizes(sizes[:2], np.array([8.0, 7.0]), errors[:2])
    assert (two.limit, two.chi_squared) == (pytest.approx(6.0), pytest.approx(0.0, abs=1e-9))
    np.testing.assert_allclose(two.distances, [2.0, 1.0])
    np.testing.assert_allclose(two.distance_errors, 0.01 * np.sqrt(2.0) * np.array([2.0, 1.0]))


def test_sizes_between_are_interpolated_in_the_inverse_size():
    sizes = np.array([3, 6, 12])
    values = np.stack([1.0 / sizes, -2.0 / sizes], axis=1)
    np.testing.assert_allclose(interpolate_sizes(sizes, values, 4), [0.25, -0.5])
    np.testing.assert_allclose(interpolate_sizes(sizes, values, 6), values[1])
    np.testing.assert_allclose(interpolate_sizes(sizes, values, 48), values[2])  # no more is known
    with pytest.raises(PhysicsError, match=r"N = 2; expected at least the smallest .*3, 6, 12"):
        interpolate_sizes(sizes, values, 2)
