"""Frequencies of rigid layers, on springs that are known."""

import numpy as np
import pytest

from mlepi.errors import StructureError
from mlepi.physics.vibrations.rigid_displacements import compute_rigid_frequency, list_rigid_modes
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene
from mlepi.units import FORCE_CONSTANT_TO_THZ

MASS, BOND = 12.011, 2.46 / np.sqrt(3.0)


@pytest.mark.parametrize(
    ("mode", "stiffness"), [("shear", 16 * 0.001315 * BOND**2), ("breathing", 0.358)]
)
def test_rigid_layers_have_the_springs_frequencies(mode, stiffness):
    """The springs: m ω² = 16 k_s d₀² for shear and 10 k_h for breathing, m one atom."""
    expected = np.sqrt(stiffness / MASS) * FORCE_CONSTANT_TO_THZ
    atoms = build_graphene("AB")
    before = atoms.positions.copy()
    for direction in list_rigid_modes(atoms)[mode]:
        found = compute_rigid_frequency(atoms, HoneycombSprings(), direction, 0.01)
        assert found == pytest.approx(expected, rel=5e-3)
    np.testing.assert_array_equal(atoms.positions, before)
    assert atoms.calc is None


def test_directions_of_a_mode_are_orthonormal_and_in_place():
    modes = list_rigid_modes(build_graphene("AB"))
    every = np.concatenate([modes["shear"], modes["breathing"]])
    np.testing.assert_allclose(every @ every.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(modes["breathing"], [[0, 0, 1]], atol=1e-12)


def test_the_reduced_mass_counts():
    """A lower layer of three times the mass: μ = 3m/4 instead of m/2."""
    atoms = build_graphene("AB")
    light = compute_rigid_frequency(atoms, HoneycombSprings(), (0, 0, 1), 0.01)
    masses = atoms.get_masses()
    masses[atoms.arrays["layer"] == 0] *= 3.0
    atoms.set_masses(masses)
    heavy = compute_rigid_frequency(atoms, HoneycombSprings(), (0, 0, 1), 0.01)
    assert heavy / light == pytest.approx(np.sqrt(0.5 / 0.75))


def test_an_unstable_layer_has_a_negative_frequency():
    springs = HoneycombSprings(shear=-0.001)
    assert compute_rigid_frequency(build_graphene("AB"), springs, (1.0, 0.0, 0.0), 0.01) < -0.6


def test_one_layer_is_refused():
    with pytest.raises(StructureError, match=r"rigid layers: got 1 layer\(s\); expected two"):
        compute_rigid_frequency(
            build_graphene("monolayer"), HoneycombSprings(), (1.0, 0.0, 0.0), 0.01
        )
