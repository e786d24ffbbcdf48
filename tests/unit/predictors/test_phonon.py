"""The phonon predictor and its ASE calculator.

Consistent derivatives, caching, precision, and refusals.
"""

import numpy as np
import pytest
from ase import Atoms
from tiny_networks import CUTOFFS, build_network, corrugated_bilayer

from mlepi.errors import ConfigError, StructureError
from mlepi.physics.vibrations.force_constants import (
    compute_force_constants,
    differentiate_force_constants,
)
from mlepi.predictors import PhononPredictor
from mlepi.structures import build_graphene


@pytest.fixture(scope="module")
def predictor():
    return PhononPredictor(
        build_network("phonon").double(),
        elements=[7, 6],
        cutoffs=CUTOFFS,
        metadata={"data": "none"},
    )


@pytest.fixture
def atoms(predictor):
    structure = corrugated_bilayer()
    structure.calc = predictor.calculator()
    return structure


def test_forces_are_minus_the_gradient_of_the_energy(atoms):
    forces, energy_step = atoms.get_forces(), 1e-4
    for atom, axis in [(0, 0), (5, 2), (11, 1)]:
        energies = []
        for sign in (1, -1):
            atoms.positions[atom, axis] += sign * energy_step
            energies.append(atoms.get_potential_energy())
            atoms.positions[atom, axis] -= sign * energy_step
        assert forces[atom, axis] == pytest.approx(
            -(energies[0] - energies[1]) / (2 * energy_step), abs=1e-6
        )
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9)


def test_stress_is_the_strain_derivative_per_volume(atoms):
    stress, step = atoms.get_stress(voigt=False), 1e-5
    cell, volume = atoms.cell.array.copy(), atoms.cell.volume
    energies = []
    for sign in (1, -1):
        atoms.set_cell(cell * np.array([1 + sign * step, 1, 1]), scale_atoms=True)
        energies.append(atoms.get_potential_energy())
    assert stress[0, 0] == pytest.approx(
        (energies[0] - energies[1]) / (2 * step * volume), abs=1e-8
    )


def test_results_are_cached_until_something_changes(atoms, monkeypatch):
    calls = []
    evaluate = PhononPredictor._evaluate
    monkeypatch.setattr(
        PhononPredictor,
        "_evaluate",
        lambda self, *a, **k: calls.append(1) or evaluate(self, *a, **k),
    )
    energy = atoms.get_potential_energy()
    assert atoms.get_potential_energy(force_consistent=True) == energy
    atoms.get_forces()
    assert len(calls) == 1
    atoms.positions[0] += 0.01
    assert atoms.get_potential_energy() != energy
    atoms.arrays["layer"][:] = 0  # another graph, although no atom has moved
    atoms.get_forces()
    assert len(calls) == 3


def test_batches_equal_single_structures_and_leave_the_input_alone(predictor, atoms):
    other = corrugated_bilayer()[[0, 1, 4, 5]]
    before = atoms.positions.copy()
    energies, forces = predictor.energy_and_forces([atoms, other, atoms], batch_size=2)
    np.testing.assert_allclose(energies[[0, 2]], atoms.get_potential_energy(), atol=1e-9)
    np.testing.assert_allclose(forces[2], atoms.get_forces(), atol=1e-9)
    assert forces[1].shape == (4, 3)
    np.testing.assert_array_equal(atoms.positions, before)
    assert predictor.energy_and_forces([])[0].shape == (0,)


def test_single_precision_is_close_to_double(predictor, atoms):
    single, double = (
        predictor.energy_and_forces([atoms], dtype=dtype)[1][0] for dtype in ("float32", "float64")
    )
    assert 0.0 < np.abs(single - double).max() < 1e-4


def test_structures_that_cannot_be_used_are_refused(predictor, atoms):
    boron = Atoms("B", cell=[5, 5, 5], pbc=True, calculator=predictor.calculator())
    with pytest.raises(
        StructureError,
        match=r"atomic numbers \[5\]; expected only elements of the phonon network, \[6, 7\]",
    ):
        boron.get_potential_energy()
    atoms.positions[1] = atoms.positions[0] + [0.1, 0, 0]
    with pytest.raises(StructureError, match=r"0\.100 Å apart"):
        atoms.get_forces()
    free = Atoms("C", calculator=predictor.calculator())
    with pytest.raises(StructureError, match="stress: got a cell without volume"):
        free.get_stress()


def test_unknown_precision_and_device_are_refused(predictor):
    with pytest.raises(ConfigError, match="dtype: got 'float16'"):
        predictor.calculator(dtype="float16")
    with pytest.raises(ConfigError, match="device: got 'nonsense'"):
        predictor.calculator(device="nonsense")


def test_second_derivatives_are_those_of_the_forces(atoms, predictor):
    calculator = predictor.calculator()
    rows = calculator.hessian_rows(atoms, [2, 7])
    assert rows.shape == (2, 3, len(atoms), 3)
    step = 2e-4
    for row, (atom, axis) in ((rows[0, 1], (2, 1)), (rows[1, 2], (7, 2))):
        forces = []
        for multiple in (1, -1, 2, -2):
            moved = atoms.copy()
            moved.positions[atom, axis] += multiple * step
            moved.calc = calculator
            forces.append(moved.get_forces())
        # five-point formula: the error is of fourth order in the step
        expected = -(8 * (forces[0] - forces[1]) - (forces[2] - forces[3])) / (12 * step)
        np.testing.assert_allclose(row, expected, atol=1e-8 * np.abs(rows).max() + 1e-9)
    together = predictor.hessian_rows(atoms, [2, 7], batch_size=4)
    np.testing.assert_allclose(together, rows, atol=1e-12 * np.abs(rows).max())


def test_second_derivatives_of_an_atom_without_neighbours_are_zero(predictor):
    lonely = Atoms("C", cell=[15.0, 15.0, 15.0], pbc=True)
    lonely.arrays["layer"] = np.zeros(1, dtype=int)
    np.testing.assert_array_equal(predictor.hessian_rows(lonely, [0]), np.zeros((1, 3, 1, 3)))


def test_force_constants_by_displacements_and_by_derivatives_agree(predictor):
    primitive = build_graphene("AB")
    derivatives = differentiate_force_constants(primitive, predictor.calculator(), (2, 2, 1))
    displacements = compute_force_constants(
        primitive, predictor.calculator(), (2, 2, 1), displacement=1e-4
    )
    scale = np.abs(derivatives.values).max()
    np.testing.assert_allclose(derivatives.values, displacements.values, atol=1e-6 * scale)
    assert derivatives.raw_sum_rule_residual < 1e-10 * scale
    plain = differentiate_force_constants(
        primitive, predictor.calculator(), (2, 2, 1), symmetrize=False
    )
    np.testing.assert_allclose(plain.values, derivatives.values, atol=1e-9 * scale)
