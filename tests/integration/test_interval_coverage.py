"""Intervals hold the truth as often as they say, for every sampler, few and many groups.

The long version is ``benchmarks/interval_coverage.py``.
"""

import interval_coverage as coverage
import numpy as np
import pytest

from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.bands.velocities import fit_cone
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

TRIALS = 4000
POOL = {"ZG": 200, "Sobol replicates": 256}
"""Groups that are made of the slow samplers."""


@pytest.fixture(scope="module")
def toy():
    return coverage.Toy()


ASKED = tuple(coverage.BOUNDS.values())


def assert_within(hits, bounds=ASKED):
    for share, (low, high) in zip(hits.mean(axis=1), bounds, strict=True):
        assert low <= share <= high


@pytest.mark.parametrize("name", list(coverage.SAMPLERS))
def test_coverage_of_every_sampler(toy, name):
    pool = coverage.make_groups(toy, coverage.SAMPLERS[name], POOL.get(name, 1000))
    for n_groups in (4, 8, 24, 100):
        trials = TRIALS if n_groups < 100 else TRIALS // 2
        chosen = np.random.default_rng(n_groups).integers(len(pool), size=(trials, n_groups))
        drawn = coverage.Drawn(pool[chosen], SampleDesign.independent(n_groups), 0)
        for estimator in coverage.ESTIMATORS.values():
            truth = float(estimator(pool.mean(axis=0)))
            assert_within(drawn.find_hits(estimator, truth)["jackknife"])


def test_coverage_of_bootstraps(toy):
    pool = coverage.make_groups(toy, coverage.SAMPLERS["Monte Carlo"], 1000)
    for n_groups in (4, 24):
        chosen = np.random.default_rng(n_groups).integers(len(pool), size=(TRIALS, n_groups))
        drawn = coverage.Drawn(pool[chosen], SampleDesign.independent(n_groups), 200)
        for name in ("mean", "ratio"):
            estimator = coverage.ESTIMATORS[name]
            truth = float(estimator(pool.mean(axis=0)))
            assert_within(drawn.find_hits(estimator, truth)["bootstrap"])


def test_coverage_of_trajectories(toy):
    """Fewer trials: bounds are those of 200 of them, four standard deviations wide."""
    pool = coverage.make_groups(toy, coverage.SAMPLERS["Monte Carlo"], 20_000)
    drawn = [coverage.draw_trajectory(toy, 6, seed, 0) for seed in range(200)]
    for name in ("mean", "ratio"):
        estimator = coverage.ESTIMATORS[name]
        truth = float(estimator(pool.mean(axis=0)))
        hits = [one.find_hits(estimator, truth)["jackknife"] for one in drawn]
        assert_within(np.concatenate(hits, axis=1), ((0.54, 0.81), (0.88, 1.0)))


def test_many_hyperbolas_are_fitted_as_one_is(toy):
    energies = toy.observe(np.random.default_rng(0).normal(size=(5, 51)))[:, :5]
    window = (0.03, 0.11)
    expected = [fit_cone(coverage.DISTANCES, -one, one, window).fermi_velocity for one in energies]
    found = coverage.fit_hyperbolas(energies) * EV_ANGSTROM_TO_METRE_PER_SECOND
    np.testing.assert_allclose(found, expected, rtol=1e-6)
