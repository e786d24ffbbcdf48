"""Cards of Hamiltonians and of forces, in words and drawn."""

from __future__ import annotations

import dataclasses

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from foreign_files import foreign
from hamiltonian_samples import real_sample, write_legacy_folder

from mlepi.commands.main import main
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.card import (
    describe_forces,
    describe_hamiltonian,
    find_duplicates,
    find_shortest,
)
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.labelled_structure import LabelledStructure


def test_card_of_a_hamiltonian(tmp_path, capsys):
    folder = write_legacy_folder(tmp_path / "slide", real_sample())
    assert main(["inspect", str(folder), "--figure", str(tmp_path / "card.png")]) == 0
    shown = capsys.readouterr().out
    for words in (
        "legacy DeepH folder; 1 sources",
        "slide: C4, 4 atoms, 32 orbitals",
        "C s s p p (3.1",
        "not Hermitian  by overlap 0.0e+00",
        "at 36 k-points",
        "Fermi energy",
    ):
        assert words in shown
    assert "unusual" not in shown
    assert (tmp_path / "card.png").stat().st_size > 1000


def test_numbers_of_the_card(tmp_path):
    sample = real_sample()
    card = describe_hamiltonian(read_deeph_legacy(write_legacy_folder(tmp_path / "a", sample)))
    gamma = np.linalg.eigvalsh(sample.dense(sample.overlap, np.zeros(3)))
    np.testing.assert_allclose(card.overlap_eigenvalues[0], gamma, atol=1e-7)
    np.testing.assert_allclose(card.levels, sample.eigenvalues(np.zeros(3)), atol=1e-6)
    assert card.n_pairs == len(sample.pairs)


def test_card_of_forces(tmp_path, capsys):
    frames = []
    for k in range(8):
        atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1 + 0.01 * k]], cell=[9, 9, 9], pbc=True)
        pull = 50.0 if k == 5 else 0.1 * k
        atoms.calc = SinglePointCalculator(
            atoms, energy=-14.0 + 0.01 * k, forces=[[0, 0, pull], [0, 0, -pull]]
        )
        frames.append(atoms)
    ase.io.write(tmp_path / "a.extxyz", [*frames, frames[2]])
    assert main(["inspect", str(tmp_path / "a.extxyz"), "--figure", str(tmp_path / "f.pdf")]) == 0
    shown = capsys.readouterr().out
    for words in ("9: CO (9)", "nearest 1.100 Å", "outliers       1: a_00005", "a_00002 = a_00008"):
        assert words in shown
    card = describe_forces(read_forces_dataset(tmp_path / "a.extxyz"))
    assert card.net_forces.max() < 1e-12
    assert card.energies.mean() == pytest.approx(0.0, abs=1e-12)


def test_what_cannot_be_inspected(tmp_path, capsys):
    sample = real_sample()
    nothing = [np.full((8, 8), np.nan)] * len(sample.pairs)
    folder = write_legacy_folder(tmp_path / "nan", dataclasses.replace(sample, overlap=nothing))
    assert main(["inspect", str(folder)]) == 1
    text = capsys.readouterr()
    assert "refused:" in text.out
    assert "nothing that can be read" in text.err
    assert main(["inspect", str(tmp_path / "absent")]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def test_structures_with_h_are_compared(tmp_path, capsys):
    """One that lies there twice, one whose levels are shifted."""
    sample = real_sample()
    shifts = np.array([0.0, 0.01, 0.02, 0.03, 0.04, 3.0])
    for k, shift in enumerate(shifts):
        blocks = [h + shift * s for h, s in zip(sample.hamiltonian, sample.overlap, strict=True)]
        moved = dataclasses.replace(
            sample, hamiltonian=blocks, positions=sample.positions + 0.1 * max(k, 1)
        )
        write_legacy_folder(tmp_path / f"s{k}", moved)
    assert main(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "duplicates     1: s0 = s1" in shown
    assert "outliers       1: s5 (lowest level)" in shown


def test_structures_alone(tmp_path, capsys):
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[8, 9, 10], pbc=True)
    ase.io.write(tmp_path / "POSCAR", atoms)
    assert main(["inspect", str(tmp_path / "POSCAR")]) == 0
    shown = capsys.readouterr().out
    for words in ("a structure, no labels", "CO, 2 atoms", "8.0000, 9.0000", "nearest atoms 1.100"):
        assert words in shown
    ase.io.write(tmp_path / "bare.extxyz", atoms)
    assert main(["inspect", str(tmp_path / "bare.extxyz")]) == 0
    shown = capsys.readouterr().out
    assert "refused: " in shown
    assert "CO, 2 atoms" in shown


def test_one_that_is_refused_does_not_hide_others(tmp_path, capsys):
    molecule = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]])
    for name, cell in (("a", None), ("b", [9, 9, 9])):
        frame = molecule.copy()
        if cell:
            frame.set_cell(cell)
            frame.pbc = True
        frame.calc = SinglePointCalculator(frame, energy=-14.0, forces=np.zeros((2, 3)))
        ase.io.write(tmp_path / f"{name}.extxyz", frame)
    assert main(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "no periodic cell" in shown
    assert "structures     1: CO (1)" in shown


def test_distances_and_duplicates_of_small_cells():
    """Atoms of a thin cell are nearest to their own images; equal positions are not equal cells."""
    thin = Atoms("C2", positions=[[0, 0, 0], [0, 0, 5]], cell=[2.5, 2.5, 10], pbc=True)
    assert find_shortest(thin) == pytest.approx(2.5)
    frames = [
        LabelledStructure(f"a{k}", Atoms("C", cell=np.eye(3) * (2.0 + 0.1 * k), pbc=True))
        for k in (0, 1, 0)
    ]
    frames[2] = dataclasses.replace(frames[2], name="again")
    assert find_duplicates(frames) == [("a0", "again")]


def test_all_genuine_files(tmp_path, capsys):
    assert main(["inspect", str(foreign("."))]) == 0
    shown = capsys.readouterr().out
    assert "refused" not in shown
    assert shown.count("  structure ") == 10
    for words in ("by up to 0.94", "energy         -7285.", "no kmesh.json", "-4.2093 eV"):
        assert words in shown
