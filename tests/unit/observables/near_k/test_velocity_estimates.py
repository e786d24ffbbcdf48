"""v_F from averages of a known distribution, with its error bar."""

from __future__ import annotations

import numpy as np
import pytest
from toys import cone_energies

from mlepi.observables.near_k.velocity_estimates import (
    ResamplingPlan,
    VelocityFit,
    estimate_velocities,
)
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import SampleDesign, standard_errors
from mlepi.physics.bands.spectra import find_peaks
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND


def test_estimators_recover_a_known_distribution():
    rng = np.random.default_rng(0)
    distances = np.array([0.04, 0.06, 0.08, 0.10])
    velocities = rng.normal(5.5, 0.2, size=60)
    levels = np.stack([np.stack(cone_energies(distances, v, 0.4), axis=-1) for v in velocities])[
        :, None
    ]
    grid = np.linspace(-1, 1, 401)
    spectra = np.exp(-0.5 * ((grid - levels[..., None]) / 0.05) ** 2).astype(np.float32)
    fit = VelocityFit((0.04, 0.10), "hyperbola", 200, 0, 3)
    at_rest = np.stack(cone_energies(distances, 5.5, 0.4), axis=-1)
    standard_error = 0.2 / np.sqrt(60) * EV_ANGSTROM_TO_METRE_PER_SECOND
    plan = ResamplingPlan(SampleDesign.independent(60), fit.n_resamples, fit.n_counts, fit.seed)
    for features, energies in (
        (spectra, lambda mean: find_peaks(grid, mean)),
        (levels, lambda mean: mean),
    ):
        averages = BlockAverages(plan.design, [0.0], features.shape[2:])
        for sample, values in enumerate(features):
            averages.add(sample, 0.0, values[0])
        means, without = (
            np.array([averages.average(w) for w in sets])
            for sets in (plan.weights, averages.left_out)
        )
        record = estimate_velocities(
            energies(means), energies(without), plan, distances, at_rest, fit
        )
        assert record.velocities[0] == pytest.approx(
            velocities.mean() * EV_ANGSTROM_TO_METRE_PER_SECOND, abs=0.5 * standard_error
        )
        assert record.velocity_errors[0] == pytest.approx(standard_error, rel=0.25)
        assert record.ratios[0] == pytest.approx(record.velocities[0] / record.equilibrium_velocity)
        np.testing.assert_array_equal(record.convergence_counts, [2, 11, 60])
        assert record.convergence_velocities[-1, 0] == record.velocities[0]
        assert record.pseudo_velocities.shape == (60, 1, 2)
        assert standard_errors(record.pseudo_velocities)[0, 0] == pytest.approx(
            standard_error, rel=0.25
        )
