"""Files made to harm get one message, in two seconds and 200 MB, whatever reads them."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hamiltonian_samples import slater_koster_sample, write_legacy_folder, write_new_folder
from tiny_networks import build_config, build_network, gaussian_overlap_table

from mlepi.checkpoint import load_checkpoint, save_checkpoint, stamp
from mlepi.errors import CheckpointError, DataError, MlepiError, StructureError
from mlepi.physics.overlaps import read_overlap_table, write_overlap_table
from mlepi.project_files import PROJECT_FOLDER
from mlepi.structures import (
    OrbitalBasis,
    read_deeph,
    read_forces_dataset,
    read_structure,
    write_split,
)
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.dftio import read_dftio
from mlepi.structures.kmesh_files import read_kmesh
from mlepi.structures.openmx_labels import read_label_file
from mlepi.structures.sources import find_sources
from mlepi.untrusted import check_text, hdf5, load_npy, open_hdf5, open_npz, parse_json, read_json
from mlepi.untrusted.hdf5_walk import MOST_HEADER, Alike, has_plain_addresses, parse_header

TABLE = PROJECT_FOLDER / "data" / "blg_openmx" / "overlap_C6.0-s2p2.h5"
SECONDS, MEGABYTES = 2.0, 200


@contextmanager
def assert_refused(text: str, kind: type[MlepiError] = DataError):
    """Assert that what follows ends in one message, within bounds of processor time and memory."""

    def spent() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime

    start, memory = spent(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(kind, match=text) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert spent() - start < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024 < MEGABYTES


@pytest.fixture(scope="module")
def sample():
    return slater_koster_sample()


@pytest.fixture
def deeph(tmp_path, sample):
    return write_new_folder(tmp_path / "new", sample)


@pytest.mark.parametrize("place", [2439, 2727])
def test_a_header_in_which_the_library_never_comes_back(tmp_path, place):
    path = tmp_path / "table.h5"
    content = bytearray(TABLE.read_bytes())
    content[place : place + 512] = bytes(512)
    path.write_bytes(content)
    with assert_refused("its tables lead the HDF5 library nowhere"):
        read_overlap_table(path)


def _bomb(file):
    file.create_dataset("x", data=np.zeros(9 * 2**20), compression="gzip", chunks=(2**20,))


def _declared(file):
    file.create_dataset("x", shape=(2**36,), dtype="f8", chunks=(2**16,))


def _many(file):
    for k in range(40):
        file.create_dataset(f"x{k}", shape=(2**20,), dtype="f8", chunks=(2**16,))


def _link(file):
    file["x"] = h5py.ExternalLink("/etc/passwd", "/")


def _other_file(file):
    file.create_dataset("x", shape=(8,), dtype="f8", external=[("/etc/passwd", 0, 64)])


def _virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(4,))
    file.create_virtual_dataset("x", layout)


def _filter(file):
    file.create_dataset("x", data=np.arange(64), chunks=(8,), scaleoffset=4)


@pytest.mark.parametrize(
    ("fill", "text"),
    [
        (_bomb, r"data set 'x' of 75497472 bytes, of which \d+ are stored"),
        (_declared, "data set 'x' of 549755813888 bytes, of which 0 are stored"),
        (_many, r"\d+ bytes that claim to hold 335544320"),
        (_link, "a link 'x' out of the file"),
        (_other_file, "data set 'x' that lies in another file"),
        (_virtual, "data set 'x' that lies in another file"),
        (_filter, "data set 'x' behind filter 6"),
    ],
)
def test_hdf5_that_claims_too_much_or_leads_elsewhere(tmp_path, fill, text):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        fill(file)
    with assert_refused(text):
        open_hdf5(tmp_path / "x.h5")


def test_no_hdf5_and_a_file_of_holes(tmp_path):
    path = tmp_path / "x.h5"
    path.write_bytes(b"x" * 5000)
    with assert_refused("no readable HDF5"):
        open_hdf5(path)
    with path.open("wb") as file:
        file.truncate(2**43)
    with assert_refused("8388608 MB; expected at most"):
        open_hdf5(path)
    with assert_refused("no such file"):
        open_hdf5(tmp_path / "none.h5")
    with assert_refused("no regular file"):
        open_hdf5(tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"elements_orbital_map": {"C": [], "H": [0]}}, "at least one shell"),
        ({"elements_orbital_map": {"C": [1e308], "H": [0]}}, r"shells \[1e\+308\]"),
        ({"elements_orbital_map": {"C": [0] * 10**5, "H": [0]}}, "shells"),
        ({"elements_orbital_map": {"C": ["0"], "H": [0]}}, "shells"),
        ({"elements_orbital_map": {"C": [0.5], "H": [0]}}, "shells"),
        ({"elements_orbital_map": [1]}, "such as"),
        ({"fermi_energy_eV": "0"}, "a number in eV"),
        ({"atoms_quantity": [3]}, r"atoms_quantity = \[3\]"),
        ({"mlepi": 3}, "an object"),
        ({"mlepi": {"layer": "abc", "radii": None}}, "damaged file|layer"),
        ({"mlepi": {"radii": {"C": 1e308, "H": 1.0}}}, "radii"),
    ],
)
def test_wrong_types_and_sizes_in_info(deeph, change, text):
    path = deeph / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with assert_refused(text):
        read_deeph(deeph)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"[" * 100_000, "levels inside each other"),
        (b'{"a":' * 100_000, "levels inside each other"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        (b'{"a": "\xff"}', "no UTF-8"),
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"{}\0", "a zero byte"),
        (b"", "no JSON"),
    ],
)
def test_json_that_is_too_deep_or_in_another_encoding(tmp_path, content, text):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with assert_refused(text):
        read_json(path)


def test_json_of_usual_depth_and_with_a_mark_is_read(tmp_path):
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": [[1, "[{"], 2]}')
    assert read_json(tmp_path / "x.json") == {"a": [[1, "[{"], 2]}
    assert parse_json("x", "[" * 64 + "]" * 64)
    assert parse_json("x", json.dumps(["[" * 100])) == ["[" * 100]


def test_archives_that_unpack_to_more_than_they_hold(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.zeros(9 * 2**20))
    with assert_refused(r"\d+ bytes that unpack to"), open_npz("x.npz", path):
        pass
    one = io.BytesIO()
    np.save(one, np.zeros(2))
    content = one.getvalue().replace(b"(2,)", b"(99999999999,)")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    with assert_refused("x.npz: got "), open_npz("x.npz", path) as archive:
        archive["x"]
    path.write_bytes(b"PK\3\4 and nothing else")
    with assert_refused("a damaged file"), open_npz("x.npz", path):
        pass
    basis = OrbitalBasis({6: (0,)}, {6: 1.0}, {})
    with assert_refused("a damaged file"):
        read_label_file(path, basis)


def test_arrays_of_another_size_than_their_header(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(4))
    path.write_bytes(path.read_bytes().replace(b"(4,)", b"(99999999999,)"))
    with assert_refused("a damaged file|bytes for an array"):
        load_npy(path)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with assert_refused("Python objects"):
        load_npy(path)
    np.save(path, np.arange(6.0))
    assert load_npy(path).shape == (6,)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('99999999999\nLattice="3 0 0 0 3 0 0 0 3"\nC 0 0 0\n', "an unreadable file"),
        ('1\nLattice="3 0 0 0 3 0 0 0 3" energy=1\nC 0 0 0 \0\n', "a zero byte"),
        ('1\nLattice="1e-3 0 0 0 1e3 0 0 0 1e3"\nC 0 0 0\n', "no labels|height"),
        (
            '1\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:1:pos:R:3:forces:R:3 energy=1\n'
            "C 0 0 0 0 0 1e12\n",
            "at most 1e[+]08 and 10000",
        ),
    ],
)
def test_extxyz_that_claims_too_much(tmp_path, content, text):
    path = tmp_path / "x.extxyz"
    path.write_text(content)
    with assert_refused(text):
        read_forces_dataset(path)


@pytest.mark.parametrize(
    ("lattice", "text"),
    [
        ("7e5 0 0 0 3 0 0 0 20", "a lattice vector of 7e[+]05"),
        ("9e4 0 0 0 3 0 0 0 20", None),
        ("1e3 0 0 0 1e3 0 0 0 3", None),
    ],
)
def test_cells_that_are_long_in_one_direction(tmp_path, lattice, text):
    """The search of neighbours divides by zero in them, which ends the process."""
    path = tmp_path / "x.extxyz"
    rows = "C 0 0 0 0 0 0\nC 0 0 1.5 0 0 0\n"
    columns = "Properties=species:S:1:pos:R:3:forces:R:3"
    path.write_text(f'2\nLattice="{lattice}" {columns} energy=1 pbc="T T T"\n{rows}')
    if text is None:
        assert len(read_forces_dataset(path)) == 1
        return
    with assert_refused(text, StructureError):
        read_forces_dataset(path)


def test_structures_that_claim_too_much(tmp_path):
    path = tmp_path / "POSCAR"
    path.write_text("x\n1.0\n3 0 0\n0 3 0\n0 0 3\nC\n999999999\nDirect\n0 0 0\n")
    with assert_refused("an unreadable file"):
        read_structure(path)
    path.write_text("x\n1.0\n3 0 0\n0 3 0\n0 0 3\nC\n2\nDirect\n0.0 0.0 0.0\n0.5 0.5 0")
    with assert_refused("cut off inside its last line"):
        read_structure(path)
    path.write_text("x\n1.0\n1e-3 0 0\n0 1e3 0\n0 0 1e3\nC\n1\nDirect\n0 0 0\n")
    with assert_refused("in a cell of", StructureError):
        read_structure(path)


def test_a_cif_that_lost_an_atom(tmp_path):
    text = (
        "data_x\n_cell_length_a 3\n_cell_length_b 3\n_cell_length_c 3\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_chemical_formula_sum 'Cs1 Cl1'\nloop_\n"
        "_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        "Cs 0 0 0\nCl 0.5 0.5 0.5\n"
    )
    path = tmp_path / "x.cif"
    path.write_text(text)
    assert len(read_structure(path)) == 2
    path.write_text(text.replace("Cl 0.5 0.5 0.5\n", ""))
    with assert_refused("the sum formula Cs1 Cl1"):
        read_structure(path)


def test_text_tables(tmp_path, sample):
    folder = write_legacy_folder(tmp_path / "old", sample)
    (folder / "orbital_types.dat").write_text("0 99999999999\n" * 3)
    with assert_refused("shells"):
        read_deeph_legacy(folder)
    (folder / "orbital_types.dat").write_bytes(b"\xff\xfe0\x00")
    with assert_refused("UTF-16"):
        read_deeph_legacy(folder)
    (folder / "lat.dat").write_bytes(b"1 0 0\n0 1 0\n0 0 \xff\n")
    with assert_refused("lat.dat"):
        read_deeph_legacy(folder)
    path = tmp_path / "table.dat"
    for text in ("1.000 2.000\n3.000 4.0", "1.000 2.000\n3.000", "12 345\n12 34"):
        path.write_text(text)
        with assert_refused("cut off"):
            check_text(path, ends=True)
    for text in ("-1.000 -2.000\n3.000 4.000", "1\nenergy=-3.5 config_type=one\nC 0 0 0"):
        path.write_text(text)
        check_text(path, ends=True)


def test_basis_of_dftio_is_no_python(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "cell.dat").write_text("3 0 0\n0 3 0\n0 0 3\n")
    (folder / "positions.dat").write_text("0 0 0\n")
    (folder / "atomic_numbers.dat").write_text("6\n")
    for text in ("(" * 10_000, "{'C': '9999999999s'}", "{'C': '99s'}", "__import__('os')", ""):
        (folder / "basis.dat").write_text(text)
        with assert_refused("no basis|shells"):
            read_dftio(folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"mesh": [10**9] * 3, "shells": {"C": [0]}, "order": "e3nn"},
        {"mesh": "888", "shells": {"C": [0]}, "order": "e3nn"},
        {"mesh": [1, 1, 1], "shells": {"C": [1e308]}, "order": "e3nn"},
        {"mesh": [1, 1, 1], "shells": {"C": [0]}, "order": ["e3nn"]},
        [1],
    ],
)
def test_settings_of_a_mesh(tmp_path, settings):
    (tmp_path / "x.xyz").write_text('1\nLattice="3 0 0 0 3 0 0 0 3"\nC 0 0 0\n')
    for what in ("fock", "over"):
        np.save(tmp_path / f"a_{what}_0.npy", np.ones((1, 1, 1)))
    (tmp_path / "kmesh.json").write_text(json.dumps(settings))
    with assert_refused(r"kmesh\.json"):
        read_kmesh(tmp_path, 0)


def test_links_in_a_ring_end(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for other in "abc":
            (tmp_path / name / other).symlink_to(tmp_path)
    with assert_refused("no structure in it or below it"):
        find_sources([tmp_path])


@pytest.fixture(scope="module")
def described():
    return stamp("phonon", build_config("phonon"), {"intra": 3.0, "inter": 4.2})


def _laughs():
    items: list = ["ha"]
    for _ in range(40):
        items = [items] * 10
    return items


def _nested():
    items: list = []
    for _ in range(300):
        items = [items]
    return items


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda c: c["state_dict"].update(x=torch.zeros(1).expand(10**12)), "tensors of"),
        (lambda c: c["mlepi"].update(metadata=_laughs()), "entries|levels"),
        (lambda c: c["mlepi"].update(metadata=_nested()), "levels"),
        (lambda c: c["mlepi"].update(cutoffs={"intra": 1e308}), "lengths in Å"),
        (lambda c: c["mlepi"]["model"].update(num_layers=10**6), "num_layers = 1000000"),
        (lambda c: c["mlepi"]["model"].update(width=10**9), "width = 1000000000"),
        (lambda c: c["mlepi"]["model"].update(irreps="9999999x0e"), "features"),
        (lambda c: c["state_dict"].update(x=torch.zeros(2, 2).to_sparse()), "no plain array"),
    ],
)
def test_checkpoints_that_claim_too_much(tmp_path, described, change, text):
    content = {"mlepi": json.loads(json.dumps(described)), "state_dict": {"a": torch.zeros(2)}}
    change(content)
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    with assert_refused(text, CheckpointError):
        load_checkpoint(path)


def test_archives_that_are_no_checkpoints(tmp_path, described):
    path = tmp_path / "x.ckpt"
    save_checkpoint(path, described, build_network("phonon").state_dict())
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with assert_refused("compressed members", CheckpointError):
        load_checkpoint(bomb)
    shutil.copy(path, bomb)
    content = bytearray(bomb.read_bytes())
    content[content.rindex(b"PK\1\2") + 24] ^= 0x40  # a size in the table of contents
    bomb.write_bytes(content)
    with assert_refused("x|bomb", CheckpointError):
        load_checkpoint(bomb)


def test_a_basis_that_makes_blocks_of_any_size_is_refused():
    for shells in ((1e308,), (10**6,), (0,) * 1000, (True,), (0.5,), (-1,)):
        with assert_refused("shells"):
            OrbitalBasis({6: shells}, {6: 1.0}, {})
    with assert_refused("radii"):
        OrbitalBasis({6: (0,)}, {6: float("inf")}, {})


def test_the_usual_case_asks_once(monkeypatch):
    """Every further opening of a file that has not changed starts no child."""
    open_hdf5(TABLE).close()
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a second child"))
    start = time.process_time()
    for _ in range(20):
        open_hdf5(Path(TABLE)).close()
    assert time.process_time() - start < SECONDS


def test_files_respect_the_umask(tmp_path, described):
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "x.ckpt", described, {})
        write_split(tmp_path / "split.json", {"train": ["a"]}, {})
        write_overlap_table(tmp_path / "table.h5", gaussian_overlap_table(), {})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_files_of_many_small_blocks_have_time_to_be_looked_through(tmp_path, monkeypatch):
    """A data set takes 0.1 ms, twice that on a core that is shared; one file has thousands."""
    path, n_blocks = tmp_path / "hamiltonians.h5", 200
    with h5py.File(path, "w") as file:
        for k in range(n_blocks):
            file[f"[0, 0, 0, {k}, 1]"] = np.ones((13, 13))
    given = []
    usual = hdf5.subprocess.run
    monkeypatch.setattr(
        hdf5.subprocess,
        "run",
        lambda command, **rest: given.append(command) or usual(command, **rest),
    )
    hdf5.open_hdf5(path).close()
    assert float(given[0][-2]) - hdf5.SECONDS > 2e-4 * n_blocks


def _blocks(path, change=None):
    """Write datasets with equal headers; change bytes of the one that is named 17."""
    with h5py.File(path, "w") as file:
        for k in range(40):
            file[f"deep/er/{k}"] = np.full((3, 2), float(k))
        file["deep/er/again"] = file["deep"]  # a ring of groups
        inner = file["deep/er"]
        place = inner.id.links.get_info(b"17").u
    content = bytearray(path.read_bytes())
    if change is not None:
        content[place : place + 128] = change(content[place : place + 128])
    path.write_bytes(content)


def _resize(header):
    """Give a header 2^40 rows, in its sizes and in the largest ones."""
    three = (3).to_bytes(8, "little")
    assert header.count(three) >= 1
    return header.replace(three, (2**40).to_bytes(8, "little"))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (None, ""),
        (lambda h: b"\7" + h[1:], "'deep/er/17'"),
        (lambda h: h[:8] + b"\xff\xff\0\0" + h[12:], "'deep/er/17'"),
        (_resize, "'deep/er/17'"),
    ],
)
def test_one_wrong_header_among_equal_ones_is_found(tmp_path, change, text):
    """Those with the same header are not opened, those with another one are."""
    path = tmp_path / "a.h5"
    _blocks(path, change)
    if text:
        with assert_refused(text):
            open_hdf5(path)
        return
    with open_hdf5(path) as file:
        assert len(file["deep/er"]) == 41


def test_headers_tell_which_bytes_may_differ(tmp_path):
    _blocks(tmp_path / "a.h5")
    content = (tmp_path / "a.h5").read_bytes()
    assert has_plain_addresses(content[:16])
    assert not has_plain_addresses(bytes(512) + content[:16])
    with h5py.File(tmp_path / "a.h5") as file:
        outer, inner = file["deep"], file["deep/er"]
        places = [inner.id.links.get_info(f"{k}".encode()).u for k in range(40)]
        offsets = [inner[f"{k}"].id.get_offset() for k in range(40)]
        group = outer.id.links.get_info(b"er").u
    first = parse_header(content[places[0] : places[0] + MOST_HEADER])
    assert first is not None
    assert first.rank == 2
    known = Alike(first, *(int.from_bytes(b, "little") for b in (first.fixed, b"")), 8)
    raw = content[places[0] : places[0] + first.length]
    known = known._replace(value=int.from_bytes(raw, "little") & known.mask)
    assert [known.measure(content, place) for place in places] == [48] * 40
    assert known.measure(content, group) is None
    starts = [content[p + first.stretch :][:8] for p in places]
    assert [int.from_bytes(word, "little") for word in starts] == offsets
    assert parse_header(content[group : group + MOST_HEADER]) is None
    assert parse_header(raw[:-1]) is None
