"""Springs of graphene layers: their minimum, invariance, forces and phonons."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlepi.errors import StructureError
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene
from mlepi.units import FORCE_CONSTANT_TO_THZ, THZ_TO_INVERSE_CM

MASS = 12.011
BOND = 2.46 / np.sqrt(3.0)


def rattled(stacking, amplitude=0.06, repeats=(2, 2, 1)):
    atoms = build_graphene(stacking).repeat(repeats)
    atoms.positions += np.random.default_rng(3).normal(scale=amplitude, size=atoms.positions.shape)
    atoms.calc = HoneycombSprings()
    return atoms


def gamma_frequencies(stacking, **arguments):
    atoms = build_graphene(stacking, **arguments)
    modes = compute_modes(compute_force_constants(atoms, HoneycombSprings(), (2, 2, 1)))
    return modes.frequencies[0]


@pytest.mark.parametrize("stacking", ["monolayer", "AB", "ABA", "ABC"])
def test_flat_layers_are_at_rest(stacking):
    atoms = build_graphene(stacking)
    atoms.calc = HoneycombSprings()
    assert np.abs(atoms.get_forces()).max() < 1e-12
    assert np.abs(atoms.get_stress()).max() < 1e-14
    if stacking == "monolayer":
        assert atoms.get_potential_energy() == pytest.approx(0.0, abs=1e-15)


def test_ab_is_the_most_stable_stacking():
    energies = {
        name: HoneycombSprings().get_potential_energy(build_graphene(name))
        for name in ("AB", "SP", "AA")
    }
    assert energies["AB"] < min(energies["SP"], energies["AA"])


@pytest.mark.parametrize("stacking", ["monolayer", "AB"])
def test_forces_and_stress_are_derivatives_of_the_energy(stacking):
    atoms = rattled(stacking)
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    direction = np.random.default_rng(5).normal(size=atoms.positions.shape)
    step = 1e-5

    def energy(displacement, strain=None):
        moved = atoms.copy()
        moved.positions += displacement
        if strain is not None:
            moved.set_cell(moved.cell.array @ (np.eye(3) + strain), scale_atoms=True)
        return HoneycombSprings().get_potential_energy(moved)

    slope = (energy(step * direction) - energy(-step * direction)) / (2 * step)
    assert -np.sum(forces * direction) == pytest.approx(slope, abs=1e-6)
    for a, b in ((0, 0), (1, 1), (0, 1), (0, 2)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5 * step
        strain[b, a] += 0.5 * step
        slope = (energy(0.0, strain) - energy(0.0, -strain)) / (2 * step)
        assert stress[a, b] * atoms.get_volume() == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("stacking", ["monolayer", "AB"])
def test_energy_is_invariant_and_forces_turn(stacking):
    atoms = rattled(stacking)
    matrix = Rotation.from_euler("xyz", [0.3, 1.2, -0.7]).as_matrix()
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ matrix.T)
    turned.positions = (atoms.positions + np.array([0.3, -0.2, 0.9])) @ matrix.T
    turned.calc = HoneycombSprings()
    assert turned.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(turned.get_forces(), atoms.get_forces() @ matrix.T, atol=1e-11)
    assert np.abs(atoms.get_forces().sum(axis=0)).max() < 1e-12


def test_bending_a_finite_angle_costs_no_bond_energy():
    """A rigid layer turned inside its cell's neighbourhood.

    Rotation invariance for finite angles, not only small ones.
    """
    flat = build_graphene("monolayer").repeat((3, 3, 1))
    spins = Rotation.from_euler("x", 70, degrees=True).as_matrix()
    turned = flat.copy()
    turned.set_cell(flat.cell.array @ spins.T)
    turned.positions = flat.positions @ spins.T
    assert HoneycombSprings().get_potential_energy(turned) == pytest.approx(0.0, abs=1e-12)


def test_frequencies_at_gamma_are_those_of_the_formulas():
    springs = HoneycombSprings()
    layer = gamma_frequencies("monolayer")
    normal = FORCE_CONSTANT_TO_THZ * np.sqrt(36 * springs.normal / MASS)
    optical = FORCE_CONSTANT_TO_THZ * np.sqrt(
        (3 * springs.bond + 13.5 * springs.angle / BOND**2) / MASS
    )
    # anharmonic at 0.01 Å
    np.testing.assert_allclose(layer[3:], [normal, optical, optical], rtol=1e-3)
    shear = FORCE_CONSTANT_TO_THZ * np.sqrt(16 * springs.shear * BOND**2 / MASS)
    breathing = FORCE_CONSTANT_TO_THZ * np.sqrt(10 * springs.breathing / MASS)
    np.testing.assert_allclose(gamma_frequencies("AB")[3:6], [shear, shear, breathing], rtol=1e-3)
    # the sizes of graphene's
    np.testing.assert_allclose(
        np.array([optical, shear, breathing]) * THZ_TO_INVERSE_CM, [1580, 31, 90], rtol=0.01
    )


def test_layers_of_the_bulk_are_a_chain():
    bilayer = gamma_frequencies("AB")
    bulk = gamma_frequencies("AB", height=2 * 3.35)
    np.testing.assert_allclose(bulk[3:6] / bilayer[3:6], np.sqrt(2.0), rtol=1e-3)


@pytest.mark.parametrize("stacking", ["monolayer", "AB"])
def test_phonons_are_stable_in_all_supercells(stacking):
    force_constants = compute_force_constants(
        build_graphene(stacking), HoneycombSprings(), (6, 6, 1)
    )
    mesh = np.stack(
        np.meshgrid(np.arange(12) / 12, np.arange(12) / 12, [0.0], indexing="ij"), axis=-1
    ).reshape(-1, 3)
    frequencies = compute_frequencies(force_constants, mesh[1:])
    assert frequencies.min() > 0.1
    assert frequencies.max() * THZ_TO_INVERSE_CM < 1600
    for n in (3, 4):
        modes = compute_modes(
            compute_force_constants(build_graphene(stacking), HoneycombSprings(), (n, n, 1))
        )
        assert modes.frequencies[~modes.translations].min() > 0.1


def test_bending_modes_are_those_of_the_formula():
    """m ω² = k_n (3 ∓ |f|)², |f| the sum of phases over three bonds: quadratic in q at Γ."""
    springs = HoneycombSprings()
    force_constants = compute_force_constants(
        build_graphene("monolayer"), springs, (4, 4, 1), displacement=0.001
    )
    qpoints = np.array([[0.02, 0, 0], [0.04, 0, 0], [0.5, 0, 0]])
    sums = np.abs(2.0 + np.exp(2j * np.pi * qpoints[:, 0]))
    expected = (
        FORCE_CONSTANT_TO_THZ
        * np.sqrt(springs.normal / MASS)
        * np.stack([3 - sums, 3 + sums], axis=1)
    )
    found = compute_frequencies(force_constants, qpoints)
    for row, values in zip(found, expected, strict=True):
        for value in values:
            assert np.abs(row - value).min() < 1e-3
    np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-2)


def test_a_missing_neighbour_is_refused():
    atoms = build_graphene("monolayer").repeat((3, 3, 1))
    del atoms[4]
    with pytest.raises(StructureError, match=r"2 neighbours of its layer within 1\.9 Å"):
        HoneycombSprings().get_potential_energy(atoms)
