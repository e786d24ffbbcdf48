"""Control variate.

The noise that an expensive estimate shares with a cheap one is subtracted from it.

    θ_cv = θ_n − c · (x_n − x_N)

θ_n and x_n come from the same n samples, by the expensive and by the cheap Hamiltonian; x_N is the
cheap estimate from N ≫ n samples, the first n among them. For any c the expectation is that of θ_n;
with c = cov(θ, x)/var(x) the variance is

    var(θ_cv) = var(θ) [(1 − ρ²)/n + ρ²/N],

var(θ)/n being that of the plain estimate and ρ the correlation of the two. Estimates may be
nonlinear in the samples, as the peak of an averaged spectrum is: variances and correlations are
those of jackknife pseudo-values. The coefficient for a group of samples is fitted to the other
groups only; fitted to itself it would follow the noise, and the error bar would be too small.

References:
    Owen, Monte Carlo theory, methods and examples (2013), sec. 8.9, https://artowen.su.domains/mc.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message

MIN_GROUPS = 4
"""Fewer independent groups of samples cannot tell a correlation."""


@dataclass(frozen=True)
class ControlledEstimate:
    """Estimates after subtraction of the shared noise; all arrays have the shape of one estimate.

    Attributes:
        values: θ_cv.
        errors: standard errors, those of the cheap average included; their degrees of freedom are
            the groups of expensive samples less one, more where the cheap average adds.
        coefficients: c, the mean over the folds.
        correlations: ρ of the pseudo-values.
        variance_reductions: squared error of the plain estimate over that of this one, the error of
            the cheap average included.
        sample_reductions: the same if N were infinite.
        contributions: (n_groups, …), what single groups contribute to θ_cv, those of cheap samples
            added in as many parts: their variance over n_groups is that of θ_cv, and their shape
            decides how far the errors can be trusted.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    correlations: NDArray[np.float64]
    variance_reductions: NDArray[np.float64]
    sample_reductions: NDArray[np.float64]
    contributions: NDArray[np.float64]


class ControlledSizes(NamedTuple):
    """How many samples an error bar takes with a control variate.

    Attributes:
        expensive: n, at every condition.
        cheap: N, at all of them.
        cost: of the expensive samples that are still to come and of all cheap ones.
    """

    expensive: tuple[int, ...]
    cheap: int
    cost: float


N_TRIED = 400
"""Numbers of cheap samples that are compared, equally spaced in their logarithm."""


def plan_sizes(
    plain: Sequence[float],
    correlations: Sequence[float],
    done: Sequence[int],
    largest: tuple[int, int],
    costs: tuple[float, float],
) -> ControlledSizes | None:
    """Find the cheapest numbers of samples for which θ_cv has the error that is wanted.

    Where the plain estimate takes n₀ samples, θ_cv takes (1 − ρ²)/n + ρ²/N = 1/n₀.

    Args:
        plain: n₀ at every condition, all temperatures of a run for example.
        correlations: ρ there.
        done: expensive samples that are there already.
        largest: that may be taken at every condition, expensive ones and cheap ones.
        costs: of one sample, expensive and cheap, in any unit.

    Returns:
        The sizes; None where the error is out of reach.
    """
    needed, squares = np.asarray(plain, dtype=np.float64), np.asarray(correlations) ** 2
    have, n_conditions = np.asarray(done, dtype=np.float64), len(done)
    if largest[1] < have.max():
        return None
    cheap = np.unique(np.ceil(np.geomspace(have.max(), largest[1], N_TRIED)))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        left = 1.0 / needed - squares / cheap
        wanted = np.where(left > 0.0, np.ceil((1.0 - squares) / left), math.inf)
    expensive = np.maximum(wanted, have)
    # cheap ones are seen on the samples of the others as well, twice
    cost = costs[0] * (expensive - have).sum(axis=1) + costs[1] * (
        n_conditions * cheap[:, 0] + expensive.sum(axis=1)
    )
    possible = (expensive <= largest[0]).all(axis=1) & (expensive <= cheap).all(axis=1)
    if not possible.any():
        return None
    best = int(np.argmin(np.where(possible, cost, math.inf)))
    sizes = tuple(int(n) for n in expensive[best])
    return ControlledSizes(sizes, int(cheap[best, 0]), float(cost[best]))


def apply_control(
    estimate: NDArray[np.float64],
    pseudo_values: NDArray[np.float64],
    control: NDArray[np.float64],
    control_pseudo_values: NDArray[np.float64],
    reference: NDArray[np.float64],
    reference_pseudo_values: NDArray[np.float64],
    n_folds: int = 5,
) -> ControlledEstimate:
    """Subtract from an estimate the noise that it shares with a cheap one.

    Args:
        estimate: (…), θ_n of the expensive Hamiltonian.
        pseudo_values: (n_groups, …), its jackknife pseudo-values.
        control: (…), x_n of the cheap Hamiltonian on the same samples.
        control_pseudo_values: (n_groups, …), in the same order.
        reference: (…), x_N of the cheap Hamiltonian on many samples.
        reference_pseudo_values: (n_reference_groups, …).
        n_folds: parts of the samples; the coefficient for one is fitted to the others.

    Returns:
        The estimate, its error bar, and what was gained.

    Raises:
        PhysicsError: the arrays do not belong together, or there are too few samples.
    """
    n_groups = len(pseudo_values)
    if (
        n_groups < MIN_GROUPS
        or pseudo_values.shape != control_pseudo_values.shape
        or pseudo_values.shape[1:] != estimate.shape
    ):
        raise PhysicsError(
            message(
                "control variate",
                f"{pseudo_values.shape} expensive and {control_pseudo_values.shape} cheap "
                "pseudo-values",
                f"the same samples for both, at least {MIN_GROUPS} independent groups",
                "Use the same seed, sampler and temperatures, and more samples.",
            )
        )
    folds = np.arange(n_groups) % min(n_folds, n_groups)
    residuals = np.empty_like(pseudo_values)
    coefficients = np.empty_like(pseudo_values)
    for fold in range(folds.max() + 1):
        inside = folds == fold
        coefficients[inside] = _fit_coefficient(
            pseudo_values[~inside], control_pseudo_values[~inside]
        )
        residuals[inside] = pseudo_values[inside] - coefficients[inside] * (
            control_pseudo_values[inside] - reference
        )
    coefficient = coefficients.mean(axis=0)
    plain = pseudo_values.var(axis=0, ddof=1) / n_groups
    residual = residuals.var(axis=0, ddof=1) / n_groups
    cheap = (
        coefficient**2 * reference_pseudo_values.var(axis=0, ddof=1) / len(reference_pseudo_values)
    )
    return ControlledEstimate(
        values=estimate - coefficient * (control - reference),
        errors=np.sqrt(residual + cheap),
        coefficients=coefficient,
        correlations=_correlate(pseudo_values, control_pseudo_values),
        variance_reductions=_ratio(plain, residual + cheap),
        sample_reductions=_ratio(plain, residual),
        contributions=residuals + _share_out(reference_pseudo_values, cheap * n_groups, n_groups),
    )


def _share_out(
    pseudo_values: NDArray[np.float64], variances: NDArray[np.float64], n_groups: int
) -> NDArray[np.float64]:
    """Return deviations of pseudo-values in so many parts, with given variances: (n_groups, …)."""
    if len(pseudo_values) < n_groups:
        return np.zeros((n_groups, *variances.shape))
    parts = np.array([part.mean(axis=0) for part in np.array_split(pseudo_values, n_groups)])
    deviations = parts - parts.mean(axis=0)
    scale = np.sqrt(_ratio(variances, deviations.var(axis=0, ddof=1)))
    return np.asarray(deviations * scale)


def _fit_coefficient(
    values: NDArray[np.float64], control: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return cov(θ, x)/var(x), 0 where the control does not vary: (n, …) → (…)."""
    centred = control - control.mean(axis=0)
    return _ratio(
        np.sum(centred * (values - values.mean(axis=0)), axis=0), np.sum(centred**2, axis=0)
    )


def _correlate(values: NDArray[np.float64], control: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b = values - values.mean(axis=0), control - control.mean(axis=0)
    return _ratio(np.sum(a * b, axis=0), np.sqrt(np.sum(a**2, axis=0) * np.sum(b**2, axis=0)))


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(
        np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
    )
