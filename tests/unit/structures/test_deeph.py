from __future__ import annotations

import dataclasses
import json

import h5py
import numpy as np
import pytest
from hamiltonian_samples import (
    BOHR,
    real_sample,
    slater_koster_sample,
    write_legacy_folder,
    write_new_folder,
    write_scfout,
)

from mlepi.errors import DataError
from mlepi.structures.deeph import read_deeph, write_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.openmx import read_openmx

RADII = {"C": 4.0 * BOHR, "H": 3.0 * BOHR}


@pytest.fixture
def sample():
    return slater_koster_sample()


@pytest.fixture
def legacy(sample, tmp_path):
    return write_legacy_folder(tmp_path / "processed", sample)


@pytest.fixture
def new(sample, tmp_path):
    return write_new_folder(tmp_path / "dft", sample)


def edit_info(folder, **changes):
    info = json.loads((folder / "info.json").read_text())
    info.update(changes)
    (folder / "info.json").write_text(json.dumps(info))


def replace_dataset(path, name, change):
    with h5py.File(path, "a") as file:
        values = np.asarray(file[name])
        del file[name]
        file[name] = change(values)


def replaced(values, index, value):
    values[index] = value
    return values


def rekey(path, change):
    """Rename all datasets of a legacy file."""
    with h5py.File(path, "r") as file:
        blocks = {
            json.dumps(change(json.loads(key))): np.asarray(block) for key, block in file.items()
        }
    with h5py.File(path, "w") as file:
        for key, block in blocks.items():
            file[key] = block


def test_radii_are_inferred_below_the_true_ones_or_taken_as_given(legacy, new):
    for structure in (read_deeph_legacy(legacy), read_deeph(new)):
        assert {
            z: 0.0 < r <= RADII[s] + 1e-9
            for (z, r), s in zip(structure.basis.radii.items(), "HC", strict=True)
        } == {
            1: True,
            6: True,
        }
    for structure in (read_deeph_legacy(legacy, radii=RADII), read_deeph(new, radii=RADII)):
        assert structure.basis.radii == pytest.approx({1: RADII["H"], 6: RADII["C"]})
        assert structure.provenance["radii"] == "given"
    assert read_deeph(new).energy is None
    assert read_deeph(new).name == "dft"


def test_overlap_only_folders(legacy, new):
    (legacy / "hamiltonians.h5").unlink()
    (new / "hamiltonian.h5").unlink()
    for structure in (read_deeph_legacy(legacy), read_deeph(new)):
        assert structure.hamiltonian_blocks is None
        assert structure.overlap_blocks is not None


def test_pairs_of_one_matrix_only_are_zero_in_the_other(legacy, sample):
    """Drop one pair with its reverse from the Hamiltonian.

    The edge stays, its Hamiltonian is zero.
    """
    pair = next(p for p in sample.pairs.tolist() if p[3] != p[4])
    R, i, j = pair[:3], pair[3], pair[4]
    with h5py.File(legacy / "hamiltonians.h5", "a") as file:
        del file[json.dumps([*R, i + 1, j + 1])]
        del file[json.dumps([*(-r for r in R), j + 1, i + 1])]
    structure = read_deeph_legacy(legacy)
    edge = (structure.edge_index == [[j], [i]]).all(axis=0) & (structure.edge_cell_shift == R).all(
        axis=1
    )
    assert structure.edge_index.shape[1] == len(sample.pairs)
    assert edge.sum() == 1
    assert not structure.hamiltonian_blocks[edge].any()
    assert structure.overlap_blocks[edge].any()


def test_missing_fermi_energy_is_none(legacy):
    (legacy / "info.json").write_text("{}")
    assert read_deeph_legacy(legacy).fermi_energy is None


@pytest.mark.parametrize(
    "file",
    [
        "lat.dat",
        "site_positions.dat",
        "element.dat",
        "orbital_types.dat",
        "info.json",
        "overlaps.h5",
    ],
)
def test_missing_legacy_file_is_named(legacy, file):
    (legacy / file).unlink()
    with pytest.raises(DataError, match=f"no file {file}"):
        read_deeph_legacy(legacy)


@pytest.mark.parametrize("file", ["POSCAR", "info.json", "overlap.h5"])
def test_missing_new_file_is_named(new, file):
    (new / file).unlink()
    with pytest.raises(DataError, match=f"no file {file}"):
        read_deeph(new)


def test_damaged_hdf5(legacy, new):
    (legacy / "overlaps.h5").write_bytes(b"no HDF5")
    (new / "overlap.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="no readable HDF5"):
        read_deeph_legacy(legacy)
    with pytest.raises(DataError, match="no readable HDF5"):
        read_deeph(new)


def test_spin_is_refused(legacy, new):
    replace_dataset(new / "hamiltonian.h5", "entries", lambda v: v.astype(complex))
    with pytest.raises(DataError, match=r"hamiltonian\.h5: got spinful data"):
        read_deeph(new)
    replace_dataset(legacy / "hamiltonians.h5", "[0, 0, 0, 1, 1]", lambda v: v.astype(complex))
    with pytest.raises(DataError, match=r"hamiltonians\.h5: got spinful data"):
        read_deeph_legacy(legacy)
    edit_info(legacy, isspinful=True)
    edit_info(new, spinful=True)
    for read, folder in ((read_deeph_legacy, legacy), (read_deeph, new)):
        with pytest.raises(DataError, match=r"spinful data .* expected spinless blocks"):
            read(folder)


def test_legacy_index_base(legacy):
    rekey(legacy / "overlaps.h5", lambda key: [*key[:3], key[3] - 1, key[4] - 1])
    with pytest.raises(
        DataError,
        match=r"indices from 0 to 2 for 3 atoms; expected indices 1 … 3 \(counted from 1\)",
    ):
        read_deeph_legacy(legacy)


def test_new_index_base(new):
    replace_dataset(new / "overlap.h5", "atom_pairs", lambda v: v + np.array([0, 0, 0, 1, 1]))
    with pytest.raises(
        DataError,
        match=r"indices from 1 to 3 for 3 atoms; expected indices 0 … 2 \(counted from 0\)",
    ):
        read_deeph(new)


def test_wrong_orbital_order_is_noticed(tmp_path):
    for sample in (slater_koster_sample(), real_sample()):
        folder = write_legacy_folder(tmp_path / sample.name, sample)
        with pytest.raises(DataError, match="s–p overlaps that deviate from the bond direction"):
            read_deeph_legacy(folder, order="e3nn")


def test_wrong_order_of_d_shells_is_noticed(tmp_path, sample):
    """Exchange xz and yz, right in p: only the d check can see it."""
    swap = [*range(8), 8, 9, 10, 12, 11]
    size = {6: swap, 1: [0, 1, 2, 3]}
    blocks = [
        block[size[int(sample.numbers[p[3]])]][:, size[int(sample.numbers[p[4]])]]
        for p, block in zip(sample.pairs.tolist(), sample.overlap, strict=True)
    ]
    folder = write_legacy_folder(tmp_path / "swapped", dataclasses.replace(sample, overlap=blocks))
    with pytest.raises(DataError, match="s–d overlaps that deviate"):
        read_deeph_legacy(folder)


def test_hartree_with_a_fermi_energy_in_ev_is_noticed(tmp_path):
    sample = real_sample()
    wrong = dataclasses.replace(sample, hamiltonian=[h / 27.211386 for h in sample.hamiltonian])
    with pytest.raises(
        DataError, match=r"Fermi energy -\d\.\d+ eV; expected a value among the levels"
    ):
        read_deeph_legacy(write_legacy_folder(tmp_path / "hartree", wrong))


def test_lengths_in_bohr_with_known_radii_are_noticed(tmp_path, sample):
    wrong = dataclasses.replace(sample, cell=sample.cell / BOHR, positions=sample.positions / BOHR)
    with pytest.raises(DataError, match="sum of the orbital radii"):
        read_deeph_legacy(write_legacy_folder(tmp_path / "bohr", wrong), radii=RADII)


@pytest.mark.parametrize(
    ("file", "change", "text"),
    [
        ("lat.dat", lambda s: s.splitlines()[0], r"expected \(3, 3\)"),
        ("site_positions.dat", lambda s: "\n".join(s.splitlines()[:2]), "vectors as columns"),
        ("lat.dat", lambda s: "one two three", "text that is no table"),
        ("lat.dat", lambda s: "nan 0 0\n0 1 0\n0 0 1", "1 table values that are NaN"),
        ("element.dat", lambda s: "6\n1\n600\n", "atomic numbers"),
        ("orbital_types.dat", lambda s: "0 1\n", "1 lines of shells"),
        ("orbital_types.dat", lambda s: "0 0 1 1 2\n0 1\n0 0 1 1\n", "one basis per element"),
        (
            "orbital_types.dat",
            lambda s: s.replace("0 0 1 1 2", "0 0 1 1"),
            r"shape \(13, .*\) for pair .*the orbitals of its atoms",
        ),
        ("info.json", lambda s: "{", "no JSON"),
        ("info.json", lambda s: "[]", "expected a JSON object"),
        ("info.json", lambda s: '{"fermi_level": "high"}', "fermi_level = 'high'"),
    ],
)
def test_damaged_legacy_text(legacy, file, change, text):
    (legacy / file).write_text(change((legacy / file).read_text()))
    with pytest.raises(DataError, match=text):
        read_deeph_legacy(legacy)


def test_damaged_legacy_blocks(legacy):
    replace_dataset(
        legacy / "hamiltonians.h5", "[0, 0, 0, 1, 1]", lambda v: replaced(v, (0, 1), 0.01)
    )
    with pytest.raises(
        DataError,
        match=r"Hamiltonian blocks that differ from their transposed reverse by up to 0\.01",
    ):
        read_deeph_legacy(legacy)
    (legacy / "hamiltonians.h5").unlink()
    replace_dataset(legacy / "overlaps.h5", "[0, 0, 0, 1, 1]", lambda v: 2.0 * v)
    with pytest.raises(DataError, match="on-site overlap of 2"):
        read_deeph_legacy(legacy)
    replace_dataset(legacy / "overlaps.h5", "[0, 0, 0, 1, 1]", lambda v: v * np.nan)
    with pytest.raises(DataError, match="169 overlap values that are NaN"):
        read_deeph_legacy(legacy)
    with h5py.File(legacy / "overlaps.h5", "a") as file:
        del file["[0, 0, 0, 1, 1]"]
    with pytest.raises(DataError, match="no on-site block for 1 atoms"):
        read_deeph_legacy(legacy)
    with h5py.File(legacy / "overlaps.h5", "a") as file:
        file["0_0_0_1_1"] = np.eye(13)
    with pytest.raises(DataError, match=r"key '0_0_0_1_1'"):
        read_deeph_legacy(legacy)
    with h5py.File(legacy / "overlaps.h5", "w"):
        pass
    with pytest.raises(DataError, match="no blocks"):
        read_deeph_legacy(legacy)


@pytest.mark.parametrize(
    ("name", "change", "text"),
    [
        ("atom_pairs", lambda v: v[:-1], r"expected \(n, 5\), \(n, 2\), \(n \+ 1,\)"),
        ("atom_pairs", lambda v: replaced(v, 0, v[1]), "an overlap pair listed twice"),
        ("chunk_shapes", lambda v: replaced(v, 0, [5, 5]), r"a block of shape \(5, 5\) for pair"),
        ("chunk_boundaries", lambda v: replaced(v, 1, 7), "an overlap block of 7 values for pair"),
        ("entries", lambda v: v[:-1], r"got \d+ overlap values; expected \d+"),
    ],
)
def test_damaged_chunks(new, name, change, text):
    replace_dataset(new / "overlap.h5", name, change)
    with pytest.raises(DataError, match=text):
        read_deeph(new)


def test_chunks_without_a_dataset(new):
    with h5py.File(new / "overlap.h5", "a") as file:
        del file["chunk_shapes"]
    with pytest.raises(DataError, match=r"no dataset \['chunk_shapes'\]"):
        read_deeph(new)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"atoms_quantity": 4}, "atoms_quantity = 4; expected 3"),
        ({"orbits_quantity": 4}, "orbits_quantity = 4; expected 30"),
        ({"elements_orbital_map": {"C": [0, 0, 1, 1, 2]}}, r"no elements_orbital_map for \['H'\]"),
        ({"elements_orbital_map": {"C": [0, 0, 1, 1, 2], "H": [0, 1], "Qq": [0]}}, "element 'Qq'"),
        ({"fermi_energy_eV": True}, "fermi_energy_eV = True"),
    ],
)
def test_info_of_another_structure(new, changes, text):
    edit_info(new, **changes)
    with pytest.raises(DataError, match=text):
        read_deeph(new)


def test_damaged_poscar(new):
    (new / "POSCAR").write_text("nothing\n")
    with pytest.raises(DataError, match="no POSCAR"):
        read_deeph(new)


def test_radius_of_every_element_is_needed(new):
    with pytest.raises(DataError, match=r"no radius for \['H'\]"):
        read_deeph(new, radii={"C": 3.0})


def test_write_then_read_is_exact(sample, tmp_path):
    """Blocks bit by bit, in the POSCAR order of atoms; radii, basis names and layers come back."""
    structure = read_openmx(write_scfout(tmp_path / "a.scfout", sample))
    structure.atoms.arrays["layer"] = np.array([1, 0, 2])
    order = write_deeph(tmp_path / "out" / "new", structure)
    back = read_deeph(tmp_path / "out" / "new")
    assert order.tolist() == [0, 2, 1]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert back.basis == structure.basis
    assert back.atoms.arrays["layer"].tolist() == [1, 2, 0]
    assert back.fermi_energy == structure.fermi_energy
    np.testing.assert_allclose(back.atoms.positions, structure.atoms.positions[order], atol=1e-14)
    blocks = {
        (order[i], order[j], *shift): (H, S)
        for (j, i), shift, H, S in zip(
            back.edge_index.T,
            back.edge_cell_shift.tolist(),
            back.hamiltonian_blocks,
            back.overlap_blocks,
            strict=True,
        )
    }
    for k, ((j, i), shift) in enumerate(
        zip(structure.edge_index.T, structure.edge_cell_shift.tolist(), strict=True)
    ):
        H, S = blocks.pop((i, j, *shift))
        np.testing.assert_array_equal(H, structure.hamiltonian_blocks[k])
        np.testing.assert_array_equal(S, structure.overlap_blocks[k])
    assert not blocks


def test_write_overlap_only(sample, tmp_path):
    structure = read_openmx(write_scfout(tmp_path / "a.scfout", sample))
    write_deeph(
        tmp_path / "new", dataclasses.replace(structure, hamiltonian_blocks=None, fermi_energy=None)
    )
    assert not (tmp_path / "new" / "hamiltonian.h5").exists()
    back = read_deeph(tmp_path / "new")
    assert back.hamiltonian_blocks is None
    assert back.fermi_energy is None


def test_write_refuses_and_leaves_nothing_behind(sample, tmp_path, monkeypatch):
    structure = read_openmx(write_scfout(tmp_path / "a.scfout", sample))
    target = tmp_path / "out" / "new"
    with pytest.raises(DataError, match="no overlap blocks"):
        write_deeph(target, dataclasses.replace(structure, overlap_blocks=None))
    with pytest.raises(DataError, match="an existing path"):
        write_deeph(tmp_path, structure)

    def full_disk(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr("mlepi.structures.deeph.write_ase", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_deeph(target, structure)
    assert list((tmp_path / "out").iterdir()) == []


def test_rounding_of_a_network_is_written_larger_differences_are_not(tmp_path, sample):
    """Sums over edges differ from their transposed reverse by some 1e-16; a wrong block by more."""
    labels = read_deeph(write_new_folder(tmp_path / "a", sample))
    noise = np.zeros_like(labels.overlap_blocks)
    noise[3, 0, 1] = 2.2e-16
    noisy = dataclasses.replace(labels, overlap_blocks=labels.overlap_blocks + noise)
    write_deeph(tmp_path / "b", noisy)
    np.testing.assert_allclose(
        read_deeph(tmp_path / "b").overlap_blocks, labels.overlap_blocks, atol=1e-15
    )
    wrong = dataclasses.replace(labels, overlap_blocks=labels.overlap_blocks + 1e12 * noise)
    with pytest.raises(DataError, match="overlap blocks that differ from their transposed reverse"):
        write_deeph(tmp_path / "c", wrong)
    assert not (tmp_path / "c").exists()
