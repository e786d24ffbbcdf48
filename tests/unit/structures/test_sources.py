"""Every format is recognised by its files, folders are searched, names are unique."""

from __future__ import annotations

import pytest
from foreign_files import foreign
from foreign_writers import write_abacus, write_dftio, write_hsx, write_kmesh
from hamiltonian_samples import (
    openmx_out,
    real_sample,
    write_legacy_folder,
    write_new_folder,
    write_scfout,
)

from mlepi.errors import DataError
from mlepi.structures.openmx_out import read_openmx_out
from mlepi.structures.sources import FORMATS, find_sources, list_formats, read_source


@pytest.fixture
def tree(tmp_path):
    """One structure of every format with a Hamiltonian, each in a folder of its own."""
    sample = real_sample()
    (tmp_path / "mx").mkdir()
    write_scfout(tmp_path / "mx" / "slide.scfout", sample).with_suffix(".out").write_text(
        openmx_out(sample)
    )
    write_legacy_folder(tmp_path / "legacy", sample)
    write_new_folder(tmp_path / "new", sample)
    (tmp_path / "si").mkdir()
    write_hsx(tmp_path / "si" / "slide.HSX", sample)
    write_abacus(tmp_path / "run", sample)
    write_dftio(tmp_path / "dftio" / "C4.0", sample)
    write_kmesh(tmp_path / "mesh", sample, (11, 11, 1))
    return tmp_path


def test_everything_below_a_folder_is_found_and_read(tree):
    sources = find_sources([tree])
    assert [(source.source_format, source.name) for source in sources] == [
        ("dftio", "C4.0"),
        ("deeph_legacy", "legacy"),
        ("kmesh", "mesh"),
        ("openmx", "mx_slide"),
        ("deeph", "new"),
        ("abacus", "sample"),
        ("siesta", "si_slide"),
    ]
    structures = [read_source(source)[0] for source in sources]
    assert [structure.name for structure in structures] == [source.name for source in sources]
    assert len({structure.edge_index.shape for structure in structures}) == 1
    assert structures[3].energy is not None


def test_each_by_itself_and_by_name(tree):
    for path, name in (("legacy", "deeph_legacy"), ("si/slide.HSX", "siesta"), ("mx", "openmx")):
        assert [s.source_format for s in find_sources([tree / path])] == [name]
        assert [s.source_format for s in find_sources([tree / path], name)] == [name]
    with pytest.raises(DataError, match="no structure in it or below it"):
        find_sources([tree / "legacy"], "siesta")
    assert list_formats()[: len(FORMATS)] == list(FORMATS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("graph_data.npz", "HamGNN's pickled graphs: mlepi unpickle FILE FOLDER"),
        ("data.mdb", "pickles in a database"),
        ("graphs.pkl", "a pickle, which can run any code"),
        ("notes.txt", "a file of no known format"),
    ],
)
def test_files_that_are_not_read_get_one_message(tmp_path, name, text):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=text):
        find_sources([tmp_path / name])
    if name != "notes.txt":
        with pytest.raises(DataError, match=text):
            find_sources([tmp_path])


def test_of_one_run_one_file_is_taken(tmp_path):
    for name in ("OUTCAR", "vasprun.xml", "phonopy_disp.yaml"):
        (tmp_path / name).write_text("x")
    assert [source.path.name for source in find_sources([tmp_path])] == ["vasprun.xml"]


def test_text_of_openmx_alone():
    """Energy and chemical potential as printed; this run printed no forces."""
    path = foreign("openmx-out/MoTe2/openmx.out")
    structure = read_openmx_out(path)
    assert structure.atoms.get_chemical_formula() == "MoTe2"
    assert structure.energy == pytest.approx(-267.721524870356 * 27.211386245988)
    assert structure.fermi_energy == pytest.approx(-0.154107384263 * 27.211386245988)
    assert structure.forces is None
    assert structure.atoms.positions[2, 2] == pytest.approx(0.25 * 14.64777841)
    assert [source.source_format for source in find_sources([path.parent])] == ["openmx_out"]


def test_all_genuine_files_are_found():
    folders = ("deeph-legacy", "deeph-new", "graphene-E2g", "openmx-out", "siesta")
    sources = find_sources([foreign(name) for name in folders])
    counts: dict[str, int] = {}
    for source in sources:
        counts[source.source_format] = counts.get(source.source_format, 0) + 1
    assert counts == {"deeph": 2, "deeph_legacy": 1, "kmesh": 5, "openmx_out": 1, "siesta": 1}
    assert len({source.name for source in sources}) == len(sources)
