"""The record of the control_variate stage: what a cheap Hamiltonian takes off the error bars."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit

SLOPE = 2
"""Place of the mean slope in the last axis of a ``ControlledRecord``."""


@dataclass(frozen=True)
class ControlledRecord:
    """v_F of one estimator with a control variate.

    The last axis is (v_F, its change from the first T, mean slope).

    Attributes:
        plain: (n_temperatures, 3), without control.
        plain_errors: (n_temperatures, 3), standard errors, jackknife.
        values: (n_temperatures, 3), with control.
        errors: (n_temperatures, 3), standard errors, those of the cheap average included.
        coefficients: (n_temperatures, 3), c.
        correlations: (n_temperatures, 3), of what single groups of samples contribute.
        variance_reductions: (n_temperatures, 3), squared plain error over squared controlled one; 0
            where nothing varies.
        sample_reductions: (n_temperatures, 3), the same for an exact cheap average.
        degrees_of_freedom: of the errors, groups of samples of the network less one; NaN in records
            of earlier versions.
        contributions: (n_groups, n_temperatures, 3), of single groups of samples to ``values``;
            empty in records of earlier versions.
    """

    plain: NDArray[np.float64] = field(metadata=unit("m/s"))
    plain_errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    values: NDArray[np.float64] = field(metadata=unit("m/s"))
    errors: NDArray[np.float64] = field(
        metadata=unit("m/s", error_of="values", components=("v_F", "change", "mean slope"))
    )
    coefficients: NDArray[np.float64] = field(metadata=unit("1"))
    correlations: NDArray[np.float64] = field(metadata=unit("1"))
    variance_reductions: NDArray[np.float64] = field(metadata=unit("1"))
    sample_reductions: NDArray[np.float64] = field(metadata=unit("1"))
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))
    contributions: NDArray[np.float64] = field(
        default_factory=partial(np.empty, (0, 0, 3)), metadata=unit("m/s")
    )


@dataclass(frozen=True)
class ControlVariateRecord:
    """Control variate of a run.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: of the network.
        n_control_samples: of the tight binding, the former among them.
        spectral: from spectral peaks.
        sorted_average: from sorted eigenvalues.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    n_control_samples: int = field(metadata=unit("1"))
    spectral: ControlledRecord
    sorted_average: ControlledRecord
