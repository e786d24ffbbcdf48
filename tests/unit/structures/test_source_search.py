"""What a stranger's folders look like: nested, linked, in capitals, with several files of a run."""

from __future__ import annotations

import os
import shutil

import pytest
import test_readers
from hamiltonian_samples import real_sample, write_legacy_folder, write_scfout

from mlepi.errors import DataError
from mlepi.structures.source_search import name_uniquely
from mlepi.structures.sources import find_sources

NETCDF = b"\x89HDF\r\n\x1a\n...SPARSE"


def found(*paths):
    return [(source.source_format, source.path.name) for source in find_sources(paths)]


@pytest.fixture(scope="module")
def scfout(tmp_path_factory):
    return write_scfout(tmp_path_factory.mktemp("mx") / "slide.scfout", real_sample())


def test_a_folder_that_is_a_structure_hides_nothing_below_it(tmp_path, scfout):
    """Neither a run at the top nor the info.json and POSCAR that some data sets have there."""
    (tmp_path / "runs" / "second").mkdir(parents=True)
    shutil.copy(scfout, tmp_path / "runs" / "first.scfout")
    shutil.copy(scfout, tmp_path / "runs" / "second")
    assert found(tmp_path) == [("openmx", "runs"), ("openmx", "second")]
    write_legacy_folder(tmp_path / "set", real_sample())
    write_legacy_folder(tmp_path / "set" / "0", real_sample())
    assert found(tmp_path / "set") == [("deeph_legacy", "set"), ("deeph_legacy", "0")]


def test_links_are_followed_once(tmp_path, scfout):
    (tmp_path / "run").mkdir()
    shutil.copy(scfout, tmp_path / "run")
    (tmp_path / "latest").symlink_to(tmp_path / "run")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.HSX").symlink_to(tmp_path / "nothing")
    assert found(tmp_path) == [("openmx", "latest")]
    assert found(tmp_path, tmp_path / "run", tmp_path / "run" / ".." / "run") == found(tmp_path)


def test_of_files_of_one_run_the_most_complete_is_taken(tmp_path, scfout):
    for name in ("Si.TSHS", "Si.nc", "Si.HSX", "Rho.grid.nc"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "Si.nc").write_bytes(NETCDF)
    assert found(tmp_path) == [("siesta", tmp_path.name)]
    assert find_sources([tmp_path])[0].name == "Si"
    for name in ("a", "b"):
        shutil.copy(scfout, tmp_path / f"{name}.scfout")
        (tmp_path / f"{name}.out").write_text("Definition.of.Atomic.Species")
    (tmp_path / "c.out").write_text("Definition.of.Atomic.Species")
    (tmp_path / "Si.HSX").rename(tmp_path / "other.HSX")
    assert found(tmp_path) == [
        ("siesta", "Si.TSHS"),
        ("openmx", "a.scfout"),
        ("openmx", "b.scfout"),
        ("openmx_out", "c.out"),
        ("siesta", "other.HSX"),
    ]


@pytest.mark.parametrize("data", [NETCDF.replace(b"SPARSE", b"ORBITAL"), b"CDF\x01 SPARSE", b""])
def test_netcdf_without_matrices_is_no_source(tmp_path, data):
    """SIESTA's ``.ion.nc``, ``.MD.nc`` and ``.TBT.nc``, trajectories of Amber."""
    (tmp_path / "siesta.nc").write_bytes(NETCDF)
    (tmp_path / "Si.ion.nc").write_bytes(data)
    assert found(tmp_path) == [("siesta", tmp_path.name)]
    with pytest.raises(DataError, match="a file of no known format"):
        find_sources([tmp_path / "Si.ion.nc"])


def test_capitals_numbers_and_compression_of_names(tmp_path, scfout):
    shutil.copy(scfout, tmp_path / "MX.SCFOUT")
    assert found(tmp_path / "MX.SCFOUT") == [("openmx", "MX.SCFOUT")]
    names = ("outcar", "OUTCAR.relax2.gz", "vasprun_01.xml", "Vasprun.XML.bz2", "a.EXTXYZ")
    names += ("b.xyz.xz", "ml_ab", "FORCE_SETS_2", "phonopy_params.yaml.xz", "c.DB")
    for name in names:
        (tmp_path / name).write_text("x")
        assert found(tmp_path / name) == [("forces", name)]
    for name in ("phonopy.conf", "phonopy_disp.yaml", "notes.txt", "read_outcar.py"):
        (tmp_path / name).write_text("x")
        with pytest.raises(DataError, match="a file of no known format"):
            find_sources([tmp_path / name])


def test_what_is_neither_file_nor_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: got a file of no known format"):
        find_sources([tmp_path / "pipe"])


def test_of_one_run_one_file_is_taken_compressed_or_not(tmp_path):
    for name in ("outcar.gz", "vasprun.xml.gz", "vasprun.xml"):
        (tmp_path / name).write_text("x")
    assert found(tmp_path) == [("forces", "vasprun.xml")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("runs.tar.gz", "an archive: unpack it"),
        ("runs.zip", "an archive: unpack it"),
        ("vasprun.xml.tar.bz2", "an archive: unpack it"),
        ("vasprun.xmls.tar.lzma", "an archive: unpack it"),
        ("Si.HSX.gz", "compressed: unpack it"),
        ("openmx.scfout.xz", "compressed: unpack it"),
    ],
)
def test_what_must_be_unpacked_first(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"x")
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=rf"{name}; expected a format that is read\. .*{text}"):
            find_sources([path])


def test_one_file_of_a_folder_names_the_folder(tmp_path):
    folder = write_legacy_folder(tmp_path / "a", real_sample())
    for name in ("hamiltonians.h5", "info.json"):
        text = f"{name}: got a single file of several; expected legacy DeepH folder. Give the "
        with pytest.raises(DataError, match=rf"{text}folder, {folder}\."):
            find_sources([folder / name])


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    text = r"cannot be read \(PermissionError.*\. Change its permissions, or leave it out\."
    with pytest.raises(DataError, match=text):
        find_sources([tmp_path])


def test_names_take_as_many_folders_as_they_need():
    deep = ("same",) * 9
    parts = [(("a", *deep), "x"), (("b", *deep), "x"), (("a",), "y")]
    assert name_uniquely(parts) == ["_".join(["a", *deep, "x"]), "_".join(["b", *deep, "x"]), "y"]
    assert name_uniquely([]) == []


def test_spaces_umlauts_and_relative_paths(tmp_path, monkeypatch):
    folder = tmp_path / "Läufe (neu) #1 @2"
    (folder / "erster Lauf").mkdir(parents=True)
    test_readers.TestOutcar().write(folder / "erster Lauf" / "OUTCAR")
    (folder / "zweiter").mkdir()
    test_readers.TestVasprun().write(folder / "zweiter" / "vasprun.xml")
    test_readers.write_frames(folder / "däta@3.extxyz")
    monkeypatch.chdir(folder / "zweiter")
    names = [source.name for source in find_sources([".."])]
    assert names == ["däta@3", "OUTCAR", "vasprun"]
    assert found(".") == found("vasprun.xml") == [("forces", "vasprun.xml")]
