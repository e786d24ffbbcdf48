"""Options of a judgement: what they mean, and what is refused."""

import numpy as np
import pytest

from mlepi.errors import ConfigError
from mlepi.evaluation.settings import Settings, parse_kpoints
from mlepi.training.level_errors import WINDOWS, choose_kpoints


def test_kpoints_are_a_number_or_points():
    cell = np.diag([3.0, 3.0, 20.0])
    assert parse_kpoints(["2"]) == 2
    assert parse_kpoints(["0,0,0", "0.5,0,-0.25"]) == ((0.0, 0.0, 0.0), (0.5, 0.0, -0.25))
    np.testing.assert_array_equal(Settings(kpoints=2).points(cell), choose_kpoints(cell, 2))
    points = Settings(kpoints=((0.5, 0.0, 0.0),)).points(cell)
    np.testing.assert_array_equal(points, [[0.5, 0.0, 0.0]])
    assert not Settings(kpoints=0).with_levels
    for words in (["x"], ["0,0"], ["1", "2"]):
        with pytest.raises(ConfigError, match="--kpoints: got"):
            parse_kpoints(words)


def test_a_window_comes_beside_the_others():
    assert Settings().windows == WINDOWS
    assert Settings(window=(-1.0, 0.5)).windows == {**WINDOWS, "window": (-1.0, 0.5)}
    assert Settings().describe()["windows_ev"]["occupied"] == [None, 0.0]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kpoints": 6}, "--kpoints: got 6; expected 0 to 5"),
        ({"kpoints": ((0.0, 0.0, float("nan")),)}, "--kpoints: .*finite"),
        ({"window": (1.0, -1.0)}, "--window: got .*; expected a lower and a higher"),
        ({"bin_width": 0.0}, "--bin: got 0.0; expected a positive length"),
        ({"max_structures": 0}, "--max-structures: got 0; expected at least 1"),
        ({"dtype": "float16"}, "float16"),
    ],
)
def test_values_that_cannot_be(values, text):
    with pytest.raises(ConfigError, match=text):
        Settings(**values)
