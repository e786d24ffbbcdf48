"""Green's functions, self-energies and quasiparticles against models with known answers."""

import numpy as np
import pytest
from scipy.special import wofz

from mlepi.errors import PhysicsError
from mlepi.physics.bands import green as module
from mlepi.physics.bands.green import (
    diagonal_green_function,
    moments,
    project_resolvent,
    quasiparticles,
    self_energy,
)
from mlepi.physics.eigenstates.bloch import solve_bands

ENERGIES = np.linspace(-1.0, 1.0, 401)
ETA = 0.05


def hermitian(n, seed, real=False):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(n, n)) + (0.0 if real else 1j) * rng.normal(size=(n, n))
    return 0.5 * (matrix + matrix.conj().T)


def pencil(n=200, real=False):
    """Levels between −8 and 8 eV, and an overlap with eigenvalues of 0.02 to 2."""
    h = hermitian(n, 0, real) * 8.0 / np.sqrt(2 * n)
    values, vectors = np.linalg.eigh(hermitian(n, 1, real))
    spread = np.interp(values, [values[0], values[-1]], [0.02, 2.0])
    root = (vectors * np.sqrt(spread)) @ vectors.conj().T
    return root @ h @ root, root @ root


def normalised(n, m, overlap):
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(n, m)) + 1j * rng.normal(size=(n, m))
    return columns / np.sqrt(np.einsum("na,nm,ma->a", columns.conj(), overlap, columns).real)


@pytest.mark.parametrize("real", [False, True])
def test_projection_gives_the_green_function_and_the_moments_of_all_states(real):
    h, s = pencil(real=real)
    columns = normalised(len(h), 3, s)
    found = project_resolvent(h, s, columns, ENERGIES[::20], ETA, tolerance=1e-6)
    assert len(found.levels) < len(h)  # found without diagonalising
    values, vectors = solve_bands(h, s, vectors=True)
    weights = np.abs(columns.conj().T @ s @ vectors) ** 2
    z = ENERGIES + 1j * ETA
    expected = 1.0 / diagonal_green_function(values, weights, z)
    np.testing.assert_allclose(
        1.0 / diagonal_green_function(found.levels, np.abs(found.components) ** 2, z),
        expected,
        atol=1e-5,
    )
    np.testing.assert_allclose(np.sum(np.abs(found.components) ** 2, axis=1), 1.0, atol=1e-10)
    first_two = moments(found.levels, np.abs(found.components) ** 2)
    np.testing.assert_allclose(first_two, moments(values, weights), rtol=1e-8)
    np.testing.assert_allclose(
        first_two[0],
        np.einsum("na,nm,ma->a", columns.conj(), h, columns).real,
        rtol=1e-10,
        atol=1e-10,
    )


def test_eigenstates_as_columns_need_no_further_levels():
    h, s = pencil()
    values, vectors = solve_bands(h, s, vectors=True)
    found = project_resolvent(h, s, vectors[:, 90:93], ENERGIES[::20], ETA)
    weights = np.abs(found.components) ** 2
    np.testing.assert_allclose(moments(found.levels, weights)[0], values[90:93], atol=1e-9)
    np.testing.assert_allclose(moments(found.levels, weights)[1], values[90:93] ** 2, atol=1e-8)


def test_small_and_stubborn_matrices_are_diagonalised(monkeypatch):
    h, s = pencil()
    columns = normalised(len(h), 2, s)
    monkeypatch.setattr(module, "MAX_BLOCKS", 1)
    stubborn = project_resolvent(h, s, columns, ENERGIES[::20], ETA)
    np.testing.assert_allclose(stubborn.levels, solve_bands(h, s), atol=1e-9)
    small = project_resolvent(
        h[:20, :20], s[:20, :20], normalised(20, 2, s[:20, :20]), ENERGIES[::20], ETA
    )
    np.testing.assert_allclose(small.levels, solve_bands(h[:20, :20], s[:20, :20]), atol=1e-9)


def test_a_nearly_singular_overlap_is_solved_in_double_precision():
    h, s = pencil()
    values, vectors = np.linalg.eigh(s)
    values[0] = 1e-9
    s = (vectors * values) @ vectors.conj().T
    columns = normalised(len(h), 2, s)
    found = project_resolvent(h, s, columns, ENERGIES[::20], ETA)
    expected = np.einsum("na,na->a", columns.conj(), h @ np.linalg.solve(s, h @ columns)).real
    np.testing.assert_allclose(
        moments(found.levels, np.abs(found.components) ** 2)[1], expected, rtol=1e-4
    )


def test_a_level_that_follows_a_gaussian_mode_has_a_gaussian_spectral_function():
    """E = gQ: A is a Gaussian of variance g²σ², Σ is odd about the level, which does not move."""
    spread, n = 0.2, 200
    nodes, shares = np.polynomial.hermite_e.hermegauss(n)
    shares = shares / shares.sum()
    z = ENERGIES + 0.1j
    average = np.sum(shares[:, None] / (z - spread * nodes[:, None]), axis=0)
    # Hilbert transform of a Gaussian
    exact = -1j * np.sqrt(np.pi / 2) / spread * wofz(z / (spread * np.sqrt(2)))
    np.testing.assert_allclose(average, exact, atol=1e-3)
    gaussian = np.exp(-0.5 * (ENERGIES / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    narrow = -1j * np.sqrt(np.pi / 2) / spread * wofz((ENERGIES + 1e-9j) / (spread * np.sqrt(2)))
    np.testing.assert_allclose(-narrow.imag / np.pi, gaussian, atol=1e-6)
    sigma = self_energy(exact, np.array(0.0), z)
    np.testing.assert_allclose(sigma.real, -sigma.real[::-1], atol=1e-10)
    np.testing.assert_allclose(
        moments(spread * nodes, shares[None])[:, 0], [0.0, spread**2], atol=1e-12
    )
    energy, weight, width = quasiparticles(ENERGIES, exact, np.array(0.0), 0.1)
    assert energy == pytest.approx(0.0, abs=1e-6)
    slope = np.gradient(sigma.real, ENERGIES)[200]
    assert weight == pytest.approx(1.0 / (1.0 - slope), rel=1e-3)
    assert width == pytest.approx(-2.0 * weight * sigma[200].imag, rel=1e-3)


def test_undisplaced_crystal_has_no_self_energy():
    bare = np.array([-0.4, 0.1, 0.7])
    z = ENERGIES + 1j * ETA
    green = diagonal_green_function(bare, np.eye(3), z)
    np.testing.assert_allclose(self_energy(green, bare, z), 0.0, atol=1e-12)
    found = quasiparticles(ENERGIES, green, bare, ETA)
    np.testing.assert_allclose(found[0], bare, atol=1e-9)
    np.testing.assert_allclose(found[1], 1.0, atol=1e-9)
    np.testing.assert_allclose(found[2], 0.0, atol=1e-9)


def test_two_levels_coupled_by_a_random_sign_have_the_exact_self_energy():
    """H = [[ε, ±g], [±g, ε']]: Ḡ is diagonal and Σ = diag(g²/(z − ε'), g²/(z − ε)) at every z."""
    bare, coupling = np.array([-0.1, 0.3]), 0.2
    z = ENERGIES + 1j * ETA
    greens = []
    for sign in (1, -1):
        values, vectors = np.linalg.eigh(
            np.diag(bare) + sign * coupling * np.array([[0, 1], [1, 0]])
        )
        greens.append(diagonal_green_function(values, vectors**2, z))
    sigma = self_energy(np.mean(greens, axis=0), bare, z)
    np.testing.assert_allclose(sigma[0], coupling**2 / (z - 0.3), atol=1e-10)
    np.testing.assert_allclose(sigma[1], coupling**2 / (z + 0.1), atol=1e-10)


def test_the_highest_of_several_peaks_is_the_quasiparticle():
    z = ENERGIES + 1j * ETA
    green = diagonal_green_function(np.array([-0.5, 0.4]), np.array([0.3, 0.7]), z)
    energy, weight, _ = quasiparticles(ENERGIES, green, np.array(0.0), ETA)
    assert energy == pytest.approx(0.4, abs=0.01)
    assert 0.5 < weight < 0.8
    with pytest.raises(PhysicsError, match=r"no zero of ω − ε − Re Σ between -1\.00 and 1\.00 eV"):
        quasiparticles(
            ENERGIES,
            diagonal_green_function(np.array([3.0]), np.array([1.0]), z),
            np.array(3.0),
            ETA,
        )
