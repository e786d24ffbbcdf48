"""One Hamiltonian in one file."""

import h5py
import numpy as np
import pytest
from ase.build import bulk

from mlepi.errors import DataError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.results import read_hamiltonian, write_hamiltonian
from mlepi.structures.basis import OrbitalBasis


def test_hamiltonian_file_detects_changed_numbers(tmp_path):
    basis = OrbitalBasis({14: (0,)}, {14: 2.0}, {14: "toy"})
    edges, shift = np.zeros((2, 1), dtype=np.int64), np.zeros((1, 3), dtype=np.int64)
    matrix = BlockMatrix(np.array([14]), basis, edges, shift, np.ones((1, 1, 1)))
    path = tmp_path / "folder" / "h.h5"
    checksum = write_hamiltonian(path, bulk("Si")[:1], matrix, matrix, {})
    atoms, hamiltonian, _ = read_hamiltonian(path)
    assert atoms.get_chemical_formula() == "Si"
    assert hamiltonian.basis == basis
    assert len(checksum) == 64
    with h5py.File(path, "r+") as file:
        assert file["hamiltonian/blocks"].attrs["unit"] == "eV"
        file["hamiltonian/blocks"][0] = 2.0
    with pytest.raises(
        DataError,
        match=r"h.h5: got numbers that do not match their checksum; expected H and S as written",
    ):
        read_hamiltonian(path)
    with pytest.raises(DataError, match=r"none.h5: got a missing or damaged file"):
        read_hamiltonian(tmp_path / "none.h5")
