"""From band energies under many sets of sample weights to v_F(T) with error bars.

Three models side by side: the mean slope in the window, v with γ₁ pinned by the split-off bands,
and the free fit. Bootstrap errors, pseudo-values, and how both settle with the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.near_k.record import PinnedRecord, VelocityRecord, WindowRecord
from mlepi.observables.near_k.velocity_fit import (
    FREE,
    NO_SPLIT_OFF,
    PINNED,
    SLOPE,
    VelocityFit,
)
from mlepi.physics.averages.convergence import choose_counts
from mlepi.physics.averages.statistics import (
    SampleDesign,
    bootstrap_errors,
    bootstrap_weights,
    pseudo_values,
)

CONVERGENCE_RESAMPLES = 50
"""Bootstrap resamples for error bars of the first n samples: 10 % accurate, enough to see them
shrink."""


@dataclass(frozen=True)
class SplitOff:
    """The split-off bands nearest to K, which pin γ₁: half their distance, eV.

    Attributes:
        distance: |k − K|, Å⁻¹, 0 where K is among the points.
        weighted: (n_sets, n_temperatures), from the averages under ``ResamplingPlan.weights``; NaN
            where the bands are out of sight.
        left_out: (n_groups, n_temperatures), without one group of samples at a time.
        at_rest: undisplaced.
    """

    distance: float
    weighted: NDArray[np.float64]
    left_out: NDArray[np.float64]
    at_rest: float


@dataclass(frozen=True)
class ResamplingPlan:
    """All sets of sample weights under which averages are needed.

    Known before the first sample, so that one pass serves them.

    Attributes:
        design: of the samples.
        n_resamples: of the bootstrap.
        n_counts: number of sample sizes in the convergence study.
        seed: of the bootstrap.
    """

    design: SampleDesign
    n_resamples: int
    n_counts: int
    seed: int

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Sample sizes of the convergence study, (n_counts,), the last one all samples."""
        return choose_counts(self.design, self.n_counts)

    @cached_property
    def sizes(self) -> list[int]:
        """Number of resamples of every sample size.

        Fewer for the smaller ones, whose error bars are only looked at.
        """
        return [min(self.n_resamples, CONVERGENCE_RESAMPLES)] * (len(self.counts) - 1) + [
            self.n_resamples
        ]

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """(n_sets, n_samples).

        For every sample size the first samples as they are, then their resamples.
        """
        rows = []
        for count, size in zip(self.counts, self.sizes, strict=True):
            first = self.design.first(int(count))
            some = np.concatenate(
                [first.weights[None], bootstrap_weights(first, size, self.seed + int(count))]
            )
            rows.append(np.pad(some, ((0, 0), (0, self.design.n_samples - int(count)))))
        return np.concatenate(rows)

    def split(
        self, estimates: NDArray[np.float64]
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Give back, for every sample size, the estimate and those of its resamples.

        (…) and (n_resamples, …).
        """
        parts = np.split(estimates, np.cumsum([1 + size for size in self.sizes])[:-1])
        return [(part[0], part[1:]) for part in parts]


@dataclass(frozen=True)
class FittedParameters:
    """Parameters of every model from the averages of all samples, as fields of records.

    Attributes:
        values: (n_temperatures, n_parameters).
        resampled: (n_resamples, n_temperatures, n_parameters).
        at_rest: (n_parameters,), of the undisplaced structure.
        design: of the samples.
    """

    values: NDArray[np.float64]
    resampled: NDArray[np.float64]
    at_rest: NDArray[np.float64]
    design: SampleDesign

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors, (n_temperatures, n_parameters)."""
        return bootstrap_errors(self.resampled, self.design)

    @cached_property
    def change_errors(self) -> NDArray[np.float64]:
        """Standard errors of the change since the first temperature."""
        return bootstrap_errors(self.resampled - self.resampled[:, :1], self.design)

    def series(self, number: int, name: str = "") -> dict[str, Any]:
        """Return a velocity with its ratio to that at rest, its change, and errors of the three.

        Args:
            number: of the parameter.
            name: "slope" for fields named after it; empty for those of v.
        """
        singular, plural, before = (
            (name, f"{name}s", f"{name}_") if name else ("velocity", "velocities", "")
        )
        at_rest = float(self.at_rest[number])
        value, error = self.values[:, number], self.errors[:, number]
        return {
            f"equilibrium_{singular}": at_rest,
            plural: value,
            f"{singular}_errors": error,
            f"{before}ratios": value / at_rest,
            f"{before}ratio_errors": error / at_rest,
            f"{before}changes": value - value[0],
            f"{before}change_errors": self.change_errors[:, number],
        }

    def gamma_1(self, number: int) -> dict[str, Any]:
        """Return the γ₁ that belongs to the velocity of a model, with its error."""
        return {
            "equilibrium_gamma_1": float(self.at_rest[number + 1]),
            "gamma_1": self.values[:, number + 1],
            "gamma_1_errors": self.errors[:, number + 1],
        }


def estimate_velocities(
    energies: NDArray[np.float64],
    left_out: NDArray[np.float64],
    plan: ResamplingPlan,
    distances: NDArray[np.float64],
    equilibrium: NDArray[np.float64],
    fit: VelocityFit,
    split_off: SplitOff | None = None,
) -> VelocityRecord:
    """Fit v_F at every temperature, with error bars, pseudo-values and convergence.

    Args:
        energies: (n_sets, n_temperatures, n_points, n_bands), eV, from the averages under
            ``plan.weights``; two or four bands.
        left_out: (n_groups, n_temperatures, n_points, n_bands), eV, from the averages without one
            group of samples at a time.
        plan: of the resampling.
        distances: (n_points,) |k − K|, Å⁻¹.
        equilibrium: (n_points, n_bands), eV, undisplaced energies of the same points.
        fit: window and dispersion.
        split_off: what pins γ₁; None where there are no split-off bands.

    Returns:
        The record.

    Raises:
        ConfigError: the window holds too few distances.
    """
    fit.check(distances)
    pins: list[Any] = [None, None, NO_SPLIT_OFF]
    if split_off is not None:
        parts = (split_off.weighted, split_off.left_out, split_off.at_rest)
        pins = [(split_off.distance, part) for part in parts]
    by_count = plan.split(fit.parameters_of_many(distances, energies, pins[0]))
    without = fit.parameters_of_many(distances, left_out, pins[1])
    at_rest = fit.parameters(distances, equilibrium, pins[2])
    values, resampled = by_count[-1]
    fitted = FittedParameters(values, resampled, at_rest, plan.design)
    all_energies, resampled_energies = plan.split(energies)[-1]
    growth = np.array([value for value, _ in by_count])
    growth_errors = np.array(
        [
            bootstrap_errors(some, plan.design.first(int(count)))
            for count, (_, some) in zip(plan.counts, by_count, strict=True)
        ]
    )
    return VelocityRecord(
        distances=distances,
        equilibrium_energies=equilibrium,
        energies=all_energies,
        energy_errors=bootstrap_errors(resampled_energies, plan.design),
        **fitted.series(FREE),
        **fitted.gamma_1(FREE),
        **fitted.series(SLOPE, "slope"),
        convergence_counts=plan.counts,
        convergence_velocities=growth[:, :, FREE],
        convergence_errors=growth_errors[:, :, FREE],
        pseudo_velocities=pseudo_values(values, without)[:, :, [FREE, SLOPE]],
        degrees_of_freedom=plan.design.degrees_of_freedom,
        convergence_slopes=growth[:, :, SLOPE],
        convergence_slope_errors=growth_errors[:, :, SLOPE],
        pinned=None
        if split_off is None
        else PinnedRecord(
            distance=split_off.distance, **fitted.gamma_1(PINNED), **fitted.series(PINNED)
        ),
    )


def estimate_windows(
    energies: NDArray[np.float64],
    plan: ResamplingPlan,
    distances: NDArray[np.float64],
    equilibrium: NDArray[np.float64],
    fit: VelocityFit,
    windows: Sequence[tuple[float, float]],
    split_off: SplitOff | None = None,
) -> WindowRecord:
    """Repeat the fit in other windows, to show how much of a velocity is the choice of its window.

    Args:
        energies: as in ``estimate_velocities``, at points that cover all windows.
        plan: of the resampling.
        distances: (n_points,) |k − K|, Å⁻¹.
        equilibrium: (n_points, n_bands), eV.
        fit: dispersion.
        windows: smallest and largest |k − K|, Å⁻¹.
        split_off: what pins γ₁.

    Returns:
        Velocities and slopes; NaN where a window holds too few distances for a fit.
    """

    def some(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Keep the averages of all samples and a few of their resamples: (1 + n, …)."""
        whole, resampled = plan.split(values)[-1]
        return np.concatenate([whole[None], resampled[:CONVERGENCE_RESAMPLES]])

    chosen, models = some(energies), [FREE, SLOPE, PINNED]
    pins, pin_at_rest = None, NO_SPLIT_OFF
    if split_off is not None:
        pins = split_off.distance, some(split_off.weighted)
        pin_at_rest = split_off.distance, split_off.at_rest
    found = np.full((len(windows), 3, 3, chosen.shape[1]), np.nan)
    for row, window in enumerate(windows):
        other = replace(fit, window=window)
        at_rest = other.parameters(distances, equilibrium, pin_at_rest)[models]
        values = other.parameters_of_many(distances, chosen, pins)[:, :, models]
        found[row] = (
            np.broadcast_to(at_rest[:, None], found.shape[2:]),
            values[0].T,
            bootstrap_errors(values[1:], plan.design).T,
        )
    velocities, slopes, pinned = np.moveaxis(found, 2, 0)
    return WindowRecord(
        windows=np.array(windows, dtype=np.float64).reshape(-1, 2),
        equilibrium_velocities=velocities[:, 0, 0],
        velocities=velocities[:, 1],
        velocity_errors=velocities[:, 2],
        equilibrium_slopes=slopes[:, 0, 0],
        slopes=slopes[:, 1],
        slope_errors=slopes[:, 2],
        equilibrium_pinned=pinned[:, 0, 0],
        pinned=pinned[:, 1],
        pinned_errors=pinned[:, 2],
    )
