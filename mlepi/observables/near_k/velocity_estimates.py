"""From band energies under many sets of sample weights to v_F(T) with error bars.

Bootstrap errors, pseudo-values, and how both settle with the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError
from mlepi.observables.near_k.record import VelocityRecord, WindowRecord
from mlepi.physics.averages.convergence import choose_counts
from mlepi.physics.averages.statistics import (
    SampleDesign,
    bootstrap_errors,
    bootstrap_weights,
    pseudo_values,
)
from mlepi.physics.bands.velocities import fit_cone, fit_slopes, points_inside, window_slope
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

CONVERGENCE_RESAMPLES = 50
"""Bootstrap resamples for error bars of the first n samples: 10 % accurate, enough to see them
shrink."""


@dataclass(frozen=True)
class VelocityFit:
    """How energies become a velocity.

    Attributes:
        window: smallest and largest |k − K|, Å⁻¹.
        dispersion: "hyperbola" or "linear".
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
        n_counts: number of sample sizes in the convergence study.
    """

    window: tuple[float, float]
    dispersion: str
    n_resamples: int
    seed: int
    n_counts: int

    def describe(self) -> list[Any]:
        """Return the same as JSON-able data, for what decides a result."""
        return [*self.window, self.dispersion, self.n_resamples, self.seed, self.n_counts]

    def parameters(
        self, distances: NDArray[np.float64], energies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Fit the low bands.

        Args:
            distances: (n_points,) Å⁻¹.
            energies: (n_points, 2) low valence and conduction band, eV, or (n_points, 4) between
                the split-off ones.

        Returns:
            (3,): v in m/s, γ₁ in eV, mean slope of the low bands in m/s; NaN where an energy is not
            known.
        """
        if not np.all(np.isfinite(energies)):
            return np.full(3, np.nan)
        middle = energies.shape[1] // 2
        valence, conduction = energies[:, middle - 1], energies[:, middle]
        split_off = (energies[:, 0], energies[:, 3]) if energies.shape[1] == 4 else None
        fit = fit_cone(distances, valence, conduction, self.window, self.dispersion, split_off)
        return np.array(
            [
                fit.fermi_velocity,
                fit.gamma_1,
                window_slope(distances, valence, conduction, self.window),
            ]
        )

    def parameters_of_many(
        self, distances: NDArray[np.float64], energies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Fit many averages, (n_sets, n_temperatures, n_points, n_bands), eV.

        (n_sets, n_temperatures, 3), each as ``parameters``.
        """
        return np.array(
            [
                [self.parameters(distances, one) for one in at_temperatures]
                for at_temperatures in energies
            ]
        )


@dataclass(frozen=True)
class SlopeFit(VelocityFit):
    """How slopes of bands become a velocity.

    As ``VelocityFit``, with slopes dE/d|k − K|, eV·Å, in place of energies.
    """

    def parameters(
        self, distances: NDArray[np.float64], energies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Fit the slopes of the bands, (n_points, n_bands), eV·Å.

        Result as ``VelocityFit.parameters``.
        """
        slopes = energies
        n_pairs = slopes.shape[1] // 2
        halves = 0.5 * (slopes[:, n_pairs:] - slopes[:, n_pairs - 1 :: -1])
        velocity, gamma_1 = fit_slopes(distances, halves, self.window, self.dispersion)
        inside = points_inside(distances, self.window)
        return np.array(
            [velocity, gamma_1, float(halves[inside, 0].mean()) * EV_ANGSTROM_TO_METRE_PER_SECOND]
        )


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


def estimate_velocities(
    energies: NDArray[np.float64],
    left_out: NDArray[np.float64],
    plan: ResamplingPlan,
    distances: NDArray[np.float64],
    equilibrium: NDArray[np.float64],
    fit: VelocityFit,
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

    Returns:
        The record.
    """
    by_count = plan.split(fit.parameters_of_many(distances, energies))
    values, resampled = by_count[-1]
    at_rest = fit.parameters(distances, equilibrium)
    design = plan.design
    errors = bootstrap_errors(resampled, design)
    all_energies, resampled_energies = plan.split(energies)[-1]
    without = fit.parameters_of_many(distances, left_out)
    return VelocityRecord(
        distances=distances,
        equilibrium_energies=equilibrium,
        energies=all_energies,
        energy_errors=bootstrap_errors(resampled_energies, design),
        equilibrium_velocity=float(at_rest[0]),
        velocities=values[:, 0],
        velocity_errors=errors[:, 0],
        ratios=values[:, 0] / at_rest[0],
        ratio_errors=errors[:, 0] / at_rest[0],
        changes=values[:, 0] - values[0, 0],
        change_errors=bootstrap_errors(resampled[:, :, 0] - resampled[:, :1, 0], design),
        equilibrium_gamma_1=float(at_rest[1]),
        gamma_1=values[:, 1],
        gamma_1_errors=errors[:, 1],
        equilibrium_slope=float(at_rest[2]),
        slopes=values[:, 2],
        slope_errors=errors[:, 2],
        slope_ratios=values[:, 2] / at_rest[2],
        slope_ratio_errors=errors[:, 2] / at_rest[2],
        convergence_counts=plan.counts,
        convergence_velocities=np.array([value[:, 0] for value, _ in by_count]),
        convergence_errors=np.array(
            [
                bootstrap_errors(some[:, :, 0], design.first(int(count)))
                for count, (_, some) in zip(plan.counts, by_count, strict=True)
            ]
        ),
        pseudo_velocities=pseudo_values(values, without)[:, :, [0, 2]],
        degrees_of_freedom=design.degrees_of_freedom,
    )


def estimate_windows(
    energies: NDArray[np.float64],
    plan: ResamplingPlan,
    distances: NDArray[np.float64],
    equilibrium: NDArray[np.float64],
    fit: VelocityFit,
    windows: Sequence[tuple[float, float]],
) -> WindowRecord:
    """Repeat the fit in other windows, to show how much of a velocity is the choice of its window.

    Args:
        energies: as in ``estimate_velocities``, at points that cover all windows.
        plan: of the resampling.
        distances: (n_points,) |k − K|, Å⁻¹.
        equilibrium: (n_points, n_bands), eV.
        fit: dispersion.
        windows: smallest and largest |k − K|, Å⁻¹.

    Returns:
        Velocities and slopes; NaN where a window holds too few distances for a fit.
    """
    whole, resampled = plan.split(energies)[-1]
    many = [equilibrium[None], whole, *resampled[:CONVERGENCE_RESAMPLES]]
    found = np.full((len(windows), 3, 2, len(whole)), np.nan)
    for row, window in enumerate(windows):
        other = replace(fit, window=window)
        try:
            at_rest, values, *some = [
                np.array([other.parameters(distances, one) for one in each])[:, [0, 2]]
                for each in many
            ]
        except ConfigError:  # too few distances inside
            continue
        errors = bootstrap_errors(np.array(some), plan.design)
        found[row] = np.broadcast_to(at_rest.T, values.T.shape), values.T, errors.T
    return WindowRecord(
        windows=np.array(windows, dtype=np.float64).reshape(-1, 2),
        equilibrium_velocities=found[:, 0, 0, 0],
        velocities=found[:, 1, 0],
        velocity_errors=found[:, 2, 0],
        equilibrium_slopes=found[:, 0, 1, 0],
        slopes=found[:, 1, 1],
        slope_errors=found[:, 2, 1],
    )
