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

from dataclasses import dataclass

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
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    correlations: NDArray[np.float64]
    variance_reductions: NDArray[np.float64]
    sample_reductions: NDArray[np.float64]


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
    )


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
