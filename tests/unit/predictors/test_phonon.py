"""The phonon predictor and its ASE calculator: consistent derivatives, caching, precision, and refusals."""

import numpy as np
import pytest
from ase import Atoms
from tiny_networks import CUTOFFS, build_network, corrugated_bilayer

from mlepi.errors import ConfigError, StructureError
from mlepi.predictors import PhononPredictor


@pytest.fixture(scope="module")
def predictor():
    return PhononPredictor(build_network("phonon").double(), elements=[7, 6], cutoffs=CUTOFFS, metadata={"data": "none"})


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
        assert forces[atom, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * energy_step), abs=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-9)


def test_stress_is_the_strain_derivative_per_volume(atoms):
    stress, step = atoms.get_stress(voigt=False), 1e-5
    cell, volume = atoms.cell.array.copy(), atoms.cell.volume
    energies = []
    for sign in (1, -1):
        atoms.set_cell(cell * np.array([1 + sign * step, 1, 1]), scale_atoms=True)
        energies.append(atoms.get_potential_energy())
    assert stress[0, 0] == pytest.approx((energies[0] - energies[1]) / (2 * step * volume), abs=1e-8)


def test_results_are_cached_until_something_changes(atoms, monkeypatch):
    calls = []
    evaluate = PhononPredictor._evaluate
    monkeypatch.setattr(PhononPredictor, "_evaluate", lambda self, *a, **k: calls.append(1) or evaluate(self, *a, **k))
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
    single, double = (predictor.energy_and_forces([atoms], dtype=dtype)[1][0] for dtype in ("float32", "float64"))
    assert 0.0 < np.abs(single - double).max() < 1e-4


def test_structures_that_cannot_be_used_are_refused(predictor, atoms):
    boron = Atoms("B", cell=[5, 5, 5], pbc=True, calculator=predictor.calculator())
    with pytest.raises(StructureError, match=r"atomic numbers \[5\]; expected only elements of the phonon network, \[6, 7\]"):
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
