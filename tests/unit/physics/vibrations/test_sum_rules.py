import numpy as np
import pytest
from ase import Atoms
from spring_model import SHELLS, build_honeycomb, spring_force_constants

from mlepi.errors import ConfigError
from mlepi.physics.vibrations.force_constants import (
    ForceConstants,
    apply_sum_rule,
    compute_force_constants,
)
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.physics.vibrations.sum_rules import impose_sum_rules, measure_sum_rules, shortest_vectors
from mlepi.reference_systems import HoneycombSprings
from mlepi.structures import build_graphene

REPEATS = (6, 6, 1)


@pytest.fixture(scope="module")
def violating():
    """Born springs: an atom that moves out of line is pulled back, which no rotation allows."""
    atoms = build_honeycomb()
    return ForceConstants(
        atoms, REPEATS, spring_force_constants(atoms.repeat(REPEATS), SHELLS)[:2].copy()
    )


def bending_exponent(force_constants):
    """Exponent of the lowest branch on the way from Γ to M, at 2 and 4 % of it."""
    fractions = np.array([0.01, 0.02])
    frequencies = compute_frequencies(force_constants, np.outer(fractions, [1.0, 0.0, 0.0]))[:, 0]
    return np.log(frequencies[1] / frequencies[0]) / np.log(2.0)


def test_shortest_vectors_share_images_on_the_boundary():
    atoms = Atoms("C", cell=[2.0, 20.0, 20.0], pbc=True)
    first, second = shortest_vectors(ForceConstants(atoms, (2, 1, 1), np.zeros((1, 2, 3, 3))))
    np.testing.assert_allclose(first[0], 0.0, atol=1e-12)  # ± 2 Å, half each
    np.testing.assert_allclose(second[0, 1], np.diag([4.0, 0.0, 0.0]), atol=1e-12)
    # a skewed cell: the second neighbour of a hexagonal layer in a 2 × 2 cell
    atoms = Atoms("C", cell=[[2.0, 0, 0], [3.0, np.sqrt(3.0), 0], [0, 0, 20.0]], pbc=True)
    first, second = shortest_vectors(ForceConstants(atoms, (3, 3, 1), np.zeros((1, 9, 3, 3))))
    lengths = np.sqrt(np.trace(second[0], axis1=1, axis2=2))
    np.testing.assert_allclose(
        np.sort(lengths), [0, *[2.0] * 6, *[2.0 * np.sqrt(3.0)] * 2], atol=1e-9
    )


def test_a_rotation_invariant_crystal_at_rest_obeys_all_rules():
    force_constants = compute_force_constants(
        build_graphene("monolayer"), HoneycombSprings(), REPEATS, displacement=1e-3
    )
    residuals = measure_sum_rules(force_constants)
    # the scale is Φ, some 50 eV/Å², times 1e-6 of finite differences of 1e-3 Å, times distances of
    # some Å
    assert residuals.translational < 1e-9
    assert residuals.rotational < 1e-3
    assert residuals.huang < 5e-3
    repaired = impose_sum_rules(force_constants, "rotational")
    assert np.abs(repaired.values - force_constants.values).max() < 1e-4
    assert bending_exponent(force_constants) == pytest.approx(2.0, abs=0.05)


def loads(atoms, calculator):
    atoms = atoms.copy()
    atoms.calc = calculator
    return atoms.get_forces(), atoms.get_stress(voigt=False)


def test_huang_difference_is_the_tension():
    # a flat layer under tension σ (eV/Å²): ρ ω² = σ q², which in terms of Φ reads [zz, xx] − [xx,
    # zz] = −2 σ A
    strained = build_graphene("monolayer", lattice_constant=2.46 * 1.002)
    force_constants = compute_force_constants(
        strained, HoneycombSprings(), REPEATS, displacement=1e-3
    )
    forces, stress = loads(strained, HoneycombSprings())
    tension = stress[0, 0] * strained.get_volume()
    _, second = shortest_vectors(force_constants)
    bracket = np.einsum("abxy,abzw->xyzw", force_constants.values, second)
    assert tension > 0.1
    assert bracket[2, 2, 0, 0] - bracket[0, 0, 2, 2] == pytest.approx(-2.0 * tension, rel=1e-3)
    assert measure_sum_rules(force_constants).huang > 1.9 * tension
    assert measure_sum_rules(force_constants, forces, stress).huang < 1e-3 * tension


def test_rules_hold_under_forces_and_stress():
    # layers pushed together and stretched: nothing is at rest, and the rules with their right-hand
    # sides hold all the same
    atoms = build_graphene("AB", lattice_constant=2.47, spacing=3.2)
    force_constants = compute_force_constants(
        atoms, HoneycombSprings(), (4, 4, 1), displacement=1e-3
    )
    forces, stress = loads(atoms, HoneycombSprings())
    at_rest = measure_sum_rules(force_constants)
    loaded = measure_sum_rules(force_constants, forces, stress)
    assert np.abs(forces).max() > 0.02
    assert at_rest.rotational > 0.02
    assert at_rest.huang > 0.3
    # what remains is the error of finite differences
    assert loaded.rotational < 1e-5
    assert loaded.huang < 1e-3
    repaired = impose_sum_rules(force_constants, "rotational", forces, stress)
    assert np.abs(repaired.values - force_constants.values).max() < 1e-5
    residuals = measure_sum_rules(repaired, forces, stress)
    assert max(residuals.translational, residuals.rotational, residuals.huang) < 1e-11


def test_bending_becomes_quadratic(violating):
    # with the translational rule alone the out-of-plane springs make it linear
    assert bending_exponent(violating) == pytest.approx(1.0, abs=0.02)
    assert measure_sum_rules(violating).translational < 1e-12
    repaired = impose_sum_rules(violating, "rotational")
    residuals = measure_sum_rules(repaired)
    assert max(residuals.translational, residuals.rotational, residuals.huang) < 1e-11
    # the next order in q is (q L)² ≲ 1e-2 here
    assert bending_exponent(repaired) == pytest.approx(2.0, abs=0.02)
    assert measure_sum_rules(violating).huang > 1.0


def test_correction_keeps_the_symmetry_of_the_crystal(violating):
    rng = np.random.default_rng(0)
    # symmetric noise: what symfc leaves of it obeys the space group
    noisy = ForceConstants(
        violating.atoms,
        REPEATS,
        violating.values + 0.1 * rng.standard_normal(violating.values.shape),
    )
    symmetric = apply_sum_rule(noisy)
    repaired = impose_sum_rules(symmetric, "rotational")
    assert np.abs(repaired.values - symmetric.values).max() > 1e-4
    np.testing.assert_allclose(apply_sum_rule(repaired).values, repaired.values, atol=1e-9)
    matrix = repaired.matrix()
    np.testing.assert_allclose(matrix, matrix.transpose(1, 0, 3, 2), atol=1e-12)
    assert repaired.raw_sum_rule_residual == symmetric.raw_sum_rule_residual


def test_correction_is_the_smallest(violating):
    # it is orthogonal to everything that obeys the rules
    rng = np.random.default_rng(1)
    repaired = impose_sum_rules(violating, "rotational")
    correction = (repaired.values - violating.values).ravel()
    for _ in range(3):
        other = ForceConstants(
            violating.atoms, REPEATS, rng.standard_normal(violating.values.shape)
        )
        obeying = impose_sum_rules(other, "rotational").values.ravel()
        assert abs(correction @ obeying) < 1e-9 * np.linalg.norm(correction) * np.linalg.norm(
            obeying
        )
    again = impose_sum_rules(repaired, "rotational")
    np.testing.assert_allclose(again.values, repaired.values, atol=1e-12)


def test_choices(violating):
    rng = np.random.default_rng(2)
    noisy = ForceConstants(
        violating.atoms,
        REPEATS,
        violating.values + 0.01 * rng.standard_normal(violating.values.shape),
    )
    assert impose_sum_rules(noisy, "none") is noisy
    translational = impose_sum_rules(noisy, "translational")
    assert translational.sum_rule_residual < 1e-12 < noisy.sum_rule_residual
    assert measure_sum_rules(translational).huang > 1.0
    with pytest.raises(
        ConfigError,
        match=r"stage.phonon.sum_rules: got 'all'; expected 'none', 'translational' or",
    ):
        impose_sum_rules(noisy, "all")
