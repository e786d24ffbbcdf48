"""How a mean over samples and its error bar settle as samples are added."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.statistics import (
    SampleDesign,
    bootstrap_errors,
    iterate_bootstrap_weights,
)


def mean_and_error(
    values: NDArray[np.float64], design: SampleDesign, n_resamples: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average over the samples, with the standard error of a bootstrap over their groups.

    Args:
        values: (n_samples, …), any unit.
        design: of the samples; one group has no error: NaN.
        n_resamples: of the bootstrap.
        seed: of its generator.

    Returns:
        Mean and error, (…) each, in the unit of the values.
    """
    flat = values.reshape(len(values), -1)
    chunks = iterate_bootstrap_weights(design, n_resamples, seed)
    errors = bootstrap_errors(np.concatenate([weights @ flat for weights in chunks]), design)
    return (design.weights @ flat).reshape(values.shape[1:]), errors.reshape(values.shape[1:])


def choose_counts(design: SampleDesign, n_counts: int) -> NDArray[np.int64]:
    """Choose sample sizes, evenly in the logarithm.

    From the fewest that carry an error bar to all: (≤ n_counts,) int.
    """
    fewest = next(
        (n for n in range(2, design.n_samples + 1) if design.first(n).n_groups > 1),
        design.n_samples,
    )
    return np.unique(np.round(np.geomspace(fewest, design.n_samples, n_counts)).astype(np.int64))


def running_means(
    values: NDArray[np.float64], design: SampleDesign, n_counts: int, n_resamples: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Repeat ``mean_and_error`` with the first samples only.

    Args:
        values: (n_samples, …).
        design: of the samples.
        n_counts: number of sample sizes.
        n_resamples: of every bootstrap.

    Returns:
        Numbers of samples (n_counts,), means and errors (n_counts, …).
    """
    counts = choose_counts(design, n_counts)
    estimates = [
        mean_and_error(values[:count], design.first(count), n_resamples, int(count))
        for count in counts
    ]
    return (
        counts,
        np.array([mean for mean, _ in estimates]),
        np.array([error for _, error in estimates]),
    )
