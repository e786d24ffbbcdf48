"""Significance of differences: exact limits, scipy's tests, and how often it cries wolf."""

import math

import numpy as np
import pytest
from scipy import stats

from mlepi.errors import PhysicsError
from mlepi.physics.averages.significance import (
    adjust_p_values,
    compare_errors,
)


def random_errors(seed, n_starts, n_structures):
    return np.random.default_rng(seed).normal(5.0, 1.0, size=(n_starts, n_structures))


def test_equal_starts_give_the_paired_test_over_structures():
    first, second = random_errors(0, 1, 9), random_errors(1, 1, 9)
    exact = stats.ttest_rel(first[0], second[0])
    for n_starts in (1, 4):  # starts that do not differ add no variance
        found = compare_errors(np.repeat(first, n_starts, 0), np.repeat(second, n_starts, 0))
        assert found.p_value == pytest.approx(exact.pvalue, rel=1e-12)
        assert found.mean / found.error == pytest.approx(exact.statistic)
        assert found.starts == (n_starts > 1)


def test_equal_structures_give_welchs_test_over_starts():
    first, second = random_errors(2, 3, 1), random_errors(3, 5, 1)
    exact = stats.ttest_ind(first[:, 0], second[:, 0], equal_var=False)
    for n_structures in (1, 6):
        found = compare_errors(
            np.repeat(first, n_structures, 1), np.repeat(second, n_structures, 1)
        )
        assert found.p_value == pytest.approx(exact.pvalue, rel=1e-12)
        assert found.degrees_of_freedom == pytest.approx(exact.df)


def test_what_all_structures_and_both_networks_share_does_not_count():
    first, second = random_errors(4, 3, 8), random_errors(5, 3, 8)
    hard = 100.0 * np.arange(8)
    plain, shifted = (compare_errors(first + x, second + x) for x in (0.0, hard))
    assert shifted.p_value == pytest.approx(plain.p_value, rel=1e-9)
    reverse = compare_errors(second, first)
    assert reverse.mean == -plain.mean
    assert reverse.p_value == plain.p_value


def test_weights_are_those_of_a_mean_over_all_values():
    """A structure of twice the weight is one of twice the size: D is that of all values."""
    first, second = random_errors(10, 2, 6), random_errors(11, 3, 6)
    sizes = np.array([1.0, 2.0, 2.0, 4.0, 1.0, 3.0])
    found = compare_errors(first, second, sizes)
    means = [np.average(each, axis=1, weights=sizes).mean() for each in (first, second)]
    assert found.mean == pytest.approx(means[0] - means[1])
    equal = compare_errors(first, second, np.full(6, 7.0))
    assert equal.p_value == pytest.approx(compare_errors(first, second).p_value, rel=1e-9)
    # hardly any weight: as if the structure were not there
    almost = compare_errors(first[:1], second[:1], np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1e-9]))
    without = compare_errors(first[:1, :5], second[:1, :5])
    assert almost.p_value == pytest.approx(without.p_value, rel=1e-6)


def test_nothing_is_said_of_one_start_on_one_structure():
    found = compare_errors(np.array([[1.0]]), np.array([[2.0]]))
    assert found.mean == -1.0
    assert math.isnan(found.error)
    assert math.isnan(found.p_value)


def test_differences_without_any_spread():
    same = np.full((2, 3), 1.0)
    assert compare_errors(same, same).p_value == 1.0
    assert compare_errors(same, same + 1.0).p_value == 0.0


def test_other_structures_are_refused():
    with pytest.raises(PhysicsError, match=r"compared errors: got shapes \(1, 2\) and \(1, 3\)"):
        compare_errors(np.ones((1, 2)), np.ones((1, 3)))


@pytest.mark.parametrize(
    ("start", "structure", "both"), [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1)]
)
def test_equal_networks_differ_significantly_in_one_of_twenty_cases_or_fewer(
    start, structure, both
):
    """Two factors and their interaction, three starts and ten structures each."""
    rng = np.random.default_rng(6)
    n_trials, alarms = 2000, 0
    for _ in range(n_trials):
        each = [
            start * rng.normal(size=(3, 1))
            + structure * rng.normal(size=(1, 10))
            + both * rng.normal(size=(3, 10))
            for _ in range(2)
        ]
        alarms += compare_errors(*each).p_value < 0.05
    assert alarms / n_trials < 0.05 + 2.0 * math.sqrt(0.05 * 0.95 / n_trials)


def test_a_large_difference_is_found():
    found = compare_errors(random_errors(7, 3, 12), random_errors(8, 3, 12) + 3.0)
    assert found.p_value < 1e-4


def test_holm():
    assert adjust_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_p_values([0.5, 0.9]).tolist() == [1.0, 1.0]
    found = adjust_p_values([math.nan, 0.02])
    assert math.isnan(found[0])
    assert found[1] == 0.02
    assert adjust_p_values([]).shape == (0,)
