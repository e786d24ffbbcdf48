"""Thermal motion against oscillators, chains, equipartition, phonopy and springs of graphene."""

from __future__ import annotations

import numpy as np
from phonopy import Phonopy
from phonopy.phonon.random_displacements import RandomDisplacements
from phonopy.structure.atoms import PhonopyAtoms
from scipy import constants, stats

from mlepi.physics.vibrations.force_constants import ForceConstants, compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import MonteCarlo
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals, mode_variance
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene
from mlepi.verification.check import Check, at_least, at_most, statistical, within
from mlepi.verification.lattices import (
    AMU,
    CARBON,
    EV,
    angular_frequency,
    chain,
    classical_variance,
    einstein_solid,
    oscillator_variance,
)

ROUNDING = 1e-7
"""Relative; constants of CODATA 2018 and 2022 agree to this."""


def ensemble_of(
    force_constants: ForceConstants, *temperatures: float, statistics: str = "quantum"
) -> HarmonicEnsemble:
    """Return the thermal distribution of force constants."""
    modes = compute_modes(force_constants)
    return HarmonicEnsemble(modes, temperatures, statistics)  # type: ignore[arg-type]


def graphene_springs(
    stacking: str = "monolayer", n: int = 6, height: float = 18.0
) -> ForceConstants:
    """Return the toy's force constants in n×n cells, by differences small enough for them."""
    return compute_force_constants(
        build_graphene(stacking, height=height), HoneycombSprings(), (n, n, 1), displacement=0.002
    )


def check_oscillator() -> list[Check]:
    """⟨x²⟩ = ħ/(2mω) coth(ħω/2k_BT), its limit at 0 K, and its series for k_BT ≫ ħω."""
    checks = []
    for wavenumber, temperature in ((1580.0, 0.0), (1580.0, 300.0), (31.0, 300.0)):
        frequency = wavenumber * constants.c * 1e2
        exact = float(oscillator_variance(2 * np.pi * frequency, CARBON, temperature))
        got = float(mode_variance(np.array(frequency * 1e-12), temperature)) / CARBON
        name = f"oscillator ⟨x²⟩ of carbon, {wavenumber:g} cm⁻¹, {temperature:g} K"
        checks.append(within(name, exact, got, ROUNDING * exact, "Å²"))
    omega, hot = 2 * np.pi * 31.0 * constants.c * 1e2, 3000.0
    x = constants.hbar * omega / (constants.k * hot)
    series = constants.k * hot / (CARBON * AMU * omega**2) * 1e20 * (1 + x**2 / 12)
    got = float(mode_variance(np.array(omega / (2e12 * np.pi)), hot)) / CARBON
    checks.append(
        within(
            "oscillator, hot: k_BT/mω²·(1 + x²/12)",
            series,
            got,
            (x**4 / 720 + ROUNDING) * series,
            "Å²",
        )
    )
    return checks


def check_gaussian_modes() -> list[Check]:
    """Variance, kurtosis and distribution of modes of sampled graphene, χ² of uᵀΥu."""
    force_constants, n_samples, temperature = graphene_springs(n=3), 500, 300.0
    ensemble = ensemble_of(force_constants, temperature)
    n = ensemble.modes.n_supercell
    samples = ensemble.displacements_at(temperature, draw_normals(5, range(n_samples), n)).reshape(
        n_samples, -1
    )
    matrix = force_constants.matrix().transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    values, vectors = np.linalg.eigh(matrix)  # of equal masses: Φ has the modes of D
    values, vectors = values[3:], vectors[:, 3:]  # the three translations
    omegas = np.sqrt(values * EV * 1e20 / (CARBON * AMU))
    z = samples @ vectors / np.sqrt(oscillator_variance(omegas, CARBON, temperature))
    flat = z.ravel()
    chi = np.sum(z**2, axis=1)
    return [
        statistical("modes: mean of (Q/σ)²", 1.0, np.mean(flat**2), np.sqrt(2.0 / flat.size)),
        statistical(
            "modes: excess kurtosis",
            0.0,
            np.mean(flat**4) / np.mean(flat**2) ** 2 - 3.0,
            np.sqrt(24.0 / flat.size),
        ),
        at_least(
            "modes: p-value of Kolmogorov and Smirnov",
            1e-3,
            float(stats.kstest(flat, "norm").pvalue),
        ),
        statistical(
            "modes: mean of uᵀΥu is the number of modes",
            3.0 * n - 3.0,
            chi.mean(),
            np.sqrt(2.0 * (3 * n - 3) / n_samples),
        ),
        at_least(
            "modes: p-value of the χ² distribution of uᵀΥu",
            1e-3,
            float(stats.kstest(chi, stats.chi2(3 * n - 3).cdf).pvalue),
        ),
    ]


def check_einstein_solid() -> list[Check]:
    """Equal springs to every site: ⟨uuᵀ⟩ = σ²(1 − P), P the translations; energy per mode.

    Classical equipartition.
    """
    stiffness, n = 7.0, 5
    solid = einstein_solid(stiffness, n)
    omega = angular_frequency(stiffness, CARBON)
    variance = float(oscillator_variance(omega, CARBON, 300.0))
    covariance = ensemble_of(solid, 300.0).covariance()[0]
    exact = variance * np.kron(np.eye(n) - 1.0 / n, np.eye(3))
    energy = 0.5 * stiffness * np.trace(covariance) / (3 * n - 3)
    per_mode = (
        constants.hbar
        * omega
        / 4
        / np.tanh(constants.hbar * omega / (2 * constants.k * 300.0))
        / EV
    )
    return [
        at_most(
            "Einstein solid: largest error of ⟨uuᵀ⟩/σ²",
            1e-7,
            float(np.abs(covariance - exact).max() / variance),
        ),
        within(
            "Einstein solid: potential energy per mode, ħω/4·coth",
            per_mode,
            energy,
            ROUNDING * per_mode,
            "eV",
        ),
    ]


def check_equipartition() -> list[Check]:
    """½ k_BT of potential energy in each of the 3N − 3 classical modes, whatever the springs."""
    checks = []
    for stacking, n in (("monolayer", 3), ("AB", 3)):
        springs = graphene_springs(stacking, n)
        covariance = ensemble_of(springs, 300.0, statistics="classical").covariance()[0]
        size = len(covariance)
        matrix = springs.matrix().transpose(0, 2, 1, 3).reshape(size, size)
        got = 0.5 * np.sum(matrix * covariance)
        exact = 0.5 * constants.k * 300.0 / EV * (size - 3)
        checks.append(
            within(f"classical equipartition, {stacking} {n}×{n}", exact, got, 1e-6 * exact, "eV")
        )
    return checks


def check_chain() -> list[Check]:
    """Chains: ω = 2√(K/m)|sin(q/2)| for equal masses.

    With two masses classical bonds are independent but for closure.
    """
    stiffness, n, apart = 5.0, 12, 4
    modes = 2 * np.pi * np.arange(1, n) / n
    omegas = 2 * angular_frequency(stiffness, CARBON) * np.abs(np.sin(modes / 2))
    checks = []
    for temperature in (0.0, 300.0):
        exact = float(
            np.sum(
                oscillator_variance(omegas, CARBON, temperature) * 2 * (1 - np.cos(modes * apart))
            )
            / n
        )
        covariance = ensemble_of(chain(stiffness, (CARBON,), n), temperature).covariance()[0]
        got = covariance[0, 0] + covariance[3 * apart, 3 * apart] - 2 * covariance[0, 3 * apart]
        checks.append(
            within(f"chain ⟨(u₀ − u₄)²⟩, {temperature:g} K", exact, got, ROUNDING * exact, "Å²")
        )
    covariance = ensemble_of(
        chain(stiffness, (CARBON, 20.0), n), 300.0, statistics="classical"
    ).covariance()[0]
    exact = classical_variance(stiffness, 300.0) * (1 - 1 / (2 * n))
    got = covariance[0, 0] + covariance[3, 3] - 2 * covariance[0, 3]
    checks.append(
        within(
            "diatomic chain, classical: bond ⟨Δ²⟩ = k_BT/K·(1 − 1/N)",
            exact,
            got,
            ROUNDING * exact,
            "Å²",
        )
    )
    return checks


def check_flexural_scaling() -> list[Check]:
    """Classical ⟨u_z²⟩ of a layer from m ω² = k_n(3 ∓ |f(q)|)² grows as the area of the cell."""
    stiffness = HoneycombSprings().normal
    checks, exact = [], {}
    for n in (3, 6):
        phases = np.exp(2j * np.pi * np.arange(n) / n)
        sums = np.abs(1 + phases[:, None] + phases[None, :]).ravel()
        branches = np.concatenate([3 - sums[1:], 3 + sums])
        exact[n] = (
            classical_variance(stiffness, 300.0) * float(np.sum(1 / branches**2)) / (2 * n * n)
        )
        got = (
            ensemble_of(graphene_springs(n=n), 300.0, statistics="classical")
            .mean_square_displacements()[0, :, 2]
            .mean()
        )
        # the finite differences of the force constants stiffen the soft waves, by 1e-3 at most
        checks.append(
            within(
                f"flexural ⟨u_z²⟩ of {n}×{n}, classical, 300 K",
                exact[n],
                got,
                2e-3 * exact[n],
                "Å²",
            )
        )
    ratio = checks[1].got / checks[0].got
    checks.append(
        within(
            "flexural ⟨u_z²⟩ ratio 6×6 to 3×3",
            exact[6] / exact[3],
            ratio,
            3e-3 * exact[6] / exact[3],
        )
    )
    return checks


def check_layer_chain() -> list[Check]:
    """Two layers and the bulk as linear chains of layers.

    Rigid modes of the bulk are √2 times those of the bilayer.
    """
    bilayer = compute_modes(graphene_springs("AB", 2)).frequencies[0, 3:6]
    bulk = compute_modes(graphene_springs("AB", 2, height=6.7)).frequencies[0, 3:6]
    return [
        within(f"bilayer to bulk, {name}", 1 / np.sqrt(2), bilayer[n] / bulk[n], 1e-3)
        for n, name in ((0, "shear"), (2, "breathing"))
    ]


def check_phonopy_displacements() -> list[Check]:
    """⟨u²⟩ of 2,000 samples against the covariance of the 6×6 cell by phonopy alone."""
    n, n_samples = 6, 2000
    force_constants = graphene_springs(n=n)
    cell = force_constants.atoms
    phonon = Phonopy(
        PhonopyAtoms(
            numbers=cell.numbers,
            cell=cell.cell.array,
            positions=cell.positions,
            masses=[CARBON] * 2,
        ),
        supercell_matrix=np.diag([n, n, 1]),
        primitive_matrix="P",
    )
    phonon.generate_displacements(distance=0.002, is_plusminus="auto")
    springs = HoneycombSprings()
    forces = []
    for supercell in phonon.supercells_with_displacements or []:
        atoms = cell.repeat((n, n, 1))
        atoms.set_scaled_positions(supercell.scaled_positions)
        atoms.arrays["layer"][:] = 0
        forces.append(springs.get_forces(atoms))
    phonon.forces = np.array(forces)
    phonon.produce_force_constants(fc_calculator="symfc", show_drift=False)
    theirs_constants = np.array(phonon.force_constants)
    reference = RandomDisplacements(
        phonon.supercell, phonon.primitive, theirs_constants, cutoff_frequency=0.01
    )
    checks = []
    for temperature in (0.0, 300.0):
        reference.run_correlation_matrix(temperature)
        theirs = np.einsum("aaij->ij", np.asarray(reference.uu)) / (2 * n * n)
        ensemble = ensemble_of(force_constants, temperature)
        indices = range(n_samples)
        samples = MonteCarlo().displacements(ensemble, temperature, indices, 11)
        squares = np.mean(samples**2, axis=1)  # over the equivalent atoms of a sample
        sigma = squares.std(axis=0, ddof=1) / np.sqrt(n_samples)
        exact = ensemble.mean_square_displacements()[0].mean(axis=0)
        for axis, name in ((0, "x"), (2, "z")):
            expected = float(theirs[axis, axis])
            label = f"⟨u_{name}²⟩, 6×6, {temperature:g} K"
            checks.append(
                within(
                    f"{label}: covariance against phonopy's",
                    expected,
                    exact[axis],
                    1e-5 * expected,
                    "Å²",
                )
            )
            checks.append(
                statistical(
                    f"{label}: 2,000 samples", expected, squares[:, axis].mean(), sigma[axis], "Å²"
                )
            )
    return checks


def check_rigid_shift() -> list[Check]:
    """Force constants with noise of 1e-3 eV/Å².

    The samples do not drift, whatever the spurious translations.
    """
    springs = graphene_springs(n=3)
    rng = np.random.default_rng(8)
    full = springs.matrix().transpose(0, 2, 1, 3)
    size = 3 * len(full)
    noise = 1e-3 * rng.standard_normal((size, size))
    noisy = full.reshape(size, size) + (noise + noise.T) / np.sqrt(2.0)
    values = noisy.reshape(len(full), 3, len(full), 3).transpose(0, 2, 1, 3)[: len(springs.atoms)]
    modes = compute_modes(ForceConstants(springs.atoms, springs.supercell, values.copy()))
    ensemble = HarmonicEnsemble(modes, (300.0,), imaginary="freeze")
    samples = ensemble.displacements_at(300.0, draw_normals(4, range(200), modes.n_supercell))
    return [
        at_most(
            "noise of 1e-3 eV/Å²: largest rigid shift of 200 samples",
            1e-10,
            np.abs(samples.mean(axis=1)).max(),
            "Å",
        )
    ]
