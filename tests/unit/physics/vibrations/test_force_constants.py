import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from spring_model import SHELLS, SpringCalculator, build_honeycomb, spring_force_constants

from mlepi.errors import ConfigError, PhysicsError
from mlepi.physics.vibrations.force_constants import (
    ForceConstants,
    apply_sum_rule,
    compute_force_constants,
    differentiate_force_constants,
)
from mlepi.physics.vibrations.phonon_bands import compute_frequencies
from mlepi.units import FORCE_CONSTANT_TO_THZ


@pytest.fixture(scope="module")
def honeycomb():
    atoms = build_honeycomb()
    calculator = SpringCalculator(atoms.repeat((4, 3, 1)), SHELLS)
    return calculator, compute_force_constants(atoms, calculator, [4, 3, 1], symmetrize=False)


def test_spring_force_constants_come_back_in_repeat_order(honeycomb):
    calculator, result = honeycomb
    np.testing.assert_allclose(result.matrix(), calculator.force_constants, atol=1e-9)


def test_symfc_reproduces_a_symmetric_spring_model():
    atoms = build_honeycomb()
    calculator = SpringCalculator(atoms.repeat((4, 4, 1)), SHELLS)
    result = compute_force_constants(atoms, calculator, [4, 4, 1])
    np.testing.assert_allclose(result.matrix(), calculator.force_constants, atol=1e-7)
    assert result.sum_rule_residual < 1e-10
    assert result.raw_sum_rule_residual < 1e-9


def test_atom_order_on_a_low_symmetry_anharmonic_cell():
    # no symmetry and three different repeats: each wrong order gives a different matrix
    rng = np.random.default_rng(3)
    atoms = Atoms("ArKrAr", cell=[[4.1, 0, 0], [0.7, 3.9, 0], [0.2, 0.5, 5.0]], pbc=True)
    atoms.set_scaled_positions([[0.1, 0.1, 0.1], [0.6, 0.5, 0.2], [0.2, 0.6, 0.6]])
    calculator = LennardJones(sigma=3.0, epsilon=0.01, rc=4.5, smooth=True)
    result = compute_force_constants(
        atoms, calculator, [2, 3, 1], displacement=1e-3, symmetrize=False
    )
    supercell = atoms.repeat((2, 3, 1))
    for a in rng.choice(3, 2, replace=False):
        for axis in range(3):
            forces = []
            for sign in (1, -1):
                moved = supercell.copy()
                moved.positions[a, axis] += sign * 1e-3
                moved.calc = calculator
                forces.append(moved.get_forces())
            np.testing.assert_allclose(
                result.values[a, :, axis], (forces[1] - forces[0]) / 2e-3, atol=2e-5
            )


def test_diatomic_chain():
    k, m1, m2, a = 3.0, 10.0, 16.0, 4.0
    atoms = Atoms("BO", positions=[[0, 0, 0], [a / 2, 0, 0]], cell=[a, 20, 20], pbc=True)
    atoms.set_masses([m1, m2])
    calculator = SpringCalculator(atoms.repeat((8, 1, 1)), [(2.1, k, 0.5, 0.5)])
    result = compute_force_constants(atoms, calculator, [8, 1, 1])
    q = np.array([0.0, 0.125, 0.25, 0.31, 0.5])
    s, p = (m1 + m2) / (m1 * m2), 4 * np.sin(np.pi * q) ** 2 / (m1 * m2)
    expected = (
        np.sort(np.sqrt([k * (s - np.sqrt(s**2 - p)), k * (s + np.sqrt(s**2 - p))]), axis=0)
        * FORCE_CONSTANT_TO_THZ
    )
    found = compute_frequencies(result, np.outer(q, [1, 0, 0]))
    for branch in expected:
        np.testing.assert_allclose(np.abs(found - branch[:, None]).min(axis=1), 0, atol=2e-5)


def test_metal_from_an_ase_calculator_is_stable_and_obeys_the_sum_rule():
    result = compute_force_constants(bulk("Cu"), EMT(), [3, 3, 3])
    frequencies = compute_frequencies(result, np.array([[0, 0, 0], [0.5, 0.5, 0], [1 / 3, 0, 0]]))
    assert np.abs(frequencies[0]).max() < 1e-3
    assert frequencies[1:].min() > 1.0
    assert result.sum_rule_residual < 1e-9


def test_sum_rule_is_restored_and_the_residual_reported(honeycomb):
    _, exact = honeycomb
    rng = np.random.default_rng(0)
    noisy = ForceConstants(
        exact.atoms, exact.supercell, exact.values + 1e-2 * rng.standard_normal(exact.values.shape)
    )
    repaired = apply_sum_rule(noisy)
    assert noisy.sum_rule_residual > 0.01
    assert repaired.raw_sum_rule_residual == pytest.approx(noisy.sum_rule_residual)
    assert repaired.sum_rule_residual < 1e-10
    matrix = repaired.matrix()
    np.testing.assert_allclose(matrix, matrix.transpose(1, 0, 3, 2), atol=1e-10)
    assert np.abs(repaired.values - exact.values).max() < 0.05


def test_residual_forces_do_not_enter():
    class Shifted(SpringCalculator):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results["forces"] = self.results["forces"] + np.array([0.3, -0.1, 0.2])

    atoms = build_honeycomb()
    calculator = Shifted(atoms.repeat((3, 3, 1)), SHELLS)
    result = compute_force_constants(atoms, calculator, [3, 3, 1], symmetrize=False)
    np.testing.assert_allclose(
        result.matrix(), spring_force_constants(atoms.repeat((3, 3, 1)), SHELLS), atol=1e-9
    )


def test_bad_inputs_say_so():
    class Broken(Calculator):
        implemented_properties = ("forces",)

        def calculate(self, atoms=None, properties=("forces",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results = {"forces": np.full((len(atoms), 3), np.nan)}

    atoms = build_honeycomb()
    with pytest.raises(
        ConfigError, match=r"supercell: got \[2, 0, 1\]; expected three positive integers"
    ):
        compute_force_constants(atoms, EMT(), [2, 0, 1])
    with pytest.raises(
        ConfigError, match=r"stage.phonon.displacement: got -0.1; expected a positive length"
    ):
        compute_force_constants(atoms, EMT(), [1, 1, 1], displacement=-0.1)
    with pytest.raises(PhysicsError, match=r"forces of C2: got numbers that are not finite"):
        compute_force_constants(atoms, Broken(), [1, 1, 1])
    with pytest.raises(PhysicsError, match=r"ForceConstants.values: got shape"):
        ForceConstants(atoms, (2, 1, 1), np.zeros((2, 2, 3, 3)))


def test_foreign_supercell_order_is_refused(monkeypatch):
    from mlepi.physics.vibrations import phonopy_order

    monkeypatch.setattr(phonopy_order, "ORDER_TOLERANCE", -1.0)
    with pytest.raises(PhysicsError, match=r"expected phonopy's supercell to repeat the cell"):
        compute_force_constants(build_honeycomb(), EMT(), [2, 1, 1])


def test_derivatives_need_a_network():
    with pytest.raises(
        ConfigError,
        match=r"stage.phonon.method: got derivatives of EMT, which gives none; expected a network",
    ):
        differentiate_force_constants(build_honeycomb(), EMT(), [2, 2, 1])
