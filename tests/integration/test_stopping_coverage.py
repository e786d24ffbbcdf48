"""Intervals keep their coverage where an ensemble stops at an error bar.

Whole campaigns are simulated: a pilot, looks, blocks, and the interval that is reported where the
rule of ``mlepi.physics.averages.sequential`` stops. Snapshots come from the samplers themselves
(graphene by springs, 3×3 cell); observables are polynomials of the mode coordinates, one nearly
normal, and one that is exactly exponential for normal coordinates, skewness 2. With a control
variate the rest that it leaves is one of them.
"""

from dataclasses import replace
from functools import cache

import interval_coverage as coverage
import numpy as np
import pytest

from mlepi.physics.averages.block_averages import MAX_BLOCKS
from mlepi.physics.averages.control_variate import apply_control, plan_sizes
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
CHEAP, LONGEST_CHEAP = 0.05, 8192
"""Cost of a cheap sample in expensive ones, and how many a campaign may take."""


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


def assert_promise(found, trials=None):
    """Of so many trials: within one standard error of the promise; None: within the promise."""
    for share, level, (low, high) in zip(found, PROMISED, PROMISED.values(), strict=True):
        slack = 0.0 if trials is None else np.sqrt(level * (1.0 - level) / trials)
        assert low - slack <= share <= high + slack, found


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


def correct(y, x, n, n_cheap):
    """The corrected mean and its evidence from n samples of both and the first n_cheap of x."""

    def blocks(values):
        n_blocks = min(len(values), MAX_BLOCKS)
        parts = np.array([part.mean() for part in np.array_split(values, n_blocks)])
        return values.mean() * np.ones(1), parts[:, None]

    found = apply_control(*blocks(y[:n]), *blocks(x[:n]), *blocks(x[:n_cheap]))
    n_blocks = min(n, MAX_BLOCKS)
    half = quantile(n_blocks - 1.0) * found.errors[0]
    skewness = find_skewness(found.contributions[:, 0], n_blocks)
    return found, Evidence(half, n_blocks, skewness)


def stop_with_a_control(y, x, target):
    """As ``stop_among_groups``, with a control variate from the pilot on where that costs less."""
    cumulative = np.concatenate([[0.0], np.cumsum(y)])
    mean, error, n_blocks, evidence = look(cumulative, MIN_GROUPS)
    correlation = correct(y, x, MIN_GROUPS, MIN_GROUPS)[0].correlations[0]
    plain = MIN_GROUPS * evidence.needed(target)
    if evidence.reaches(target):
        return mean, error, n_blocks, MIN_GROUPS
    largest = (len(y), len(x))
    sizes = plan_sizes([plain], [correlation], [MIN_GROUPS], largest, (1.0, CHEAP))
    if sizes is None or sizes.cost >= plain - MIN_GROUPS:
        return stop_among_groups(y, target)
    n, n_cheap, least = sizes.expensive[0], sizes.cheap, 1.0
    while True:
        found, evidence = correct(y, x, n, n_cheap)
        evidence = replace(evidence, demanded=max(1.0, least / n))
        least = n * evidence.lacking
        if evidence.reaches(target) or n == len(y):
            return found.values[0], found.errors[0], min(n, MAX_BLOCKS), n
        n_cheap = max(n_cheap, next_size(n_cheap, evidence.growth(target), len(x)))
        n = next_size(n, evidence.growth(target), len(y))


@pytest.mark.parametrize(("correlation", "needed"), [(0.97, 50), (0.85, 150)])
@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_with_a_control_variate(shape, correlation, needed):
    """Of y = ρx + √(1 − ρ²)e; the rest e has the shape, the cheap x is normal."""
    pool, trials = make_pool(MonteCarlo)[:, SHAPES.index(shape)], TRIALS // 4
    pool = (pool - pool.mean()) / pool.std()
    rng = np.random.default_rng(needed)
    campaigns, alone = [], []
    for number in range(trials):
        x = rng.normal(size=LONGEST_CHEAP)
        rest = pool[rng.integers(len(pool), size=LONGEST)]
        y = correlation * x[:LONGEST] + np.sqrt(1.0 - correlation**2) * rest
        campaigns.append(stop_with_a_control(y, x, 1.0 / np.sqrt(needed)))
        if number % 10 == 0:
            alone.append(stop_among_groups(y, 1.0 / np.sqrt(needed))[-1])
    found, taken = measure(campaigns, 0.0), np.mean([n for *_, n in campaigns])
    # the table of docs/error_bars.md, with pytest -s
    print(f"\n{shape}, {correlation}: {needed}, {taken:.0f}; {found[0]:.3f}, {found[1]:.3f}")
    assert_promise(found, trials)
    if shape == "normal":  # and it pays
        assert taken < 0.95 * np.mean(alone)
