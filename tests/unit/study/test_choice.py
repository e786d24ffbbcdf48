"""From what networks say of samples to candidates: amplitudes, effects, kinds of networks."""

import numpy as np
import pytest

from mlepi.study import carry_effects, correlate_errors, select_informative
from mlepi.study.choice import Chosen, choose_at_random, find_amplitudes, spread_over_samples


def test_groups_are_shared_by_their_samples():
    values = np.arange(12.0).reshape(2, 3, 2)
    shared = spread_over_samples(values, values.mean(axis=1), 6)
    np.testing.assert_array_equal(shared[:, ::2], values)
    np.testing.assert_array_equal(shared[:, 1::2], values)


def test_without_groups_all_samples_contribute_alike():
    values = np.array([[1.0, 2.0], [3.0, 5.0]])
    shared = spread_over_samples(np.empty((2, 0, 2)), values, 3)
    np.testing.assert_array_equal(shared, np.repeat(values[:, None], 3, axis=1))


def test_amplitudes_are_deviations_with_the_sign_of_the_whole():
    """Two samples go with the target, one against it."""
    values = np.array([[2.0, 1.0, -0.5], [-2.0, -1.0, 0.5]])[:, :, None]
    np.testing.assert_allclose(
        find_amplitudes(values)[:, 0], np.sqrt(2.0) * np.array([2.0, 1.0, -0.5])
    )


def test_effects_are_the_slope_near_by():
    spreads, amplitudes = np.array([1.0, 2.0, 1.0]), np.array([3.0, 6.0, -1.0])
    squares = np.array([[0.0, 0.0, 1e6], [1e6, 1e6, 0.0], [1e12, 1e12, 1e12]])
    found = carry_effects(spreads, amplitudes, squares, 1.0)
    np.testing.assert_allclose(found, [3.0, -1.0, 14.0 / 6.0])
    np.testing.assert_array_equal(carry_effects(np.zeros(3), amplitudes, squares, 1.0), np.zeros(3))


def test_kinds_of_networks_and_temperatures_add():
    """What a label lowers is the sum over independent networks and values of the target."""
    points = np.random.default_rng(0).normal(size=(5, 2))
    both = np.array(
        [correlate_errors(np.ones(5) * size, np.ones(5), points, 1.0) for size in (1.0, 2.0)]
    )
    weights = np.array([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0, 0.0]])
    choice = select_informative(both, weights, 1, noise=np.array([0.5, 1.0]))
    alone = [
        select_informative(matrix, w, 5, noise=noise)
        for matrix, noise in zip(both, (0.5, 1.0), strict=True)
        for w in weights
    ]
    assert choice.variances[0] == pytest.approx(sum(each.variances[0] for each in alone))
    gains = [
        sum(
            (matrix @ w)[k] ** 2 / (matrix[k, k] + noise**2)
            for matrix, noise in zip(both, (0.5, 1.0), strict=True)
            for w in weights
        )
        for k in range(5)
    ]
    assert choice.order == [int(np.argmax(gains))]
    assert choice.variances[0] - choice.variances[1] == pytest.approx(max(gains))


def test_only_candidates_are_chosen_and_their_own_spread_counts():
    """Both are as near to the sample; the networks agree on the second already."""
    points = np.array([[0.0], [1.0], [-1.0]])
    covariance = correlate_errors(np.array([1.0, 1.0, 0.1]), np.ones(3), points, 1.0)
    allowed = np.array([False, True, True])
    chosen = select_informative(covariance, np.array([1.0, 0, 0]), 2, noise=1.0, allowed=allowed)
    assert chosen.order == [1, 2]
    without = select_informative(covariance, np.array([1.0, 0, 0]), 1, allowed=allowed)
    assert without.variances[1] == pytest.approx(1.0 - np.exp(-1.0))


def test_chance_is_repeatable():
    first, again = (choose_at_random(20, 5, (3, 1)).order for _ in range(2))
    assert first == again
    assert len(set(first)) == 5
    assert choose_at_random(20, 5, (3, 2)).order != first
    assert len(choose_at_random(2, 5, (0, 0)).order) == 2


def test_a_choice_is_plain_data():
    spreads = {"electron": np.array([1.0, 2.0])}
    chosen = Chosen([1], [4.0, 1.0], spreads, spreads, {"electron": np.ones((1, 2))})
    (row,) = chosen.to_plain(["a", "b"])["chosen"]
    assert row == {"name": "b", "spread": {"electron": 2.0}, "effect": {"electron": 2.0}}
