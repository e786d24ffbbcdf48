"""Frames of others: prefixes of keys, steps that have not converged, frames without labels."""

from __future__ import annotations

from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
import test_readers
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlepi.errors import DataError, UnusualDataWarning
from mlepi.structures.ase_files import read_forces_dataset

FORCES = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, -0.5]])


def build_frame(number, labels=True):
    places = [[0, 0, 0], [0, 0, 1.1 + 0.01 * number]]
    atoms = Atoms("CO", positions=places, cell=[9, 9, 9], pbc=True)
    if labels:
        atoms.calc = SinglePointCalculator(atoms, energy=-14.0 + number, forces=FORCES)
    return atoms


@pytest.mark.parametrize("prefix", ["REF_", "dft_"])
def test_labels_with_a_prefix(tmp_path, prefix):
    atoms = build_frame(0, labels=False)
    atoms.info[f"{prefix}energy"], atoms.arrays[f"{prefix}forces"] = -3.5, FORCES
    ase.io.write(tmp_path / "a.extxyz", atoms)
    [structure] = read_forces_dataset(tmp_path / "a.extxyz")
    assert structure.energy == -3.5
    np.testing.assert_array_equal(structure.forces, FORCES)
    assert structure.provenance["labels"] == f"{prefix}energy, {prefix}forces"
    assert set(structure.atoms.arrays) == {"numbers", "positions"}


def test_forces_in_the_words_of_quip(tmp_path):
    """An array "force" and a key "energy", which ASE knows; units that a frame names are read."""
    atoms = build_frame(0, labels=False)
    atoms.info["energy"], atoms.arrays["force"] = -3.5, FORCES
    path = tmp_path / "a.xyz"
    ase.io.write(path, atoms, format="extxyz")
    [structure] = read_forces_dataset(path)
    assert structure.energy == -3.5
    np.testing.assert_array_equal(structure.forces, FORCES)
    assert structure.provenance["labels"] == "energy, force"
    assert set(structure.atoms.arrays) == {"numbers", "positions"}
    for unit, told in (("eV/Angstrom", None), ("Hartree/Bohr", "got force_unit=Hartree/Bohr; exp")):
        atoms.info["force_unit"] = unit
        ase.io.write(path, atoms, format="extxyz")
        if told is None:
            assert len(read_forces_dataset(path)) == 1
            continue
        with pytest.raises(DataError, match=told):
            read_forces_dataset(path)


def test_of_two_prefixes_only_that_of_references_is_chosen(tmp_path):
    """MACE's REF_ stands beside what a model says; of others none is known to be right."""
    atoms = build_frame(0, labels=False)
    for prefix, energy in (("mace_", -9.9), ("dft_", -3.5)):
        atoms.info[f"{prefix}energy"], atoms.arrays[f"{prefix}forces"] = energy, FORCES
    ase.io.write(tmp_path / "a.extxyz", atoms)
    with pytest.raises(DataError, match=r"labels with the prefixes \['mace_', 'dft_'\].* rename"):
        read_forces_dataset(tmp_path / "a.extxyz")
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -4.5, FORCES
    ase.io.write(tmp_path / "b.extxyz", atoms)
    [structure] = read_forces_dataset(tmp_path / "b.extxyz")
    assert structure.energy == -4.5
    assert structure.provenance["labels"] == "REF_energy, REF_forces"


def test_usual_keys_come_before_others(tmp_path):
    atoms = build_frame(0)
    atoms.info["REF_energy"], atoms.arrays["REF_forces"] = -3.5, 2 * FORCES
    ase.io.write(tmp_path / "a.extxyz", atoms)
    assert read_forces_dataset(tmp_path / "a.extxyz")[0].energy == -14.0


@pytest.mark.parametrize("name", ["t.extxyz", "t.traj", "t.db"])
def test_frames_without_labels_are_left_out(tmp_path, name):
    frames = [build_frame(k, labels=k not in (1, 3)) for k in range(5)]
    ase.io.write(tmp_path / name, frames)
    with pytest.warns(UnusualDataWarning, match="got 2 structures without energy or forces"):
        structures = read_forces_dataset(tmp_path / name)
    assert [s.name for s in structures] == ["t_00000", "t_00002", "t_00004"]
    assert structures[0].provenance["unusual"] == {"frames_without_labels": 2.0}


def end_loops(path, *ends):
    """Put before the forces of every step of an OUTCAR how its electronic loop ended."""
    parts = path.read_text().split(" POSITION ")
    lines = [f" --- aborting loop {end} ---\n" if end else "" for end in ends]
    pieces = [f"{line} POSITION {part}" for line, part in zip(lines, parts[1:], strict=True)]
    path.write_text(parts[0] + "".join(pieces))


@pytest.mark.parametrize("name", ["OUTCAR", "vasprun.xml", "vaspout.h5"])
def test_runs_of_band_structures_have_no_labels(tmp_path, name):
    """ICHARG = 11: the density is not that of these k-points."""
    path = tmp_path / name
    if name == "vaspout.h5":
        test_readers.TestVaspout().write(path)
        with h5py.File(path, "a") as file:
            file["input/incar/ICHARG"] = 11
    else:
        kind, first, said = {
            "OUTCAR": (test_readers.TestOutcar, "   ISPIN", "   ICHARG =     11    charge: \n"),
            "vasprun.xml": (test_readers.TestVasprun, "<kpoints>", '<i name="ICHARG">    11</i>\n'),
        }[name]
        kind().write(path)
        path.write_text(path.read_text().replace(first, said + first, 1))
    with pytest.raises(DataError, match=r"2 steps, none with converged .*ICHARG = 11"):
        read_forces_dataset(path)


@pytest.mark.parametrize("value", [np.int8(1), b".TRUE."])
def test_a_vaspout_with_a_force_field(tmp_path, value):
    """It does not say which of its steps the force field has predicted."""
    path = tmp_path / "vaspout.h5"
    test_readers.TestVaspout().write(path)
    with h5py.File(path, "a") as file:
        file["input/incar/ML_LMLFF"] = value
    with pytest.raises(DataError, match=r"a force field \(ML_LMLFF\); .* Give ML_AB, or OUTCAR"):
        read_forces_dataset(path)


def test_last_step_without_a_structure_in_a_vaspout(tmp_path):
    """Relaxations of VASP 6.5 end so: the others are aligned from the first."""
    path = tmp_path / "vaspout.h5"
    test_readers.TestVaspout().write(path)
    expected = read_forces_dataset(path)
    with h5py.File(path, "a") as file:
        steps = file["intermediate/ion_dynamics"]
        for name in ("position_ions", "lattice_vectors"):
            kept = steps[name][:-1]
            del steps[name]
            steps[name] = kept
    with pytest.warns(UnusualDataWarning, match="1 structures without energy or forces"):
        [found] = read_forces_dataset(path)
    assert found.energy == expected[0].energy
    np.testing.assert_array_equal(found.atoms.positions, expected[0].atoms.positions)


def test_dynamics_in_a_vaspout(tmp_path):
    """Its free energy has another tag."""
    path = tmp_path / "vaspout.h5"
    test_readers.TestVaspout().write(path)
    expected = read_forces_dataset(path)
    with h5py.File(path, "a") as file:
        steps = file["intermediate/ion_dynamics"]
        tags = [tag.replace(b"free energy ", b"ion-electron ") for tag in steps["energies_tags"]]
        del steps["energies_tags"]
        steps["energies_tags"] = tags
    found = read_forces_dataset(path)
    assert [s.energy for s in found] == [s.energy for s in expected]


@pytest.mark.parametrize("second", ["EDIFF was not reached (unconverged)", ""])
def test_steps_of_an_outcar(tmp_path, second):
    """VASP 6 tells both ends of the loop, VASP 5 only the good one."""
    path = tmp_path / "OUTCAR"
    test_readers.TestOutcar().write(path)
    end_loops(path, "because EDIFF is reached", second)
    with pytest.warns(UnusualDataWarning, match="1 steps whose electronic loop has not converged"):
        [structure] = read_forces_dataset(path)
    assert structure.energy == pytest.approx(test_readers.STEPS[0]["free_energy"])
    test_readers.TestOutcar().write(path)
    end_loops(path, second or "EDIFF was not reached", "EDIFF was not reached")
    with pytest.raises(DataError, match="2 steps, none with converged electrons"):
        read_forces_dataset(path)


def test_steps_of_a_vasprun(tmp_path):
    """As many electronic steps as NELM allows: not converged."""
    path = tmp_path / "vasprun.xml"
    test_readers.TestVasprun().write(path)
    nelm = '<parameters><i type="int" name="NELM">     2</i></parameters><kpoints>'
    first, second, third = path.read_text().replace("<kpoints>", nelm).split("<scstep>")
    path.write_text(f"{first}<scstep>{second}<scstep></scstep>\n<scstep>{third}")
    with pytest.warns(UnusualDataWarning, match="electronic loop has not converged"):
        [structure] = read_forces_dataset(path)
    assert structure.name == "vasprun_00000"


def test_steps_of_a_vaspout(tmp_path):
    path = tmp_path / "vaspout.h5"
    test_readers.TestVaspout().write(path)
    with h5py.File(path, "a") as file:
        file["intermediate/ion_dynamics/electronic_step_converged"] = np.array([[1.0], [0.0]])
    with pytest.warns(UnusualDataWarning, match="electronic loop has not converged"):
        [structure] = read_forces_dataset(path)
    assert structure.name == "vaspout_00001"


@pytest.mark.parametrize(
    ("name", "formula", "energy"),
    [("OUTCAR_example_1", "Ni18", -68.22868532), ("vasprun_dfpt.xml", "ClNa", -6.74587304)],
)
def test_genuine_outputs_of_vasp(name, formula, energy):
    """Those that come with ASE; the second has 80 electronic steps of several loops."""
    path = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / name
    if not path.is_file():
        pytest.skip(f"no {path}")
    [structure] = read_forces_dataset(path)
    assert structure.atoms.get_chemical_formula() == formula
    assert structure.energy == pytest.approx(energy, abs=1e-8)
    assert np.abs(structure.forces.sum(axis=0)).max() < 1e-3


def test_names_that_repeat_get_numbers(tmp_path):
    frames = [build_frame(k) for k in range(3)]
    for atoms, name in zip(frames, ("slab", "slab", "bulk"), strict=True):
        atoms.info["name"] = name
    ase.io.write(tmp_path / "a.extxyz", frames)
    names = [structure.name for structure in read_forces_dataset(tmp_path / "a.extxyz")]
    assert names == ["slab_00000", "slab_00001", "bulk"]
