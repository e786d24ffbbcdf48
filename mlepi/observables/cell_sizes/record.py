"""The record of a series of cell sizes: v_F by every estimator, and its limit of infinite cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class CellSizesRecord:
    """Velocities of runs with cells of several sizes, and straight lines in 1/N through them.

    Attributes:
        sizes: (n_sizes,), N of N × N cells.
        n_samples: (n_sizes,), supercells per temperature.
        temperatures: (n_temperatures,).
        velocity_window: smallest and largest |k − K| of the fits.
        dispersion: "hyperbola" or "linear".
        estimators: names.
        equilibrium: (n_estimators, 2), v_F and mean slope of the undisplaced structure.
        values: (n_estimators, 2, n_sizes, n_temperatures), v_F and mean slope; NaN where a run does
            not tell.
        errors: (n_estimators, 2, n_sizes, n_temperatures), bootstrap.
        limits: (n_estimators, 2, n_temperatures), value at 1/N → 0; NaN with fewer than two sizes
            that tell.
        limit_errors: (n_estimators, 2, n_temperatures).
        chi_squared: (n_estimators, 2, n_temperatures).
        degrees_of_freedom: (n_estimators, 2, n_temperatures).
    """

    sizes: NDArray[np.int64] = field(metadata=unit("1"))
    n_samples: NDArray[np.int64] = field(metadata=unit("1"))
    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    velocity_window: tuple[float, ...] = field(metadata=unit("1/Å"))
    dispersion: str = field(metadata=unit("1"))
    estimators: tuple[str, ...] = field(metadata=unit("1"))
    equilibrium: NDArray[np.float64] = field(metadata=unit("m/s"))
    values: NDArray[np.float64] = field(metadata=unit("m/s"))
    errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    limits: NDArray[np.float64] = field(metadata=unit("m/s"))
    limit_errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    chi_squared: NDArray[np.float64] = field(metadata=unit("1"))
    degrees_of_freedom: NDArray[np.int64] = field(metadata=unit("1"))
