from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from spring_model import SHELLS, build_honeycomb, spring_force_constants

from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.mode_coordinates import build_mode_coordinates, measure_bond_stretch
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals


def make_modes(repeats=(4, 3, 1), symbols="BN"):
    atoms = build_honeycomb(symbols=symbols)
    full = spring_force_constants(atoms.repeat(repeats), SHELLS)
    return compute_modes(ForceConstants(atoms, repeats, full[:2].copy()))


@pytest.fixture(scope="module")
def ensemble():
    return HarmonicEnsemble(make_modes(), (300.0,))


def test_coordinates_are_orthonormal_and_complete(ensemble):
    coordinates = ensemble.coordinates
    assert coordinates.n_coordinates == 3 * 24 - 3
    basis = coordinates.normals(np.eye(coordinates.n_coordinates)).reshape(
        coordinates.n_coordinates, -1
    )
    np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-13)
    masses = np.tile(ensemble.modes.masses, 12)
    rigid = np.kron(np.sqrt(masses)[:, None], np.eye(3))
    np.testing.assert_allclose(basis @ rigid, 0.0, atol=1e-12)
    normals = draw_normals(0, range(4), 24)
    np.testing.assert_allclose(
        coordinates.coordinates(normals), normals.reshape(4, -1) @ basis.T, atol=1e-12
    )


def test_a_coordinate_moves_its_mode_by_its_amplitude(ensemble):
    # C^{1/2} e = σ e, so that the covariance is diagonal in the coordinates
    coordinates = ensemble.coordinates
    masses = np.repeat(np.tile(ensemble.modes.masses, 12), 3)
    basis = coordinates.normals(np.eye(coordinates.n_coordinates))
    moved = ensemble.displacements_at(300.0, basis).reshape(len(basis), -1) * np.sqrt(masses)
    from mlepi.physics.vibrations.thermal import mode_variance

    sigma = np.sqrt(mode_variance(coordinates.frequencies, 300.0))
    np.testing.assert_allclose(moved, sigma[:, None] * basis.reshape(len(basis), -1), atol=1e-10)


def test_order_is_that_of_amplitudes_and_degenerate_bases_are_canonical():
    modes = make_modes((3, 3, 1), "C2")
    ensemble = HarmonicEnsemble(modes, (300.0,))
    assert np.all(np.diff(ensemble.coordinates.frequencies) > -1e-4)
    rng = np.random.default_rng(0)
    vectors = modes.eigenvectors.copy()
    for q, frequencies in enumerate(modes.frequencies):
        moving = np.nonzero(~modes.translations[q])[0]
        for group in np.split(moving, np.nonzero(np.diff(frequencies[moving]) > 1e-4)[0] + 1):
            random = rng.standard_normal((len(group), len(group))) + 1j * rng.standard_normal(
                (len(group), len(group))
            )
            vectors[q][:, group] = vectors[q][:, group] @ np.linalg.qr(random)[0]
    rotated = HarmonicEnsemble(replace(modes, eigenvectors=vectors), (300.0,))
    zeta = rng.standard_normal((2, 51))
    np.testing.assert_allclose(
        rotated.coordinates.normals(zeta), ensemble.coordinates.normals(zeta), atol=1e-7
    )


def test_modes_at_rest_have_no_coordinate():
    modes = make_modes((2, 2, 1))
    frequencies = np.where(modes.translations, np.inf, modes.frequencies)
    frequencies[1, :2] = np.inf
    assert (
        build_mode_coordinates((2, 2, 1), frequencies, modes.eigenvectors).n_coordinates
        == 24 - 3 - 2
    )


def test_bond_stretch_of_a_chain():
    # ⟨(Δu)²⟩ of the bonds of a monatomic chain: σ²·4 sin²(πq)/m, each bond seen from both ends
    n, mass = 6, 12.0
    atoms = Atoms("C", cell=[1.5, 20.0, 20.0], pbc=True, masses=[mass])
    values = np.zeros((1, n, 3, 3))
    for shift, k in ((0, 2.0), (1, -1.0), (-1, -1.0)):
        values[0, shift] += k * np.diag([3.0, 1.0, 0.5])
    ensemble = HarmonicEnsemble(compute_modes(ForceConstants(atoms, (n, 1, 1), values)), (300.0,))
    coordinates = ensemble.coordinates
    along = np.abs(coordinates.vectors[:, 0]) > 0.5
    expected = np.where(along, 2 * 4 * np.sin(np.pi * coordinates.qpoint / n) ** 2 / mass, 0.0)
    sigma = np.linspace(1.0, 2.0, len(along))
    np.testing.assert_allclose(
        measure_bond_stretch(coordinates, atoms, sigma), expected * sigma**2, atol=1e-12
    )
