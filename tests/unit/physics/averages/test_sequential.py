"""When an error bar is small enough; the coverage is measured in ``test_stopping_coverage``."""

import math

import numpy as np
import pytest
from scipy.stats import chi2, skew

from mlepi.physics.averages.sequential import (
    BETA,
    MIN_GROUPS,
    MIN_POINTS,
    SKEW_GROUPS,
    UNKNOWN_SHAPE,
    Evidence,
    find_skewness,
)


@pytest.mark.parametrize("n_groups", [8, 32, 64])
def test_the_bound_is_the_upper_end_of_an_interval_of_the_error(n_groups):
    evidence = Evidence(2.0, n_groups, 0.0)
    degrees = n_groups - 1
    assert evidence.bound == pytest.approx(2.0 * math.sqrt(degrees / chi2.ppf(BETA, degrees)))
    draws = np.random.default_rng(0).normal(size=(20_000, n_groups))
    share = np.mean([s * evidence.bound / 2.0 >= 1.0 for s in draws.std(axis=1, ddof=1)])
    assert share == pytest.approx(1.0 - BETA, abs=0.012)


def test_nothing_is_decided_before_the_minimum():
    lucky = 1e-9
    assert not Evidence(lucky, MIN_GROUPS - 1, 0.0).reaches(1.0)
    assert Evidence(lucky, MIN_GROUPS, 0.0).reaches(1.0)
    # of unknown shape, and visibly skewed
    assert not Evidence(lucky, UNKNOWN_SHAPE - 1).reaches(1.0)
    assert Evidence(lucky, UNKNOWN_SHAPE).reaches(1.0)
    skewed = Evidence(lucky, 64, 1.0)
    assert not skewed.reaches(1.0)
    assert skewed.growth(1.0) == pytest.approx(SKEW_GROUPS * (1.0 + math.sqrt(6 / 64)) ** 2 / 64)
    # what a look has asked for holds at the next one
    assert not Evidence(lucky, 64, 0.0, demanded=1.5).reaches(1.0)
    assert Evidence(lucky, 64, 0.0, demanded=1.5).growth(1.0) == 1.5
    # replicates do not become more, their points do
    assert not Evidence(lucky, 8, group_size=MIN_POINTS / 2).reaches(1.0)
    assert Evidence(lucky, 8, group_size=MIN_POINTS / 2).growth(1.0) == 2.0
    assert Evidence(lucky, 8, 3.0, group_size=MIN_POINTS).reaches(1.0)


def test_the_bound_decides_and_not_the_error_bar():
    evidence = Evidence(1.0, 32, 0.0)
    assert not evidence.reaches(1.1)
    assert evidence.reaches(1.13)
    assert evidence.growth(1.13) == pytest.approx(max(1.0, 1.05 * (evidence.bound / 1.13) ** 2))
    assert evidence.growth(0.5) == pytest.approx(1.05 * (evidence.bound / 0.5) ** 2)


def test_estimates_without_an_error_bar():
    for error, n_groups in ((math.inf, 64), (1.0, 1)):
        assert Evidence(error, n_groups, 0.0).bound == math.inf
        assert not Evidence(error, n_groups, 0.0).reaches(1e9)
        assert Evidence(error, n_groups, 0.0).growth(1.0) == math.inf
    # the change from the first temperature at that temperature itself
    assert Evidence(0.0, 32, 0.0).reaches(0.0)
    assert not Evidence(0.0, 16, 0.0).reaches(0.0)
    assert Evidence(1.0, 32, 0.0).growth(0.0) == math.inf


def test_skewness_counts_the_groups_that_have_samples():
    values = np.random.default_rng(0).exponential(size=50)
    assert find_skewness(values) == pytest.approx(skew(values))
    absent = np.concatenate([values, np.full(30, values.mean())])
    assert find_skewness(absent, 50) == pytest.approx(skew(values))
    assert find_skewness(np.full(5, 3.0)) == 0.0
