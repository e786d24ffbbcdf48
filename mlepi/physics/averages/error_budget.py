"""The error budget of a quantity: what is known of its error, part by part, and what is not.

The statistical part is a standard error with its degrees of freedom; every other part is the size
of a systematic error, one standard deviation or the half of a spread, in the unit of the quantity.
A part that nobody has measured is missing, never zero, and the total says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.averages.intervals import ONE_SIGMA, half_widths

STATISTICAL = "statistical"
"""From the finite number of samples."""

NETWORK = "network"
"""From the networks: spread of an ensemble of them, calibrated on held-out data."""

CELL = "cell"
"""From the size of the cell: distance from the limit of a series of sizes."""

ESTIMATOR = "estimator"
"""From the choice of windows and models: half the spread over them."""

STATIC = "harmonic/static"
"""From phonon energies that a static average leaves out: dynamic less static second order."""

SYSTEMATIC = (NETWORK, CELL, ESTIMATOR, STATIC)
"""Parts that more samples do not make smaller, in the order of the tables."""


@dataclass(frozen=True)
class ErrorPart:
    """One systematic part of the error of one quantity, as whoever measured it gives it.

    Attributes:
        part: one of ``SYSTEMATIC``.
        quantity: stage and path of the quantity, such as "fermi_velocity/spectral/slopes".
        sizes: in the shape and the unit of the quantity; NaN where not measured.
        source: how it was measured, a few words.
    """

    part: str
    quantity: str
    sizes: NDArray[np.float64]
    source: str


@dataclass(frozen=True)
class ErrorBudget:
    """Parts of the error of one quantity, all in its unit.

    Attributes:
        values: (…), the quantity, at several temperatures for example.
        errors: (…), standard errors; NaN where not measured.
        degrees_of_freedom: of the standard errors; 0 or NaN where they are not known.
        systematic: part, one of ``SYSTEMATIC`` → (…) ≥ 0; absent or NaN where not measured.

    Raises:
        PhysicsError: an unknown part, or one of another shape.
    """

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    degrees_of_freedom: float
    systematic: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse parts that do not belong here."""
        for part, sizes in {STATISTICAL: self.errors, **self.systematic}.items():
            if part not in (STATISTICAL, *SYSTEMATIC) or np.shape(sizes) != np.shape(self.values):
                raise PhysicsError(
                    message(
                        "error budget",
                        f"part {part!r} of shape {np.shape(sizes)}",
                        f"one of {list(SYSTEMATIC)}, of shape {np.shape(self.values)}",
                        "Give one size per value.",
                    )
                )

    def statistical(self, level: float = ONE_SIGMA) -> NDArray[np.float64]:
        """Return the half width of the statistical interval, (…); NaN where not measured."""
        return half_widths(self.errors, self.degrees_of_freedom, level)

    def part(self, name: str) -> NDArray[np.float64]:
        """Return a part, (…), the statistical one as its 68 % interval; NaN where not measured."""
        if name == STATISTICAL:
            return self.statistical()
        return np.abs(self.systematic.get(name, np.full(np.shape(self.values), np.nan)))

    def total(self) -> NDArray[np.float64]:
        """Return the root of the summed squares of all measured parts at 68 %, (…).

        NaN where no part is measured. A lower bound where some are missing.
        """
        parts = np.array([self.part(name) for name in (STATISTICAL, *SYSTEMATIC)])
        measured = np.isfinite(parts)
        total = np.sqrt(np.sum(np.where(measured, parts, 0.0) ** 2, axis=0))
        return np.asarray(np.where(measured.any(axis=0), total, np.nan))

    def missing(self, index: tuple[int, ...] = ()) -> tuple[str, ...]:
        """Return the parts that are not measured for one value, in the order of the tables."""
        return tuple(
            name for name in (STATISTICAL, *SYSTEMATIC) if not np.isfinite(self.part(name)[index])
        )


def estimator_spread(estimates: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return half the distance of the largest and the smallest of several estimates.

    Args:
        estimates: (n_estimates, …), of one quantity by several windows or models; NaN where one
            does not tell.

    Returns:
        (…), in their unit; NaN where fewer than two tell.
    """
    found = np.asarray(estimates, dtype=np.float64)
    known = np.isfinite(found)
    high = np.where(known, found, -np.inf).max(axis=0)
    low = np.where(known, found, np.inf).min(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known.sum(axis=0) > 1, 0.5 * (high - low), np.nan))
