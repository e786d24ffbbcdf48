"""Layers that move as a whole: two masses on springs, the projector at Γ, and a dense mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from mlepi.errors import ConfigError
from mlepi.physics.vibrations.force_constants import ForceConstants, compute_force_constants
from mlepi.physics.vibrations.interlayer_motion import measure_interlayer_motion
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.rigid_layers import interlayer_projectors, relative_motion
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals, mode_variance
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene
from mlepi.units import BOLTZMANN, FORCE_CONSTANT_TO_THZ

TEMPERATURES = (0.0, 300.0)


def two_layers(masses=(12.0, 31.0), springs=(0.02, 0.03, 0.3)) -> ForceConstants:
    """One atom per layer and cell, tied by springs along x, y, z; a 1×1 cell."""
    atoms = Atoms("C2", [[0, 0, 0], [0, 0, 3.35]], masses=masses, cell=[2.5, 2.5, 20], pbc=True)
    atoms.arrays["layer"] = np.array([0, 1])
    spring = np.diag(springs)
    return ForceConstants(atoms, (1, 1, 1), np.array([[spring, -spring], [-spring, spring]]))


@pytest.fixture(scope="module")
def bilayer() -> ForceConstants:
    return compute_force_constants(build_graphene("AB"), HoneycombSprings(), (2, 2, 1))


def test_two_masses_on_springs():
    """⟨d²⟩ of a reduced mass μ: ħ/2μω at rest, k_BT/k where it is classical."""
    springs = np.array([0.02, 0.03, 0.3])
    crystal = two_layers(springs=springs)
    reduced = 12.0 * 31.0 / 43.0
    frequencies = np.sqrt(springs / reduced) * FORCE_CONSTANT_TO_THZ
    modes = compute_modes(crystal)
    np.testing.assert_allclose(modes.frequencies[0, 3:], frequencies, rtol=1e-12)
    quantum = HarmonicEnsemble(modes, TEMPERATURES).interlayer_motion()
    for t, temperature in enumerate(TEMPERATURES):
        exact = mode_variance(frequencies, temperature) / reduced
        np.testing.assert_allclose(quantum[t, 0], [exact[0] + exact[1], exact[2]], rtol=1e-12)
    classical = HarmonicEnsemble(modes, (300.0,), "classical").interlayer_motion()
    exact = BOLTZMANN * 300.0 / springs
    np.testing.assert_allclose(classical[0, 0], [exact[0] + exact[1], exact[2]], rtol=1e-9)
    frozen = HarmonicEnsemble(modes, TEMPERATURES, project_out="interlayer_gamma")
    np.testing.assert_allclose(frozen.interlayer_motion(), 0.0, atol=1e-30)
    np.testing.assert_allclose(frozen.covariance(), 0.0, atol=1e-30)


def test_the_projector_is_that_of_rigid_layers_and_no_translation():
    atoms = build_graphene("AB").repeat((1, 1, 1))
    atoms.set_masses([12.0, 13.0, 12.0, 14.0])
    at_gamma, elsewhere = interlayer_projectors(atoms, np.array([[0.0, 0, 0], [0.5, 0, 0]]))
    np.testing.assert_allclose(at_gamma @ at_gamma, at_gamma, atol=1e-14)
    assert np.trace(at_gamma).real == pytest.approx(3.0)
    assert not np.any(elsewhere)
    rigid = np.kron(np.sqrt(atoms.get_masses())[:, None], np.eye(3))
    np.testing.assert_allclose(at_gamma @ rigid, 0.0, atol=1e-13)
    upper = rigid * np.repeat(atoms.arrays["layer"] == 1, 3)[:, None]
    lower = rigid - upper
    weights = [atoms.get_masses()[atoms.arrays["layer"] == n].sum() for n in (0, 1)]
    against = upper / weights[1] - lower / weights[0]
    np.testing.assert_allclose(at_gamma @ against, against, atol=1e-14)
    # a unit shift of the upper layer alone, in mass-scaled coordinates
    found = np.abs(relative_motion(atoms) @ upper)[0]
    np.testing.assert_allclose(found.sum(axis=0), 1.0, atol=1e-12)


def test_three_layers_have_six_modes():
    atoms = Atoms("C3", [[0, 0, 3.35 * n] for n in range(3)], cell=[2.5, 2.5, 30], pbc=True)
    atoms.arrays["layer"] = np.arange(3)
    (projector,) = interlayer_projectors(atoms, np.zeros((1, 3)))
    assert np.trace(projector).real == pytest.approx(6.0)
    assert relative_motion(atoms).shape == (2, 3, 9)
    del atoms.arrays["layer"]
    assert relative_motion(atoms).shape == (0, 3, 9)
    with pytest.raises(ConfigError, match=r"stage\.sampling\.project_out: .* without layers"):
        interlayer_projectors(atoms, np.zeros((1, 3)))


def test_samples_keep_everything_but_the_rigid_layers(bilayer):
    """No rigid shift of the layers at Γ to 1e-12; the rest of every sample is unchanged."""
    modes = compute_modes(bilayer)
    whole = HarmonicEnsemble(modes, TEMPERATURES)
    frozen = replace(whole, project_out="interlayer_gamma")
    normals = draw_normals(0, range(5), modes.n_supercell)
    before, after = whole.displacements(normals), frozen.displacements(normals)
    layer = np.tile(bilayer.atoms.arrays["layer"], 4)
    shifts = [
        u[:, :, layer == 1].mean(axis=2) - u[:, :, layer == 0].mean(axis=2) for u in (before, after)
    ]
    assert np.abs(shifts[0]).max() > 0.05
    assert np.abs(shifts[1]).max() < 1e-12
    lost = before - after
    signs = np.where(layer == 1, 0.5, -0.5)[:, None]  # equal masses: each layer half the shift
    np.testing.assert_allclose(lost, signs * shifts[0][:, :, None], atol=1e-12)


def test_the_covariance_loses_the_rigid_part_alone(bilayer):
    modes = compute_modes(bilayer)
    whole, frozen = (
        HarmonicEnsemble(modes, TEMPERATURES, project_out=choice)
        for choice in ("none", "interlayer_gamma")
    )
    size = 3 * modes.n_supercell
    (projector,) = interlayer_projectors(bilayer.atoms.repeat((2, 2, 1)), np.zeros((1, 3)))
    kept = np.eye(size) - projector.real
    np.testing.assert_allclose(frozen.covariance(), kept @ whole.covariance() @ kept, atol=1e-13)
    np.testing.assert_allclose(
        np.einsum("tii->ti", frozen.covariance())[:, :12].reshape(2, 4, 3),
        frozen.mean_square_displacements(),
        atol=1e-13,
    )


def test_motion_cell_by_cell_is_that_of_the_covariance(bilayer):
    ensemble = HarmonicEnsemble(compute_modes(bilayer), TEMPERATURES)
    rows = relative_motion(bilayer.atoms)[0] * np.sqrt(np.repeat(bilayer.atoms.get_masses(), 3))
    blocks = ensemble.covariance()[:, :12, :12]  # those of cell 0
    exact = np.einsum("di,tij,dj->td", rows, blocks, rows)
    found = ensemble.interlayer_motion()[:, 0]
    np.testing.assert_allclose(found[:, 0], exact[:, 0] + exact[:, 1], rtol=1e-9)
    np.testing.assert_allclose(found[:, 1], exact[:, 2], rtol=1e-9)


def test_a_dense_mesh_gives_the_soft_modes_of_gamma_their_weight(bilayer):
    """Γ is one wave vector of four, and one of 576; the mesh of the supercell is the supercell."""
    ensemble = HarmonicEnsemble(compute_modes(bilayer), TEMPERATURES)
    same = measure_interlayer_motion(ensemble, bilayer, (2, 2, 1))
    np.testing.assert_allclose(same.mesh, same.harmonic, rtol=1e-6)  # phonopy's constants
    np.testing.assert_array_equal(same.sampled, same.harmonic)
    dense = measure_interlayer_motion(ensemble, bilayer, (24, 24, 1))
    assert dense.n_soft == 0
    assert np.all(dense.mesh[1, 0] < [0.1, 0.9] * dense.harmonic[1, 0])
    frozen = replace(ensemble, project_out="interlayer_gamma")
    less = measure_interlayer_motion(frozen, bilayer, (24, 24, 1))
    np.testing.assert_allclose(less.mesh, dense.mesh)
    np.testing.assert_allclose(less.harmonic, dense.harmonic)
    # m ω² = 16 k_s d₀² of these springs; two directions, the reduced mass of two atoms against two
    # is that of one, and Γ is one of four wave vectors
    squared = 16 * 0.001315 * (2.46 / np.sqrt(3)) ** 2 / 12.011
    shear = mode_variance(np.array(np.sqrt(squared) * FORCE_CONSTANT_TO_THZ), 300.0) / 12.011
    gamma = less.harmonic[1, 0, 0] - less.sampled[1, 0, 0]
    assert gamma == pytest.approx(2 * float(shear) / 4, rel=1e-4)


def test_one_layer_has_no_such_motion():
    crystal = two_layers()
    crystal.atoms.arrays["layer"] = np.zeros(2, dtype=np.int64)
    ensemble = HarmonicEnsemble(compute_modes(crystal), TEMPERATURES)
    found = measure_interlayer_motion(ensemble, crystal, (4, 4, 1))
    assert found.sampled.shape == found.mesh.shape == (2, 0, 2)
