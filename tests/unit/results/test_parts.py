import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.results import PartFile


def write(path, n=3):
    part = PartFile(path, "inputs")
    for i in range(n):
        part.append((i, 300.0), {"energy": np.full(4, float(i)), "label": np.array(i)})
    return part


def test_results_come_back(tmp_path):
    part = write(tmp_path / "folder" / "a.part")
    assert part.keys() == {(0, 300.0), (1, 300.0), (2, 300.0)}
    places = part.places()
    assert list(places) == [(0, 300.0), (1, 300.0), (2, 300.0)]
    np.testing.assert_array_equal(part.load(places[2, 300.0])["energy"], np.full(4, 2.0))
    assert PartFile(tmp_path / "none.part", "inputs").keys() == set()
    assert PartFile(tmp_path / "none.part", "inputs").places() == {}


def test_a_kill_at_any_byte_loses_at_most_the_unfinished_result(tmp_path):
    path = tmp_path / "a.part"
    part = write(path)
    whole = path.read_bytes()
    ends = [*list(part.places().values())[1:], len(whole)]
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        complete = {(i, 300.0) for i, end in enumerate(ends) if end <= size}
        assert part.keys() == complete
        part.append((9, 0.0), {"energy": np.zeros(1)})
        assert part.keys() == complete | {(9, 0.0)}


def test_results_of_other_inputs_are_forgotten(tmp_path):
    path = tmp_path / "a.part"
    write(path)
    assert PartFile(path, "others").keys() == set()
    assert not path.exists()


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
