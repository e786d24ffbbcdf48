"""When an error bar is small enough: rules for estimates that are looked at while samples come.

Who stops at the first error bar below a target stops at one that is small by chance: it is too
small, and where small values vary little (a skewed distribution), the mean is off as well. Chow and
Robbins (1965) show that intervals of such a rule have the coverage they promise in the limit of
many samples; for few, three things are needed here:

- **A minimum.** Nothing is decided before ``MIN_GROUPS`` independent groups of samples, or before
  ``MIN_POINTS`` samples in each of ``MIN_REPLICATES`` groups where their number is fixed (the
  replicates of a Sobol sequence). Groups that are visibly skewed must be more,
  n ≥ ``SKEW_GROUPS`` (|G₁| + δG₁)² with δG₁ = √(6/n): Cochran's rule n > 25 G₁² (1977, sec. 2.15),
  with a larger factor, since a sample of few shows too little of its skewness, and since looking
  again and again needs more than looking once. What a look has asked for is not taken back by a
  later one, which may be lucky.
- **A bound instead of the error bar.** s² from ν degrees of freedom is too small by more than
  χ²_β(ν)/ν in a share β of all cases; what must lie below the target is the error bar times
  √(ν/χ²_β(ν)), the upper end of a one-sided interval of σ: ``bound``.
- **Few looks.** The next size follows from the bound of the last one, as in the two stages of Stein
  (1945), and is at most ``GROWTH`` times as large.

Promise: at the size where this rule stops, the reported intervals (``intervals``) hold the truth in
0.65–0.71 of all cases where they promise 0.683 and in 0.93–0.97 where they promise 0.95; for
independent samples and for groups (antithetic pairs, pairs of ZG signs, Sobol replicates), normal
and exponential. ``tests/integration/test_stopping_coverage.py`` measures it.

References:
    Chow, Robbins, Ann. Math. Stat. 36, 457 (1965), doi:10.1214/aoms/1177700156 (stopping at a fixed
    width). Stein, Ann. Math. Stat. 16, 243 (1945), doi:10.1214/aoms/1177731088 (size from the
    variance of a pilot). Cochran, Sampling techniques, 3rd ed., Wiley (1977), sec. 2.15 (skewness).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

MIN_GROUPS = 32
"""Independent groups before which nothing is decided."""

MIN_REPLICATES, MIN_POINTS = 32, 4
"""Groups, and samples in each, where more samples make larger groups and not more of them.

An error bar of fewer replicates varies more between two looks than it falls: with 8, intervals of
simulated campaigns held the truth in 0.63–0.64 and 0.91–0.92 of all cases.
"""

UNKNOWN_SHAPE = 64
"""Groups before which nothing is decided where their skewness is not known."""

SKEW_GROUPS = 80.0
"""Groups per squared skewness; Cochran's rule has 25 for looking once."""

VISIBLE = 1.0
"""Skewness in units of its error for normal groups, beyond which it counts."""

BETA = 0.25
"""Share of cases in which the true error is larger than its bound."""

GROWTH = 2.0
"""Factor by which an ensemble grows at most between two looks."""

SAFETY = 1.05
"""Factor on the samples that the bound asks for, so that the next look is mostly the last."""


@dataclass(frozen=True)
class Evidence:
    """What the samples so far say of an estimate at one temperature.

    Attributes:
        error: half the 68 % interval, any unit; not finite where there is none.
        n_groups: independent groups of samples, or blocks of them, that it rests on.
        skewness: G₁ of what single groups contribute; NaN where it is not known.
        group_size: samples per group where the number of groups is fixed; 0 where it grows.
        demanded: factor by which the samples must become more because an earlier look said so.
    """

    error: float
    n_groups: int
    skewness: float = math.nan
    group_size: float = 0.0
    demanded: float = 1.0

    @property
    def bound(self) -> float:
        """Upper end of the one-sided interval of the error; infinite for one group."""
        degrees = self.n_groups - 1
        if degrees < 1 or not math.isfinite(self.error):
            return math.inf
        return self.error * math.sqrt(degrees / (2.0 * special.gammaincinv(0.5 * degrees, BETA)))

    @property
    def lacking(self) -> float:
        """Factor by which the samples must become more before anything is decided; 1 if not."""
        if self.group_size > 0.0:
            return max(self.demanded, MIN_POINTS / self.group_size)
        least = float(MIN_GROUPS if math.isfinite(self.skewness) else UNKNOWN_SHAPE)
        noise = math.sqrt(6.0 / max(self.n_groups, 1))
        if abs(self.skewness) > VISIBLE * noise:
            least = max(least, SKEW_GROUPS * (abs(self.skewness) + noise) ** 2)
        return max(self.demanded, least / max(self.n_groups, 1))

    def reaches(self, target: float) -> bool:
        """Tell whether the error is below a target, in its unit, beyond reasonable doubt."""
        return self.lacking <= 1.0 and bool(self.error == 0.0 or self.bound <= target)

    def growth(self, target: float) -> float:
        """Return by which factor the samples should become more for a target, at least 1.

        Standard errors fall as one over the square root of the number of samples. The factor is
        that of all samples that are still needed; an ensemble takes ``GROWTH`` of it at a time.
        """
        return float(max(1.0, self.lacking, self.needed(target)))

    def needed(self, target: float) -> float:
        """Return the same factor for the variance alone; below 1 where there are more than enough.

        It leaves out the minimum that nothing is decided before.
        """
        if self.error == 0.0:
            return 0.0
        if not target > 0.0:
            return math.inf
        return float((self.bound / target) ** 2 * SAFETY)


def find_skewness(contributions: NDArray[np.float64], n_groups: int | None = None) -> float:
    """Return G₁ of what single groups contribute.

    Args:
        contributions: (n,), such as jackknife pseudo-values. Groups that have no samples
            contribute about the mean.
        n_groups: groups that have samples; None: all.

    Returns:
        √n Σd³/(Σd²)^{3/2}; 0 where nothing varies.
    """
    deviations = contributions - contributions.mean()
    scale = float(np.abs(deviations).max(initial=0.0))
    if scale == 0.0:
        return 0.0
    unit = deviations / scale
    n = len(contributions) if n_groups is None else n_groups
    return float(math.sqrt(n) * np.sum(unit**3) / np.sum(unit**2) ** 1.5)
