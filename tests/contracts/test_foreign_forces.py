"""Energies and forces in files that VASP and phonopy wrote, compared with the numbers in them.

The files lie beside the repository (``foreign_files``); docs/data_formats.md names their sources.
"""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from xml.etree import ElementTree

import ase
import ase.io
import h5py
import numpy as np
import pytest
from foreign_files import foreign

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.conversion import convert
from mlepi.structures.sources import find_sources, read_source
from mlepi.units import BOHR, HARTREE

ML_ABS = {
    "vasp/ML_AB_Si": ("Si64", 134),
    "vasp/ML_AB_BiO": ("Bi64O96", 15),
    "vasp/ML_AB_graphene": ("C72", 281),
}
PAIRS = ("vasprun.xml-001", "vasprun.xml-002")


def find_vasp(name: str) -> Path:
    """Path of a file of VASP that comes with ASE; the test is skipped where it does not."""
    path = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def scan_outcar(text: str) -> list[tuple[float, np.ndarray]]:
    """Free energy and forces of every step as the text has them."""
    steps = []
    for part in text.split("TOTAL-FORCE (eV/Angst)")[1:]:
        rows = []
        for line in part.splitlines()[2:]:
            if "-----" in line:
                break
            rows.append([float(word) for word in line.split()[3:]])
        energy = re.search(r"free\s+energy\s+TOTEN\s+=\s+(\S+)", part)
        steps.append((float(energy[1]), np.array(rows)))
    return steps


def check_outcar(path: Path) -> None:
    own = scan_outcar(path.read_text())
    structures = read_forces_dataset(path)
    assert len(structures) == len(own)
    for structure, (energy, forces) in zip(structures, own, strict=True):
        assert structure.energy == pytest.approx(energy, abs=1e-8)
        np.testing.assert_allclose(structure.forces, forces, atol=1e-6)


def check_vasprun(path: Path) -> None:
    own = ElementTree.parse(path).findall("calculation")  # noqa: S314
    structures = read_forces_dataset(path)
    assert len(structures) == len(own)
    for structure, step in zip(structures, own, strict=True):
        energy = step.find("energy/i[@name='e_fr_energy']").text
        assert structure.energy == pytest.approx(float(energy), abs=1e-8)
        rows = [row.text.split() for row in step.find("varray[@name='forces']")]
        np.testing.assert_allclose(structure.forces, np.array(rows, dtype=float), atol=1e-8)
        rows = [row.text.split() for row in step.find("structure/varray[@name='positions']")]
        scaled = structure.atoms.get_scaled_positions(wrap=False)
        np.testing.assert_allclose(scaled, np.array(rows, dtype=float), atol=1e-7)


def test_outcar_of_vasp_5():
    check_outcar(find_vasp("OUTCAR_example_1"))


def test_vasprun_of_perturbation_theory():
    check_vasprun(find_vasp("vasprun_dfpt.xml"))


def test_other_outcar():
    check_outcar(foreign("vasp/OUTCAR_ZrO2"))


def test_outcar_of_a_band_structure():
    """ICHARG = 11 along a path: its −6.8 eV are not those of a crystal."""
    with pytest.raises(DataError, match="none with converged electrons"):
        read_forces_dataset(foreign("vasp/OUTCAR_GaAs"))


@pytest.mark.parametrize("name", PAIRS)
def test_other_vaspruns(name):
    check_vasprun(foreign(f"phonopy/NaCl/{name}"))


def test_orbitals_that_were_not_optimised(tmp_path):
    """IALGO = 2, which is ALGO = None, in genuine files: no label."""
    for name, copy in (("OUTCAR_example_1", "OUTCAR"), ("vasprun_dfpt.xml", "vasprun.xml")):
        text = find_vasp(name).read_text()
        doctored = re.sub(r'(IALGO"?\s*[>=]\s*)\d+', r"\g<1>2", text)
        assert doctored != text
        (tmp_path / copy).write_text(doctored)
        with pytest.raises(DataError, match=r"none with converged electrons.* with ALGO = None"):
            read_forces_dataset(tmp_path / copy)


def test_relaxation_in_a_vaspout():
    """VASP 6.5: the last step is that of results/positions, and its free energy is taken."""
    path = foreign("vasp/MoTe2_relaxation/vaspout.h5")
    structures = read_forces_dataset(path)
    with h5py.File(path) as file:
        steps, last = file["intermediate/ion_dynamics"], file["results/positions"]
        assert len(structures) == len(steps["energies"]) == 13
        assert structures[-1].energy == steps["energies"][-1, 0]
        np.testing.assert_array_equal(structures[-1].forces, steps["forces"][-1])
        atoms = structures[-1].atoms
        np.testing.assert_allclose(atoms.cell.array, last["lattice_vectors"][()], atol=1e-7)
        scaled = atoms.get_scaled_positions(wrap=False)
        np.testing.assert_allclose(scaled, last["position_ions"][()], atol=1e-7)
    assert atoms.get_chemical_formula() == "Mo2Te4"


def test_dry_run_in_a_vaspout():
    """ALGO = None: an energy of 790 eV and no forces, which the file calls converged."""
    with pytest.raises(DataError, match="1 steps, none with converged electrons"):
        read_forces_dataset(foreign("vasp/MoTe2_dry_run/vaspout.h5"))


@pytest.mark.parametrize("name", ML_ABS)
def test_training_data_of_vasp(name, tmp_path):
    """As many configurations as the header says, each with its numbers."""
    path = foreign(name)
    formula, n_frames = ML_ABS[name]
    structures = read_forces_dataset(shutil.copy(path, tmp_path / "ML_AB"))
    text = path.read_text()
    assert int(text.split("The number of configurations")[1].split()[1]) == n_frames
    assert len(structures) == n_frames
    assert structures[0].atoms.get_chemical_formula() == formula
    parts = text.split("Configuration num.")[1:]
    for structure, part in zip(structures, parts, strict=True):
        assert structure.energy == float(part.split("Total energy (eV)")[1].split()[1])
        rows = part.split("Forces (eV ang.^-1)")[1].splitlines()[2 : 2 + len(structure.atoms)]
        forces = [[float(word) for word in row.split()] for row in rows]
        np.testing.assert_array_equal(structure.forces, forces)


def test_force_sets_are_those_of_vasp():
    """The displaced cells and forces of phonopy's FORCE_SETS are in the outputs it was made of."""
    folder = foreign("phonopy/NaCl")
    with pytest.warns(UnusualDataWarning, match="no energies"):
        structures = read_forces_dataset(folder / "FORCE_SETS")
    runs = [read_forces_dataset(folder / name)[0] for name in PAIRS]
    for structure, run in zip(structures, runs, strict=True):
        np.testing.assert_array_equal(structure.atoms.numbers, run.atoms.numbers)
        np.testing.assert_allclose(structure.forces, run.forces, atol=1e-10)
        moved = structure.atoms.get_scaled_positions() - run.atoms.get_scaled_positions()
        np.testing.assert_allclose(moved - np.round(moved), 0.0, atol=1e-8)
    parameters = read_forces_dataset(folder / "phonopy_params_NaCl-fd.yaml.xz")
    assert [s.energy for s in parameters] == [run.energy for run in runs]


def test_parameters_in_other_units():
    """phonopy of Quantum ESPRESSO: Bohr and Ry/Bohr, the same crystal with the same springs."""
    path = foreign("phonopy/NaCl/phonopy_params_NaCl-QE.yaml.xz")
    with pytest.warns(UnusualDataWarning, match="no energies"):
        own = read_forces_dataset(path)
    with pytest.warns(UnusualDataWarning):
        others = read_forces_dataset(foreign("phonopy/NaCl/FORCE_SETS"))
    cells = [structure.atoms.cell.array[0, 0] for structure in (own[0], others[0])]
    assert cells[0] == pytest.approx(cells[1], rel=1e-6)
    import phonopy

    phonon = phonopy.load(path, produce_fc=False, primitive_matrix="P", is_symmetry=False)
    np.testing.assert_allclose(own[0].forces, phonon.forces[0] * (HARTREE / 2 / BOHR), atol=1e-8)
    largest = [np.abs(structure.forces).max() for structure in (own[0], others[0])]
    assert largest[0] == pytest.approx(largest[1], rel=0.1)


def test_many_folders_of_vasp_are_one_data_set(tmp_path):
    """Folders as they lie: numbered files beside each other, one run in two files, dry runs."""
    folders = [foreign("phonopy/NaCl"), foreign("vasp")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusualDataWarning)
        outcomes = convert(folders, tmp_path / "all.extxyz", n_workers=1)
        structures = read_forces_dataset(tmp_path / "all.extxyz")
    refused = [outcome.source.path.parent.name for outcome in outcomes if outcome.refusal]
    assert refused == ["MoTe2_dry_run"]
    names = [structure.name for structure in structures]
    assert len(set(names)) == len(names) == sum(outcome.n_structures for outcome in outcomes)
    assert {"vasprun.xml-001_00000", "vasprun.xml-002_00000"} <= set(names)


def test_numbered_files_of_one_folder(tmp_path):
    """Named vasprun.xml-001 and so on, as phonopy asks for: each once, with a name of its own."""
    path = find_vasp("vasprun_dfpt.xml")
    for name in PAIRS:
        shutil.copy(path, tmp_path / name)
    sources = find_sources([tmp_path])
    assert [source.name for source in sources] == list(PAIRS)
    convert([tmp_path], tmp_path / "all.extxyz", n_workers=1)
    names = [structure.name for structure in read_forces_dataset(tmp_path / "all.extxyz")]
    assert names == [f"{name}_00000" for name in PAIRS]
    assert len(read_source(sources[0])) == 1
