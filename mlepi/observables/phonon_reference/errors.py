"""Root mean square errors of frequencies, where some branches of the reference are not known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def root_mean_square(values: NDArray[np.float64]) -> float:
    """Return the root mean square of numbers, without those that are NaN."""
    return float(np.sqrt(np.nanmean(values**2)))


def pool_groups(errors: NDArray[np.float64], groups: Sequence[str]) -> dict[str, float]:
    """Return the root mean square error over all branches of a group of wave vectors.

    Args:
        errors: (n_qpoints, n_branches), NaN where a branch is not known.
        groups: (n_qpoints,), of every wave vector.

    Returns:
        Group → error, in the order of their first wave vectors.
    """
    return {
        group: root_mean_square(errors[[each == group for each in groups]])
        for group in dict.fromkeys(groups)
    }
