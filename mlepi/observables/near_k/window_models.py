"""One estimator's velocities by window and by model of the bands: what the choice of either does.

The spread over both is the part of an error budget that no number of samples makes smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mlepi.figures import Records
from mlepi.observables.near_k.record import Estimate
from mlepi.physics.averages.error_budget import ESTIMATOR, ErrorPart
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

MODELS = ("slope", "v, γ₁ pinned", "v, free fit")
"""Models of the low bands, those that are quoted first."""

QUOTED = 2
"""Number of the models that are quoted."""


@dataclass(frozen=True)
class ModelEstimates:
    """Velocities by window and model; NaN where a model does not apply or a window is too small.

    Attributes:
        windows: (n_windows, 2), smallest and largest |k − K|, Å⁻¹; the first is that of the run.
        models: (n_models,), names, ``MODELS``.
        equilibrium: (n_windows, n_models), undisplaced, m/s.
        values: (n_windows, n_models, n_temperatures), m/s.
        errors: (n_windows, n_models, n_temperatures), statistical, m/s.
        core: |k − K| of the parabolic core of a bilayer, γ₁/2ħv, Å⁻¹; 0 without one.
    """

    windows: NDArray[np.float64]
    models: tuple[str, ...]
    equilibrium: NDArray[np.float64]
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    core: float

    @property
    def outside_core(self) -> NDArray[np.bool_]:
        """(n_windows,), whether a window begins outside the core, where a slope tells v."""
        return np.asarray(self.windows[:, 0] >= self.core)

    @property
    def ratios(self) -> NDArray[np.float64]:
        """Over the undisplaced velocity of the same window and model, shape of ``values``."""
        return self.values / self.equilibrium[..., None]

    @property
    def ratio_errors(self) -> NDArray[np.float64]:
        """Statistical errors of ``ratios``."""
        return self.errors / np.abs(self.equilibrium[..., None])

    def spread(self, n_models: int = QUOTED) -> NDArray[np.float64]:
        """Return half the range of the ratios over windows and models: (n_temperatures,).

        Windows that begin inside the parabolic core are shown and not counted: there the bands tell
        v²/γ₁, another quantity.

        Args:
            n_models: number of the models that count, in their order; the free fit is the last.
        """
        ratios = self.ratios[self.outside_core, :n_models].reshape(-1, self.values.shape[-1])
        known = ratios[np.isfinite(ratios).all(axis=1)]
        if not len(known):
            return np.full(self.values.shape[-1], np.nan)
        return np.asarray(0.5 * (known.max(axis=0) - known.min(axis=0)))


def compare_models(estimate: Estimate) -> ModelEstimates:
    """Put the velocities of one estimator side by side, by window and model.

    Args:
        estimate: of any record that has some.
    """
    velocity, other = estimate.velocity, estimate.windows
    n_windows, n_temperatures = len(other.windows), len(velocity.velocities)
    shape = (1 + n_windows, len(MODELS))
    equilibrium = np.full(shape, np.nan)
    values, errors = (np.full((*shape, n_temperatures), np.nan) for _ in range(2))
    equilibrium[0, 0], equilibrium[0, 2] = velocity.equilibrium_slope, velocity.equilibrium_velocity
    values[0, 0], values[0, 2] = velocity.slopes, velocity.velocities
    errors[0, 0], errors[0, 2] = velocity.slope_errors, velocity.velocity_errors
    if velocity.pinned is not None:
        equilibrium[0, 1] = velocity.pinned.equilibrium_velocity
        values[0, 1], errors[0, 1] = velocity.pinned.velocities, velocity.pinned.velocity_errors
    equilibrium[1:, 0], equilibrium[1:, 2] = other.equilibrium_slopes, other.equilibrium_velocities
    values[1:, 0], values[1:, 2] = other.slopes, other.velocities
    errors[1:, 0], errors[1:, 2] = other.slope_errors, other.velocity_errors
    if other.pinned.shape == other.slopes.shape:  # older files have none
        equilibrium[1:, 1] = other.equilibrium_pinned
        values[1:, 1], errors[1:, 1] = other.pinned, other.pinned_errors
    own = np.array([estimate.record.velocity_window], dtype=np.float64)
    windows = np.concatenate([own, other.windows.reshape(-1, 2)])
    # of the free fit at rest, which is as good as the hyperbola
    core = (
        0.5
        * velocity.equilibrium_gamma_1
        * EV_ANGSTROM_TO_METRE_PER_SECOND
        / velocity.equilibrium_velocity
    )
    return ModelEstimates(windows, MODELS, equilibrium, values, errors, core)


def estimator_parts(records: Records) -> Iterator[ErrorPart]:
    """Yield the estimator part of the error of every velocity: half a range of windows and models.

    Relative to the undisplaced structure by the same window and model, times the undisplaced value
    of the quantity. The quoted models count; for the free fit the free fit counts as well.

    Args:
        records: of a run.
    """
    for stage, record in records.items():
        if not hasattr(record, "velocity_estimates"):
            continue
        for estimate in record.velocity_estimates():
            velocity = estimate.velocity
            names = [each.name for each in fields(record) if getattr(record, each.name) is velocity]
            if not names:
                continue
            found = compare_models(estimate)
            quoted, free = found.spread(), found.spread(len(MODELS))
            sizes = {
                "slopes": quoted * velocity.equilibrium_slope,
                "slope_ratios": quoted,
                "velocities": free * velocity.equilibrium_velocity,
                "ratios": free,
            }
            if velocity.pinned is not None:
                sizes["pinned/velocities"] = quoted * velocity.pinned.equilibrium_velocity
                sizes["pinned/ratios"] = quoted
            counted = found.windows[found.outside_core]
            windows = ", ".join(f"{low:g}–{high:g}" for low, high in counted)
            source = f"half the range of slope and pinned fit in windows {windows} Å⁻¹"
            for path, size in sizes.items():
                yield ErrorPart(ESTIMATOR, f"{stage}/{names[0]}/{path}", np.abs(size), source)
