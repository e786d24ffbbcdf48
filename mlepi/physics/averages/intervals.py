"""Intervals of given coverage from standard errors and their degrees of freedom.

A standard error from few groups is uncertain itself: ± one of them holds the truth in 61 %, not in
68 % of all cases for four groups. Student's quantile makes up for that.

References:
    Student, Biometrika 6, 1 (1908), doi:10.1093/biomet/6.1.1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

ONE_SIGMA = float(special.erf(math.sqrt(0.5)))
"""Share of a normal distribution within one standard deviation: the "68 % interval"."""

TWO_SIGMA = 0.95
"""The "95 % interval"."""


def quantile(degrees_of_freedom: float, level: float = ONE_SIGMA) -> float:
    """Return by how many standard errors an interval reaches to either side.

    Args:
        degrees_of_freedom: of the standard error; 0 where there is none.
        level: share of all cases in which the interval holds the truth.

    Returns:
        Student's t, 1 for ``ONE_SIGMA`` and many degrees of freedom; NaN where there are none or
        where they are not known.
    """
    if not degrees_of_freedom > 0.0:
        return math.nan
    return float(special.stdtrit(degrees_of_freedom, 0.5 + 0.5 * level))


def half_widths(
    errors: ArrayLike, degrees_of_freedom: float, level: float = ONE_SIGMA
) -> NDArray[np.float64]:
    """Return half widths of intervals.

    Args:
        errors: (…), standard errors, any unit; NaN where not measured.
        degrees_of_freedom: of all of them.
        level: share of all cases in which the interval holds the truth.

    Returns:
        (…), in the same unit; NaN where not measured.
    """
    return np.asarray(quantile(degrees_of_freedom, level) * np.asarray(errors, dtype=np.float64))


def combined_degrees_of_freedom(
    variances: NDArray[np.floating], degrees_of_freedom: ArrayLike
) -> NDArray[np.float64]:
    """Return the effective degrees of freedom of a sum of independent variances.

    (Σ v)²/Σ(v²/ν), Welch and Satterthwaite.

    Args:
        variances: (n_terms, …), squared standard errors of the terms of a sum.
        degrees_of_freedom: (n_terms,) of each; infinite for an exact one.

    Returns:
        (…); NaN where nothing varies or a term is not measured.

    References:
        Satterthwaite, Biometrics Bulletin 2, 110 (1946), doi:10.2307/3002019.
    """
    degrees = np.asarray(degrees_of_freedom, dtype=np.float64)
    degrees = np.where(degrees > 0.0, degrees, np.nan)
    below = np.tensordot(1.0 / degrees, np.square(variances), axes=1)
    total = np.square(np.sum(variances, axis=0))
    return np.asarray(
        np.divide(total, below, out=np.full(np.shape(below), np.nan), where=below > 0.0)
    )
