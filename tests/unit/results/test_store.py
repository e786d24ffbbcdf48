from dataclasses import dataclass, field

import h5py
import numpy as np
import pytest
from ase.build import bulk

from mlepi.errors import DataError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.results import (
    ResultsStore,
    hash_data,
    hash_file,
    read_hamiltonian,
    unit,
    write_hamiltonian,
)
from mlepi.results.hdf5 import write_record
from mlepi.results.provenance import collect_provenance
from mlepi.structures.basis import OrbitalBasis


@dataclass(frozen=True)
class Inner:
    values: np.ndarray = field(metadata=unit("eV"))


@dataclass(frozen=True)
class Example:
    atoms: object
    inner: Inner
    table: dict
    name: str
    labels: tuple[str, ...]
    numbers: tuple[int, ...]
    count: int
    ratio: float = field(metadata=unit("Å"))
    flag: bool = True
    missing: float | None = None
    spectrum: np.ndarray | None = field(default=None, metadata=unit("1/eV"))


def example(scale=1.0):
    atoms = bulk("Si")
    atoms.arrays["layer"] = np.array([0, 1])
    atoms.set_masses([28.0, 29.5])
    return Example(
        atoms,
        Inner(np.arange(3.0) * scale),
        {"a": np.eye(2), "b": np.array([1, 2])},
        "K′ point, 0 → 1",
        ("Γ", "M"),
        (6, 6, 1),
        3,
        0.5,
        False,
        None,
        np.ones((2, 2)) * 1j,
    )


def test_record_round_trip_with_units(tmp_path):
    store = ResultsStore(tmp_path / "run")
    record = example()
    store.write("phonon", record, "digest", {"commit": "x"})
    read = store.read("phonon", Example)
    assert (read.name, read.labels, read.numbers, read.count, read.ratio) == (
        record.name,
        record.labels,
        record.numbers,
        record.count,
        record.ratio,
    )
    assert read.flag is False
    assert read.missing is None
    np.testing.assert_array_equal(read.inner.values, record.inner.values)
    np.testing.assert_array_equal(read.table["b"], [1, 2])
    np.testing.assert_array_equal(read.spectrum, record.spectrum)
    assert read.atoms == record.atoms
    np.testing.assert_array_equal(read.atoms.arrays["layer"], [0, 1])
    np.testing.assert_array_equal(read.atoms.get_masses(), [28.0, 29.5])
    with h5py.File(store.path) as file:
        assert file["phonon/record/spectrum"].attrs["unit"] == "1/eV"
        assert file["phonon/record/atoms/positions"].attrs["unit"] == "Å"
    assert store.provenance("phonon") == {"commit": "x"}
    assert store.inputs("phonon") == "digest"
    assert store.stages() == ("phonon",)


def test_content_digest_knows_the_numbers_and_nothing_else(tmp_path):
    a, b = ResultsStore(tmp_path / "a"), ResultsStore(tmp_path / "b")
    first = a.write("s", example(), "1", {})
    assert b.write("s", example(), "2", {"other": 1}) == first
    assert b.write("s", example(2.0), "2", {}) != first


def test_records_that_rest_on_a_changed_one_are_dropped(tmp_path):
    store = ResultsStore(tmp_path)
    store.write("structure", example(), "1", {})
    store.write("phonon", example(), "1", {})
    store.write("structure", example(), "2", {}, drop=["phonon"])
    assert set(store.stages()) == {"phonon", "structure"}
    store.write("structure", example(3.0), "2", {}, drop=["phonon"])
    assert store.stages() == ("structure",)


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    store = ResultsStore(tmp_path)
    store.write("structure", example(), "1", {})
    before = store.path.read_bytes()
    with pytest.raises(
        DataError,
        match=r"field .*values: got set; expected arrays, numbers, texts, Atoms or records",
    ):
        store.write("phonon", Inner({1, 2}), "1", {})
    assert store.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["results.h5"]


def test_damage_is_one_data_error(tmp_path):
    store = ResultsStore(tmp_path)
    with pytest.raises(
        DataError, match=r"results.h5: got no such file; expected the records of a run"
    ):
        store.read("phonon", Example)
    store.write("phonon", example(), "1", {})
    with pytest.raises(
        DataError,
        match=r"got no record 'sampling'; expected one of \['phonon'\]. Run stage=sampling first",
    ):
        store.read("sampling", Example)
    with h5py.File(store.path, "r+") as file:
        file["phonon/record/inner/values"][1] = 7.0
    with pytest.raises(DataError, match=r"got numbers that do not match their checksum"):
        store.read("phonon", Example)
    store.path.write_bytes(store.path.read_bytes()[:500])
    for action in (
        lambda: store.read("phonon", Example),
        lambda: store.inputs("phonon"),
        store.stages,
    ):
        with pytest.raises(
            DataError,
            match=(
                r"results.h5: got a damaged file .*; expected the records of a run. Delete the "
                r"file"
            ),
        ):
            action()


def test_foreign_format_and_missing_field(tmp_path):
    store = ResultsStore(tmp_path)
    store.write("phonon", Inner(np.zeros(2)), "1", {})
    with pytest.raises(DataError, match=r"got no field 'atoms'; expected the fields of Example"):
        store.read("phonon", Example)
    with h5py.File(store.path, "r+") as file:
        file.attrs["format"] = 99
    with pytest.raises(
        DataError, match=r"\(format 99\); this is mlepi .*, which reads up to format 2"
    ):
        store.read("phonon", Inner)


def test_record_refuses_objects(tmp_path):
    with (
        h5py.File(tmp_path / "x.h5", "w") as file,
        pytest.raises(DataError, match=r"got list; expected arrays"),
    ):
        write_record(file, Inner([1, 2]))


def test_hashes(tmp_path):
    assert hash_data({"a": 1, "b": [1, 2]}) == hash_data({"b": (1, 2), "a": 1})
    assert hash_data({"a": 1}) != hash_data({"a": 2})
    with pytest.raises(
        DataError, match=r"stage inputs: got .*not JSON serializable; expected plain JSON-able data"
    ):
        hash_data({"a": np.zeros(2)})
    (tmp_path / "f").write_bytes(b"mlepi")
    assert len(hash_file(tmp_path / "f")) == 64
    with pytest.raises(
        DataError, match=r"missing: got No such file or directory; expected a readable file"
    ):
        hash_file(tmp_path / "missing")


def test_provenance_names_versions_and_commit():
    provenance = collect_provenance({"n_samples": 3}, {"a": 1}, 7, code="f00d")
    assert provenance["code"] == "f00d"
    assert provenance["seed"] == 7
    assert provenance["config"] == {"n_samples": 3}
    assert provenance["packages"]["phonopy"].startswith("4.10")


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
