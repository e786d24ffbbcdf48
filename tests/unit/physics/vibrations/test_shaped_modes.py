"""Modes of supercells of any shape: commensurate, and with the right thermal displacements."""

import numpy as np
import pytest
from ase.build import bulk

from mlepi.errors import PhysicsError
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonopy_order import list_cells
from mlepi.physics.vibrations.shaped_modes import compute_shaped_modes
from mlepi.physics.vibrations.supercell_shapes import build_shaped_supercell, list_lattice_points
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.reference_systems.born_springs import build_born_constants
from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.structures.builders import build_graphene

CONSTANTS = 1e-6
"""Relative difference of squares of frequencies by the constants of phonopy and by ours."""


@pytest.fixture(scope="module")
def bilayer():
    return compute_force_constants(build_graphene("AB"), HoneycombSprings(), (3, 3, 1))


@pytest.fixture(scope="module")
def silicon():
    return build_born_constants(bulk("Si"), (3, 3, 3))


def in_plane(rows):
    matrix = np.eye(3, dtype=int)
    matrix[:2, :2] = rows
    return matrix


def covariance(force_constants, matrix, temperature=300.0):
    """⟨u uᵀ⟩ in the order of the atoms of the supercell, Å²."""
    shaped = compute_shaped_modes(force_constants, matrix)
    full = HarmonicEnsemble(shaped.modes, (temperature,)).covariance()[0]
    places = (3 * shaped.order[:, None] + np.arange(3)).ravel()
    return full[np.ix_(places, places)]


def test_a_diagonal_supercell_has_the_covariance_that_is_known(bilayer):
    expected = HarmonicEnsemble(compute_modes(bilayer), (300.0,)).covariance()[0]
    assert np.array_equal(list_lattice_points(np.diag([3, 3, 1])), list_cells((3, 3, 1)))
    found = covariance(bilayer, np.diag([3, 3, 1]))
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=CONSTANTS)


def test_in_three_dimensions_too(silicon):
    expected = HarmonicEnsemble(compute_modes(silicon), (300.0,)).covariance()[0]
    found = covariance(silicon, np.diag([3, 3, 3]))
    np.testing.assert_allclose(found, expected, atol=1e-9, rtol=CONSTANTS)


def test_one_lattice_has_one_covariance_whatever_its_rows(bilayer):
    """Atoms of the two supercells are those of the same sites, up to lattice vectors."""
    first, second = in_plane([[2, 1], [-1, 3]]), in_plane([[2, 1], [1, 4]])
    sites = [build_shaped_supercell(bilayer.atoms, matrix) for matrix in (first, second)]
    inverse = np.linalg.inv(sites[0].cell.array)
    steps = (sites[1].positions[:, None] - sites[0].positions[None]) @ inverse
    same = np.abs(steps - np.rint(steps)).max(axis=2) < 1e-6
    order = same.argmax(axis=1)
    assert sorted(order) == list(range(28))
    places = (3 * order[:, None] + np.arange(3)).ravel()
    expected = covariance(bilayer, first)[np.ix_(places, places)]
    np.testing.assert_allclose(covariance(bilayer, second), expected, atol=1e-12, rtol=1e-8)


def test_wave_vectors_are_commensurate_and_all(silicon):
    matrix = np.array([[2, 1, 0], [-1, 2, 1], [0, 1, 2]])
    modes = compute_shaped_modes(silicon, matrix).modes
    cartesian = modes.qpoints @ np.linalg.inv(modes.atoms.cell.array).T
    waves = cartesian @ silicon.atoms.cell.array.T  # in reciprocal vectors of the primitive cell
    whole = waves @ matrix.T
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-9)
    folded = {tuple(np.round(np.mod(wave + 1e-9, 1.0), 6)) for wave in waves}
    assert len(folded) == len(waves) == 8


def test_displacements_are_those_of_the_crystal_in_its_own_frame(silicon):
    """A wave of one q in two supercells that both hold it has the same frequencies."""
    small = compute_shaped_modes(silicon, np.diag([3, 1, 1])).modes
    known = compute_modes(silicon)
    for q, frequencies in zip(small.qpoints, small.frequencies, strict=True):
        place = np.flatnonzero(np.abs(known.qpoints - q).max(axis=1) < 1e-9)[0]
        np.testing.assert_allclose(frequencies, known.frequencies[place], atol=1e-5)


def test_a_matrix_without_volume_is_refused(silicon):
    with pytest.raises(PhysicsError, match="a volume"):
        compute_shaped_modes(silicon, in_plane([[1, 2], [2, 4]]))
