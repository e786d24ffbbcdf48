"""Modes between the wave vectors of a supercell, and covariances at the nearest images."""

import numpy as np
import pytest
from spring_model import SHELLS, SpringCalculator, build_honeycomb

from mlepi.physics.coupling.mode_interpolation import (
    covariance_rows,
    interpolate_modes,
    mesh_ensemble,
    mode_variances,
    mode_vectors,
)
from mlepi.physics.vibrations.flexural_waves import flexural_projectors
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_eigenvectors
from mlepi.physics.vibrations.thermal import HarmonicEnsemble


@pytest.fixture(scope="module")
def force_constants():
    atoms = build_honeycomb()
    atoms.positions += [0.3, 0.2, 0.0]  # phases of positions and of lattice vectors differ
    supercell = atoms.repeat((4, 4, 1))
    return compute_force_constants(atoms, SpringCalculator(supercell, SHELLS), (4, 4, 1))


def dynamical(modes):
    squares = np.sign(modes.frequencies) * modes.frequencies**2
    return (modes.eigenvectors * squares[:, None, :]) @ modes.eigenvectors.conj().swapaxes(1, 2)


def test_eigenvectors_have_the_phase_of_lattice_vectors(force_constants):
    modes = compute_modes(force_constants)
    frequencies, vectors = compute_eigenvectors(force_constants, modes.qpoints)
    rebuilt = (
        vectors * (np.sign(frequencies) * frequencies**2)[:, None, :]
    ) @ vectors.conj().swapaxes(1, 2)
    np.testing.assert_allclose(rebuilt, dynamical(modes), atol=1e-6 * np.abs(rebuilt).max())


def test_interpolated_modes_are_those_of_a_larger_supercell(force_constants):
    """Springs to second neighbours fit into 4×4 cells."""
    larger = force_constants.atoms.repeat((6, 6, 1))
    reference = compute_modes(
        compute_force_constants(force_constants.atoms, SpringCalculator(larger, SHELLS), (6, 6, 1))
    )
    found = interpolate_modes(force_constants, (6, 6, 1))
    np.testing.assert_allclose(found.qpoints, reference.qpoints)
    np.testing.assert_allclose(
        dynamical(found), dynamical(reference), atol=1e-5 * np.abs(dynamical(reference)).max()
    )
    assert found.translations[0].sum() == 3
    assert found.supercell == (6, 6, 1)


def test_the_supercells_own_mesh_is_left_alone(force_constants):
    ensemble = HarmonicEnsemble(compute_modes(force_constants), (0.0, 300.0))
    assert mesh_ensemble(ensemble, force_constants, (4, 4, 1)) is ensemble
    np.testing.assert_array_equal(
        interpolate_modes(force_constants, (4, 4, 1)).eigenvectors, ensemble.modes.eigenvectors
    )


def test_covariance_rows_are_rows_of_the_covariance(force_constants):
    ensemble = HarmonicEnsemble(compute_modes(force_constants), (0.0, 300.0))
    rows = covariance_rows(ensemble, (4, 4, 1))
    expected = ensemble.covariance()[:, :6]
    np.testing.assert_allclose(rows.reshape(expected.shape), expected, atol=1e-12)


def test_covariance_on_a_finer_mesh_is_that_of_the_larger_supercell(force_constants):
    """Every atom of the small cell is taken at its nearest image in the large one."""
    ensemble = HarmonicEnsemble(compute_modes(force_constants), (300.0,))
    finer = mesh_ensemble(ensemble, force_constants, (8, 8, 1))
    rows = covariance_rows(finer, (4, 4, 1))[0]
    whole = finer.covariance()[0][:6].reshape(6, 8, 8, 2, 3)
    np.testing.assert_allclose(rows.reshape(6, 4, 4, 2, 3)[:, 0, 0], whole[:, 0, 0], atol=1e-12)
    np.testing.assert_allclose(
        rows.reshape(6, 4, 4, 2, 3)[:3, 3, 1, 0], whole[:3, 7, 1, 0], atol=1e-12
    )
    assert not np.allclose(rows, covariance_rows(ensemble, (4, 4, 1))[0], atol=1e-6)


def test_soft_modes_of_an_interpolation_rest_where_the_supercell_refuses_them(force_constants):
    ensemble = HarmonicEnsemble(compute_modes(force_constants), (0.0,))
    finer = mesh_ensemble(ensemble, force_constants, (8, 8, 1))
    assert (ensemble.imaginary, finer.imaginary) == ("error", "freeze")
    assert np.all(mode_variances(finer)[:, ~np.isfinite(finer.frequencies)] == 0.0)


def test_vectors_leave_out_what_the_ensemble_projects_out(force_constants):
    ensemble = HarmonicEnsemble(compute_modes(force_constants), (300.0,), project_out="ZA")
    projectors = flexural_projectors(force_constants.atoms, ensemble.modes.qpoints)
    # inside the zone, where the projector is one; its average over equally short q + G on the
    # boundary leaves a part
    inside = np.linalg.norm(projectors @ projectors - projectors, axis=(1, 2)) < 1e-9
    assert inside.sum() > 1
    assert np.abs(projectors @ mode_vectors(ensemble))[inside].max() < 1e-12
