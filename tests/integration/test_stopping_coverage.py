"""Intervals keep their coverage where an ensemble stops at an error bar.

Whole campaigns are simulated: a pilot, looks, blocks, and the interval that is reported where the
rule of ``mlepi.physics.averages.sequential`` stops. Snapshots come from the samplers themselves
(graphene by springs, 3×3 cell); observables are polynomials of the mode coordinates, one nearly
normal, and one that is exactly exponential for normal coordinates, skewness 2.
"""

from functools import cache

import interval_coverage as coverage
import numpy as np
import pytest

from mlepi.physics.averages.block_averages import MAX_BLOCKS
from mlepi.physics.averages.intervals import ONE_SIGMA, TWO_SIGMA, quantile
from mlepi.physics.averages.sequential import (
    MIN_GROUPS,
    MIN_POINTS,
    MIN_REPLICATES,
    Evidence,
    find_skewness,
)
from mlepi.physics.vibrations.samplers import ZG, Antithetic, MonteCarlo, Sobol
from mlepi.pipeline.growth import next_size

TRIALS = 4000
LONGEST = 2048
"""Groups that a campaign may take; few are so long."""
PROMISED = {ONE_SIGMA: (0.65, 0.71), TWO_SIGMA: (0.93, 0.97)}
POOL = {MonteCarlo: 8000, Antithetic: 4000, ZG: 400}
"""Groups that are made; every trial draws some of them, and the truth is the mean of all."""
REPLICATES, POINTS = 256, 64
SHAPES = ["normal", "exponential"]


def observe(ensemble, normals):
    """The nearly normal and the exponential observable of snapshots, (n_samples, 2)."""
    zeta = ensemble.coordinates.coordinates(normals)
    rng, n = np.random.default_rng(3), zeta.shape[1]
    form = np.triu(rng.normal(size=(n, n)), 1)
    pair = np.linalg.qr(rng.normal(size=(n, 2)))[0]
    normal = np.einsum("si,ij,sj->s", zeta, form, zeta) / n + zeta @ rng.normal(size=n) / n**0.5
    return np.stack([normal, 0.5 * np.sum((zeta @ pair) ** 2, axis=1)], axis=1)


@cache
def make_toy():
    return coverage.Toy()


@cache
def make_pool(kind):
    """Means of independent groups, (n_groups, 2)."""
    toy, sampler = make_toy(), kind()
    size = 1 if kind is MonteCarlo else 2
    n_groups = POOL[kind]
    values = observe(toy.ensemble, sampler.normals(toy.ensemble, range(size * n_groups), 0))
    return values.reshape(n_groups, size, 2).mean(axis=1)


def look(cumulative, n, fixed_size=0.0, demanded=1.0):
    """Mean, standard error, blocks and evidence from the first n groups of one campaign."""
    n_blocks = min(n, MAX_BLOCKS)
    edges = -(-np.arange(n_blocks + 1) * n // n_blocks)
    shares = np.diff(edges) / n
    mean = cumulative[n] / n
    blocks = np.diff(cumulative[edges]) / np.diff(edges)
    without = (mean - shares * blocks) / (1.0 - shares)
    kept = 1.0 - shares
    error = np.sqrt(np.sum(kept * (without - np.sum(kept * without) / kept.sum()) ** 2))
    skewness = find_skewness(n_blocks * mean - (n_blocks - 1) * without)
    half = quantile(n_blocks - 1.0) * error
    return mean, error, n_blocks, Evidence(half, n_blocks, skewness, fixed_size, demanded)


def stop_among_groups(values, target):
    """Return mean, standard error, blocks and groups where a campaign stops."""
    cumulative = np.concatenate([[0.0], np.cumsum(values)])
    n, least = MIN_GROUPS, 1.0
    while True:
        mean, error, n_blocks, evidence = look(cumulative, n, demanded=max(1.0, least / n))
        least = n * evidence.lacking
        if evidence.reaches(target) or n == len(values):
            return mean, error, n_blocks, n
        n = next_size(n, evidence.growth(target), len(values))


def stop_among_points(paths, target):
    """The same for replicates: (n_replicates, n_points) running means of their points."""
    n_replicates, n_points = paths.shape
    sampler, largest = Sobol(n_replicates=n_replicates), n_replicates * n_points
    n = n_replicates * MIN_POINTS
    while True:
        size = n // n_replicates
        values = paths[:, size - 1]
        mean, error, n_blocks, evidence = look(
            np.append(0.0, np.cumsum(values)), n_replicates, float(size)
        )
        if evidence.reaches(target) or n == largest:
            return mean, error, n_blocks, n
        n = next_size(n, evidence.growth(target), largest, sampler.whole)


def measure(campaigns, truth):
    """Return the coverage of both intervals."""
    mean, error, n_blocks, _ = np.array(campaigns).T
    return [
        float(np.mean(np.abs(mean - truth) <= error * [quantile(n - 1.0, level) for n in n_blocks]))
        for level in PROMISED
    ]


def assert_promise(found):
    for share, (low, high) in zip(found, PROMISED.values(), strict=True):
        assert low <= share <= high, found


@cache
def make_paths():
    """Running means over the points of independent replicates, (n_replicates, n_points, 2)."""
    sampler, ensemble = Sobol(n_replicates=MIN_REPLICATES), make_toy().ensemble
    paths = []
    for number in range(REPLICATES):
        seed, replicate = divmod(number, MIN_REPLICATES)
        points = replicate + MIN_REPLICATES * np.arange(POINTS)
        values = observe(ensemble, sampler.normals(ensemble, points, seed))
        paths.append(np.cumsum(values, axis=0) / np.arange(1, POINTS + 1)[:, None])
    return np.array(paths)


@pytest.mark.parametrize("kind", POOL)
@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_where_a_campaign_stops(kind, shape):
    pool = make_pool(kind)[:, SHAPES.index(shape)]
    for needed in (15, 50, 150):  # groups that would do if the variance were known
        rng = np.random.default_rng(needed)
        target = pool.std() / np.sqrt(needed)
        campaigns = [
            stop_among_groups(pool[rng.integers(len(pool), size=LONGEST)], target)
            for _ in range(TRIALS)
        ]
        assert_promise(measure(campaigns, pool.mean()))


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_of_replicates(shape):
    paths = make_paths()[:, :, SHAPES.index(shape)]
    for needed in (4, 10, 30):  # points per replicate
        rng = np.random.default_rng(needed)
        target = paths[:, needed - 1].std() / np.sqrt(MIN_REPLICATES)
        campaigns = [
            stop_among_points(paths[rng.choice(len(paths), size=MIN_REPLICATES)], target)
            for _ in range(TRIALS)
        ]
        # the truth is that of the size at which a campaign stops
        sizes = np.array([n // MIN_REPLICATES for *_, n in campaigns])
        assert_promise(measure(campaigns, paths.mean(axis=0)[sizes - 1]))
