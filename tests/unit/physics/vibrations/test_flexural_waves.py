import numpy as np
import pytest
from ase import Atoms
from spring_model import spring_record

from mlepi.physics.vibrations.flexural_waves import flexural_projectors
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals


def flat_ensemble(project_out="none", statistics="quantum"):
    return HarmonicEnsemble(
        compute_modes(spring_record((4, 4, 1))), (0.0, 300.0), statistics, project_out=project_out
    )


def test_rigid_out_of_plane_waves_are_left_out_exactly():
    whole, rest = flat_ensemble(), flat_ensemble("ZA")
    normals = draw_normals(0, range(6), 32)
    # along e^{iq·r} at the positions of the atoms, all together; (3, 0)/4 is (−1, 0)/4 in the first
    # zone
    sites = whole.modes.atoms.repeat((4, 4, 1)).positions @ np.linalg.inv(
        whole.modes.atoms.cell.array
    )
    for q in ([0.25, 0.0, 0.0], [-0.25, 0.0, 0.0], [0.0, 0.25, 0.0], [-0.25, 0.25, 0.0]):
        wave = np.exp(2j * np.pi * sites @ q)
        assert np.abs(wave.conj() @ rest.displacements(normals)[1][:, :, 2].T).max() < 1e-12
        assert np.abs(wave.conj() @ whole.displacements(normals)[1][:, :, 2].T).min() > 1e-3
    # what is left is the same sample without that part; in-plane motion does not change
    a, b = whole.displacements(normals)[1], rest.displacements(normals)[1]
    np.testing.assert_allclose(a[:, :, :2], b[:, :, :2], atol=1e-12)
    np.testing.assert_allclose(
        rest.mean_square_displacements(),
        np.einsum("tii->ti", rest.covariance())[:, :6].reshape(2, 2, 3),
    )


def test_projectors_are_real_where_q_is_its_own_opposite_and_keep_the_symmetry():
    modes = flat_ensemble().modes
    projectors = flexural_projectors(modes.atoms, modes.qpoints)
    np.testing.assert_allclose(np.einsum("qii->q", projectors).real, [0.0, *[1.0] * 15], atol=1e-12)
    opposite = np.ravel_multi_index(
        tuple(np.mod(-np.stack(np.unravel_index(np.arange(16), (4, 4, 1))), [[4], [4], [1]])),
        (4, 4, 1),
    )
    np.testing.assert_allclose(projectors[opposite], projectors.conj(), atol=1e-12)
    # all six q of a star have the same share: the average over equally short q + G has the symmetry
    # of the lattice
    ensemble = flat_ensemble()
    roots = ensemble._symmetric_roots[1]
    shares = np.einsum("qij,qjk,qik->q", projectors, roots, roots.conj()).real
    for star in ([(2, 0), (0, 2), (2, 2)], [(1, 0), (0, 1), (3, 0), (0, 3), (1, 3), (3, 1)]):
        values = [shares[i * 4 + j] for i, j in star]
        np.testing.assert_allclose(values, values[0], rtol=1e-9)


def test_share_of_rigid_waves_accounts_for_what_is_left_out():
    whole, rest = flat_ensemble(), flat_ensemble("ZA")
    before, after = (e.mean_square_displacements().sum(axis=(1, 2)) for e in (whole, rest))
    np.testing.assert_allclose(whole.za_shares(), 1.0 - after / before, rtol=1e-9)  # equal masses
    np.testing.assert_allclose(rest.za_shares(), whole.za_shares())
    assert whole.za_shares()[1] > whole.za_shares()[0] > 0.05
    assert flat_ensemble(statistics="classical").za_shares()[0] == 0.0  # nothing moves at 0 K


def test_share_of_one_kind_of_atom_is_that_of_its_flexural_branch():
    # one atom per cell, three branches: the share follows from three sums over q
    n, k = 6, np.array([3.0, 2.0, 0.3])
    atoms = Atoms("C", cell=[[2.0, 0, 0], [0, 2.0, 0], [0, 0, 15.0]], pbc=True)
    values = np.zeros((1, n * n, 3, 3))
    for i, j, sign in ((0, 0, 4), (1, 0, -1), (n - 1, 0, -1), (0, 1, -1), (0, n - 1, -1)):
        values[0, i * n + j] += sign * np.diag(k)
    record = ForceConstants(atoms, (n, n, 1), values)
    share = HarmonicEnsemble(compute_modes(record), (300.0,), "classical").za_shares()[0]
    assert share == pytest.approx((1 / k[2]) / np.sum(1 / k), rel=1e-9)
