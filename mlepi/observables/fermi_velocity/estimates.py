"""From averages over the samples to v_F(T) by several estimators, with error bars.

All use the same sets of weights: those of the ensemble and of its beginnings, their bootstrap
resamples, and those that leave one block of samples out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.fermi_velocity.peak_widths import compare_widths
from mlepi.observables.near_k.record import (
    FoldedDifferenceRecord,
    VelocityRecord,
    WindowRecord,
)
from mlepi.observables.near_k.samples import OUTER, VelocitySamples
from mlepi.observables.near_k.velocity_estimates import (
    ResamplingPlan,
    SplitOff,
    estimate_velocities,
    estimate_windows,
)
from mlepi.observables.near_k.velocity_fit import SlopeFit, VelocityFit
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import bootstrap_errors
from mlepi.physics.bands.spectra import find_peaks
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND


@dataclass(frozen=True)
class FollowedBands:
    """What one estimator follows at the fitted points: energies, eV, or slopes, eV·Å.

    Attributes:
        weighted: (n_sets, n_temperatures, n_fitted, n_bands), under ``ResamplingPlan.weights``.
        left_out: (n_blocks, n_temperatures, n_fitted, n_bands), without one block of samples.
        at_rest: (n_fitted, n_bands), undisplaced.
        fit: how they become a velocity.
        split_off: what pins γ₁; None where there are no split-off bands.
    """

    weighted: NDArray[np.float64]
    left_out: NDArray[np.float64]
    at_rest: NDArray[np.float64]
    fit: VelocityFit
    split_off: SplitOff | None = None

    def estimate(
        self, samples: VelocitySamples, plan: ResamplingPlan
    ) -> tuple[VelocityRecord, WindowRecord]:
        """Fit v_F in the window of the run, and in the others."""
        distances = np.abs(samples.reference.distances)[samples.fitted]
        windows = estimate_windows(
            self.weighted,
            plan,
            distances,
            self.at_rest,
            self.fit,
            samples.settings.windows,
            self.split_off,
        )
        weighted, left_out = (
            part[..., samples.inner, :] for part in (self.weighted, self.left_out)
        )
        velocity = estimate_velocities(
            weighted,
            left_out,
            plan,
            distances[samples.inner],
            self.at_rest[samples.inner],
            self.fit,
            self.split_off,
        )
        counts = samples.spectra.n_samples[velocity.convergence_counts - 1]
        degrees = samples.spectra.degrees_of_freedom
        return replace(velocity, convergence_counts=counts, degrees_of_freedom=degrees), windows


def estimate_all(samples: VelocitySamples, fit: VelocityFit) -> dict[str, Any]:
    """Fit the velocities of all estimators.

    Args:
        samples: all of them.
        fit: window, dispersion and resampling.

    Returns:
        The fields of ``FermiVelocityRecord`` that follow from it, by name.
    """
    plan = ResamplingPlan(samples.spectra.design, fit.n_resamples, fit.n_counts, fit.seed)
    peaks, slopes = _follow_peaks(samples, plan, fit)
    spectral, spectral_windows = peaks.estimate(samples, plan)
    averaged, sorted_windows = _follow_order(samples, plan, fit).estimate(samples, plan)
    operator, operator_windows = slopes.estimate(samples, plan)
    return {
        "spectral": spectral,
        "spectral_windows": spectral_windows,
        "sorted_average": averaged,
        "sorted_windows": sorted_windows,
        "velocity_operator": replace(
            operator,
            energies=spectral.energies,
            energy_errors=spectral.energy_errors,
            equilibrium_energies=spectral.equilibrium_energies,
        ),
        "operator_windows": operator_windows,
        "band_slopes": operator.energies,
        "equilibrium_band_slopes": operator.equilibrium_energies,
        "folded_difference": _difference_at_k(samples, plan),
        "peak_widths": compare_widths(samples, plan, fit),
    }


def _rest_energies(samples: VelocitySamples, bands: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return bands at rest, counted from the first empty one: (n_points, n_bands), eV."""
    reference = samples.reference
    return reference.eigenvalues[:, reference.n_occupied + bands] - reference.centre


def _sorted_rest_energies(
    samples: VelocitySamples, bands: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return what the same become where sorting cannot tell cones apart that fold together."""
    reference, rest = samples.reference, _rest_energies(samples, bands)
    shared = (
        reference.index[:, None] == reference.index[None, :]
        if reference.n_cones > 1
        else np.eye(len(rest), dtype=bool)
    )
    return (shared @ rest) / shared.sum(axis=1)[:, None]


def _half(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return half the distance of two bands, mean of the points: (…, n_points, 2) → (…), eV."""
    return np.asarray(0.5 * (energies[..., 1] - energies[..., 0]).mean(axis=-1))


def _split_off(
    samples: VelocitySamples,
    plan: ResamplingPlan,
    averages: BlockAverages,
    rest_of: Callable[[VelocitySamples, NDArray[np.int64]], NDArray[np.float64]],
    energies_of: Callable[[NDArray[Any]], NDArray[np.float64]],
) -> SplitOff | None:
    """Follow the split-off bands nearest to K, where there are any in the energy window.

    Args:
        samples: all of them.
        plan: of the resampling.
        averages: of what ``energies_of`` turns into (n_temperatures, n_pins, 2), eV.
        rest_of: bands at rest, (n_points, n_bands) eV.
        energies_of: of an average.
    """
    if not samples.has_split_off:
        return None
    weighted, left_out = (
        np.array([_half(energies_of(averages.average(weights))) for weights in sets]).reshape(
            -1, averages.means.shape[1]
        )
        for sets in (plan.weights, averages.left_out)
    )
    at_rest = rest_of(samples, OUTER)[samples.pins]
    distance = float(np.abs(samples.reference.distances[samples.pins]).min())
    return SplitOff(distance, weighted, left_out, float(_half(at_rest)))


def _difference_at_k(
    samples: VelocitySamples, plan: ResamplingPlan
) -> FoldedDifferenceRecord | None:
    """Take the difference of averaged sorted levels between K and the points next to it.

    None where K is not among the points.
    """
    if not len(samples.around):
        return None
    reference, low = samples.reference, np.array([-1, 0])
    step = float(np.abs(reference.distances[samples.around[1:]]).mean())

    def differ(energies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn (…, n_points, 2) energies, K first, into (2, …): slope, m/s, and opening, eV."""
        halves = 0.5 * (energies[..., 1] - energies[..., 0])
        slope = (halves[..., 1:].mean(axis=-1) - halves[..., 0]) / step
        return np.stack([slope * EV_ANGSTROM_TO_METRE_PER_SECOND, 2.0 * halves[..., 0]])

    rest = differ(_sorted_rest_energies(samples, low)[samples.around])
    levels = np.array([samples.around_levels.average(weights) for weights in plan.weights])
    value, resampled = plan.split(np.moveaxis(differ(levels), 0, 1))[-1]
    errors = bootstrap_errors(resampled, plan.design)
    return FoldedDifferenceRecord(
        step=step,
        folded=reference.n_cones > 1,
        equilibrium=float(rest[0]),
        values=value[0],
        errors=errors[0],
        ratios=value[0] / rest[0],
        ratio_errors=errors[0] / abs(rest[0]),
        equilibrium_opening=float(rest[1]),
        openings=value[1],
        opening_errors=errors[1],
    )


def _follow_peaks(
    samples: VelocitySamples, plan: ResamplingPlan, fit: VelocityFit
) -> tuple[FollowedBands, FollowedBands]:
    """Follow the maxima of the averaged spectra, and the slopes of the states there."""
    reference, fitted, spectra = samples.reference, samples.fitted, samples.spectra
    outwards = np.sign(reference.distances[fitted])[:, None]
    weighted, without = (
        [
            peaks_and_slopes(samples.settings.energies, spectra.average(weights), outwards)
            for weights in sets
        ]
        for sets in (plan.weights, spectra.left_out)
    )
    energies = samples.settings.energies
    split_off = _split_off(
        samples,
        plan,
        samples.outer_spectra,
        _rest_energies,
        lambda mean: find_peaks(energies, mean.astype(np.float64), allow_missing=True),
    )
    at_rest = (
        _rest_energies(samples, samples.bands)[fitted],
        outwards * reference.slopes[fitted][:, samples.followed],
    )
    peaks, slopes = (
        FollowedBands(
            np.array([each[n] for each in weighted]),
            np.array([each[n] for each in without]).reshape(-1, *weighted[0][n].shape),
            at_rest[n],
            (fit, SlopeFit(**vars(fit)))[n],
            split_off,
        )
        for n in range(2)
    )
    return peaks, slopes


def _follow_order(
    samples: VelocitySamples, plan: ResamplingPlan, fit: VelocityFit
) -> FollowedBands:
    """Follow the levels by their place in the sorted spectrum."""
    folded = _sorted_rest_energies(samples, samples.bands)
    split_off = _split_off(
        samples, plan, samples.outer_levels, _sorted_rest_energies, lambda mean: mean
    )
    levels = samples.levels
    weighted, without = (
        np.array([levels.average(weights) for weights in sets]).reshape(-1, *levels.means.shape[1:])
        for sets in (plan.weights, levels.left_out)
    )
    return FollowedBands(weighted, without, folded[samples.fitted], fit, split_off)


def peaks_and_slopes(
    energies: NDArray[np.float64],
    spectra: NDArray[np.floating],
    outwards: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the maxima of A, eV, and the mean slope of the states there, dE/d|k − K| in eV·Å.

    Args:
        energies: (n_energies,) eV.
        spectra: (n_temperatures, 2, n_points, n_bands, n_energies), of
            ``VelocitySamples.spectra_of``.
        outwards: (n_points, 1), 1 towards Γ and −1 towards M.

    Returns:
        (n_temperatures, n_points, n_bands) each.
    """
    plain, moving = np.moveaxis(spectra.astype(np.float64), 1, 0)
    peaks = find_peaks(energies, plain)
    place = (peaks - energies[0]) / (energies[1] - energies[0])
    left = np.floor(place).astype(np.int64)
    share = place - left
    at_left, at_right = (
        np.stack(
            [
                np.take_along_axis(each, (left + side)[..., None], axis=-1)[..., 0]
                for each in (plain, moving)
            ]
        )
        for side in (0, 1)
    )
    weight, slope = (1.0 - share) * at_left + share * at_right
    return peaks, outwards * slope / weight
