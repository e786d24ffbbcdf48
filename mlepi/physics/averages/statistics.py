"""Averages over samples and their error bars.

An estimator is any function of the weights of the samples, (n_samples,) with sum one, to estimates:
a mean is linear in them, the peak of an averaged spectrum is not. Samples that were not drawn
independently of each other, such as antithetic pairs or the points of one randomised quasi-random
sequence, form a *group*; resampling always takes or leaves whole groups, so that error bars hold
for every sampler. Weighted samples carry their weights into every resample.

An error bar is a *standard error*: the square root of an estimate of the variance that is unbiased
for a mean, also of few groups. From g groups that weigh the same it is known with g − 1 degrees of
freedom, from groups that weigh w_g with 1/Σw_g² − 1; intervals take Student's t of as many
(``intervals``). One group has no error bar: NaN, which is shown as "not measured".

References:
    Efron, Ann. Stat. 7, 1 (1979), doi:10.1214/aos/1176344552 (bootstrap, jackknife).
    Efron and Stein, Ann. Stat. 9, 586 (1981), doi:10.1214/aos/1176345462 (jackknife variance).
    Kong, Technical report 348, University of Chicago (1992) (effective sample size).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message

CHUNK = 4_000_000
"""Sample weights of resamples that exist at a time, 32 MB."""

MOST_BLOCKS = 1_000
"""Parts that a jackknife leaves out, one after the other; its error bar is then known to 2 %."""

Estimator = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Sample weights (n_samples,), sum one → estimates (n_estimates,)."""


@dataclass(frozen=True)
class SampleDesign:
    """How the samples of an ensemble belong together.

    Attributes:
        groups: (n_samples,) int; samples of one group are not independent of each other, different
            groups are.
        weights: (n_samples,) ≥ 0, statistical weights; normalised to sum one.
        uneven: whether some temperatures have the first of these samples only.
    """

    groups: NDArray[np.int64]
    weights: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    uneven: bool = False

    def __post_init__(self) -> None:
        """Number the groups from 0 and normalise the weights."""
        groups = np.unique(np.asarray(self.groups), return_inverse=True)[1].reshape(-1)
        weights = np.asarray(self.weights, dtype=np.float64)
        weights = weights if weights.size else np.ones(len(groups))
        if weights.shape != groups.shape or np.any(weights < 0) or not weights.sum() > 0:
            raise PhysicsError(
                message(
                    "sample weights",
                    f"{weights.tolist()[:5]} …",
                    "one weight ≥ 0 per sample, not all 0",
                    "Give one positive weight per sample, or none at all.",
                )
            )
        object.__setattr__(self, "groups", groups.astype(np.int64))
        object.__setattr__(self, "weights", weights / weights.sum())

    @classmethod
    def independent(cls, n_samples: int) -> SampleDesign:
        """Return the design of independent samples of equal weight."""
        return cls(np.arange(n_samples))

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.groups)

    @property
    def n_groups(self) -> int:
        """Number of independent groups."""
        return int(self.groups.max()) + 1

    @property
    def shares(self) -> NDArray[np.float64]:
        """(n_groups,), weight of every group, sum one."""
        return np.asarray(np.bincount(self.groups, weights=self.weights), dtype=np.float64)

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of an error bar: groups − 1, or their effective number − 1.

        0 for one group, which has none.
        """
        return max(0.0, effective_sample_size(self.shares) - 1.0)

    def first(self, n_samples: int) -> SampleDesign:
        """Return the design of the first samples, for a study of the convergence."""
        return SampleDesign(self.groups[:n_samples], self.weights[:n_samples])

    def in_blocks(self, most: int) -> SampleDesign:
        """Return the design whose groups are blocks of neighbouring groups, ``most`` or fewer.

        All have equally many groups, but the last one; this design where there are no more.
        """
        size = -(-self.n_groups // most)
        if size == 1:
            return self
        return SampleDesign(self.groups // size, self.weights, self.uneven)

    def scaled(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return sample weights in which every group counts as often as given.

        (n_groups,) → (n_samples,), sum one.
        """
        weights = self.weights * counts[self.groups]
        return weights / weights.sum()


def bootstrap(
    estimator: Estimator, design: SampleDesign | int, n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Resample the groups with replacement and repeat the whole estimate each time.

    Args:
        estimator: of the sample weights.
        design: of the samples; a number stands for that many independent ones.
        n_resamples: number of repetitions.
        seed: of the generator.

    Returns:
        (n_resamples, n_estimates); ``bootstrap_errors`` turns them into error bars.
    """
    chunks = iterate_bootstrap_weights(design, n_resamples, seed)
    return np.array([estimator(weights) for some in chunks for weights in some])


def bootstrap_weights(
    design: SampleDesign | int, n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return the sample weights of every resample, (n_resamples, n_samples).

    Arguments as ``bootstrap``.
    """
    return np.concatenate(list(iterate_bootstrap_weights(design, n_resamples, seed)))


def iterate_bootstrap_weights(
    design: SampleDesign | int, n_resamples: int, seed: int
) -> Iterator[NDArray[np.float64]]:
    """Yield the sample weights of a few resamples at a time, (n_some, n_samples).

    Arguments as ``bootstrap``. No more than ``CHUNK`` weights exist at a time, whatever the number
    of samples; they are those of ``bootstrap_weights``.
    """
    design = _as_design(design)
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // design.n_samples)
    for start in range(0, n_resamples, rows):
        counts = rng.multinomial(
            design.n_groups,
            np.full(design.n_groups, 1.0 / design.n_groups),
            size=min(rows, n_resamples - start),
        ).astype(np.float64)
        if np.any(design.shares == 0.0):  # a resample must not consist of groups without weight
            counts[counts @ design.shares == 0.0] = 1.0
        yield np.array([design.scaled(count) for count in counts])


def bootstrap_errors(
    resampled: NDArray[np.floating], design: SampleDesign | int
) -> NDArray[np.float64]:
    """Return the standard errors of estimates from their resamples.

    The standard deviation of resamples misses the factor √(n/(n − 1)), as that of n values about
    their own mean does; with weights n is the effective number of groups, 1/Σw².

    Args:
        resampled: (n_resamples, …), of ``bootstrap``.
        design: that was resampled.

    Returns:
        (…), in the unit of the estimates; NaN for one group.
    """
    degrees = _as_design(design).degrees_of_freedom
    spread = np.asarray(resampled.std(axis=0), dtype=np.float64)
    if degrees <= 0.0:
        return np.full_like(spread, np.nan)
    return np.asarray(spread * np.sqrt((degrees + 1.0) / degrees))


def jackknife_weights(design: SampleDesign | int) -> NDArray[np.float64]:
    """Return the sample weights without one group at a time, (n_groups, n_samples).

    (0, n_samples) for one group: nothing is left without it.
    """
    design = _as_design(design)
    rows = list(_leave_out(design))
    return np.array(rows) if rows else np.empty((0, design.n_samples))


def _leave_out(design: SampleDesign) -> Iterator[NDArray[np.float64]]:
    """Yield the sample weights without one group at a time; nothing for one group."""
    counts = np.ones(design.n_groups)
    for group in range(design.n_groups if design.degrees_of_freedom > 0.0 else 0):
        counts[group] = 0.0
        yield design.scaled(counts)
        counts[group] = 1.0


def jackknife_errors(
    whole: NDArray[np.floating], without: NDArray[np.floating], design: SampleDesign | int
) -> NDArray[np.float64]:
    """Return the standard errors of estimates from those without one group at a time.

    Var θ = Σ_g (1 − w_g) (θ₍₋g₎ − θ̄)², with θ̄ the mean of the θ₍₋g₎ under weights 1 − w_g: for
    equal weights that of Efron and Stein (1981); for a mean of groups whose variance is that of one
    sample over their number of samples, w_g ∝ number, it has no bias.

    Args:
        whole: (…), from all groups; only its shape counts.
        without: (n_groups, …), under ``jackknife_weights``.
        design: of the samples.

    Returns:
        (…), in the unit of the estimates; NaN for one group.
    """
    shares = _as_design(design).shares
    if len(without) == 0:
        return np.full(np.shape(whole), np.nan)
    kept = 1.0 - shares
    centre = np.tensordot(kept / kept.sum(), without, axes=1)
    return np.asarray(np.sqrt(np.tensordot(kept, (without - centre) ** 2, axes=1)))


def pseudo_values(
    whole: NDArray[np.floating], without: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return what every group contributes, n θ − (n − 1) θ₍₋g₎, for n groups.

    For a linear estimator with groups of equal weight it is the estimate from that group alone,
    otherwise its linearisation. Their mean is θ less its bias of first order in 1/n.

    Args:
        whole: (…), θ of all groups.
        without: (n_groups, …), under ``jackknife_weights``; none for one group.

    Returns:
        (n_groups, …), or (0, …) for one group.
    """
    n = len(without)
    if n == 0:
        return np.empty((0, *np.shape(whole)))
    return np.asarray(n * whole - (n - 1) * without)


def jackknife(estimator: Estimator, design: SampleDesign | int) -> NDArray[np.float64]:
    """Repeat the estimate without one group at a time and return ``pseudo_values``.

    Of more than ``MOST_BLOCKS`` groups, blocks of neighbouring ones are left out: time grows with
    the number of samples then, not with its square.

    Args:
        estimator: of the sample weights.
        design: of the samples; a number stands for that many independent ones.

    Returns:
        (n_groups, n_estimates), or one row per block; (0, n_estimates) for one group.
    """
    design = _as_design(design).in_blocks(MOST_BLOCKS)
    without = np.array([estimator(weights) for weights in _leave_out(design)])
    return pseudo_values(estimator(design.weights), without)


def standard_errors(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard error of the mean of independent values of equal weight: (n, …) → (…).

    n − 1 degrees of freedom; NaN for fewer than two.
    """
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(len(values)))


def effective_sample_size(weights: NDArray[np.float64]) -> float:
    """Return (Σw)²/Σw²: the number of equally weighted samples that would be as precise."""
    return float(np.sum(weights) ** 2 / np.sum(np.square(weights)))


def _as_design(design: SampleDesign | int) -> SampleDesign:
    return SampleDesign.independent(design) if isinstance(design, int) else design
