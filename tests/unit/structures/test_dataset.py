"""The Hamiltonian data set.

Exact round trip, lazy and picklable, and one clear message for every kind of damage.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import pickle

import h5py
import numpy as np
import pytest
from random_labels import BASIS, build_labels

from mlepi.errors import DataError
from mlepi.structures import HamiltonianDataset, OrbitalBasis, write_hamiltonian_dataset
from mlepi.structures.dataset_format import COLUMNS, PACKED, PLAIN, checksum, hash_header
from mlepi.structures.validation import check_hamiltonian_labels


@pytest.fixture
def labels():
    """Three structures of different size."""
    return [
        build_labels("a", 0),
        build_labels("b", 1, n_atoms=6),
        build_labels("ä 3", 2, n_atoms=1),
    ]


@pytest.fixture
def path(tmp_path, labels):
    write_hamiltonian_dataset(tmp_path / "data.h5", labels, {"code": "none", "k-mesh": [1, 1, 1]})
    return tmp_path / "data.h5"


@pytest.fixture
def packed(tmp_path, labels):
    write_hamiltonian_dataset(tmp_path / "packed.h5", labels, {"code": "none"}, quantum=QUANTUM)
    return tmp_path / "packed.h5"


QUANTUM = 2.0**-12


@pytest.mark.parametrize("fixture", ["path", "packed"])
def test_an_outline_is_the_structure_without_blocks(request, fixture):
    dataset = HamiltonianDataset(request.getfixturevalue(fixture))
    for full in dataset:
        outline = dataset.outline(full.name)
        assert outline.atoms == full.atoms
        np.testing.assert_array_equal(outline.atoms.arrays["layer"], full.atoms.arrays["layer"])
        assert (outline.energy, outline.provenance) == (full.energy, full.provenance)
        assert outline.hamiltonian_blocks is None
        assert full.hamiltonian_blocks is not None


def as_dictionary(structure):
    """Blocks by (target, source, R), because the order of edges is free."""
    keys = zip(
        *structure.edge_index[::-1].tolist(),
        map(tuple, structure.edge_cell_shift.tolist()),
        strict=True,
    )
    overlap = (
        structure.overlap_blocks
        if structure.overlap_blocks is not None
        else structure.hamiltonian_blocks
    )
    return {
        key: (h.tolist(), s.tolist())
        for key, h, s in zip(keys, structure.hamiltonian_blocks, overlap, strict=True)
    }


def test_round_trip_is_exact(path, labels):
    dataset = HamiltonianDataset(path)
    assert len(dataset) == 3
    assert dataset.names == ("a", "b", "ä 3")
    assert dataset.provenance == {"code": "none", "k-mesh": [1, 1, 1]}
    assert dataset.basis == BASIS
    for got, expected in zip(dataset, labels, strict=True):
        check_hamiltonian_labels(got)
        assert as_dictionary(got) == as_dictionary(expected)
        assert got.hamiltonian_blocks.dtype == np.float64
        assert (got.name, got.energy, got.fermi_energy) == (
            expected.name,
            expected.energy,
            expected.fermi_energy,
        )
        assert got.provenance == expected.provenance
        assert np.array_equal(got.forces, expected.forces)
        assert np.array_equal(got.atoms.positions, expected.atoms.positions)
        assert np.array_equal(got.atoms.cell.array, expected.atoms.cell.array)
        assert np.array_equal(got.atoms.numbers, expected.atoms.numbers)
        assert got.atoms.arrays["layer"].tolist() == expected.atoms.arrays["layer"].tolist()
        assert got.atoms.pbc.all()


def test_access_by_name_and_position(path):
    dataset = HamiltonianDataset(path)
    assert dataset["b"].name == dataset[-2].name == "b"
    with pytest.raises(IndexError):
        dataset[3]
    with pytest.raises(DataError, match="the name 'c'; expected one of its 3 structures"):
        dataset["c"]


def test_same_structures_make_the_same_file(path, labels, tmp_path):
    write_hamiltonian_dataset(
        tmp_path / "again.h5", iter(labels), {"code": "none", "k-mesh": [1, 1, 1]}
    )
    assert (tmp_path / "again.h5").read_bytes() == path.read_bytes()


def test_labels_that_do_not_exist_stay_away(tmp_path):
    bare = [
        build_labels(name, 0, overlap=False, energy=None, forces=None, fermi_energy=None)
        for name in "ab"
    ]
    write_hamiltonian_dataset(tmp_path / "bare.h5", bare, {})
    dataset = HamiltonianDataset(tmp_path / "bare.h5")
    assert not dataset.has_overlap
    assert [
        getattr(dataset[1], key) for key in ("energy", "forces", "fermi_energy", "overlap_blocks")
    ] == [None] * 4
    dataset.verify()


def test_units_and_checksums_stand_in_the_file(path):
    with h5py.File(path) as file:
        for key, column in COLUMNS.items():
            if PLAIN not in column.versions:
                continue
            assert file[key].attrs["unit"] == column.unit
            assert len(file[key].attrs["sha256"]) == 64
        assert file["blocks/hamiltonian"].dtype == np.float32
        n_edges = len(file["edges/index"])
    assert n_edges < sum(s.edge_index.shape[1] for s in HamiltonianDataset(path)) < 2 * n_edges


def read_in_other_process(dataset, queue):
    queue.put(float(dataset["b"].hamiltonian_blocks.sum()))


def test_pickled_to_a_worker_after_use(path):
    dataset = HamiltonianDataset(path)
    expected = float(dataset["b"].hamiltonian_blocks.sum())
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert float(again["b"].hamiltonian_blocks.sum()) == expected
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=read_in_other_process, args=(dataset, queue))
    worker.start()
    assert queue.get(timeout=60) == expected
    worker.join()
    dataset.close()
    dataset.close()
    assert float(dataset["b"].hamiltonian_blocks.sum()) == expected


def test_failed_writing_leaves_the_old_file(path, labels):
    before = path.read_bytes()

    def interrupted():
        yield labels[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_hamiltonian_dataset(path, interrupted(), {})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["data.h5"]


@pytest.mark.parametrize(
    ("structures", "text"),
    [
        ([], "no structure; expected at least one"),
        ([build_labels("", 0)], "the name ''; expected unique, not empty"),
        ([build_labels("a", 0), build_labels("a", 1)], "the name 'a'"),
        (
            [build_labels("a", 0, hamiltonian_blocks=None)],
            "a: got no Hamiltonian; expected blocks, edges and a basis",
        ),
        (
            [build_labels("a", 0), build_labels("b", 0, overlap=False)],
            "overlaps for some structures only",
        ),
    ],
)
def test_unusable_structures_are_refused(tmp_path, structures, text):
    with pytest.raises(DataError, match=text):
        write_hamiltonian_dataset(tmp_path / "data.h5", structures, {})
    assert list(tmp_path.iterdir()) == []


def test_structures_without_layers_or_hermiticity_are_refused(tmp_path):
    flat = build_labels("a", 0)
    del flat.atoms.arrays["layer"]
    with pytest.raises(DataError, match="no layer array"):
        write_hamiltonian_dataset(tmp_path / "data.h5", [flat], {})
    broken = build_labels("a", 0)
    broken.hamiltonian_blocks[-1, 0, 0] += 1.0
    with pytest.raises(DataError, match="not Hermitian"):
        write_hamiltonian_dataset(tmp_path / "data.h5", [broken], {})


def test_bases_are_united_but_must_agree(tmp_path):
    other = OrbitalBasis({7: (0, 1), 8: (0,)}, {7: 1.4, 8: 1.0}, {})
    nitrogen = build_labels("n", 0)
    nitrogen.atoms.numbers[nitrogen.atoms.numbers == 5] = 8
    write_hamiltonian_dataset(
        tmp_path / "data.h5", [build_labels("a", 0), dataclasses.replace(nitrogen, basis=other)], {}
    )
    assert HamiltonianDataset(tmp_path / "data.h5").basis.elements == (5, 7, 8)
    wrong = dataclasses.replace(
        nitrogen, basis=OrbitalBasis({7: (0, 1), 8: (0,)}, {7: 1.5, 8: 1.0}, {})
    )
    with pytest.raises(
        DataError, match=r"n: got shells \(0, 1\), radius 1.5 Å for element 7; expected .*as before"
    ):
        write_hamiltonian_dataset(tmp_path / "data.h5", [build_labels("a", 0), wrong], {})


def test_missing_foreign_and_truncated_files(path, tmp_path):
    with pytest.raises(DataError, match=r"none.h5: got no such file"):
        HamiltonianDataset(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DataError, match="the file unreadable"):
        HamiltonianDataset(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["H"] = 1.0
    with pytest.raises(DataError, match="a foreign HDF5 file; expected format 'mlepi-hamiltonian'"):
        HamiltonianDataset(tmp_path / "foreign.h5")
    content = path.read_bytes()
    for size in (0, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "short.h5").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"short\.h5: got "):
            HamiltonianDataset(tmp_path / "short.h5")


def test_files_of_another_version_are_refused(path):
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 99
    with pytest.raises(
        DataError, match=r"format version 99; expected 1 or 2\. Use the mlepi version that wrote it"
    ):
        HamiltonianDataset(path)


@pytest.mark.parametrize("key", [key for key, column in COLUMNS.items() if not column.optional])
def test_missing_arrays_are_named(path, packed, key):
    chosen = path if PLAIN in COLUMNS[key].versions else packed
    with h5py.File(chosen, "a") as file:
        del file[key]
    with pytest.raises(DataError, match=f"{key}"):
        HamiltonianDataset(chosen)


def test_packed_blocks_are_the_nearest_multiples_and_all_else_is_exact(packed, labels):
    dataset = HamiltonianDataset(packed)
    assert dataset.quantum == QUANTUM
    for got, expected in zip(dataset, labels, strict=True):
        check_hamiltonian_labels(got)
        read, written = as_dictionary(got), as_dictionary(expected)
        assert read.keys() == written.keys()
        for key, (hamiltonian, overlap) in read.items():
            multiples = np.array(hamiltonian) / QUANTUM
            assert np.array_equal(multiples, np.rint(multiples))
            assert np.abs(np.array(hamiltonian) - written[key][0]).max() <= QUANTUM / 2
            assert overlap == written[key][1]
        assert np.array_equal(got.forces, expected.forces)
        assert np.array_equal(got.atoms.positions, expected.atoms.positions)
    dataset.verify()


def test_packed_files_name_their_version_and_are_equal_for_equal_structures(
    packed, labels, tmp_path
):
    write_hamiltonian_dataset(tmp_path / "2.h5", labels, {"code": "none"}, quantum=QUANTUM)
    assert (tmp_path / "2.h5").read_bytes() == packed.read_bytes()
    with h5py.File(packed) as file:
        assert file.attrs["format_version"] == PACKED
        assert "blocks/hamiltonian" not in file


def test_a_packed_file_without_its_quantum_is_refused(packed):
    with h5py.File(packed, "a") as file:
        del file.attrs["quantum"]
    with pytest.raises(DataError, match=r"missing or inconsistent .*quantum"):
        HamiltonianDataset(packed)


def test_packed_bytes_that_changed_are_found(packed):
    with h5py.File(packed, "a") as file:
        file["blocks/packed_hamiltonian"][0:4] = 255
    with pytest.raises(DataError, match="packed blocks"):
        HamiltonianDataset(packed)[0]
    with pytest.raises(DataError, match="changed values"):
        HamiltonianDataset(packed).verify()


@pytest.mark.parametrize("key", ["atoms/numbers", "blocks/hamiltonian", "structures/cell"])
def test_arrays_of_wrong_length_are_named(path, key):
    with h5py.File(path, "a") as file:
        file[key].resize(len(file[key]) - 1, axis=0)
    with pytest.raises(DataError, match=f"missing or inconsistent .*{key}"):
        HamiltonianDataset(path)


def test_offsets_must_ascend(path):
    with h5py.File(path, "a") as file:
        file["structures/edge_offsets"][1] = -5
    with pytest.raises(DataError, match="edge_offsets"):
        HamiltonianDataset(path)


@pytest.mark.parametrize("key", ["structures/energy", "atoms/positions"])
def test_changed_structures_are_found_on_opening(path, key):
    with h5py.File(path, "a") as file:
        file[key][0] = 1.0
    with pytest.raises(DataError, match=rf"changed values in \['{key}'\]"):
        HamiltonianDataset(path)


@pytest.mark.parametrize("key", ["blocks/hamiltonian", "blocks/overlap", "edges/cell_shift"])
def test_changed_blocks_are_found_by_verify(path, key):
    with h5py.File(path, "a") as file:
        file[key][3] = 7
    with pytest.raises(DataError, match=rf"changed values in \['{key}'\]"):
        HamiltonianDataset(path).verify()


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        (None, "basis", '{"6": {"shells": [0, 1], "radius": 3.0, "name": null}}'),
        (None, "provenance", '{"code": "another"}'),
        ("blocks/hamiltonian", "sha256", "0" * 64),
        ("edges/index", "sha256", "0" * 64),
    ],
)
def test_a_changed_basis_provenance_or_checksum_is_found_on_opening(path, key, name, value):
    with h5py.File(path, "a") as file:
        (file if key is None else file[key]).attrs[name] = value
    with pytest.raises(DataError, match="another basis, unit, provenance or set of arrays"):
        HamiltonianDataset(path)


@pytest.mark.parametrize("with_checksum", [True, False])
def test_another_unit_is_refused_also_in_files_without_a_checksum_of_it(path, with_checksum):
    with h5py.File(path, "a") as file:
        file["blocks/hamiltonian"].attrs["unit"] = "Hartree"
        if not with_checksum:
            del file.attrs["sha256"]
    with pytest.raises(DataError, match=r"blocks/hamiltonian in Hartree \(not eV\)"):
        HamiltonianDataset(path)


def test_files_without_a_checksum_of_basis_and_units_are_read_as_before(path):
    before = HamiltonianDataset(path)["a"].hamiltonian_blocks
    with h5py.File(path, "a") as file:
        del file.attrs["sha256"]
    dataset = HamiltonianDataset(path)
    dataset.verify()
    np.testing.assert_array_equal(dataset["a"].hamiltonian_blocks, before)


@pytest.mark.parametrize("key", ["atoms/positions", "structures/cell", "structures/energy"])
def test_structures_with_numbers_that_are_none_are_refused(path, key):
    with h5py.File(path, "a") as file:
        file[key][0] = np.inf
        file[key].attrs["sha256"] = checksum(file[key])
        file.attrs["sha256"] = hash_header(file)
    with pytest.raises(DataError, match=f"NaN or infinity in the {key.split('/')[1]}"):
        HamiltonianDataset(path)[0]


def test_flipped_bytes_are_found_on_reading(path):
    with h5py.File(path) as file:
        chunk = file["blocks/hamiltonian"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="structure 'a' unreadable"):
        HamiltonianDataset(path)[0]


def test_edges_to_no_atom_and_nan_are_found_on_reading(path):
    with h5py.File(path, "a") as file:
        file["edges/index"][0] = [99, 0]
        file["blocks/hamiltonian"][-1] = np.nan
    dataset = HamiltonianDataset(path)
    with pytest.raises(DataError, match="a: got an edge to no atom; expected atoms 0…3"):
        dataset[0]
    with pytest.raises(DataError, match="a block with NaN or infinity"):
        dataset[2]


def test_two_structures_of_one_name_are_refused(path):
    with h5py.File(path, "a") as file:
        names = file["structures/name"]
        names[1] = "a"
        names.attrs["sha256"] = hashlib.sha256("a\0a\0ä 3\0".encode()).hexdigest()
        file.attrs["sha256"] = hash_header(file)
    with pytest.raises(DataError, match="two structures of one name"):
        HamiltonianDataset(path)


def test_damaged_basis_is_one_message(path):
    with h5py.File(path, "a") as file:
        file.attrs["basis"] = json.dumps({"shells": {}})
    with pytest.raises(DataError):
        HamiltonianDataset(path)
