"""Extrapolation of a series of cell sizes: y(N) = y∞ + c/N by weighted least squares.

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
    """

    limit: float
    limit_error: float
    slope: float
    chi_squared: float
    degrees_of_freedom: int


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
    return SizeFit(
        float(limit),
        float(np.sqrt(covariance[0, 0])),
        float(slope),
        float(residuals @ residuals),
        len(np.asarray(sizes)) - 2,
    )
