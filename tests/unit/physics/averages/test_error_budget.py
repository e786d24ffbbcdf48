"""Parts add in quadrature; what nobody measured is missing, not zero."""

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.averages.error_budget import (
    CELL,
    ESTIMATOR,
    NETWORK,
    STATIC,
    STATISTICAL,
    ErrorBudget,
    estimator_spread,
)
from mlepi.physics.averages.intervals import TWO_SIGMA, quantile

VALUES = np.array([10.0, 20.0])


def test_total_is_the_root_of_the_summed_squares():
    errors = np.array([3.0, 0.3])
    parts = {NETWORK: np.array([4.0, np.nan]), CELL: np.array([-12.0, np.nan])}
    budget = ErrorBudget(VALUES, errors, 1e9, parts)
    np.testing.assert_allclose(budget.total(), [13.0, 0.3], rtol=1e-6)
    assert budget.missing((0,)) == (ESTIMATOR, STATIC)
    assert budget.missing((1,)) == (NETWORK, CELL, ESTIMATOR, STATIC)
    np.testing.assert_allclose(budget.statistical(TWO_SIGMA), 1.959964 * errors, rtol=1e-5)


def test_few_groups_widen_the_statistical_part():
    budget = ErrorBudget(VALUES, np.ones(2), 3.0)
    np.testing.assert_allclose(budget.part(STATISTICAL), quantile(3.0))
    np.testing.assert_allclose(budget.total(), quantile(3.0))


def test_nothing_measured_is_no_total():
    budget = ErrorBudget(VALUES, np.full(2, np.nan), 0.0)
    assert np.isnan(budget.total()).all()
    assert budget.missing((0,))[0] == STATISTICAL
    assert len(budget.missing((0,))) == 5


def test_spread_of_estimates():
    some = [[1.0, np.nan, 2.0], [3.0, 4.0, np.nan], [2.0, np.nan, 8.0]]
    np.testing.assert_array_equal(estimator_spread(some), [1.0, np.nan, 3.0])


def test_unknown_parts_are_refused():
    with pytest.raises(PhysicsError, match=r"part 'luck'.*expected one of"):
        ErrorBudget(VALUES, np.ones(2), 3.0, {"luck": np.ones(2)})
    with pytest.raises(PhysicsError, match=r"of shape \(3,\)"):
        ErrorBudget(VALUES, np.ones(2), 3.0, {CELL: np.ones(3)})
