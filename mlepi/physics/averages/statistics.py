"""Averages over samples and their error bars.

An estimator is any function of the weights of the samples, (n_samples,) with sum one, to estimates:
a mean is linear in them, the peak of an averaged spectrum is not. Samples that were not drawn
independently of each other, such as antithetic pairs or the points of one randomised quasi-random
sequence, form a *group*; resampling always takes or leaves whole groups, so that error bars hold
for every sampler. Weighted samples carry their weights into every resample.

References:
    Efron, Ann. Stat. 7, 1 (1979), doi:10.1214/aos/1176344552 (bootstrap, jackknife).
    Kong, Technical report 348, University of Chicago (1992) (effective sample size).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message

Estimator = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Sample weights (n_samples,), sum one → estimates (n_estimates,)."""


@dataclass(frozen=True)
class SampleDesign:
    """How the samples of an ensemble belong together.

    Attributes:
        groups: (n_samples,) int; samples of one group are not independent of each other, different
            groups are.
        weights: (n_samples,) ≥ 0, statistical weights; normalised to sum one.
    """

    groups: NDArray[np.int64]
    weights: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

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

    def first(self, n_samples: int) -> SampleDesign:
        """Return the design of the first samples, for a study of the convergence."""
        return SampleDesign(self.groups[:n_samples], self.weights[:n_samples])

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
        (n_resamples, n_estimates); the standard deviation over the first axis is the error bar.

    Raises:
        PhysicsError: fewer than two groups, which carry no error bar.
    """
    return np.array(
        [estimator(weights) for weights in bootstrap_weights(design, n_resamples, seed)]
    )


def bootstrap_weights(
    design: SampleDesign | int, n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return the sample weights of every resample, (n_resamples, n_samples).

    Arguments and errors as ``bootstrap``.
    """
    design = _require_groups("bootstrap", design)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(
        design.n_groups, np.full(design.n_groups, 1.0 / design.n_groups), size=n_resamples
    )
    return np.array([design.scaled(count.astype(np.float64)) for count in counts])


def jackknife(estimator: Estimator, design: SampleDesign | int) -> NDArray[np.float64]:
    """Repeat the estimate without one group at a time and return pseudo-values.

    The pseudo-value of group g is n θ − (n − 1) θ₍₋g₎, for n groups: for a linear estimator with
    groups of equal weight it is the estimate from that group alone, otherwise its linearisation.
    Their mean is θ less its bias of first order in 1/n; their standard deviation over √n is the
    error bar of ``standard_errors``.

    Args:
        estimator: of the sample weights.
        design: of the samples; a number stands for that many independent ones.

    Returns:
        (n_groups, n_estimates).

    Raises:
        PhysicsError: fewer than two groups.
    """
    design = _require_groups("jackknife", design)
    n = design.n_groups
    whole = estimator(design.weights)
    without = np.array([estimator(design.scaled(1.0 - np.eye(1, n, g)[0])) for g in range(n)])
    return n * whole - (n - 1) * without


def standard_errors(pseudo_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard error of the mean of independent values: (n, …) → (…)."""
    return np.asarray(pseudo_values.std(axis=0, ddof=1) / np.sqrt(len(pseudo_values)))


def effective_sample_size(weights: NDArray[np.float64]) -> float:
    """Return (Σw)²/Σw²: the number of equally weighted samples that would be as precise."""
    return float(np.sum(weights) ** 2 / np.sum(np.square(weights)))


def _require_groups(where: str, design: SampleDesign | int) -> SampleDesign:
    design = SampleDesign.independent(design) if isinstance(design, int) else design
    if design.n_groups < 2:
        groups = (
            "independent sample"
            if design.n_groups == design.n_samples
            else "independent group of samples"
        )
        fix = "Ask for more samples or, for quasi-random ones, for replicates."
        raise PhysicsError(message(where, f"{design.n_groups} {groups}", "at least two", fix))
    return design
