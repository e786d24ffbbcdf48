"""Displaced supercells of phonopy: forces, displacements and energies come back."""

from __future__ import annotations

import numpy as np
import phonopy
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from phonopy.file_IO import write_FORCE_SETS
from phonopy.structure.atoms import PhonopyAtoms

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.ase_files import read_forces_dataset, write_extxyz


@pytest.fixture
def phonon():
    """Copper with the forces of effective-medium theory, and the energies."""
    copper = bulk("Cu", cubic=True)
    cell = PhonopyAtoms(copper.symbols, cell=copper.cell.array, positions=copper.positions)
    phonon = phonopy.Phonopy(cell, np.eye(3, dtype=int) * 2, primitive_matrix="P")
    phonon.generate_displacements(number_of_snapshots=3, distance=0.02, random_seed=1)
    forces, energies = [], []
    for moved in phonon.supercells_with_displacements:
        atoms = bulk("Cu", cubic=True) * (2, 2, 2)
        atoms.set_cell(moved.cell)
        atoms.positions = moved.positions
        atoms.calc = EMT()
        forces.append(atoms.get_forces())
        energies.append(atoms.get_potential_energy())
    phonon.forces = np.array(forces)
    phonon.supercell_energies = np.array(energies)
    return phonon


def check(structures, phonon, forces):
    cells = phonon.supercells_with_displacements
    assert len(structures) == len(cells) == len(forces)
    for structure, cell, expected in zip(structures, cells, forces, strict=True):
        np.testing.assert_allclose(structure.atoms.positions, cell.positions, atol=1e-8)
        np.testing.assert_allclose(structure.atoms.cell.array, cell.cell, atol=1e-8)
        np.testing.assert_allclose(structure.forces, expected, atol=1e-8)


def test_parameters_with_energies(phonon, tmp_path):
    phonon.save(tmp_path / "phonopy_params.yaml", settings={"force_sets": True})
    structures = read_forces_dataset(tmp_path / "phonopy_params.yaml")
    check(structures, phonon, phonon.forces)
    energies = [structure.energy for structure in structures]
    np.testing.assert_allclose(energies, phonon.supercell_energies, atol=1e-7)


def test_parameters_with_force_constants_of_a_primitive_cell(phonon, tmp_path):
    """What phonopy's commands write: (n_primitive, n_supercell, 3, 3), which "P" does not fit."""
    whole = phonopy.Phonopy(phonon.unitcell, phonon.supercell_matrix, primitive_matrix="F")
    whole.dataset = phonon.dataset
    whole.force_constants = np.zeros((1, len(phonon.supercell), 3, 3))
    parts = {"force_sets": True, "force_constants": True}
    whole.save(tmp_path / "phonopy_params.yaml", settings=parts)
    check(read_forces_dataset(tmp_path / "phonopy_params.yaml"), phonon, phonon.forces)


@pytest.mark.parametrize("beside", ["phonopy_disp.yaml", "SPOSCAR"])
def test_force_sets_have_harmonic_energies(phonon, tmp_path, beside):
    """−½ Σ u·F is the energy relative to rest to third order in the displacement."""
    energies = phonon.supercell_energies
    write_FORCE_SETS(phonon.dataset, filename=tmp_path / "FORCE_SETS")
    if beside == "SPOSCAR":
        from ase import Atoms

        cell = phonon.supercell
        Atoms(cell.symbols, positions=cell.positions, cell=cell.cell, pbc=True).write(
            tmp_path / "SPOSCAR", format="vasp"
        )
    else:
        phonon.save(tmp_path / "phonopy_disp.yaml", settings={"force_sets": False})
    with pytest.warns(UnusualDataWarning, match="3 structures with forces and no energies"):
        structures = read_forces_dataset(tmp_path / "FORCE_SETS")
    check(structures, phonon, phonon.forces)
    rest = bulk("Cu", cubic=True) * (2, 2, 2)
    rest.calc = EMT()
    differences = np.array(energies) - rest.get_potential_energy()
    np.testing.assert_allclose([s.energy for s in structures], differences, rtol=0.03)
    write_extxyz(tmp_path / "copy.extxyz", structures)
    with pytest.warns(UnusualDataWarning, match="no energies"):
        copy = read_forces_dataset(tmp_path / "copy.extxyz")
    assert copy[0].provenance["unusual"] == {"harmonic_energy": 1.0}


def test_what_is_missing_is_told(phonon, tmp_path):
    write_FORCE_SETS(phonon.dataset, filename=tmp_path / "FORCE_SETS")
    with pytest.raises(DataError, match="no supercell beside it"):
        read_forces_dataset(tmp_path / "FORCE_SETS")
    phonon.save(tmp_path / "phonopy_params.yaml", settings={"force_sets": False})
    with pytest.raises(DataError, match=r"got no forces; .* Give phonopy_params\.yaml"):
        read_forces_dataset(tmp_path / "phonopy_params.yaml")
