"""From averages over the samples to v_F(T) by three estimators, with error bars.

All use the same sets of weights: those of the ensemble and of its beginnings, their bootstrap
resamples, and those that leave one block of samples out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.near_k.record import VelocityRecord, WindowRecord
from mlepi.observables.near_k.samples import VelocitySamples
from mlepi.observables.near_k.velocity_estimates import (
    ResamplingPlan,
    SlopeFit,
    VelocityFit,
    estimate_velocities,
    estimate_windows,
)
from mlepi.physics.bands.spectra import find_peaks


@dataclass(frozen=True)
class FollowedBands:
    """What one estimator follows at the fitted points: energies, eV, or slopes, eV·Å.

    Attributes:
        weighted: (n_sets, n_temperatures, n_fitted, n_bands), under ``ResamplingPlan.weights``.
        left_out: (n_blocks, n_temperatures, n_fitted, n_bands), without one block of samples.
        at_rest: (n_fitted, n_bands), undisplaced.
        fit: how they become a velocity.
    """

    weighted: NDArray[np.float64]
    left_out: NDArray[np.float64]
    at_rest: NDArray[np.float64]
    fit: VelocityFit

    def estimate(
        self, samples: VelocitySamples, plan: ResamplingPlan
    ) -> tuple[VelocityRecord, WindowRecord]:
        """Fit v_F in the window of the run, and in the others."""
        distances = np.abs(samples.reference.distances)[samples.fitted]
        windows = estimate_windows(
            self.weighted, plan, distances, self.at_rest, self.fit, samples.settings.windows
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
        )
        counts = samples.spectra.n_samples[velocity.convergence_counts - 1]
        return replace(velocity, convergence_counts=counts), windows


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
    }


def _rest_energies(samples: VelocitySamples) -> NDArray[np.float64]:
    """Return the bands at rest, (n_points, n_bands), eV, relative to the Dirac energy."""
    reference = samples.reference
    return reference.eigenvalues[:, reference.n_occupied + samples.bands] - reference.centre


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
    at_rest = (
        _rest_energies(samples)[fitted],
        outwards * reference.slopes[fitted][:, samples.followed],
    )
    peaks, slopes = (
        FollowedBands(
            np.array([each[n] for each in weighted]),
            np.array([each[n] for each in without]).reshape(-1, *weighted[0][n].shape),
            at_rest[n],
            (fit, SlopeFit(**vars(fit)))[n],
        )
        for n in range(2)
    )
    return peaks, slopes


def _follow_order(
    samples: VelocitySamples, plan: ResamplingPlan, fit: VelocityFit
) -> FollowedBands:
    """Follow the levels by their place in the sorted spectrum."""
    reference, rest = samples.reference, _rest_energies(samples)
    # sorting cannot tell cones that fold onto one k-point apart: neither may its reference
    shared = (
        reference.index[:, None] == reference.index[None, :]
        if reference.n_cones > 1
        else np.eye(len(rest), dtype=bool)
    )
    folded = (shared @ rest) / shared.sum(axis=1)[:, None]
    levels = samples.levels
    weighted, without = (
        np.array([levels.average(weights) for weights in sets]).reshape(-1, *levels.means.shape[1:])
        for sets in (plan.weights, levels.left_out)
    )
    return FollowedBands(weighted, without, folded[samples.fitted], fit)


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
