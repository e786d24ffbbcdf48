"""Second-order shifts.

Exact against finite differences of supercell eigenvalues, sum rules, limits, textbook couplings.
"""

import numpy as np
import pytest
from toy_response import Toy
from toys import HOPPING, LATTICE_CONSTANT

from mlepi.errors import PhysicsError
from mlepi.physics.bands.unfolding import average_cells
from mlepi.physics.coupling.linear_response import (
    Perturbation,
    adiabatic_fan,
    debye_waller,
    mean_square_coupling,
    moving_norm,
    nonadiabatic_fan,
    occupation,
    perturb,
    share_degenerate,
)
from mlepi.physics.coupling.mode_interpolation import covariance_rows, mode_variances, mode_vectors
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals
from mlepi.units import BOLTZMANN, HBAR2_PER_AMU, PLANCK

K = np.array([0.117, 0.283, 0.0])
TEMPERATURES = (0.0, 300.0)


class Shifts:
    """Fan and Debye–Waller shifts of all bands of a toy at one k-point."""

    def __init__(self, toy, scale=1.0, broadening=0.0):
        self.toy = toy
        responses = toy.responses()
        self.ensemble = HarmonicEnsemble(compute_modes(toy.force_constants()), TEMPERATURES)
        qpoints, vectors = self.ensemble.modes.qpoints, mode_vectors(self.ensemble)
        self.variances = scale * mode_variances(self.ensemble)
        self.energies, self.states = toy.states(K[None])
        self.fan = np.zeros((len(TEMPERATURES), toy.n))
        self.nonadiabatic = np.zeros_like(self.fan)
        for q, qpoint in enumerate(qpoints):
            final = toy.states((K + qpoint)[None])
            [cartesian] = perturb(responses, qpoint, K[None], (self.energies, self.states), final)
            modes = cartesian.along(vectors[q], self.ensemble.modes.masses)
            self.fan += adiabatic_fan(modes, self.variances[:, q], broadening) / len(qpoints)
            if q == 0:
                self.fan += moving_norm(modes, self.variances[:, q]) / len(qpoints)
        self.debye_waller = np.array(
            [
                self._debye_waller(scale * rows)
                for rows in covariance_rows(self.ensemble, toy.repeats)
            ]
        )

    def _debye_waller(self, rows):
        """½ Σ_κα ∂²/∂u_κα∂c_κα of all blocks, c_κα the covariance of u_κα with everything."""
        toy = self.toy
        edges, shift, _ = toy.blocks(toy.supercell)
        scales = np.abs(rows).max(axis=(1, 2))
        parts = (
            sum(
                0.5 * scales[c] * toy.mixed(toy.unit(c), rows[c] / scales[c])
                for c in range(3 * toy.n)
                if scales[c] > 0
            )
            * toy.map.n_cells
        )
        matrices = []
        for blocks in parts:
            pairs, shifts, averaged = average_cells(toy.map, edges, shift, blocks)
            matrices.append(bloch_sum(averaged, pairs, shifts, np.arange(toy.n + 1), K)[0])
        return debye_waller(*matrices, self.energies[0], self.states[0])


def second_order_by_differences(toy, ensemble, temperature, step):
    """½ Σ_ab ⟨u_a u_b⟩ ∂²E_n/∂u_a∂u_b of supercell states of k, by fourth-order differences."""
    covariance = ensemble.covariance()[temperature]
    values, vectors = np.linalg.eigh(covariance)
    kpoint = toy.map.fold(K)
    rest = toy.supercell_levels(np.zeros((len(toy.supercell), 3)), kpoint)
    chosen = [int(np.argmin(np.abs(rest - energy))) for energy in toy.states(K[None])[0][0]]
    assert np.diff(rest).min() > 5e-3  # every supercell state can be followed
    total = np.zeros(toy.n)
    for value, vector in zip(values, vectors.T, strict=True):
        if value < 1e-12:
            continue
        direction = vector.reshape(-1, 3)
        levels = [
            toy.supercell_levels(n * step * direction, kpoint)[chosen] for n in (-2, -1, 1, 2)
        ]
        curvature = (
            -levels[0] + 16 * levels[1] - 30 * rest[chosen] + 16 * levels[2] - levels[3]
        ) / (12 * step**2)
        total += 0.5 * value * curvature
    return total


@pytest.mark.parametrize(("bilayer", "overlap"), [(False, 0.0), (False, 0.1), (True, 0.12)])
def test_adiabatic_shifts_are_the_curvature_of_supercell_levels(bilayer, overlap):
    """Fan + Debye–Waller = ½ ⟨u u⟩ · ∂²E/∂u∂u, modes of Γ, zone boundary and moving basis too."""
    toy = Toy(bilayer=bilayer, overlap=overlap)
    shifts = Shifts(toy)
    for t in range(len(TEMPERATURES)):
        expected = second_order_by_differences(toy, shifts.ensemble, t, step=5e-4)
        found = shifts.fan[t] + shifts.debye_waller[t]
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-9)


def test_small_amplitudes_make_monte_carlo_perturbation_theory():
    """⟨E(λu) − E(0)⟩/λ² → Fan + Debye–Waller.

    The tolerance is the statistical error, and the correction of order λ².
    """
    toy = Toy(repeats=(2, 1, 1), bilayer=False, overlap=0.1)
    shifts = Shifts(toy)
    scale, n_samples = 0.05, 400
    normals = draw_normals(3, range(n_samples), len(toy.supercell))
    displacements = scale * shifts.ensemble.displacements(normals)[1]
    kpoint = toy.map.fold(K)
    rest = toy.supercell_levels(np.zeros((len(toy.supercell), 3)), kpoint)
    chosen = [int(np.argmin(np.abs(rest - energy))) for energy in shifts.energies[0]]
    # antithetic pairs take out the linear part
    levels = np.array(
        [
            [toy.supercell_levels(sign * u, kpoint)[chosen] for sign in (1, -1)]
            for u in displacements
        ]
    )
    changes = (levels.mean(axis=1) - rest[chosen]) / scale**2
    error = changes.std(axis=0, ddof=1) / np.sqrt(n_samples)
    found = shifts.fan[1] + shifts.debye_waller[1]
    assert np.all(np.abs(changes.mean(axis=0) - found) < 4 * error + 5 * scale**2 * np.abs(found))
    assert np.all(error < 0.3 * np.abs(found).max())


def random_perturbation(rng, n_modes=3, n_final=5, n_initial=2):
    shape = (n_modes, n_final, n_initial)
    parts = [rng.normal(size=shape) + 1j * rng.normal(size=shape) for _ in range(3)]
    return Perturbation(
        *parts, np.sort(rng.uniform(-3, 3, n_final)), np.sort(rng.uniform(-1, 1, n_initial))
    )


def test_one_frequency_gives_bose_einstein():
    """E(T) = E(0) coth(ħω/2kT) for modes of one frequency."""
    rng = np.random.default_rng(1)
    frequency, temperature = 40.0, 700.0
    perturbation = random_perturbation(rng)
    coth = 1.0 / np.tanh(PLANCK * frequency / (2 * BOLTZMANN * temperature))
    zero_point = np.full((1, 3), HBAR2_PER_AMU / (2 * PLANCK * frequency))
    cold, warm = (adiabatic_fan(perturbation, scale * zero_point, 0.05) for scale in (1.0, coth))
    np.testing.assert_allclose(warm, coth * cold)


def test_slow_phonons_are_adiabatic():
    """With σ² fixed, ħω → 0 leaves no non-adiabatic part.

    The first order in ħω is (1 − 2f) |g|² ħ²/2 ∂/∂E of the denominator.
    """
    perturbation = random_perturbation(np.random.default_rng(2))
    changes = []
    for frequency in (0.2, 0.1, 0.05):
        variance = np.full((1, 3), 1e-3)
        changes.append(
            nonadiabatic_fan(
                perturbation, variance, np.full(3, frequency), np.array([300.0]), 0.1, 0.02
            )
        )
    whole = np.abs(adiabatic_fan(perturbation, np.full((1, 3), 1e-3), 0.02)).max()
    gaps = perturbation.initial_energies - perturbation.final_energies[:, None]
    filled = occupation(perturbation.final_energies - 0.1, 300.0)[:, None]
    slope = (gaps**2 - 0.02**2) / (gaps**2 + 0.02**2) ** 2  # −d/dx of x/(x² + η²)
    first = (
        np.sum(np.abs(perturbation.coupling()) ** 2 * (1 - 2 * filled) * slope, axis=(0, 1))
        * HBAR2_PER_AMU
        / 2
    )
    # what does not vanish with ħω: σ² ≫ ħ/2ω leaves the recoil of order ħ²/m
    limit = 2 * changes[2] - changes[1]
    np.testing.assert_allclose(limit[0], first, rtol=2e-3)
    assert np.abs(changes[2] - first).max() < 0.3 * np.abs(changes[0] - first).max()
    assert whole > 0


def test_an_empty_band_and_one_mode_have_the_textbook_denominators():
    """At 0 K emission alone remains.

    |g|²/(E_n − E_m − ħω) for empty, |g|²/(E_n − E_m + ħω) for full final states.
    """
    quantum = 0.2
    frequency = quantum / PLANCK
    variance = HBAR2_PER_AMU / (2 * quantum)
    for final, sign in ((1.0, -1), (-1.0, 1)):
        perturbation = Perturbation(
            np.full((1, 1, 1), 2.0 + 0j),
            np.zeros((1, 1, 1)),
            np.zeros((1, 1, 1)),
            np.array([final]),
            np.array([0.3]),
        )
        found = nonadiabatic_fan(
            perturbation, np.array([[variance]]), np.array([frequency]), np.array([0.0]), 0.0, 0.0
        ) + adiabatic_fan(perturbation, np.array([[variance]]), 0.0)
        np.testing.assert_allclose(found, [[4.0 * variance / (0.3 - final + sign * quantum)]])


def test_modes_at_rest_do_nothing():
    perturbation = random_perturbation(np.random.default_rng(3))
    variances, frequencies = np.zeros((1, 3)), np.full(3, np.inf)
    assert np.all(
        nonadiabatic_fan(perturbation, variances, frequencies, np.array([0.0]), 0.0, 0.05) == 0.0
    )


def test_rigid_translations_couple_nothing_on_shell():
    """V of a translation vanishes.

    G does between states of equal energy, and is (E_n − E_m)⟨φ|∂φ⟩ otherwise.
    """
    toy = Toy(overlap=0.12)
    energies, states = toy.states(K[None])
    [cartesian] = perturb(
        toy.responses(), np.zeros(3), K[None], (energies, states), (energies, states)
    )
    rigid = np.tile(np.eye(3), (toy.n, 1)) * np.sqrt(np.repeat([12.0], 3 * toy.n))[:, None]
    shift = cartesian.along(rigid.astype(complex), np.full(toy.n, 12.0))
    np.testing.assert_allclose(shift.adiabatic(), 0.0, atol=1e-9)
    assert np.abs(np.diagonal(shift.coupling(), axis1=1, axis2=2)).max() < 1e-9
    assert np.abs(cartesian.adiabatic()).max() > 0.1


def test_acoustic_waves_decouple_at_long_wave_lengths():
    toy = Toy(repeats=(5, 5, 1), bilayer=False, overlap=0.1)
    responses = toy.responses()
    energies, states = toy.states(K[None])
    sizes = []
    for length in (0.04, 0.02):
        q = np.array([length, 0.0, 0.0])
        [cartesian] = perturb(responses, q, K[None], (energies, states), toy.states((K + q)[None]))
        wave = np.tile(np.eye(3), (toy.n, 1)).astype(complex)
        wave *= np.repeat(np.exp(2j * np.pi * toy.atoms.get_scaled_positions() @ q), 3)[:, None]
        rigid = cartesian.along(wave, np.ones(toy.n)).adiabatic()
        sizes.append(np.abs(np.diagonal(rigid, axis1=1, axis2=2)).max())
    assert 1.8 < sizes[0] / sizes[1] < 2.2


def test_optical_couplings_of_graphene_have_their_textbook_size():
    """⟨D²⟩ = 9/4 (∂t/∂d)² for E2g at Γ, twice that for A1' at K.

    First-neighbour hopping (Piscanec et al. 2004).
    """
    toy = Toy(repeats=(3, 3, 1), bilayer=False, overlap=0.0)
    responses = toy.responses()
    corner = np.array([1.0, 1.0, 0.0]) / 3.0
    slope = 3.37 * HOPPING / (LATTICE_CONSTANT / np.sqrt(3.0))  # −∂t/∂d
    modes = compute_modes(toy.force_constants())
    squares = {}
    for name, qpoint in (("E2g", np.zeros(3)), ("A1", corner)):
        states = [toy.states(point[None]) for point in (corner, corner + qpoint)]
        [cartesian] = perturb(responses, qpoint, corner[None], *states)
        number = int(np.argmin(np.abs(modes.qpoints - qpoint).sum(axis=1)))
        basis = in_plane_modes(name, modes.eigenvectors[number])
        perturbation = cartesian.along(basis, np.ones(2))
        squares[name] = np.sum(np.abs(perturbation.coupling()) ** 2, axis=(1, 2)) / 4
    np.testing.assert_allclose(squares["E2g"], 2.25 * slope**2, rtol=1e-8)
    np.testing.assert_allclose(squares["A1"], 4.5 * slope**2, rtol=1e-8)
    frequencies = np.array([47.0, 47.0])
    energies, states = toy.states(corner[None])
    [cartesian] = perturb(
        responses, np.zeros(3), corner[None], (energies, states), (energies, states)
    )
    in_units = cartesian.along(in_plane_modes("E2g", modes.eigenvectors[0]), np.full(2, 12.011))
    expected = 2.25 * slope**2 * HBAR2_PER_AMU / (12.011 * 2 * PLANCK * 47.0)
    np.testing.assert_allclose(mean_square_coupling(in_units, frequencies, 2), expected, rtol=1e-8)


def in_plane_modes(name, eigenvectors):
    """E2g: the two sublattices against each other.

    A1': the mode at K that all three mirror planes keep, the highest one.
    """
    if name == "E2g":
        return np.array([[1, 0, 0, -1, 0, 0], [0, 1, 0, 0, -1, 0]]).T / np.sqrt(2) + 0j
    return eigenvectors[:, -1:]


def test_couplings_need_positive_frequencies():
    perturbation = random_perturbation(np.random.default_rng(4))
    with pytest.raises(
        PhysicsError, match=r"⟨g²⟩: got a mode of 0.000 THz; expected positive frequencies"
    ):
        mean_square_coupling(perturbation, np.array([1.0, 0.0, 2.0]), 2)


def test_degenerate_bands_share_their_shift():
    shifts = np.array([[1.0, 3.0, 5.0]])
    np.testing.assert_allclose(
        share_degenerate(shifts, np.array([0.0, 1e-9, 1.0])), [[2.0, 2.0, 5.0]]
    )


def test_occupations():
    np.testing.assert_allclose(occupation(np.array([-1.0, 0.0, 1.0]), 0.0), [1.0, 0.5, 0.0])
    np.testing.assert_allclose(occupation(np.array([BOLTZMANN * 300.0]), 300.0), 1 / (np.e + 1))
