"""Part files of single k-points: other inputs, other code, and points that are solved twice."""

import numpy as np
import pytest

from mlepi.observables.sparse_bands.solved_points import SolvedPoints

FIRST, SECOND = (0.0, 0.0, 0.0), (0.5, 0.0, 0.0)


def make_points(folder, inputs="inputs", code="code", keep_other_code=False):
    return SolvedPoints(folder, "sparse_bands", inputs, "former", code, keep_other_code)


def point(energy, proven=False):
    return {"energies": np.full(4, energy), "proven": np.array(proven)}


@pytest.fixture
def points(tmp_path):
    found = make_points(tmp_path)
    for key, energy in ((FIRST, 1.0), (SECOND, 2.0)):
        found.append(key, point(energy))
    return found


def test_what_is_solved_is_read(points):
    read = points.read()
    assert set(read) == {FIRST, SECOND}
    np.testing.assert_array_equal(read[SECOND]["energies"], 2.0)
    assert not read[FIRST]["proven"]


def test_a_point_that_is_solved_again_takes_the_place_of_the_first(points):
    points.append(FIRST, point(1.5, proven=True))
    read = points.read()
    assert set(read) == {FIRST, SECOND}
    assert read[FIRST]["proven"]
    np.testing.assert_array_equal(read[FIRST]["energies"], 1.5)


def test_points_of_other_inputs_are_forgotten(points, tmp_path):
    assert make_points(tmp_path, inputs="others").read() == {}
    assert points.read() == {}, "the file is gone"


def test_points_of_other_code_are_kept_on_demand(points, tmp_path):
    other = make_points(tmp_path, code="newer", keep_other_code=True)
    assert set(other.read()) == {FIRST, SECOND}
    other.append(FIRST, point(3.0))
    np.testing.assert_array_equal(other.read()[FIRST]["energies"], 3.0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "sparse_bands.0.part",
        "sparse_bands.0.1.part",
    }
    assert set(make_points(tmp_path, code="newer").read()) == {FIRST}


def test_all_can_be_forgotten(points, tmp_path):
    points.forget()
    assert points.read() == {}
    assert list(tmp_path.iterdir()) == []
