"""Springs between the atoms of any crystal: stable, translation invariant, of the right size."""

import design_materials
import numpy as np
import pytest
from ase import Atoms

from mlepi.errors import StructureError
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.reference_systems.born_springs import BEND, BOND, build_born_constants
from mlepi.units import BOHR, FORCE_CONSTANT_TO_THZ, HARTREE, THZ_TO_INVERSE_CM


@pytest.mark.parametrize("name", ["bilayer", "graphite", "hbn", "mos2", "silicon"])
def test_every_crystal_is_stable_and_does_not_resist_a_shift(name):
    constants = build_born_constants(design_materials.crystals()[name], (2, 2, 1))
    assert constants.sum_rule_residual < 1e-12
    matrix = constants.matrix()
    np.testing.assert_allclose(matrix, matrix.transpose(1, 0, 3, 2), atol=1e-12)
    modes = compute_modes(constants)
    assert modes.frequencies[~modes.translations].min() > 0.0


def test_the_optical_modes_of_a_layer_are_those_of_its_bonds():
    """m ω² = 3 (k + k') in the plane, 6 k' across it: first neighbours of a honeycomb."""
    atoms = design_materials.crystals()["graphene"]
    constants = build_born_constants(atoms, (1, 1, 1), weak=0.0)
    bond = BOND * HARTREE * BOHR / (2.46 / np.sqrt(3.0)) ** 3
    mass = atoms.get_masses()[0]
    expected = [6.0 * BEND * bond, *[3.0 * (1.0 + BEND) * bond] * 2]
    found = compute_frequencies(constants, np.zeros((1, 3)))[0, 3:]
    right = np.sqrt(np.array(expected) / mass) * FORCE_CONSTANT_TO_THZ
    np.testing.assert_allclose(found, right, rtol=1e-6)  # the constants of phonopy differ by 1e-7


def test_bilayer_graphene_has_the_frequencies_that_the_numbers_are_of():
    atoms = design_materials.crystals()["bilayer"]
    found = compute_frequencies(build_born_constants(atoms, (6, 6, 1)), np.zeros((1, 3)))[0]
    waves = found * THZ_TO_INVERSE_CM
    assert waves[5] == pytest.approx(90.0, rel=0.1)  # breathing
    assert waves[-1] == pytest.approx(1580.0, rel=0.02)
    assert waves[6] == pytest.approx(860.0, rel=0.02)


def test_an_atom_alone_is_no_crystal():
    with pytest.raises(StructureError, match=r"no atom within 5\.0 Å"):
        build_born_constants(Atoms("He", cell=[20.0] * 3, pbc=True), (1, 1, 1))
