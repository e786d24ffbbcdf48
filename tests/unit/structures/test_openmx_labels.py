"""Labels in ``.npz`` files become the structures that they describe, and data sets."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.linalg
from hamiltonian_samples import slater_koster_sample

from mlepi.errors import DataError
from mlepi.graphs.block_pairs import find_pairs, list_pairs
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.structures.ase_files import read_forces_dataset
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.openmx_labels import list_label_files, read_label_file, write_data_set

SAMPLE = slater_koster_sample()
BASIS = OrbitalBasis({z: tuple(ls) for z, ls in SAMPLE.shells.items()}, SAMPLE.radii, SAMPLE.pao)


def write_labels(path, **changes):
    """Write one direction of every pair of the sample, blocks one after another."""
    pairs = [tuple(int(x) for x in pair) for pair in SAMPLE.pairs]
    kept = [
        k
        for k, (*R, i, j) in enumerate(pairs)
        if tuple(R) > (0, 0, 0) or (tuple(R) == (0, 0, 0) and i <= j)
    ]
    content = {
        "cell": SAMPLE.cell,
        "positions": SAMPLE.positions,
        "numbers": SAMPLE.numbers,
        "layer": np.array([0, 0, 1]),
        "energy": SAMPLE.energy,
        "energy_d2": -0.5,
        "forces": SAMPLE.forces,
        "fermi": SAMPLE.fermi_energy,
        "kgrid": np.array([3, 3, 1]),
        "converged": True,
        "job": json.dumps({"id": path.stem}),
        "i": SAMPLE.pairs[kept, 3].astype(np.int16),
        "j": SAMPLE.pairs[kept, 4].astype(np.int16),
        "R": SAMPLE.pairs[kept, :3].astype(np.int8),
        "H": np.concatenate([SAMPLE.hamiltonian[k].ravel() for k in kept]),
        "S": np.concatenate([SAMPLE.overlap[k].ravel() for k in kept]),
    }
    np.savez(path, **{**content, **changes})
    return path


def test_a_file_gives_the_eigenvalues_of_its_calculation(tmp_path):
    structure = read_label_file(write_labels(tmp_path / "toy_000.npz"), BASIS)
    kpoint = np.array([0.11, -0.23, 0.37])
    offsets = BASIS.offsets(SAMPLE.numbers)
    h, s = (
        bloch_sum(blocks, structure.edge_index, structure.edge_cell_shift, offsets, kpoint[None])[0]
        for blocks in (structure.hamiltonian_blocks, structure.overlap_blocks)
    )
    expected = scipy.linalg.eigvalsh(
        SAMPLE.dense(SAMPLE.hamiltonian, kpoint), SAMPLE.dense(SAMPLE.overlap, kpoint)
    )
    np.testing.assert_allclose(scipy.linalg.eigvalsh(h, s), expected, atol=1e-9)
    assert (structure.name, structure.provenance["kind"]) == ("toy_000", "toy")
    assert structure.provenance["job"] == {"id": "toy_000"}
    assert (structure.energy, structure.fermi_energy) == (SAMPLE.energy, SAMPLE.fermi_energy)


def test_files_become_a_data_set(tmp_path):
    for name in ("b_1", "a_0", "a_1"):
        write_labels(tmp_path / f"{name}.npz")
    paths = list_label_files([tmp_path])
    structures = [read_label_file(path, BASIS) for path in paths]
    kinds = write_data_set(tmp_path, structures, {"title": "toy"}, quantum=2.0**-10)
    assert kinds == {"a_0": "a", "a_1": "a", "b_1": "b"}
    dataset = HamiltonianDataset(tmp_path / "hamiltonians.h5")
    assert dataset.provenance["counts"] == {"a": 2, "b": 1}
    assert not dataset.has_overlap
    stored, given = dataset["a_1"], structures[1]
    row = find_pairs(*(list_pairs(s.edge_index, s.edge_cell_shift) for s in (stored, given)))
    difference = stored.hamiltonian_blocks[row] - given.hamiltonian_blocks
    assert 0.0 < np.abs(difference).max() <= 2.0**-11
    forces = read_forces_dataset(tmp_path / "forces.extxyz")
    assert [one.name for one in forces] == ["a_0", "a_1", "b_1"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"converged": False}, r"a calculation that has not converged"),
        ({"numbers": np.array([6, 1, 7])}, r"atomic numbers \[7\]; expected .*\[1, 6\]"),
        ({"H": np.zeros(7)}, r"7 elements of blocks; expected \d+ of this basis"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path, changes, text):
    with pytest.raises(DataError, match=text):
        read_label_file(write_labels(tmp_path / "toy_000.npz", **changes), BASIS)


def test_folders_without_or_with_equal_names_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"folders of labels: got no \.npz files"):
        list_label_files([tmp_path])
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "a_0.npz").touch()
    with pytest.raises(DataError, match=r"got \['a_0'\] twice"):
        list_label_files([tmp_path, tmp_path / "other"])
