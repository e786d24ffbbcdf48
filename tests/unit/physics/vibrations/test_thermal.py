from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from phonopy.phonon.random_displacements import RandomDisplacements
from spring_model import SpringCalculator, build_honeycomb, spring_record

from mlepi.errors import ConfigError, PhysicsError
from mlepi.physics.vibrations.force_constants import ForceConstants, compute_force_constants
from mlepi.physics.vibrations.normal_modes import NormalModes, compute_modes
from mlepi.physics.vibrations.phonopy_order import load_phonopy, repeat_order
from mlepi.physics.vibrations.thermal import (
    HarmonicEnsemble,
    draw_normals,
    mode_variance,
    sample_displacements,
)
from mlepi.units import BOLTZMANN, FORCE_CONSTANT_TO_THZ, HBAR2_PER_AMU, PLANCK, THZ_TO_INVERSE_CM

TEMPERATURES = (0.0, 60.0, 300.0)


@pytest.fixture(scope="module")
def record():
    return spring_record(symbols="BN")


def test_carbon_oscillator_at_zero_temperature():
    frequency = 1580.0 / THZ_TO_INVERSE_CM
    assert mode_variance(np.array(frequency), 0.0) / 12.011 == pytest.approx(8.88e-4, rel=1e-3)


def test_oscillator_limits():
    frequencies = np.array([0.5, 5.0, 40.0])
    quanta = PLANCK * frequencies
    np.testing.assert_allclose(
        mode_variance(frequencies, 0.0), HBAR2_PER_AMU / (2 * quanta), rtol=1e-14
    )
    np.testing.assert_allclose(
        mode_variance(frequencies, 1e-3), mode_variance(frequencies, 0.0), rtol=1e-12
    )
    hot = 5e4
    x = quanta / (BOLTZMANN * hot)
    np.testing.assert_allclose(
        mode_variance(frequencies, hot) / mode_variance(frequencies, hot, "classical"),
        1 + x**2 / 12,
        rtol=1e-7,
    )
    assert np.all(mode_variance(frequencies, 0.0, "classical") == 0)


def test_einstein_solid_is_isotropic_and_uncorrelated():
    # equal frequencies by construction: identical modes at all wave vectors except the translations
    n_cells, mass, frequency = 9, 12.0, 30.0
    vectors = np.broadcast_to(np.eye(3, dtype=complex), (n_cells, 3, 3)).copy()
    translations = np.zeros((n_cells, 3), bool)
    translations[0] = True
    atoms = Atoms("C", masses=[mass], cell=[2.0, 2.0, 9.0], pbc=True)
    modes = NormalModes(
        atoms,
        (3, 3, 1),
        np.zeros((n_cells, 3)),
        np.where(translations, 0.0, frequency),
        vectors,
        translations,
    )
    ensemble = HarmonicEnsemble(modes, (300.0,))
    variance = float(mode_variance(np.array(frequency), 300.0)) / mass
    expected = variance * np.kron(np.eye(9) - 1 / 9, np.eye(3))
    np.testing.assert_allclose(ensemble.covariance()[0], expected, atol=1e-15)


def test_classical_equipartition(record):
    ensemble = HarmonicEnsemble(compute_modes(record), (300.0,), "classical")
    matrix = record.matrix()
    size = 3 * matrix.shape[0]
    hessian = matrix.transpose(0, 2, 1, 3).reshape(size, size)
    energy = 0.5 * np.trace(hessian @ ensemble.covariance()[0])
    assert energy == pytest.approx(0.5 * BOLTZMANN * 300.0 * (size - 3), rel=1e-10)


def test_quantum_potential_energy_per_mode(record):
    ensemble = HarmonicEnsemble(modes := compute_modes(record), (100.0,))
    matrix = record.matrix()
    size = 3 * matrix.shape[0]
    hessian = matrix.transpose(0, 2, 1, 3).reshape(size, size)
    quanta = PLANCK * modes.frequencies[~modes.translations]
    expected = np.sum(quanta / 4 / np.tanh(quanta / (2 * BOLTZMANN * 100.0)))
    assert 0.5 * np.trace(hessian @ ensemble.covariance()[0]) == pytest.approx(expected, rel=1e-10)


def test_phonopy_random_displacements_have_the_same_covariance(record):
    phonon, _ = load_phonopy(record.atoms, record.supercell, record.values)
    order = repeat_order(phonon, record.atoms, record.supercell)
    reference = RandomDisplacements(
        phonon.supercell, phonon.primitive, phonon.force_constants, cutoff_frequency=0.01
    )
    reference.run_correlation_matrix(300.0)
    inverse = np.argsort(order)
    uu = np.asarray(reference.uu)[np.ix_(inverse, inverse)].transpose(0, 2, 1, 3)
    size = 3 * len(order)
    ours = HarmonicEnsemble(compute_modes(record), (300.0,)).covariance()[0]
    np.testing.assert_allclose(ours, uu.reshape(size, size), atol=2e-9)


def test_samples_have_the_exact_covariance(record):
    samples = sample_displacements(record, TEMPERATURES, 2000, seed=1)
    exact = HarmonicEnsemble(compute_modes(record), TEMPERATURES).covariance()
    flat = samples.reshape(3, 2000, -1)
    found = np.einsum("tsi,tsj->tij", flat, flat) / 2000
    scale = np.sqrt(np.einsum("tii,tjj->tij", exact, exact))
    # the sd of an estimated correlation is at most √(2/n) = 0.032; 5.5 sd over 3·72² elements
    assert np.abs((found - exact) / scale).max() < 0.17
    np.testing.assert_allclose(np.einsum("tii->t", found), np.einsum("tii->t", exact), rtol=0.02)


def test_characteristic_function_of_a_gaussian(record):
    samples = sample_displacements(record, (300.0,), 4000, seed=2)[0].reshape(4000, -1)
    k = np.zeros(samples.shape[1])
    k[0], k[4], k[20] = 15.0, -10.0, 8.0
    exact = np.exp(-0.5 * k @ HarmonicEnsemble(compute_modes(record), (300.0,)).covariance()[0] @ k)
    assert np.exp(1j * samples @ k).mean() == pytest.approx(exact, abs=0.04)


def test_result_is_independent_of_degenerate_vectors(record):
    modes = compute_modes(spring_record((3, 3, 1)))
    rng = np.random.default_rng(0)
    vectors = modes.eigenvectors.copy()
    for q, frequencies in enumerate(modes.frequencies):
        if q == 0:
            continue
        for group in np.split(np.arange(6), np.nonzero(np.diff(frequencies) > 1e-6)[0] + 1):
            random = rng.standard_normal((len(group), len(group))) + 1j * rng.standard_normal(
                (len(group), len(group))
            )
            vectors[q][:, group] = vectors[q][:, group] @ np.linalg.qr(random)[0]
    rotated = replace(modes, eigenvectors=vectors)
    normals = draw_normals(0, range(3), modes.n_supercell)
    a = HarmonicEnsemble(modes, TEMPERATURES).displacements(normals)
    b = HarmonicEnsemble(rotated, TEMPERATURES).displacements(normals)
    np.testing.assert_allclose(a, b, atol=1e-7)


def test_noisy_force_constants_give_no_rigid_shift():
    clean = spring_record((6, 6, 1))
    rng = np.random.default_rng(0)
    noise = 1e-3 * rng.standard_normal(clean.values.shape)
    noisy = ForceConstants(clean.atoms, clean.supercell, clean.values + noise)
    ensemble = HarmonicEnsemble(compute_modes(noisy), (300.0,))
    samples = ensemble.displacements(draw_normals(0, range(20), ensemble.modes.n_supercell))
    assert np.abs(samples.mean(axis=2)).max() < 1e-10
    reference = HarmonicEnsemble(compute_modes(clean), (300.0,)).mean_square_displacements()
    np.testing.assert_allclose(ensemble.mean_square_displacements(), reference, rtol=0.2)


def test_centre_of_mass_rests_with_unequal_masses(record):
    samples = sample_displacements(record, TEMPERATURES, 5, seed=0)
    masses = record.atoms.repeat(record.supercell).get_masses()
    assert np.abs(np.einsum("a,tsax->tsx", masses, samples)).max() < 1e-12
    assert np.abs(samples.mean(axis=2)).max() > 1e-6


def test_growing_an_ensemble_keeps_its_snapshots(record):
    few = sample_displacements(record, TEMPERATURES, 3, seed=5)
    many = sample_displacements(record, TEMPERATURES, 7, seed=5)
    np.testing.assert_allclose(many[:, :3], few, atol=1e-14)
    np.testing.assert_array_equal(draw_normals(5, [6, 2], 4), draw_normals(5, range(7), 4)[[6, 2]])
    assert not np.allclose(draw_normals(6, [2], 4), draw_normals(5, [2], 4))


def test_temperatures_share_their_random_numbers(record):
    together = sample_displacements(record, TEMPERATURES, 4, seed=3)
    for index, temperature in enumerate(TEMPERATURES):
        np.testing.assert_allclose(
            together[index], sample_displacements(record, (temperature,), 4, seed=3)[0], atol=1e-14
        )
    correlation = np.corrcoef(together[0].ravel(), together[1].ravel())[0, 1]
    assert correlation > 0.95


def test_imaginary_modes_raise_freeze_or_take_the_floor():
    shells = [(1.6, 25.0, 9.0, 6.0), (2.6, 4.0, -1.5, -2.5)]
    atoms = build_honeycomb()
    record = compute_force_constants(
        atoms, SpringCalculator(atoms.repeat((4, 4, 1)), shells), [4, 4, 1]
    )
    modes = compute_modes(record)
    bad = ~modes.translations & (modes.frequencies < 0)
    assert bad.any()
    with pytest.raises(
        PhysicsError,
        match=f"got {bad.sum()} without a positive frequency, the lowest -[0-9.]+ THz .* at q = ",
    ):
        HarmonicEnsemble(modes, (300.0,))
    frozen = HarmonicEnsemble(modes, (300.0,), imaginary="freeze")
    assert np.all(frozen._amplitudes[0][bad] == 0)
    assert np.all(frozen._amplitudes[0][~bad & ~modes.translations] > 0)
    floored = HarmonicEnsemble(modes, (300.0,), imaginary="floor", floor_frequency=2.0)
    np.testing.assert_allclose(
        floored._amplitudes[0][bad] ** 2, mode_variance(np.array(2.0), 300.0)
    )
    assert np.all(floored._amplitudes[0][modes.translations] == 0)


def test_bad_choices_say_so(record):
    modes = compute_modes(record)
    with pytest.raises(
        ConfigError,
        match=r"stage.sampling.imaginary: got 'ignore'; expected 'error', 'freeze' or 'floor'",
    ):
        HarmonicEnsemble(modes, (0.0,), imaginary="ignore")
    with pytest.raises(
        ConfigError,
        match=r"stage.sampling.statistics: got 'bose'; expected 'quantum' or 'classical'",
    ):
        HarmonicEnsemble(modes, (0.0,), "bose")
    with pytest.raises(
        ConfigError, match=r"stage.sampling.floor_frequency: got 0.0; expected a positive frequency"
    ):
        HarmonicEnsemble(modes, (0.0,), imaginary="floor", floor_frequency=0.0)
    with pytest.raises(ConfigError, match=r"temperature: got -5.0 K; expected 0 K or more"):
        HarmonicEnsemble(modes, (-5.0,))
    with pytest.raises(
        ConfigError, match=r"stage.sampling.project_out: got 'LA'; expected 'none' or 'ZA'"
    ):
        HarmonicEnsemble(modes, (0.0,), project_out="LA")
    with pytest.raises(PhysicsError, match=r"normals: got shape"):
        HarmonicEnsemble(modes, (0.0,)).displacements(np.zeros((1, 5, 3)))


def test_flexural_amplitude_grows_with_the_square_of_the_cell():
    # a flexural branch ω ∝ q²: classical ⟨u_z²⟩ ∝ L² (transverse springs that cancel to second
    # order in q)
    def msd(n):
        atoms = Atoms("C", cell=[1.0, 20, 20], pbc=True)
        phi = np.zeros((1, n, 3, 3))
        for shift, k in ((0, 6.0), (1, -4.0), (-1, -4.0), (2, 1.0), (-2, 1.0)):
            phi[0, shift % n] += k * np.eye(3)
        record = ForceConstants(atoms, (n, 1, 1), phi)
        return HarmonicEnsemble(
            compute_modes(record), (300.0,), "classical"
        ).mean_square_displacements()[0, 0, 2]

    # in one dimension Σ_q 1/q⁴ ∝ L⁴, per atom L³
    assert msd(80) / msd(40) == pytest.approx(8.0, rel=0.02)


def test_displacements_follow_the_formula_to_rounding(record):
    # u_R = M^{-1/2} Σ_q C(q)^{1/2} z(q) e^{2πi q·R}, written out
    modes = compute_modes(record)
    ensemble = HarmonicEnsemble(modes, TEMPERATURES)
    normals = draw_normals(4, range(5), 24)
    cells = np.stack(np.meshgrid(range(4), range(3), [0], indexing="ij"), axis=-1).reshape(-1, 3)
    phases = np.exp(2j * np.pi * modes.qpoints @ cells.T)
    waves = np.einsum("qr,sri->qsi", phases.conj(), normals.reshape(5, 12, 6)) / 12
    for i, temperature in enumerate(TEMPERATURES):
        sigma = np.sqrt(
            [mode_variance(np.where(modes.translations, 1.0, modes.frequencies), temperature)]
        )[0]
        root = (
            modes.eigenvectors * (sigma * ~modes.translations)[:, None]
        ) @ modes.eigenvectors.conj().swapaxes(1, 2)
        u = np.einsum("qr,qij,qsj->sri", phases, root, waves).real.reshape(5, 24, 3)
        u = u / np.sqrt(np.tile(modes.masses, 12))[:, None]
        np.testing.assert_allclose(ensemble.displacements(normals)[i], u, atol=1e-12)
        # one at a time or many together, one temperature or several
        np.testing.assert_allclose(
            ensemble.displacements_at(temperature, normals[2:3])[0], u[2], atol=1e-12
        )


def test_covariance_is_the_inverse_of_the_precision_matrix(record):
    # Υ = √(M_a M_b) Σ_μ 2ω/((1 + 2n)ħ) e eᵀ on everything but translations, from a dense
    # diagonalisation
    matrix = record.matrix()
    masses = np.repeat(record.atoms.repeat(record.supercell).get_masses(), 3)
    dense = matrix.transpose(0, 2, 1, 3).reshape(len(masses), -1) / np.sqrt(
        np.outer(masses, masses)
    )
    values, vectors = np.linalg.eigh(dense)
    quanta = PLANCK * np.sqrt(values[3:]) * FORCE_CONSTANT_TO_THZ
    for i, temperature in enumerate((0.0, 300.0)):
        occupation = 1 / np.expm1(quanta / (BOLTZMANN * 300.0)) if i else 0.0
        weights = 2 * quanta / (HBAR2_PER_AMU * (1 + 2 * occupation))
        precision = (
            (vectors[:, 3:] * weights) @ vectors[:, 3:].T * np.sqrt(np.outer(masses, masses))
        )
        covariance = HarmonicEnsemble(compute_modes(record), (temperature,)).covariance()[0]
        internal = (vectors[:, 3:] @ vectors[:, 3:].T) / np.sqrt(masses)[:, None] * np.sqrt(masses)
        np.testing.assert_allclose(covariance @ precision, internal, atol=1e-8)


def test_mean_squares_of_phonopys_random_displacements_agree(record):
    phonon, _ = load_phonopy(record.atoms, record.supercell, record.values)
    reference = RandomDisplacements(
        phonon.supercell, phonon.primitive, phonon.force_constants, cutoff_frequency=0.01
    )
    reference.run(300.0, number_of_snapshots=2000, random_seed=1)
    order = repeat_order(phonon, record.atoms, record.supercell)
    theirs = np.asarray(reference.u)[:, np.argsort(order)].reshape(2000, 12, 2, 3)
    ours = sample_displacements(record, (300.0,), 2000, seed=1)[0].reshape(2000, 12, 2, 3)
    exact = HarmonicEnsemble(compute_modes(record), (300.0,)).mean_square_displacements()[0]
    for samples in (theirs, ours):
        per_sample = (samples**2).mean(axis=1)
        errors = per_sample.std(axis=0) / np.sqrt(2000)
        assert np.abs((per_sample.mean(axis=0) - exact) / errors).max() < 4.5


def test_classical_bending_amplitude_grows_with_the_square_of_the_cell():
    # ω ∝ q² in two dimensions: ⟨u²⟩ = Σ_q k_BT/(mω²)/N ∝ L²; the lattice corrects this by (ln
    # L)/L², under 1 % here
    def msd(n):
        atoms = Atoms("C", cell=[[1.0, 0, 0], [0, 1.0, 0], [0, 0, 20.0]], pbc=True)
        line = np.zeros(n)
        for shift, k in ((0, 2.0), (1, -1.0), (-1, -1.0)):
            line[shift % n] += k
        laplace = np.add.outer(line * 0, line * 0)
        laplace[:, 0] += line
        laplace[0, :] += line
        squared = np.fft.ifft2(np.fft.fft2(laplace) ** 2).real  # κ (∇²)²
        values = squared.reshape(1, n * n, 1, 1) * np.eye(3)
        return HarmonicEnsemble(
            compute_modes(ForceConstants(atoms, (n, n, 1), values)), (300.0,), "classical"
        )

    ratio = (
        msd(96).mean_square_displacements()[0, 0, 2] / msd(48).mean_square_displacements()[0, 0, 2]
    )
    assert ratio == pytest.approx(4.0, rel=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_displacements_on_a_gpu_are_those_of_the_processor(record):
    normals = draw_normals(0, range(8), 24)
    modes = compute_modes(record)
    here, there = (
        HarmonicEnsemble(modes, TEMPERATURES, device=device).displacements(normals)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there, here, atol=1e-12)
