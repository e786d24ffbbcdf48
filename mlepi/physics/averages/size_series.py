"""Extrapolation of a series of cell sizes: y(N) = y∞ + c/N by weighted least squares.

How far a size is from the limit is the systematic error of its cell; its own standard error says
from where on that distance is more than noise.

References:
    Press et al., Numerical Recipes, 3rd ed. (2007), sec. 15.2 (straight line with known errors).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message


@dataclass(frozen=True)
class SizeFit:
    """A straight line in 1/N.

    Attributes:
        limit: y∞, in the unit of the values.
        limit_error: standard error of it, from the errors of the values.
        slope: c.
        chi_squared: sum of the squared residuals over the squared errors; near the degrees of
            freedom where a line fits.
        degrees_of_freedom: sizes less two.
        distances: (n_sizes,), values less the limit.
        distance_errors: (n_sizes,), standard errors of these; values and limit are correlated. They
            are multiplied by √(χ²/degrees of freedom) where that is more than one: sizes that are
            on no line leave the limit as uncertain as they scatter about one.
    """

    limit: float
    limit_error: float
    slope: float
    chi_squared: float
    degrees_of_freedom: int
    distances: NDArray[np.float64]
    distance_errors: NDArray[np.float64]


def extrapolate_sizes(
    sizes: NDArray[np.integer], values: NDArray[np.float64], errors: NDArray[np.float64]
) -> SizeFit:
    """Fit y∞ + c/N to values with error bars.

    Args:
        sizes: (n_sizes,), N; cells along one direction.
        values: (n_sizes,).
        errors: (n_sizes,), standard errors > 0.

    Returns:
        The fit.

    Raises:
        PhysicsError: fewer than two different sizes, or an error bar that is not positive.
    """
    if len(np.unique(sizes)) < 2 or not np.all(np.isfinite(values)) or not np.all(errors > 0):
        raise PhysicsError(
            message(
                "size series",
                f"sizes {np.asarray(sizes).tolist()} with error bars {np.asarray(errors).tolist()}",
                "values with positive error bars at two different sizes or more",
                "Add sizes or samples.",
            )
        )
    design = (
        np.stack([np.ones(len(sizes)), 1.0 / np.asarray(sizes, dtype=np.float64)], axis=1)
        / errors[:, None]
    )
    covariance = np.linalg.inv(design.T @ design)
    limit, slope = covariance @ design.T @ (values / errors)
    residuals = values / errors - design @ np.array([limit, slope])
    chi_squared, degrees = float(residuals @ residuals), len(np.asarray(sizes)) - 2
    weights = covariance[0] @ design.T / errors  # limit = weights · values
    variances = errors**2 * (1.0 - 2.0 * weights) + np.sum((weights * errors) ** 2)
    scatter = max(1.0, chi_squared / degrees) if degrees else 1.0
    return SizeFit(
        float(limit),
        float(np.sqrt(covariance[0, 0])),
        float(slope),
        chi_squared,
        degrees,
        np.asarray(values - limit),
        np.sqrt(scatter * np.clip(variances, 0.0, None)),
    )


def interpolate_sizes(
    sizes: NDArray[np.integer], values: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Interpolate linearly in 1/N between neighbouring sizes.

    Args:
        sizes: (n_sizes,), N, ascending.
        values: (n_sizes, …).
        size: N that is asked for; beyond the largest size its value counts.

    Returns:
        (…).

    Raises:
        PhysicsError: smaller than all sizes.
    """
    if size < sizes[0]:
        raise PhysicsError(
            message(
                "size series",
                f"N = {size}",
                f"at least the smallest of its sizes {np.asarray(sizes).tolist()}",
                "Add that size to the series.",
            )
        )
    upper = int(np.searchsorted(sizes, size))
    if upper == len(sizes) or sizes[upper] == size:
        return np.asarray(values[min(upper, len(sizes) - 1)])
    low, high = (1.0 / float(sizes[place]) for place in (upper - 1, upper))
    share = (1.0 / size - low) / (high - low)
    return np.asarray((1.0 - share) * values[upper - 1] + share * values[upper])
