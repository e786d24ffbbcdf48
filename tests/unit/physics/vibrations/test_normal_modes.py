import numpy as np
import pytest
from spring_model import spring_record

from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals, mode_variance
from mlepi.units import FORCE_CONSTANT_TO_THZ


@pytest.fixture(scope="module")
def record():
    return spring_record(symbols="BN")


def test_modes_agree_with_a_dense_diagonalisation(record):
    matrix = record.matrix()
    masses = np.repeat(record.atoms.repeat(record.supercell).get_masses(), 3)
    dense = matrix.transpose(0, 2, 1, 3).reshape(len(masses), -1) / np.sqrt(
        np.outer(masses, masses)
    )
    values, vectors = np.linalg.eigh(dense)
    frequencies = np.sqrt(np.clip(values, 0, None)) * FORCE_CONSTANT_TO_THZ
    np.testing.assert_allclose(
        np.sort(compute_modes(record).frequencies.ravel())[3:], frequencies[3:], rtol=1e-9
    )
    # the covariance and the symmetric root itself, which is unique
    sigma = np.sqrt(np.concatenate([np.zeros(3), mode_variance(frequencies[3:], 300.0)]))
    root = (vectors * sigma) @ vectors.T / np.sqrt(masses)[:, None]
    ensemble = HarmonicEnsemble(compute_modes(record), (300.0,))
    np.testing.assert_allclose(ensemble.covariance()[0], root @ root.T, atol=1e-10)
    normals = draw_normals(0, [0], 24)
    np.testing.assert_allclose(
        ensemble.displacements(normals)[0, 0].ravel(), root @ normals.ravel(), atol=1e-9
    )
    np.testing.assert_allclose(
        ensemble.mean_square_displacements()[0].ravel(), np.diag(root @ root.T)[:6], rtol=1e-9
    )


def test_frequencies_equal_phonopys_at_commensurate_wave_vectors(record):
    modes = compute_modes(record)
    np.testing.assert_allclose(
        modes.frequencies, compute_frequencies(record, modes.qpoints), atol=2e-5
    )
