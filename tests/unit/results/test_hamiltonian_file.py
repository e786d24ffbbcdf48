"""One Hamiltonian in one file: it comes back whole, or not at all."""

import json
from importlib.metadata import version

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from old_runs import unpack_run

from mlepi.errors import DataError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.results import read_hamiltonian, write_hamiltonian
from mlepi.structures.basis import OrbitalBasis

BASIS = OrbitalBasis({14: (0,)}, {14: 2.0}, {14: "toy"})


def one_atom():
    edges, shift = np.zeros((2, 1), dtype=np.int64), np.zeros((1, 3), dtype=np.int64)
    return BlockMatrix(np.array([14]), BASIS, edges, shift, np.ones((1, 1, 1)))


def chain(n=3, size=1.0):
    """A ring of atoms with hoppings to both sides over the boundary of the cell."""
    atoms = Atoms("Si" * n, [[2.0 * i, 0, 0] for i in range(n)], cell=[2.0 * n, 9, 9], pbc=True)
    atoms.arrays["layer"] = np.arange(n)
    i = np.arange(n)
    edges = np.stack([np.concatenate([i, i, i]), np.concatenate([i, (i + 1) % n, (i - 1) % n])])
    shift = np.zeros((3 * n, 3), dtype=np.int64)
    shift[2 * n - 1, 0], shift[2 * n, 0] = -1, 1
    blocks = size * np.concatenate([np.zeros(n), np.ones(2 * n)]).reshape(-1, 1, 1)
    return atoms, BlockMatrix(atoms.numbers, BASIS, edges, shift, blocks)


def test_a_hamiltonian_detects_changed_numbers(tmp_path):
    path, matrix = tmp_path / "folder" / "h.h5", one_atom()
    checksum = write_hamiltonian(path, bulk("Si")[:1], matrix, matrix, {})
    atoms, hamiltonian, _ = read_hamiltonian(path)
    assert atoms.get_chemical_formula() == "Si"
    assert hamiltonian.basis == BASIS
    assert len(checksum) == 64
    with h5py.File(path, "r+") as file:
        assert file["hamiltonian/blocks"].attrs["unit"] == "eV"
        file["hamiltonian/blocks"][0] = 2.0
    with pytest.raises(
        DataError,
        match=r"h.h5: got numbers that do not match their checksum; expected H and S as written",
    ):
        read_hamiltonian(path)
    with pytest.raises(DataError, match=r"none.h5: got no such file"):
        read_hamiltonian(tmp_path / "none.h5")


def test_structure_and_both_matrices_come_back(tmp_path):
    atoms, hamiltonian = chain(size=-2.7)
    _, overlap = chain(size=0.1)
    write_hamiltonian(tmp_path / "h.h5", atoms, hamiltonian, overlap, {"seed": 3})
    again, *matrices = read_hamiltonian(tmp_path / "h.h5")
    np.testing.assert_array_equal(again.positions, atoms.positions)
    np.testing.assert_array_equal(again.cell.array, atoms.cell.array)
    np.testing.assert_array_equal(again.arrays["layer"], [0, 1, 2])
    for found, written in zip(matrices, (hamiltonian, overlap), strict=True):
        for name in ("edge_index", "edge_cell_shift", "blocks", "numbers"):
            np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    k = np.array([0.25, 0.0, 0.0])
    np.testing.assert_array_equal(matrices[0].dense(k), hamiltonian.dense(k))
    with h5py.File(tmp_path / "h.h5") as file:
        assert file.attrs["mlepi"] == version("mlepi")
        assert json.loads(file.attrs["provenance"]) == {"seed": 3}
        units = {name: file[name].attrs["unit"] for name in ("cell", "overlap/blocks", "numbers")}
    assert units == {"cell": "Å", "overlap/blocks": "1", "numbers": "1"}


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path, matrix = tmp_path / "h.h5", one_atom()
    write_hamiltonian(path, bulk("Si")[:1], matrix, matrix, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_hamiltonian(path, bulk("Si")[:1], matrix, matrix, {"not": {1, 2}})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["h.h5"]


def test_what_a_newer_version_wrote_is_refused(tmp_path):
    path, matrix = tmp_path / "h.h5", one_atom()
    write_hamiltonian(path, bulk("Si")[:1], matrix, matrix, {})
    with h5py.File(path, "r+") as file:
        file.attrs.update({"format": 2, "mlepi": "9.0.0"})
    with pytest.raises(
        DataError, match=r"h.h5: got data written by mlepi 9.0.0 \(format 2\); .* mlepi 9.0.0 or"
    ):
        read_hamiltonian(path)


def test_files_of_an_old_run_open(tmp_path):
    folder = unpack_run("half_done", tmp_path)
    atoms, hamiltonian, overlap = read_hamiltonian(folder / "hamiltonian.h5")
    assert (len(atoms), hamiltonian.n_orbitals) == (2, 2)
    gamma = np.linalg.eigvalsh(hamiltonian.dense(np.zeros(3)))
    np.testing.assert_allclose(gamma, [-8.1, 8.1], atol=1e-3)  # three neighbours, t = 2.7 eV
    np.testing.assert_array_equal(overlap.dense(np.zeros(3)), np.eye(2))
    samples = sorted((folder / "hamiltonians").iterdir())
    assert len(samples) == 3
    assert {len(read_hamiltonian(path)[0]) for path in samples} == {18}
