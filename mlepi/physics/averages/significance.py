"""Whether two trained networks differ: errors by random start and by test structure.

A network is trained from several random starts and tested on several structures. Both are samples:
other starts, and other structures of the same kind, would have given other errors. Of two networks
that were tested on the same structures, the difference D of their mean errors has the variance

    Var D = Var_s(d_s)/n_s + Var_a(e_a)/n_a + Var_b(e_b)/n_b,

d_s the difference on structure s of errors averaged over the starts, e_a and e_b the errors of
every start of either network averaged over the structures. Where the structures weigh different
numbers of values (forces of more atoms), so that D is the difference of means over all values, the
first term is the jackknife's, with 1/Σw² − 1 degrees of freedom (``statistics``). What varies with
start and structure at once is counted in all terms, so the variance is rather too large than too
small. D over its square root is taken for Student's t with the degrees of freedom of Welch and
Satterthwaite. Without differences between starts this is the paired t-test over structures, without
differences between structures Welch's t-test over starts.

One start tells nothing about others: then only the structures count, and the p-value is that of
these two trainings, not of the two networks.

References:
    Student, Biometrika 6, 1 (1908), doi:10.1093/biomet/6.1.1.
    Welch, Biometrika 34, 28 (1947), doi:10.1093/biomet/34.1-2.28.
    Holm, Scand. J. Statist. 6, 65 (1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlepi.errors import PhysicsError, message
from mlepi.physics.averages.intervals import combined_degrees_of_freedom
from mlepi.physics.averages.statistics import (
    SampleDesign,
    jackknife_errors,
    jackknife_weights,
    standard_errors,
)

LEVEL = 0.05
"""p-value below which a difference is called significant."""


@dataclass(frozen=True)
class Difference:
    """Difference of the mean errors of two networks.

    Attributes:
        mean: of the first less that of the second, in the unit of the errors.
        error: its standard error; NaN where nothing can be said.
        degrees_of_freedom: of the standard error.
        p_value: two-sided, that equal networks would differ as much; NaN where nothing can be said.
        starts: whether other random starts are part of it: both networks have two or more.
    """

    mean: float
    error: float
    degrees_of_freedom: float
    p_value: float
    starts: bool


def compare_errors(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
) -> Difference:
    """Compare the errors of two networks on the same structures.

    Args:
        first: (n_starts, n_structures), errors of one network, any unit.
        second: (n_starts, n_structures), of the other, the same structures in the same order.
        weights: (n_structures,) > 0, such as the numbers of values behind every error; equal when
            None.

    Raises:
        PhysicsError: different structures, or none.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not first.size:
        raise PhysicsError(
            message(
                "compared errors",
                f"shapes {first.shape} and {second.shape}",
                "(n_starts, n_structures) of the same structures",
                "Compare networks that were tested on the same structures.",
            )
        )
    paired = first.mean(axis=0) - second.mean(axis=0)
    design = SampleDesign(
        np.arange(len(paired)), np.ones(len(paired)) if weights is None else weights
    )
    mean = np.asarray(design.weights @ paired)
    error = jackknife_errors(mean, jackknife_weights(design) @ paired, design)
    terms: list[tuple[NDArray[np.float64], float]] = [(error, design.degrees_of_freedom)]
    starts = min(len(first), len(second)) > 1
    if starts:
        terms += [
            (standard_errors(each @ design.weights), len(each) - 1.0) for each in (first, second)
        ]
    known = [(float(each) ** 2, degrees) for each, degrees in terms if degrees > 0.0]
    if not known:
        return Difference(float(mean), math.nan, math.nan, math.nan, starts)
    variances, degrees = (np.array(column, dtype=np.float64) for column in zip(*known, strict=True))
    total = float(np.sqrt(variances.sum()))
    if total <= 1e-12 * float(np.abs(first).max()):  # nothing varies but the last digits
        equal = abs(float(mean)) <= total
        return Difference(float(mean), total, math.nan, 1.0 if equal else 0.0, starts)
    effective = float(combined_degrees_of_freedom(variances, degrees))
    p_value = 2.0 * float(special.stdtr(effective, -abs(float(mean) / total)))
    return Difference(float(mean), total, effective, p_value, starts)


def adjust_p_values(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return p-values for several comparisons at once, by Holm (1979).

    The smallest of n is multiplied by n, the next by n − 1, and so on, none below one before it:
    when they are compared with a level, the chance of a single false alarm among all is that level.

    Args:
        p_values: of the comparisons; NaN where nothing can be said, which counts for nothing.

    Returns:
        (n,), at most 1; NaN stays.
    """
    values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return adjusted
