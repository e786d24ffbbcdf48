"""The store of a run: one file that changes as a whole, with records of several formats."""

import shutil
from dataclasses import dataclass, make_dataclass
from importlib.metadata import version

import h5py
import numpy as np
import pytest
from example_record import Example, Inner, example
from old_runs import NAMES, unpack_run

from mlepi.errors import DataError
from mlepi.results import ResultsStore
from mlepi.results.upgrades import RECORD_FORMAT


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


def test_a_full_disk_is_not_called_damage_of_the_records(tmp_path, monkeypatch):
    store = ResultsStore(tmp_path)
    store.write("first", example(), "1", {})

    def fill(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "copy", fill)  # of the records that are taken over
    with pytest.raises(OSError, match="No space left on device"):
        store.write("second", example(), "2", {})
    assert store.stages() == ("first",)


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


def test_what_a_newer_version_wrote_is_refused(tmp_path):
    store = ResultsStore(tmp_path)
    store.write("phonon", Inner(np.zeros(2)), "1", {})
    with pytest.raises(DataError, match=r"got no field 'atoms'; expected the fields of Example"):
        store.read("phonon", Example)
    with h5py.File(store.path, "r+") as file:
        assert file.attrs["format"] == RECORD_FORMAT
        file["phonon"].attrs.update({"format": RECORD_FORMAT + 1, "mlepi": "9.0.0"})
    newer = rf"written by mlepi 9.0.0 \(format {RECORD_FORMAT + 1}\); this is mlepi .*, "
    text = rf"{newer}which reads up to format {RECORD_FORMAT}; "
    with pytest.raises(DataError, match=rf"results.h5:/phonon: got data {text}"):
        store.read("phonon", Inner)
    with h5py.File(store.path, "r+") as file:
        file.attrs.update({"format": 99, "mlepi": "9.0.0"})
    for action in (
        store.stages,
        lambda: store.inputs("phonon"),
        lambda: store.read("phonon", Inner),
    ):
        with pytest.raises(DataError, match=r"\(format 99\); .* Install mlepi 9.0.0 or newer"):
            action()
    with pytest.raises(DataError, match=r"format 99"):
        store.write("structure", Inner(np.zeros(2)), "1", {})
    assert [path.name for path in tmp_path.iterdir()] == ["results.h5"]


def test_a_record_knows_its_format_its_writer_and_its_code(tmp_path):
    store = ResultsStore(tmp_path)
    assert store.code("phonon") is None
    store.write("phonon", Inner(np.zeros(2)), "1", {}, code="f00d")
    store.write("structure", Inner(np.zeros(2)), "1", {})
    assert (store.code("phonon"), store.code("structure")) == ("f00d", None)
    assert store.format("phonon") == RECORD_FORMAT
    with h5py.File(store.path) as file:
        assert file["phonon"].attrs["mlepi"] == file.attrs["mlepi"] == version("mlepi")
    store.write("phonon", Inner(np.zeros(2)), "1", {})
    assert store.code("phonon") is None
    with pytest.raises(DataError, match=r"got no record 'dos'; expected one of \['phonon', 'str"):
        store.format("dos")


@dataclass(frozen=True)
class Anything:
    """Reads every record: fields that a dataclass does not have are left out."""

    new: float = 2.5


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return unpack_run("finished", tmp_path_factory.mktemp("old"))


@pytest.fixture
def old(finished, tmp_path):
    """A store of format 1 that may be changed."""
    shutil.copy(finished / "results.h5", tmp_path)
    return ResultsStore(tmp_path)


def groups(store):
    with h5py.File(store.path) as file:
        return set(file)


def test_an_old_file_presents_the_present_names(old):
    assert old.stages() == (
        "band_geometry", "conductivity", "control_variate", "domain", "dos", "effective_mass",
        "fermi_velocity", "gap", "hamiltonian", "linear_response", "phonon", "sampling",
        "self_energy", "structure", "tight_binding",
    )  # fmt: skip
    with h5py.File(old.path) as file:
        stored = {name: dict(group.attrs) for name, group in file.items()}
    former = {"fermi_velocity": "observables", "control_variate": "control"}
    for stage in old.stages():
        attributes = stored[former.get(stage, stage)]
        assert old.inputs(stage) == attributes["inputs"]
        assert old.content(stage) == attributes["content"]
        assert old.provenance(stage)["commit"].startswith("cbfa22c")
        assert (old.format(stage), old.code(stage)) == (1, None)
        assert old.read(stage, Anything) == Anything(2.5)
    assert old.inputs("observables") is None
    with pytest.raises(DataError, match=r"no record 'observables'; expected one of \['band_geo"):
        old.read("observables", Anything)


@pytest.mark.parametrize("name", NAMES)
def test_records_of_all_old_runs_open(name, tmp_path):
    for path in unpack_run(name, tmp_path).rglob("results.h5"):
        store = ResultsStore(path.parent)
        assert store.stages()
        assert {store.read(stage, Anything) for stage in store.stages()} == {Anything()}


def test_real_fields_of_an_old_record_are_read(old):
    record = make_dataclass(
        "Velocity", [("temperatures", object), ("n_samples", int), ("reuse", str, "no")]
    )
    found = old.read("fermi_velocity", record)
    assert (found.n_samples, found.reuse) == (4, "no")
    np.testing.assert_array_equal(found.temperatures, [0.0, 300.0])


def test_damage_of_an_old_record_is_found_in_the_group_as_it_lies(old):
    with h5py.File(old.path, "r+") as file:
        file["observables/record/n_samples"][()] = 5
    with pytest.raises(DataError, match=r"results.h5:/observables: got numbers that do not match"):
        old.read("fermi_velocity", Anything)


def test_new_records_replace_those_under_the_former_name(old):
    before = {stage: old.content(stage) for stage in old.stages()}
    old.write("fermi_velocity", example(), "new", {}, code="f00d")
    assert "observables" not in groups(old)
    assert "fermi_velocity" in groups(old)
    assert old.stages() == tuple(before)
    assert (old.format("fermi_velocity"), old.inputs("fermi_velocity")) == (RECORD_FORMAT, "new")
    others = set(before) - {"fermi_velocity"}
    assert {stage: old.content(stage) for stage in others} == {s: before[s] for s in others}
    # copied as it lies, with its name and format
    assert "control" in groups(old)
    assert (old.format("control_variate"), old.format("gap")) == (1, 1)
    assert old.read("control_variate", Anything) == Anything()


def test_dropping_finds_records_under_their_former_names(old):
    old.write("structure", example(), "new", {}, drop=["fermi_velocity", "control_variate", "gap"])
    assert {"observables", "control", "gap"}.isdisjoint(groups(old))
    assert "dos" in groups(old)


def test_a_name_taken_again_is_not_the_former_stage(old):
    old.write("control", example(), "a control of another kind", {})
    assert {"control", "control_variate"} & set(old.stages()) == {"control"}


def test_a_record_is_copied_as_it_lies(finished, tmp_path):
    source, store = ResultsStore(finished), ResultsStore(tmp_path / "nested")
    store.write("dos", example(), "1", {})
    assert store.copy("fermi_velocity", source, drop=["dos"]) == source.content("fermi_velocity")
    assert groups(store) == {"observables"}, "what rests on it is dropped"
    for ask in (store, source):
        assert ask.format("fermi_velocity") == 1
    assert store.inputs("fermi_velocity") == source.inputs("fermi_velocity")
    assert store.provenance("fermi_velocity") == source.provenance("fermi_velocity")
    store.write("dos", example(), "1", {})
    store.copy("fermi_velocity", source, drop=["dos"])
    assert store.stages() == ("dos", "fermi_velocity"), "the same record drops nothing"
    with pytest.raises(DataError, match=r"no record 'none'"):
        store.copy("none", source)
    assert store.stages() == ("dos", "fermi_velocity")
