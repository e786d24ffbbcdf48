"""S of augmented waves: GPAW's own, the limit of two centres, and what a table must be.

Nothing is fitted: the table is made of radial functions of single atoms (tests/data/gpaw_bn).
"""

import dataclasses
import functools
import json
import re

import h5py
import numpy as np
import pytest
from ase import Atoms
from augmented_tables import RUN, gaussian_augmented_table, gpaw_table
from tiny_networks import BASIS, corrugated_bilayer

from mlepi.commands.overlaps import main
from mlepi.errors import DataError, StructureError
from mlepi.graphs.augmented_pairs import compute_augmented_overlaps, find_augmented_pairs
from mlepi.graphs.block_pairs import find_pairs, list_pairs
from mlepi.graphs.overlap_labels import complete_overlaps, measure_augmented_errors
from mlepi.physics import overlaps
from mlepi.physics.overlaps import (
    AugmentedOverlapTable,
    compute_augmented_blocks,
    compute_overlap_blocks,
    read_augmented_orbitals,
    read_overlap_table,
    rebuild_overlaps,
    write_overlap_table,
)
from mlepi.structures import write_hamiltonian_dataset
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.kmesh_files import read_kmesh

pytestmark = pytest.mark.filterwarnings("ignore::mlepi.errors.UnusualDataWarning")


def basis_of(table):
    return OrbitalBasis(table.shells, table.radii, dict.fromkeys(table.shells, ""))


def kpoints(mesh):
    return np.array(list(np.ndindex(*mesh))) / mesh


def test_overlaps_are_those_that_gpaw_computed():
    """Boron nitride, one atom displaced, S(k) of GPAW 26.7.0: 0.077 off without augmentation."""
    table, structure = gpaw_table(), read_kmesh(RUN, 0)
    matrix = compute_augmented_overlaps(structure.atoms, table, basis_of(table))
    points = kpoints(structure.provenance["mesh"])
    theirs = np.load(RUN / "bn_over_0.npy")
    assert np.abs(matrix.dense_many(points) - theirs).max() < 2e-7
    pairs = find_augmented_pairs(structure.atoms, table)
    direct = compute_overlap_blocks(
        table.table, structure.atoms.numbers, pairs.edge_index, pairs.vectors
    )
    alone = dataclasses.replace(matrix, blocks=direct[:, :4, :4])
    assert np.abs(alone.dense_many(points) - theirs).max() > 0.05


def test_overlaps_of_the_labels_are_compared_as_their_mesh_folds_them():
    table, structure = gpaw_table(), read_kmesh(RUN, 0)
    errors = measure_augmented_errors(table, [structure])
    assert errors.largest < 2e-7
    assert errors.n_blocks == structure.edge_index.shape[1]
    assert set(errors.by_pair) == {(5, 5), (5, 7), (7, 7)}
    changed = structure.overlap_blocks.copy()
    changed[3, 0, 0] += 0.01
    other = dataclasses.replace(structure, overlap_blocks=changed)
    assert measure_augmented_errors(table, [other]).largest == pytest.approx(0.01, abs=1e-6)
    with pytest.raises(DataError, match="no overlaps"):
        measure_augmented_errors(table, [dataclasses.replace(structure, overlap_blocks=None)])


def test_labels_without_overlaps_get_them_on_their_edges():
    table, structure = gpaw_table(), read_kmesh(RUN, 0)
    bare = dataclasses.replace(structure, overlap_blocks=None)
    found = complete_overlaps(bare, table).overlap_blocks
    lengths = np.linalg.norm(
        structure.atoms.positions[structure.edge_index[0]]
        + structure.edge_cell_shift @ structure.atoms.cell.array
        - structure.atoms.positions[structure.edge_index[1]],
        axis=1,
    )
    near = lengths < 4.0  # what the mesh folds is further
    assert np.abs(found - structure.overlap_blocks)[near].max() < 1e-4


def test_a_third_atom_changes_the_overlap_of_two():
    table = gpaw_table()
    atoms = Atoms("B2N", [[0, 0, 0], [2.5, 0, 0], [1.25, 0.72, 0]], cell=[30] * 3, pbc=True)
    blocks = []
    for structure in (atoms, atoms[:2]):
        matrix = compute_augmented_overlaps(structure, table, basis_of(table))
        pair = find_pairs(
            list_pairs(matrix.edge_index, matrix.edge_cell_shift), np.array([[0, 1, 0, 0, 0]])
        )
        blocks.append(matrix.blocks[pair[0]])
    assert np.abs(blocks[0] - blocks[1]).max() > 2e-3


def test_without_corrections_overlaps_are_two_centre():
    atoms, full = corrugated_bilayer(), gaussian_augmented_table()
    zero = {z: 0.0 * m for z, m in full.corrections.items()}
    table = dataclasses.replace(full, corrections=zero)
    pairs = find_augmented_pairs(atoms, table)
    found = compute_augmented_blocks(table, atoms.numbers, pairs, BASIS.max_orbitals)
    size = table.table.max_orbitals
    direct = compute_overlap_blocks(
        table.table, atoms.numbers, pairs.edge_index, pairs.vectors, size
    )
    np.testing.assert_array_equal(found, direct[:, :5, :5])
    assert np.abs(direct[:, 5:]).max(initial=0.0) == 0.0


def test_overlaps_are_symmetric_and_turn_with_no_choice_of_cell():
    atoms, table = corrugated_bilayer(), gaussian_augmented_table()
    matrix = compute_augmented_overlaps(atoms, table, BASIS)
    table_of_pairs = list_pairs(matrix.edge_index, matrix.edge_cell_shift)
    back = list_pairs(matrix.edge_index[::-1], -matrix.edge_cell_shift)
    rows = find_pairs(table_of_pairs, back)
    assert (rows >= 0).all()
    reverse = matrix.blocks[rows].transpose(0, 2, 1)
    np.testing.assert_allclose(matrix.blocks, reverse, atol=1e-14)
    moved = atoms.copy()
    moved.positions[3] += atoms.cell[0] - 2 * atoms.cell[1]
    k = np.zeros(3)
    other = compute_augmented_overlaps(moved, table, BASIS)
    np.testing.assert_allclose(matrix.dense(k), other.dense(k), atol=1e-13)


def test_tables_travel_by_file_and_as_plain_data(tmp_path):
    table = gaussian_augmented_table()
    write_overlap_table(tmp_path / "t.h5", table, {"code": "test"})
    for other in (read_overlap_table(tmp_path / "t.h5"), rebuild_overlaps(table.to_dict())):
        assert isinstance(other, AugmentedOverlapTable)
        assert other.shells == BASIS.shells
        np.testing.assert_array_equal(other.corrections[6], table.corrections[6])
        np.testing.assert_array_equal(other.slopes[7], table.slopes[7])
        np.testing.assert_array_equal(other.table.values[6, 1007], table.table.values[6, 1007])
    with h5py.File(tmp_path / "t.h5", "a") as file:
        assert file["augmentation/slopes/6"].attrs["unit"] == "1/Å"
        file["augmentation/corrections/6"][0, 0] += 1e-6
    with pytest.raises(DataError, match="do not match the checksum"):
        read_overlap_table(tmp_path / "t.h5")


def test_what_is_no_table_is_refused(tmp_path):
    table = gaussian_augmented_table()
    lopsided = {**table.corrections, 6: np.triu(table.corrections[6])}
    with pytest.raises(DataError, match=r"ΔO of element 6: .*expected a symmetric matrix of shape"):
        dataclasses.replace(table, corrections=lopsided)
    with pytest.raises(DataError, match="expected an antisymmetric matrix of shape"):
        dataclasses.replace(table, slopes={z: m**2 for z, m in table.slopes.items()})
    with pytest.raises(DataError, match="expected one set of elements"):
        dataclasses.replace(table, slopes={6: table.slopes[6]})
    with pytest.raises(DataError, match="without valid"):
        rebuild_overlaps({**table.to_dict(), "slopes": None})
    with pytest.raises(StructureError, match=r"atomic numbers \[8\]"):
        find_augmented_pairs(Atoms("O", cell=[9] * 3, pbc=True), table)


def test_the_command_tabulates_what_gpaw_says(tmp_path, monkeypatch, capsys):
    few = functools.partial(read_augmented_orbitals, n_grid=129)
    monkeypatch.setattr(overlaps, "read_augmented_orbitals", few)
    structure = read_kmesh(RUN, 0)
    structure.atoms.set_array("layer", np.zeros(2, dtype=int))
    write_hamiltonian_dataset(tmp_path / "bn.h5", [structure], {})
    path, out = str(RUN / "orbitals.json"), str(tmp_path / "t.h5")
    assert main([path, "--like", str(tmp_path / "bn.h5"), "--out", out]) == 0
    told = capsys.readouterr().out
    assert "N orbitals of gpaw 26.7.0: shells [0, 1], radius 3.2081 Å" in told
    assert float(re.search(r"largest error (\S+)", told).group(1)) < 1e-6
    assert read_overlap_table(out).shells == {5: (0, 1), 7: (0, 1)}
    with pytest.raises(DataError, match="got 2 files"):
        main([path, path, "--out", str(tmp_path / "u.h5")])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda e: e.pop("slopes"), "a damaged file"),
        (lambda e: e["orbitals"].update(radius=-1.0), "within -1.0 Bohr"),
        (lambda e: e["projectors"].update(values=[[0.0] * 5] * 5), "norms"),
        (lambda e: e["projectors"].update(shells=[0]), "values"),
    ],
)
def test_damaged_orbitals_are_refused(tmp_path, change, text):
    content = json.loads((RUN / "orbitals.json").read_text())
    change(content["elements"]["N"])
    (tmp_path / "orbitals.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=text):
        read_augmented_orbitals(tmp_path / "orbitals.json")
