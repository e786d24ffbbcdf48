"""How far the velocity of spectral peaks depends on the width of the lines.

The maximum of a broadened spectrum is pulled by whatever weight lies beside it. Lines of a larger
width cost nothing: A is convolved once more. Where the velocity still changes with the width, the
lines are too wide for the ensemble.
"""

from __future__ import annotations

import math

import numpy as np

from mlepi.observables.fermi_velocity.record import PeakWidthRecord
from mlepi.observables.near_k.samples import VelocitySamples
from mlepi.observables.near_k.velocity_estimates import CONVERGENCE_RESAMPLES, ResamplingPlan
from mlepi.observables.near_k.velocity_fit import NO_SPLIT_OFF, PINNED, SLOPE, VelocityFit
from mlepi.physics.averages.statistics import bootstrap_errors
from mlepi.physics.bands.spectra import find_peaks, widen_spectra

FACTORS = (1.0, math.sqrt(2.0), 2.0)
"""Widths that are compared, in units of that of the run."""


def compare_widths(
    samples: VelocitySamples, plan: ResamplingPlan, fit: VelocityFit
) -> PeakWidthRecord:
    """Repeat slope and pinned fit of the spectral peaks with wider lines, in the window of the run.

    Args:
        samples: all of them.
        plan: of the resampling.
        fit: window and dispersion.
    """
    settings, reference = samples.settings, samples.reference
    energies, width, shape = settings.energies, settings.peak_width, settings.line_shape
    points, low = samples.fitted[samples.inner], slice(len(samples.bands) // 2 - 1, None)
    distances = np.abs(reference.distances[points])
    middle = reference.n_occupied
    at_rest = reference.eigenvalues[points][:, [middle - 1, middle]] - reference.centre
    pin, pin_at_rest = 0.0, NO_SPLIT_OFF
    if samples.has_split_off:
        outer = reference.eigenvalues[samples.pins][:, [middle - 2, middle + 1]]
        pin = float(np.abs(reference.distances[samples.pins]).min())
        pin_at_rest = pin, float(0.5 * (outer[:, 1] - outer[:, 0]).mean())
    rest = fit.parameters(distances, at_rest, pin_at_rest)[[SLOPE, PINNED]]
    first = sum(1 + size for size in plan.sizes[:-1])
    sets = plan.weights[first : first + 1 + CONVERGENCE_RESAMPLES]
    ratios = np.empty((len(FACTORS), len(sets), len(samples.temperatures), 2))
    for row, factor in enumerate(FACTORS):
        for column, weights in enumerate(sets):
            mean = samples.spectra.average(weights)[:, 0][:, samples.inner, low][:, :, :2]
            wide = widen_spectra(energies, mean, width, factor * width, shape)
            halves = np.full(len(wide), np.nan)
            if samples.has_split_off:
                split = samples.outer_spectra.average(weights)
                peaks = find_peaks(
                    energies,
                    widen_spectra(energies, split, width, factor * width, shape),
                    allow_missing=True,
                )
                halves = 0.5 * (peaks[..., 1] - peaks[..., 0]).mean(axis=-1)
            found = find_peaks(energies, wide, allow_missing=True)
            ratios[row, column] = (
                fit.parameters_of_many(distances, found[None], (pin, halves[None]))[0][
                    :, [SLOPE, PINNED]
                ]
                / rest
            )
    resampled = np.moveaxis(ratios[:, 1:], 1, 0)
    errors = bootstrap_errors(resampled, plan.design)
    steps = bootstrap_errors(resampled - resampled[:, :1], plan.design)
    return PeakWidthRecord(
        widths=width * np.array(FACTORS),
        slope_ratios=ratios[:, 0, :, 0],
        slope_ratio_errors=errors[..., 0],
        slope_change_errors=steps[..., 0],
        pinned_ratios=ratios[:, 0, :, 1],
        pinned_ratio_errors=errors[..., 1],
    )
