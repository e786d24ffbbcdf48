"""Calibration of committees: exact for Gaussian networks with a known common error."""

import numpy as np
import pytest

from mlepi.errors import PhysicsError
from mlepi.physics.averages.calibration import bin_errors, compare_spread, join_agreements


def gaussian_networks(n_networks, scales, common=0.0, seed=0):
    """Errors: independent ones of every network, and one that they share; both × scale."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(n_networks, len(scales)))
    shared = common * rng.normal(size=len(scales))
    return scales * (own + shared)


@pytest.mark.parametrize("n_networks", [2, 4, 16])
@pytest.mark.parametrize("common", [0.0, 0.5, 2.0])
def test_factors_of_gaussian_networks(n_networks, common):
    """With independent errors σ and a common one b: √(σ²/n + b²)/σ, and √(σ² + b²)/σ for one."""
    scales = np.random.default_rng(1).uniform(0.5, 2.0, size=200_000)
    found = compare_spread(gaussian_networks(n_networks, scales, common))
    assert found.factor_of_mean == pytest.approx(np.sqrt(1 / n_networks + common**2), rel=0.01)
    assert found.factor_of_one == pytest.approx(np.sqrt(1 + common**2), rel=0.01)
    assert found.n == 200_000


def test_the_spread_is_unbiased_for_two_networks():
    errors = np.array([[1.0, 2.0, -3.0], [-1.0, 0.0, -1.0]])
    found = compare_spread(errors)
    assert found.rms_spread == pytest.approx(np.sqrt(2.0))  # |Δ|/√2 of 2, 2, 2
    assert found.rms_error_of_mean == pytest.approx(np.sqrt((0 + 1 + 4) / 3))
    assert compare_spread(errors, np.full(3, 7.0)).rms_error_of_mean == pytest.approx(7.0)
    assert found.rms_error_of_one == pytest.approx(np.sqrt((1 + 4 + 9 + 1 + 0 + 1) / 6))


def test_parts_join_to_the_whole():
    errors = gaussian_networks(3, np.linspace(1.0, 2.0, 101), 0.3)
    parts = [compare_spread(errors[:, :20]), compare_spread(errors[:, 20:])]
    np.testing.assert_allclose(join_agreements(parts), compare_spread(errors))


def test_reliability_of_a_right_and_of_a_blind_prediction():
    scales = np.random.default_rng(2).uniform(0.2, 3.0, size=100_000)
    errors = np.random.default_rng(3).normal(size=len(scales)) * scales
    right = bin_errors(errors, scales, n_bins=8)
    np.testing.assert_allclose(right.found, right.predicted, rtol=0.04)
    assert np.all(np.diff(right.predicted) > 0)
    assert right.counts.sum() == len(scales)
    blind = bin_errors(errors, np.ones_like(scales), n_bins=8)
    np.testing.assert_allclose(blind.found, np.sqrt(np.mean(scales**2)), rtol=0.04)
    assert len(bin_errors(errors[:3], scales[:3]).counts) == 3


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        (np.zeros((1, 5)), r"errors of shape \(1, 5\)"),
        (np.zeros((3, 0)), r"errors of shape \(3, 0\)"),
        (np.ones((3, 4)), "networks that do not differ"),
    ],
)
def test_what_cannot_be_calibrated(errors, found):
    with pytest.raises(PhysicsError, match=rf"calibration: got {found}"):
        compare_spread(errors)
