"""Inputs for labelling.

OpenMX and VASP files that describe the structure they were written from.
"""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from toys import honeycomb

from mlepi.errors import ConfigError, DataError, StructureError
from mlepi.structures.openmx_input import (
    OpenmxSettings,
    reduce_kgrid,
    write_openmx_input,
)
from mlepi.structures.openmx_text import find_block, read_species
from mlepi.structures.vasp_input import VaspSettings, write_vasp_input

OPENMX = {
    "bases": {6: "C6.0-s2p2", 7: "N6.0-s2p2d1"},
    "pseudopotentials": {6: "C_PBE19", 7: "N_PBE19"},
    "valence_electrons": {6: 4, 7: 5},
    "functional": "GGA-PBE",
    "grid_cutoff": 200.0,
    "electronic_temperature": 300.0,
    "criterion": 1e-8,
    "dispersion": True,
    "primitive_kgrid": [18, 18, 1],
}


def displaced():
    atoms = honeycomb(bilayer=True).repeat((2, 2, 1))
    atoms.positions += 0.05 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    atoms.numbers[[1, 6]] = 7
    return atoms


def numbers_of(rows, start):
    return np.array([row[start : start + 3] for row in rows], dtype=float)


def test_openmx_input_describes_the_structure(tmp_path):
    atoms, path = displaced(), tmp_path / "label" / "sample_0003_300K.dat"
    write_openmx_input(path, atoms, OpenmxSettings(**OPENMX), (10, 10, 1))
    text = path.read_text()
    rows = find_block(text, "Atoms.SpeciesAndCoordinates")
    assert [row[1] for row in rows] == atoms.get_chemical_symbols()
    np.testing.assert_allclose(numbers_of(rows, 2), atoms.positions, atol=1e-10)
    vectors = find_block(text, "Atoms.UnitVectors")
    np.testing.assert_allclose(numbers_of(vectors, 0), atoms.cell.array, atol=1e-10)
    for line in (
        "System.Name                         sample_0003_300K",
        "scf.XcType                          GGA-PBE",
        "scf.Kgrid                           10 10 1",
        "scf.energycutoff                    200",
        "scf.ElectronicTemperature           300",
        "scf.criterion                       1.0e-08",
        "Atoms.SpeciesAndCoordinates.Unit    Ang",
        "Atoms.UnitVectors.Unit              Ang",
        "HS.fileout                          on",
        "scf.dftD                            on",
    ):
        assert line in text
    write_openmx_input(path, atoms, OpenmxSettings(**{**OPENMX, "dispersion": False}), (1, 1, 1))
    assert "version.dftD" not in path.read_text()
    species, labels = read_species(str(path), text, len(atoms))
    assert (species["C"].shells, species["C"].pao, species["N"].pseudopotential) == (
        (0, 0, 1, 1),
        "C6.0-s2p2",
        "N_PBE19",
    )
    assert labels[:2] == ["C", "N"]
    assert [row[5:] for row in rows[:2]] == [["2.0", "2.0"], ["2.5", "2.5"]]


def test_supercells_get_a_mesh_of_the_same_density():
    """The shipped data: 18×18 for one cell, 6×6 for 3×3; even."""
    assert reduce_kgrid([18, 18, 1], (1, 1, 1)) == (18, 18, 1)
    assert reduce_kgrid([18, 18, 1], (3, 3, 1)) == (6, 6, 1)
    assert reduce_kgrid([18, 18, 1], (6, 6, 1)) == (4, 4, 1)
    assert reduce_kgrid([18, 18, 1], (12, 18, 1)) == (2, 2, 1)


def test_vasp_input_describes_the_structure(tmp_path):
    atoms = displaced()
    settings = VaspSettings(
        incar={"ENCUT": 500, "LREAL": False, "EDIFF": "1E-8"}, primitive_kgrid=[18, 18, 1]
    )
    write_vasp_input(tmp_path / "sample_0003_300K", atoms, settings, (10, 10, 1))
    again = ase.io.read(tmp_path / "sample_0003_300K" / "POSCAR")
    order = np.argsort(atoms.get_chemical_symbols(), kind="stable")
    np.testing.assert_array_equal(again.numbers, atoms.numbers[order])
    np.testing.assert_allclose(again.positions, atoms.positions[order], atol=1e-9)
    incar = (tmp_path / "sample_0003_300K" / "INCAR").read_text()
    assert incar.splitlines() == [
        "SYSTEM = sample_0003_300K",
        "ENCUT = 500",
        "LREAL = .FALSE.",
        "EDIFF = 1E-8",
    ]
    assert (tmp_path / "sample_0003_300K" / "KPOINTS").read_text().splitlines()[2:4] == [
        "Gamma",
        "10 10 1",
    ]
    assert sorted(file.name for file in (tmp_path / "sample_0003_300K").iterdir()) == [
        "INCAR",
        "KPOINTS",
        "POSCAR",
    ]


def test_wrong_settings_and_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"openmx: got elements \[\[6, 7\], \[6, 7\], \[6\]\]"):
        OpenmxSettings(**{**OPENMX, "valence_electrons": {6: 4}})
    with pytest.raises(DataError, match=r"openmx\.bases: got basis name 'C'"):
        OpenmxSettings(**{**OPENMX, "bases": {6: "C", 7: "N"}})
    with pytest.raises(ConfigError, match=r"vasp\.primitive_kgrid: got \[18\]"):
        VaspSettings(incar={}, primitive_kgrid=[18])
    with pytest.raises(ConfigError, match=r"openmx\.primitive_kgrid: got \[18, 0, 1\]"):
        OpenmxSettings(**{**OPENMX, "primitive_kgrid": [18, 0, 1]})
    with pytest.raises(ConfigError, match=r"openmx\.grid_cutoff: got -200\.0; expected a positive"):
        OpenmxSettings(**{**OPENMX, "grid_cutoff": -200.0})
    atoms = honeycomb()
    atoms.numbers[0] = 14
    with pytest.raises(StructureError, match=r"a\.dat: got elements \[14\] without a basis"):
        write_openmx_input(tmp_path / "a.dat", atoms, OpenmxSettings(**OPENMX), (1, 1, 1))
    with pytest.raises(StructureError, match="a cell of rank 0"):
        write_openmx_input(tmp_path / "a.dat", Atoms("C"), OpenmxSettings(**OPENMX), (1, 1, 1))
