"""Structure and force files through ASE: one message for everything that cannot be used."""

from __future__ import annotations

import dataclasses

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlepi.errors import DataError, StructureError
from mlepi.structures import (
    LabelledStructure,
    build_graphene,
    read_forces_dataset,
    read_structure,
    write_extxyz,
)


def build_labels(name: str = "one", **changes) -> LabelledStructure:
    atoms = build_graphene("AB")
    forces = np.random.default_rng(0).standard_normal((4, 3))
    labels = LabelledStructure(
        name, atoms, energy=-635.28, forces=forces, fermi_energy=-0.3, provenance={"kind": "slide"}
    )
    return dataclasses.replace(labels, **changes)


@pytest.mark.parametrize("name", ["POSCAR", "graphene.cif", "graphene.extxyz", "graphene.xsf"])
def test_structures_of_many_formats(tmp_path, name):
    atoms = build_graphene("AB")
    ase.io.write(tmp_path / name, atoms)
    read = read_structure(tmp_path / name)
    assert read.get_chemical_formula() == "C4"
    assert np.allclose(read.cell.cellpar(), atoms.cell.cellpar(), atol=1e-3)
    assert np.allclose(
        read.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-3
    )
    assert read.pbc.all()
    assert read.calc is None


def test_supplied_layers_and_the_last_frame_are_kept(tmp_path):
    first, last = build_graphene("AA"), build_graphene("AB")
    last.set_array("layer", np.array([1, 1, 0, 0]))
    last.pbc = [True, True, False]
    ase.io.write(tmp_path / "two.extxyz", [first, last])
    read = read_structure(tmp_path / "two.extxyz")
    assert read.arrays["layer"].tolist() == [1, 1, 0, 0]
    assert np.allclose(read.positions, last.positions)
    assert read.pbc.all()


def test_unusable_structures(tmp_path):
    with pytest.raises(DataError, match=r"none\.cif: got no such file"):
        read_structure(tmp_path / "none.cif")
    (tmp_path / "noise.cif").write_text("no structure\n")
    (tmp_path / "noise.unknown").write_bytes(b"\0\1\2")
    (tmp_path / "empty.extxyz").write_text("")
    for name in ("noise.cif", "noise.unknown", "empty.extxyz"):
        with pytest.raises(
            DataError,
            match=f"{name}: got an unreadable file .*expected a structure in a format that ASE",
        ):
            read_structure(tmp_path / name)
    ase.io.write(tmp_path / "molecule.xyz", Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]]))
    with pytest.raises(StructureError, match=r"no periodic cell; expected three lattice vectors"):
        read_structure(tmp_path / "molecule.xyz")
    ase.io.write(
        tmp_path / "sheet.extxyz", Atoms("C", cell=[2.46, 2.46, 0.0], pbc=[True, True, False])
    )
    with pytest.raises(StructureError, match="a slab needs vacuum along the third"):
        read_structure(tmp_path / "sheet.extxyz")
    ase.io.write(tmp_path / "nothing.extxyz", Atoms(cell=np.eye(3), pbc=True))
    with pytest.raises(StructureError, match="no atoms"):
        read_structure(tmp_path / "nothing.extxyz")
    (tmp_path / "nan.extxyz").write_text(
        '1\nLattice="2 0 0 0 2 0 0 0 2" Properties=species:S:1:pos:R:3\nC nan 0 0\n'
    )
    with pytest.raises(StructureError, match="positions or a cell that are not finite"):
        read_structure(tmp_path / "nan.extxyz")


def test_extxyz_without_labels(tmp_path):
    atoms = build_graphene("AB")
    ase.io.write(tmp_path / "bare.extxyz", atoms)
    with pytest.raises(
        DataError,
        match=r"bare\.extxyz, structure 0: got no labels; expected an energy and forces",
    ):
        read_forces_dataset(tmp_path / "bare.extxyz")
    atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    ase.io.write(tmp_path / "energy.extxyz", atoms)
    with pytest.raises(
        DataError, match=r"got only \['energy'\]; .*keys must be `energy` and `forces`"
    ):
        read_forces_dataset(tmp_path / "energy.extxyz")


@pytest.mark.parametrize(("energy", "force"), [(np.nan, 0.0), (1.0, np.nan), (1.0, np.inf)])
def test_labels_that_are_not_finite(tmp_path, energy, force):
    atoms = build_graphene("AB")
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.full((4, 3), force))
    ase.io.write(tmp_path / "data.extxyz", atoms)
    with pytest.raises(
        DataError,
        match=r"a value that is not finite; expected an energy and \(4, 3\) finite forces",
    ):
        read_forces_dataset(tmp_path / "data.extxyz")


def test_unusable_force_files(tmp_path):
    with pytest.raises(DataError, match=r"none\.extxyz: got no such file"):
        read_forces_dataset(tmp_path / "none.extxyz")
    for name, expected in (
        ("OUTCAR", "an OUTCAR of VASP"),
        ("vasprun.xml", "a file in ASE's format 'vasp-xml'"),
        ("data.extxyz", "a file in ASE's format 'extxyz'"),
    ):
        (tmp_path / name).write_text("nothing of use\n")
        with pytest.raises(
            DataError, match=f"{name}: got an unreadable file .*; expected {expected}"
        ):
            read_forces_dataset(tmp_path / name)
    molecule = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]])
    molecule.calc = SinglePointCalculator(molecule, energy=1.0, forces=np.zeros((2, 3)))
    ase.io.write(tmp_path / "molecule.extxyz", molecule)
    with pytest.raises(StructureError, match="no periodic cell"):
        read_forces_dataset(tmp_path / "molecule.extxyz")
    with pytest.raises(DataError, match="two structures of one name"):
        write_and_read(tmp_path / "double.extxyz", [build_labels(), build_labels()])


def test_empty_extxyz(tmp_path):
    (tmp_path / "data.extxyz").write_text("")
    with pytest.raises(DataError, match=r"data\.extxyz: got "):
        read_forces_dataset(tmp_path / "data.extxyz")


def write_and_read(path, structures):
    write_extxyz(path, structures)
    return read_forces_dataset(path)


def test_all_digits_of_the_energy(tmp_path):
    energies = [-1 / 3, -5716.163736164868, 1e-17]
    read = write_and_read(
        tmp_path / "e.extxyz", [build_labels(f"s{k}", energy=e) for k, e in enumerate(energies)]
    )
    assert [structure.energy for structure in read] == energies


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "0001"},
        {"name": "T"},
        {"provenance": {"code": "7"}},
        {"provenance": {"energy": 3.0}},
        {"provenance": {"pbc": "yes"}},
    ],
)
def test_keys_that_would_change_are_refused(tmp_path, changes):
    with pytest.raises(DataError, match="expected a name and provenance that extxyz can hold"):
        write_extxyz(tmp_path / "data.extxyz", [build_labels(**changes)])
    assert list(tmp_path.iterdir()) == []


def test_structures_without_labels_are_not_written(tmp_path):
    for missing in ({"energy": None}, {"forces": None}):
        with pytest.raises(DataError, match="one: got no energy or forces; expected both"):
            write_extxyz(tmp_path / "data.extxyz", [build_labels(**missing)])


def test_writing_changes_nothing(tmp_path):
    labels = build_labels()
    write_extxyz(tmp_path / "data.extxyz", [labels])
    assert labels.atoms.calc is None
    assert labels.atoms.info == {}


def test_a_file_that_was_cut_between_structures_is_refused(tmp_path):
    path = tmp_path / "data.extxyz"
    whole = write_and_read(path, [build_labels(name) for name in ("one", "two", "three")])
    assert "n_structures" not in whole[0].provenance
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:12]))
    with pytest.raises(DataError, match="got 2 of the 3 structures that were written"):
        read_forces_dataset(path)


def test_files_that_were_written_one_after_the_other_are_one(tmp_path):
    one, two = tmp_path / "one.extxyz", tmp_path / "two.extxyz"
    write_extxyz(one, [build_labels("a")])
    write_extxyz(two, [build_labels("b"), build_labels("c")])
    both = tmp_path / "both.extxyz"
    both.write_text(one.read_text() + two.read_text())
    assert [structure.name for structure in read_forces_dataset(both)] == ["a", "b", "c"]
    both.write_text("".join(both.read_text().splitlines(keepends=True)[:12]))
    with pytest.raises(DataError, match="got 1 of the 2 structures that were written"):
        read_forces_dataset(both)


def test_a_key_of_others_is_kept(tmp_path):
    path = tmp_path / "theirs.extxyz"
    atoms = build_graphene("AB")
    atoms.info["n_structures"] = 7
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((4, 3)))
    ase.io.write(path, atoms)
    assert read_forces_dataset(path)[0].provenance["n_structures"] == 7


def test_a_stress_comes_back_and_a_wrong_one_is_refused(tmp_path):
    """ASE's sign and unit, in its order xx, yy, zz, yz, xz, xy or as nine numbers."""
    stress = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]]) / 100.0
    write_extxyz(tmp_path / "s.extxyz", [build_labels(stress=stress), build_labels("two")])
    one, two = read_forces_dataset(tmp_path / "s.extxyz")
    np.testing.assert_allclose(one.stress, stress, atol=1e-8)
    assert two.stress is None
    atoms = build_graphene("AB")
    atoms.calc = SinglePointCalculator(
        atoms, energy=1.0, forces=np.zeros((4, 3)), stress=np.arange(1.0, 7.0) / 100.0
    )
    ase.io.write(tmp_path / "six.extxyz", atoms)
    np.testing.assert_allclose(read_forces_dataset(tmp_path / "six.extxyz")[0].stress, stress)
    atoms.calc.results["stress"] = np.full(6, np.nan)
    ase.io.write(tmp_path / "nan.extxyz", atoms)
    with pytest.raises(DataError, match=r"a stress of shape .*expected 6 or 9 finite numbers"):
        read_forces_dataset(tmp_path / "nan.extxyz")
