"""Thermal averages done by hand: exponential hopping, a level, a frequency, polynomials."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import constants

from mlepi.physics.bands.spectra import compute_spectral_function
from mlepi.physics.vibrations.samplers import (
    Antithetic,
    HarmonicSampler,
    MonteCarlo,
    Sobol,
    ThermalLines,
)
from mlepi.reference_systems import TightBinding
from mlepi.verification.check import Check, at_most, statistical, within
from mlepi.verification.lattices import CARBON, angular_frequency, chain, dimer, oscillator_variance
from mlepi.verification.vibrations import ensemble_of

STRETCH, SWING, BOND = 40.0, 12.0, 1.42
"""Springs of the dimer, eV/Å², and its bond, Å."""
DECAY = 3.37


def bond_variance(stiffness: float, temperature: float) -> float:
    """Return ⟨Δ²⟩ of the relative motion of two carbon atoms on a spring of eV/Å²: Å²."""
    reduced = 0.5 * CARBON
    return float(oscillator_variance(angular_frequency(stiffness, reduced), reduced, temperature))


def check_exponential_hopping() -> list[Check]:
    """⟨E⟩ = ±t₀ exp(β²⟨Δ²⟩/2d₀²) of a dimer with t = t₀ exp(−β Δ/d₀).

    Exact for Gaussian Δ, at any order and temperature.
    """
    checks, n_samples = [], 10000
    ensemble = ensemble_of(dimer(STRETCH, SWING, BOND), 0.0, 300.0, 3000.0)
    for temperature in ensemble.temperatures:
        displacements = MonteCarlo().displacements(ensemble, temperature, range(n_samples), 21)
        stretch = displacements[:, 1, 0] - displacements[:, 0, 0]
        hopping = 2.7 * np.exp(-DECAY * stretch / BOND)
        levels = np.linalg.eigvalsh(hopping[:, None, None] * np.array([[0.0, -1.0], [-1.0, 0.0]]))[
            :, 1
        ]
        exact = 2.7 * np.exp(0.5 * (DECAY / BOND) ** 2 * bond_variance(STRETCH, temperature))
        sigma = levels.std(ddof=1) / np.sqrt(n_samples)
        checks.append(
            statistical(
                f"dimer, exponential hopping, {temperature:g} K", exact, levels.mean(), sigma, "eV"
            )
        )
    return checks


def check_bond_lengthening() -> list[Check]:
    """⟨t(|d + Δ|)⟩ − t₀ = ½[t″⟨Δ_∥²⟩ + (t′/d₀)⟨Δ_⊥²⟩], to second order; bending lengthens bonds."""
    model = TightBinding(orbitals="s")
    d, t, decay = model.bond, *model.intralayer["sss"]
    along, across = 2.0e-3, 5.0e-3  # Å, standard deviations
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    grid = np.array(list(itertools.product(range(8), repeat=3)))
    share = np.prod(weights[grid], axis=1) / np.sum(weights) ** 3
    vectors = np.array([d, 0.0, 0.0]) + nodes[grid] * np.array([along, across, across])
    values = model.blocks(torch.tensor(vectors), torch.zeros(len(vectors), dtype=torch.bool))[0][
        :, 0, 0
    ].numpy()
    first, second = -decay / d * t, (decay / d) ** 2 * t
    exact = 0.5 * (second * along**2 + first / d * 2 * across**2)
    # terms of fourth order: (β²σ²/d²)² and smaller
    return [
        within(
            "bond lengthening: second-order shift of the hopping",
            exact,
            share @ values - t,
            2e-4 * abs(exact),
            "eV",
        )
    ]


def check_single_level() -> list[Check]:
    """E = gΔ gives a Gaussian A(E) of variance g²⟨Δ²⟩ about 0.

    The average over frozen atoms does not shift a level.
    """
    coupling, width, n_samples, temperature = 3.0, 0.02, 1000, 300.0
    ensemble = ensemble_of(dimer(STRETCH, SWING, BOND), temperature)
    displacements = MonteCarlo().displacements(ensemble, temperature, range(n_samples), 22)
    levels = coupling * (displacements[:, 1, 0] - displacements[:, 0, 0])
    energies = np.arange(-1.5, 1.5, 0.004)
    spectrum = compute_spectral_function(
        energies, levels, np.full(n_samples, 1.0 / n_samples), width, "gaussian"
    )
    step = energies[1] - energies[0]
    variance = coupling**2 * bond_variance(STRETCH, temperature)
    mean = float(np.sum(spectrum * energies) * step)
    second = float(np.sum(spectrum * energies**2) * step) - width**2
    return [
        within("level E = gΔ: area of A(E)", 1.0, float(np.sum(spectrum) * step), 1e-6),
        statistical("level E = gΔ: mean of A(E)", 0.0, mean, np.sqrt(variance / n_samples), "eV"),
        statistical(
            "level E = gΔ: variance of A(E)",
            variance,
            second,
            variance * np.sqrt(2.0 / n_samples),
            "eV²",
        ),
    ]


def check_bose_einstein() -> list[Check]:
    """E(T) = E₀ + a coth(ħω/2k_BT) for quadratic coupling to one frequency.

    At high temperature the slope is 2ak_B/ħω.
    """
    coupling, temperatures = 5.0, (0.0, 100.0, 300.0, 1000.0, 20000.0, 40000.0)
    ensemble = ensemble_of(dimer(STRETCH, SWING, BOND), *temperatures)
    covariances = ensemble.covariance()
    shifts = coupling * (covariances[:, 0, 0] + covariances[:, 3, 3] - 2 * covariances[:, 0, 3])
    omega = angular_frequency(STRETCH, 0.5 * CARBON)
    zero = coupling * bond_variance(STRETCH, 0.0)
    checks = []
    for temperature, shift in zip(temperatures[1:4], shifts[1:4], strict=True):
        exact = zero / np.tanh(constants.hbar * omega / (2 * constants.k * temperature))
        checks.append(
            within(f"one frequency: shift at {temperature:g} K", exact, shift, 1e-7 * exact, "eV")
        )
    slope = (shifts[5] - shifts[4]) / (temperatures[5] - temperatures[4])
    limit = 2 * zero * constants.k / (constants.hbar * omega)
    x = constants.hbar * omega / (constants.k * temperatures[4])
    return [
        within("one frequency: zero-point shift", zero, shifts[0], 1e-7 * zero, "eV"),
        *checks,
        within(
            "one frequency: slope at high temperature, 2ak_B/ħω",
            limit,
            slope,
            x**2 / 12 * limit,
            "eV/K",
        ),
    ]


SAMPLERS: tuple[HarmonicSampler, ...] = (MonteCarlo(), Antithetic(), ThermalLines(), Sobol())


def _mode_coordinates(
    sampler: HarmonicSampler, n_samples: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return unit coordinates of all modes of a short chain, and groups of dependent samples."""
    ensemble = ensemble_of(chain(8.0, (CARBON, 20.0), 4), 300.0)
    normals = sampler.normals(ensemble, range(n_samples), 6)
    return ensemble.coordinates.coordinates(normals), sampler.groups(n_samples)


def _group_error(values: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    """Return the standard error of the mean from groups of equal size."""
    means = np.array([values[groups == g].mean() for g in np.unique(groups)])
    return float(means.std(ddof=1) / np.sqrt(len(means)))


def check_quadratic_functions() -> list[Check]:
    """F = f₀ + g·z + ½ zᵀAz has the mean f₀ + ½ tr A with every sampler.

    Odd functions of pairs vanish exactly.
    """
    rng = np.random.default_rng(1)
    size = _mode_coordinates(SAMPLERS[0], 1)[0].shape[1]
    linear, matrix = rng.standard_normal(size), rng.standard_normal((size, size))
    matrix = 0.5 * (matrix + matrix.T)
    exact = 1.5 + 0.5 * np.trace(matrix)
    checks = []
    for sampler in SAMPLERS:
        z, groups = _mode_coordinates(sampler, 1024)
        values = 1.5 + z @ linear + 0.5 * np.einsum("si,ij,sj->s", z, matrix, z)
        name = type(sampler).__name__
        # eight replicates of Sobol know their own scatter to 27 %: a t-distribution of 7 degrees,
        # 4.5 for the same confidence
        n_sigma = 4.5 if isinstance(sampler, Sobol) else 3.0
        sigma = _group_error(values, groups)
        checks.append(
            statistical(f"quadratic function, {name}", exact, values.mean(), sigma, "", n_sigma)
        )
        if isinstance(sampler, (Antithetic, ThermalLines)):
            odd = abs(float(np.mean(z @ linear + (z @ linear) ** 3)))
            checks.append(at_most(f"odd function of pairs, {name}", 1e-10, odd))
    return checks


def check_thermal_line_bias() -> list[Check]:
    """F = Σ cᵢ zᵢ⁴: Gaussian mean 3Σc, thermal lines Σc, bias −(1/12) Σ f⁗ σ⁴ with f⁗ = 24c."""
    rng = np.random.default_rng(2)
    size = _mode_coordinates(SAMPLERS[0], 1)[0].shape[1]
    c = rng.uniform(0.5, 1.5, size)
    gaussian, _ = _mode_coordinates(MonteCarlo(), 4096)
    lines, _ = _mode_coordinates(ThermalLines(), 64)
    values = gaussian**4 @ c
    sigma = values.std(ddof=1) / np.sqrt(len(values))
    exact = 3 * float(np.sum(c))
    return [
        statistical("quartic function, MonteCarlo", exact, values.mean(), sigma),
        within(
            "quartic function, ThermalLines: bias −Σf⁗σ⁴/12",
            -float(np.sum(24 * c)) / 12,
            float(np.mean(lines**4 @ c)) - exact,
            1e-9,
        ),
    ]
