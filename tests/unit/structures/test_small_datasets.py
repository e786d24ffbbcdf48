"""Datasets that are read as bytes are those that HDF5 reads, whatever stands among them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.structures import small_datasets
from mlepi.structures.small_datasets import read_small_datasets

RNG = np.random.default_rng(0)
BLOCKS = {f"{k}": RNG.normal(size=(1 + k % 3, 2)) for k in range(40)}


@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f8"])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_all_values_are_those_of_hdf5(tmp_path, monkeypatch, dtype, libver):
    with h5py.File(tmp_path / "a.h5", "w", libver=libver) as file:
        for name, block in BLOCKS.items():
            file[name] = block.astype(dtype)
        file["another rank"] = np.arange(3.0)
        file["integers"] = np.arange(6).reshape(3, 2)
        file["a number"] = 2.0
        file.create_dataset("packed", data=np.ones((3, 2)), chunks=(1, 2), compression=4)
        file.create_dataset("empty", shape=(3, 2), dtype=dtype)
        file.create_dataset("with attributes", data=np.ones((3, 2)), dtype=dtype)
        file["with attributes"].attrs["unit"] = "eV"
        file["linked"] = h5py.SoftLink("/7")
    alone = []
    read = small_datasets._read_one
    monkeypatch.setattr(small_datasets, "_read_one", lambda *a: alone.append(a[2]) or read(*a))
    with h5py.File(tmp_path / "a.h5") as file:
        found = dict(read_small_datasets("a.h5", file))
        assert set(found) == set(file)
        for name in file:
            np.testing.assert_array_equal(found[name], file[name][()].astype(float))
    if libver == "earliest" and dtype != ">f8":
        assert len(set(BLOCKS) & set(alone)) < 3
    assert {"integers", "packed", "a number"} <= set(alone)


def test_addresses_that_leave_the_file_are_left_to_hdf5(tmp_path):
    """One header points behind the end: nothing is read from there."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, block in BLOCKS.items():
            file[name] = block
        place = file["17"].id.get_offset()
    data = path.read_bytes()
    pointer = int(place).to_bytes(8, "little")
    assert data.count(pointer) == 1
    path.write_bytes(data.replace(pointer, int(len(data) - 8).to_bytes(8, "little")))
    with h5py.File(path) as file, pytest.raises(DataError, match="unreadable dataset '17'"):
        list(read_small_datasets("a.h5", file))
