"""S of every structure from a folder or a program, where no table can give it."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from tiny_networks import BASIS, CUTOFFS, build_network, corrugated_bilayer, gaussian_overlap_table

from mlepi.errors import DataError
from mlepi.pipeline.config_values import CHECKS, overlap_files, overlap_program
from mlepi.predictors import ElectronPredictor
from mlepi.predictors.given_overlaps import FolderOverlaps, ProgramOverlaps
from mlepi.results.provenance import hash_file
from mlepi.structures.deeph import write_deeph
from mlepi.structures.labelled_structure import LabelledStructure

K = [0.3, -0.1, 0.2]


@pytest.fixture(scope="module")
def table():
    return gaussian_overlap_table()


@pytest.fixture(scope="module")
def structures(table):
    """A bilayer and a displaced one, with the S of a table."""
    at_rest = corrugated_bilayer()
    displaced = at_rest.copy()
    displaced.rattle(0.03, seed=1)
    model = ElectronPredictor(
        build_network("electron").double(), basis=BASIS, cutoffs=CUTOFFS, overlap_table=table
    )
    return {
        name: (atoms, model.overlap(atoms))
        for name, atoms in (("rest", at_rest), ("moved", displaced))
    }


def write(folder, atoms, matrix, cells=None):
    """One DeepH folder without H, which orders atoms by element; atoms in other cells if asked."""
    steps = np.zeros((len(atoms), 3), dtype=int) if cells is None else cells
    there = atoms.copy()
    there.positions += steps @ atoms.cell.array
    source, target = matrix.edge_index
    shift = matrix.edge_cell_shift - steps[source] + steps[target]
    basis = dataclasses.replace(BASIS, radii={z: r + 1e-6 for z, r in BASIS.radii.items()})
    write_deeph(
        folder,
        LabelledStructure(
            "s", there, basis, matrix.edge_index, shift, overlap_blocks=matrix.blocks
        ),
    )
    return folder


@pytest.fixture
def folder(structures, tmp_path):
    rng = np.random.default_rng(3)
    for name, (atoms, matrix) in structures.items():
        write(tmp_path / "given" / name, atoms, matrix, rng.integers(-1, 2, (len(atoms), 3)))
    return tmp_path / "given"


def predictor(source=None):
    model = ElectronPredictor(build_network("electron").double(), basis=BASIS, cutoffs=CUTOFFS)
    model.overlap_source = source
    return model


def test_a_folder_gives_s_of_its_structures(structures, folder):
    """Files with atoms in another order and in other cells give the same Bloch sums."""
    model = predictor(FolderOverlaps(folder))
    found = model.overlaps([atoms for atoms, _ in structures.values()])
    for matrix, (_, expected) in zip(found, structures.values(), strict=True):
        np.testing.assert_allclose(matrix.dense(K), expected.dense(K), atol=1e-12)


def test_a_structure_without_s_is_told(structures, folder):
    atoms = structures["rest"][0].copy()
    atoms.positions[0, 2] += 0.02
    text = (
        r"no S of \S+ as it is predicted among 2 structures; the nearest differs by 0\.02 Å; "
        r"expected one with the same atoms within 0\.001 Å\. Compute S of every structure: "
    )
    with pytest.raises(DataError, match=text):
        predictor(FolderOverlaps(folder)).overlap(atoms)
    with pytest.raises(DataError, match=r"among 2 structures; expected"):
        predictor(FolderOverlaps(folder)).overlap(atoms.repeat((2, 1, 1)))


def test_another_basis_is_told(structures, folder):
    text = (folder / "rest" / "info.json").read_text()
    assert "0" in text
    basis = dataclasses.replace(BASIS, shells={6: (0, 1), 7: (0, 1, 0)})
    model = ElectronPredictor(build_network("electron").double(), basis=basis, cutoffs=CUTOFFS)
    model.overlap_source = FolderOverlaps(folder)
    with pytest.raises(DataError, match=r"shells \(0, 0, 1\) of element 7; expected \(0, 1, 0\)"):
        model.overlap(structures["rest"][0])


def test_without_anything_all_ways_are_named(structures):
    with pytest.raises(DataError, match=r"overlap=TABLE\.h5, overlap=FOLDER or overlap=\{program"):
        predictor().overlap(structures["rest"][0])


def test_derivatives_need_a_table(structures, folder):
    atoms = structures["rest"][0]
    with pytest.raises(DataError, match="S of every structure by itself, without its derivatives"):
        predictor(FolderOverlaps(folder)).derivatives(atoms, np.zeros((1, len(atoms), 3)))


@pytest.fixture
def program(tmp_path):
    def install(script):
        path = tmp_path / "compute_s"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return (str(path), "option")

    return install


def test_a_program_computes_s(structures, folder, program, tmp_path):
    """It sees the structure as text and leaves a folder; one structure is asked for once."""
    log = tmp_path / "calls"
    command = program(
        f'[ "$1" = option ] && grep -q Lattice "$2/structure.extxyz" && [ -f "$2/POSCAR" ]'
        f' && echo call >> {log} && cp -r {folder / "moved"} "$2/result"'
    )
    atoms, expected = structures["moved"]
    model = predictor(ProgramOverlaps(command))
    for _ in range(2):
        np.testing.assert_allclose(model.overlap(atoms).dense(K), expected.dense(K), atol=1e-12)
    assert log.read_text().split() == ["call"]
    with pytest.raises(DataError, match=r"no usable S: .* no S of .* the nearest differs"):
        model.overlap(structures["rest"][0])


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("echo no licence >&2; exit 4", "compute_s that ended with status 4: no licence"),
        ("exit 0", "no usable S: .* no structure in it"),
        ("kill -9 $$", "compute_s that ended with signal 9"),
    ],
)
def test_a_program_that_fails_is_told(structures, program, script, text):
    with pytest.raises(DataError, match=r"overlap=\{program: .*compute_s option\}: got " + text):
        predictor(ProgramOverlaps(program(script))).overlap(structures["rest"][0])


def test_a_program_that_cannot_be_started(structures):
    with pytest.raises(DataError, match="no program '/no/such'"):
        predictor(ProgramOverlaps(("/no/such",))).overlap(structures["rest"][0])


def test_the_key_of_the_configuration(tmp_path, folder):
    check, _ = CHECKS["overlap"]
    assert check(str(folder))
    assert check({"program": "ls -l"})
    assert check({"program": ["ls", "-l"]})
    for wrong in ({"program": ""}, {"program": 3}, {}, [str(folder)] * 2, str(tmp_path / "none")):
        assert not check(wrong)
    assert overlap_program({"program": "ls -l"}) == ("ls", "-l")
    assert overlap_program(str(folder)) == ()
    assert overlap_files({"program": "ls"}) == []
    assert overlap_files(str(folder)) == [str(folder)]


def test_digests_of_folders_follow_their_files(folder):
    digest = hash_file(folder)
    assert hash_file(folder) == digest
    shutil.move(folder / "moved", folder / "renamed")
    renamed = hash_file(folder)
    (folder / "rest" / "overlap.h5").write_bytes(b"")
    assert len({digest, renamed, hash_file(folder)}) == 3
