"""Part files: nothing that was finished is lost, and nothing of another calculation is used."""

import json
from collections import Counter

import numpy as np
import pytest
from old_runs import FOLDER, unpack_run

from mlepi.errors import DataError
from mlepi.results import PartFile, choose_part, find_parts, former_inputs, hash_data
from mlepi.results import parts as parts_file
from mlepi.results.parts import OTHER_CODE, THIS_CODE, UNKNOWN_CODE


def write(path, n=3, code=None, first=0):
    part = PartFile(path, "inputs", code)
    for i in range(first, first + n):
        part.append((i, 300.0), {"energy": np.full(4, float(i)), "label": np.array(i)})
    return part


def rewrite_header(path, key):
    """Put another first frame in front of the results of a file, as an older version wrote them."""
    part = PartFile(path, "inputs")
    rest = [parts_file._frame(key, part.load(place)) for key, place in part.places().items()]
    path.write_bytes(parts_file._frame(key, {}) + b"".join(rest))


def test_results_come_back(tmp_path):
    part = write(tmp_path / "folder" / "a.part")
    assert part.keys() == {(0, 300.0), (1, 300.0), (2, 300.0)}
    places = part.places()
    assert list(places) == [(0, 300.0), (1, 300.0), (2, 300.0)]
    np.testing.assert_array_equal(part.load(places[2, 300.0])["energy"], np.full(4, 2.0))
    assert PartFile(tmp_path / "none.part", "inputs").keys() == set()
    assert PartFile(tmp_path / "none.part", "inputs").places() == {}
    assert PartFile(tmp_path / "none.part", "inputs").header() is None


@pytest.mark.parametrize("code", [None, "f00d"])
def test_a_kill_at_any_byte_loses_at_most_the_unfinished_result(tmp_path, code):
    path = tmp_path / "a.part"
    part = write(path, code=code)
    whole = path.read_bytes()
    ends = [*list(part.places().values())[1:], len(whole)]
    for size in range(0, len(whole), 41):
        path.write_bytes(whole[:size])
        complete = {(i, 300.0) for i, end in enumerate(ends) if end <= size}
        assert part.keys() == complete
        part.append((9, 0.0), {"energy": np.zeros(1)})
        assert part.keys() == complete | {(9, 0.0)}


def test_results_that_another_run_put_into_the_file_are_left_out(tmp_path, monkeypatch, caplog):
    path = tmp_path / "a.part"
    write(path, n=2)
    intruder = PartFile(path, "inputs of another seed")
    with monkeypatch.context() as patch:  # it had looked at the file before it was replaced
        patch.setattr(PartFile, "takes_new_results", lambda part: True)
        intruder.append((1, 300.0), {"energy": np.full(4, -1.0)})
        intruder.append((2, 300.0), {"energy": np.full(4, -2.0)})
    part = PartFile(path, "inputs")
    assert part.keys() == set(part.places()) == {(0, 300.0), (1, 300.0)}
    assert "a.part: left out 2 results of another calculation" in caplog.text
    np.testing.assert_array_equal(part.load(part.places()[1, 300.0])["energy"], np.full(4, 1.0))
    part.append((2, 300.0), {"energy": np.full(4, 2.0)})
    np.testing.assert_array_equal(part.load(part.places()[2, 300.0])["energy"], np.full(4, 2.0))
    ends = [end for end, _ in parts_file._frames(path)]
    with pytest.raises(DataError, match="damaged frame"):
        part.load(ends[2])


def test_every_result_reaches_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(parts_file.os, "fsync", synced.append)
    write(tmp_path / "a.part")
    assert len(synced) == 3


def test_the_header_says_what_wrote_the_file(tmp_path):
    header = write(tmp_path / "a.part", code="f00d").header()
    assert (header.format, header.inputs, header.code) == (2, "inputs", "f00d")
    assert header.mlepi == parts_file.find_version()
    assert write(tmp_path / "b.part").header().code is None


def test_results_of_other_inputs_are_forgotten(tmp_path):
    path = tmp_path / "a.part"
    write(path)
    part = PartFile(path, "others", "f00d", "inputs", keep_other_code=True)
    assert part.keys() == set()
    assert part.made_by is None
    assert not path.exists()


@pytest.mark.parametrize(
    ("written", "asked", "found"),
    [
        ("a", "a", THIS_CODE),
        (None, "a", UNKNOWN_CODE),
        ("a", None, UNKNOWN_CODE),
        (None, None, UNKNOWN_CODE),
    ],
)
def test_results_of_this_or_of_unknown_code_are_used(tmp_path, written, asked, found):
    write(tmp_path / "a.part", code=written)
    part = PartFile(tmp_path / "a.part", "inputs", asked)
    assert part.made_by is None
    assert len(part.keys()) == 3
    assert part.made_by == found


@pytest.mark.parametrize("keep", [False, True])
def test_results_of_other_code_are_used_only_when_asked(tmp_path, keep):
    path = tmp_path / "a.part"
    write(path, code="a")
    part = PartFile(path, "inputs", "b", keep_other_code=keep)
    assert len(part.keys()) == (3 if keep else 0)
    assert part.made_by == OTHER_CODE
    assert path.exists() == keep


def test_a_file_of_format_one_belongs_to_the_former_inputs(tmp_path):
    path = tmp_path / "a.part"
    for former, n in (("inputs of then", 3), ("inputs", 0), (None, 0)):
        write(path)
        rewrite_header(path, ("inputs", "inputs of then"))
        part = PartFile(path, "inputs", "f00d", former)
        assert part.header().format == 1
        assert len(part.keys()) == n
        assert part.made_by == (UNKNOWN_CODE if n else None)
        if n:
            places = part.places()
            assert set(places) == part.keys()
            assert part.load(places[1, 300.0])["label"] == 1
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "header", [("inputs", "former"), ("header", {"format": 2, "inputs": "inputs", "code": "a"})]
)
def test_new_results_never_go_behind_those_of_another_format_or_code(tmp_path, header):
    path = tmp_path / "s.0.part"
    write(path, code="b")
    rewrite_header(path, header)
    before = path.read_bytes()
    part = PartFile(path, "inputs", "b", "former", keep_other_code=True)
    assert part.keys() == {(0, 300.0), (1, 300.0), (2, 300.0)}
    with pytest.raises(
        DataError, match=r"got results of another format, .*; expected a file for new results"
    ):
        part.append((3, 300.0), {})
    chosen = choose_part(tmp_path, "s", 0, "inputs", "b")
    assert chosen.path.name == "s.0.1.part"
    chosen.append((3, 300.0), {"label": np.array(3)})
    assert choose_part(tmp_path, "s", 0, "inputs", "b").path == chosen.path
    assert choose_part(tmp_path, "s", 0, "inputs", "c").path.name == "s.0.2.part"
    assert choose_part(tmp_path, "s", 1, "inputs", "b").path.name == "s.1.part"
    assert path.read_bytes() == before


def test_results_are_gathered_from_all_files_of_a_stage(tmp_path):
    write(tmp_path / "gap.0.part", 2, code="b")
    write(tmp_path / "gap.1.part", 2, code="a", first=2)
    write(tmp_path / "gaps.0.part", 9, code="a")
    keep = {"inputs": "inputs", "code": "a", "keep_other_code": True}
    found = find_parts(tmp_path, "gap", **keep)
    assert [part.path.name for part in found] == ["gap.0.part", "gap.1.part"]
    assert set.union(*(part.keys() for part in found)) == {(i, 300.0) for i in range(4)}
    # a sample done again by this code counts, wherever its file stands in the order of names
    for code, value in (("b", 1.0), ("a", 2.0)):
        choose_part(tmp_path, "gap", 5, "inputs", code).append((9, 0.0), {"e": np.array(value)})
    found = find_parts(tmp_path, "gap", **keep)
    places = {key: (part, place) for part in found for key, place in part.places().items()}
    part, place = places[9, 0.0]
    assert part.load(place)["e"] == 2.0
    assert len(find_parts(tmp_path, "gap", "inputs", "a")) == 4
    assert find_parts(tmp_path / "none", "gap", "inputs") == []


def test_what_a_newer_version_wrote_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "a.part"
    write(path)
    rewrite_header(path, ("header", {"format": 3, "inputs": "inputs", "mlepi": "9.0.0"}))
    before = path.read_bytes()
    for inputs in ("inputs", "others"):
        with pytest.raises(DataError, match=r"mlepi 9.0.0 \(format 3\); .* Install mlepi 9.0.0"):
            PartFile(path, inputs).keys()
    assert path.read_bytes() == before


def test_damage_raises(tmp_path):
    path = tmp_path / "a.part"
    part = write(path)
    whole = bytearray(path.read_bytes())
    whole[part.places()[1, 300.0] + 60] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(
        DataError,
        match=r"a.part, byte \d+: got a damaged frame; .* Delete the file; its samples are redone",
    ):
        part.keys()
    path.write_bytes(b"something else entirely, not a part file")
    with pytest.raises(DataError, match=r"byte 0: got a damaged frame"):
        part.keys()
    path.unlink()
    write(path)
    rewrite_header(path, ("no header at all",))
    with pytest.raises(DataError, match=r"byte 0: got a damaged frame"):
        part.keys()


@pytest.fixture
def half_done(tmp_path):
    return unpack_run("half_done", tmp_path) / "parts"


def inputs_of(description):
    """The digests of the present and of the former description of the same inputs."""
    present = {**json.loads(description), "stage": "fermi_velocity"}
    del present["version"]
    return hash_data(present), hash_data(former_inputs(present))


def test_an_old_run_goes_on_under_the_new_name(half_done):
    described = json.loads((FOLDER / "part_inputs.json").read_text(encoding="utf-8"))
    inputs, former = inputs_of(json.dumps(described["half_done/parts/observables.0.part"]))
    assert find_parts(half_done, "observables", inputs) == []
    (old,) = find_parts(half_done, "fermi_velocity", inputs, "f00d", former)
    assert old.path.name == "observables.0.part"
    done = old.keys()
    assert done == {(0, 0.0), (0, 300.0), (1, 0.0)}
    assert old.made_by == UNKNOWN_CODE
    new = choose_part(half_done, "fermi_velocity", 0, inputs, "f00d")
    assert new.path.name == "fermi_velocity.0.part"
    new.append((1, 300.0), old.load(old.places()[1, 0.0]))
    found = find_parts(half_done, "fermi_velocity", inputs, "f00d", former)
    assert [part.path.name for part in found] == ["observables.0.part", "fermi_velocity.0.part"]
    there = [key for part in found for key in part.keys()]  # noqa: SIM118
    assert Counter(there) == Counter([*done, (1, 300.0)])


def test_an_old_file_of_a_stage_that_kept_its_name_gets_a_neighbour(half_done):
    described = json.loads((FOLDER / "part_inputs.json").read_text(encoding="utf-8"))
    present = {k: v for k, v in described["half_done/parts/gap.0.part"].items() if k != "version"}
    inputs, former = hash_data(present), hash_data(former_inputs(present))
    new = choose_part(half_done, "gap", 0, inputs, "f00d")
    assert new.path.name == "gap.0.1.part"
    new.append((1, 0.0), {})
    found = find_parts(half_done, "gap", inputs, "f00d", former)
    assert [part.path.name for part in found] == ["gap.0.part", "gap.0.1.part"]
    assert [len(part.keys()) for part in found] == [2, 1]
    assert [part.made_by for part in found] == [UNKNOWN_CODE, THIS_CODE]


def test_an_unfinished_result_of_an_old_run_is_cut_off(half_done):
    path = half_done / "observables.0.part"
    whole = path.read_bytes()
    header = PartFile(path, "").header()
    path.write_bytes(whole[:-100])
    assert len(PartFile(path, "", former_inputs=header.inputs).keys()) == 2
    assert path.stat().st_size < len(whole) - 100
