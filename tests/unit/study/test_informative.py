"""Labels that lower the error of a target most: exact sums, conditioned Gaussians, no doubles."""

from itertools import permutations

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.study import choose_length, correlate_errors, divide_variance, select_informative


def test_parts_of_the_variance_add_up_to_it():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(5, 12)), rng.uniform(size=12)
    parts = divide_variance(values, weights)
    assert parts.sum() == pytest.approx(np.var(values @ weights, ddof=1), rel=1e-12)
    alone = divide_variance(values[:, :1], np.ones(1))
    assert alone[0] == pytest.approx(values[:, 0].var(ddof=1))
    with pytest.raises(PhysicsError, match="two members"):
        divide_variance(values[:1], weights)


def test_without_correlation_what_counts_is_weight_times_spread_times_effect():
    spreads = np.array([1.0, 2.0, 3.0, 1.0])
    effects = np.array([1.0, -2.0, 0.5, 1.0])
    weights = np.array([1.0, 0.5, 1.0, 4.0])
    points = np.arange(4.0)[:, None] * 1e3
    covariance = correlate_errors(spreads, effects, points, 1.0)
    np.testing.assert_allclose(np.diag(covariance), (spreads * effects) ** 2)
    choice = select_informative(covariance, weights, 4)
    parts = (weights * spreads * effects) ** 2
    assert choice.order == np.argsort(-parts, kind="stable").tolist()
    left = parts.sum() - np.concatenate([[0.0], np.cumsum(np.sort(parts)[::-1])])
    np.testing.assert_allclose(choice.variances, left, atol=1e-12)


def conditioned(covariance, weights, known, noise):
    """Variance of the target where some structures are known: Rasmussen and Williams Eq. 2.24."""
    cross = covariance[:, known]
    inverse = np.linalg.inv(covariance[np.ix_(known, known)] + noise**2 * np.eye(len(known)))
    return float(weights @ (covariance - cross @ inverse @ cross.T) @ weights)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_variance_that_is_left_is_that_of_a_gaussian_process(noise):
    rng = np.random.default_rng(3)
    points, weights = rng.normal(size=(7, 2)), rng.uniform(size=7)
    covariance = correlate_errors(rng.uniform(0.5, 2.0, 7), rng.normal(size=7), points, 0.8)
    choice = select_informative(covariance, weights, 4, noise=noise)
    assert choice.variances[0] == pytest.approx(weights @ covariance @ weights)
    for n in range(1, 5):
        expected = conditioned(covariance, weights, choice.order[:n], noise)
        assert choice.variances[n] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    best = min(conditioned(covariance, weights, [k], noise) for k in range(7))
    assert choice.variances[1] == pytest.approx(best)


def test_two_are_nearly_the_best_pair():
    """Greedy, so at most worse; never worse than any single one."""
    rng = np.random.default_rng(5)
    points, weights = rng.normal(size=(8, 2)), np.ones(8)
    covariance = correlate_errors(np.ones(8), np.ones(8), points, 1.0)
    choice = select_informative(covariance, weights, 2, noise=0.1)
    best = min(
        conditioned(covariance, weights, list(pair), 0.1) for pair in permutations(range(8), 2)
    )
    assert best - 1e-12 <= choice.variances[2] <= 0.5 * (best + choice.variances[1])


def test_the_same_structure_is_not_labelled_twice():
    points = np.array([[0.0], [0.0], [5.0]])
    covariance = correlate_errors(np.array([2.0, 2.0, 1.0]), np.ones(3), points, 1.0)
    choice = select_informative(covariance, np.ones(3), 3)
    assert sorted(choice.order) in ([0, 2], [1, 2])
    assert choice.variances[-1] == pytest.approx(0.0, abs=1e-9)


def test_a_structure_outside_the_average_may_be_the_one_to_label():
    points = np.array([[-1.0], [1.0], [0.0]])
    covariance = correlate_errors(np.array([1.0, 1.0, 1.0]), np.ones(3), points, 1.0)
    weights = np.array([1.0, 1.0, 0.0])
    assert select_informative(covariance, weights, 1).order == [2]


def test_costs_and_budget_count():
    points = np.arange(3.0)[:, None] * 100.0
    covariance = correlate_errors(np.array([3.0, 2.0, 1.0]), np.ones(3), points, 1.0)
    costs = np.array([9.0, 2.0, 1.0])
    choice = select_informative(covariance, np.ones(3), 3, costs=costs, budget=10.0)
    assert choice.order == [1, 2]  # 4/2, then 1/1 as large as 9/9 and what is left does not pay it
    assert choice.cost == 3.0
    assert select_informative(covariance, np.ones(3), 3, costs=costs, budget=0.5).order == []


def test_wrong_spreads_are_told():
    with pytest.raises(PhysicsError, match=r"expected 0 or more, and a length above 0"):
        correlate_errors(np.array([-1.0]), np.ones(1), np.zeros((1, 1)), 1.0)
    with pytest.raises(PhysicsError, match="a length of 0"):
        correlate_errors(np.ones(1), np.ones(1), np.zeros((1, 1)), 0.0)


def test_the_length_is_the_median_distance():
    assert choose_length(np.array([[0.0], [1.0], [3.0]])) == 2.0
    assert choose_length(np.zeros((3, 2))) == 1.0
