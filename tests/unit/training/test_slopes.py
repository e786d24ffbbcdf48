"""Slopes between paired displacements: known ratios, blocks that one structure lacks."""

import numpy as np
import pytest

from mlepi.training.slopes import LabelledErrors, compare_slopes, find_pairs, subtract_blocks


def blocks_of(sign, keys, slope_error, common=0.0):
    """Labels 5 ± slope and errors ± slope_error·slope + common of every block type."""
    found = LabelledErrors({}, {}, {})
    for name, ratio in slope_error.items():
        slope = np.arange(1.0, 1.0 + 4 * len(keys)).reshape(-1, 2, 2)
        found.keys[name] = keys
        found.label[name] = 5.0 + sign * slope
        found.error[name] = common + sign * ratio * slope
    return found


def test_the_relative_error_is_that_of_the_change_alone():
    keys = np.array([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, -1, 0, 0]])
    ratios = {"onsite": 0.1, "intra": 0.03, "inter": 0.0}
    plus = blocks_of(+1, keys, ratios, common=0.7)
    minus = blocks_of(-1, keys[::-1], ratios, common=0.7)
    for part in (minus.label, minus.error):
        for name in part:
            part[name] = part[name][::-1]
    found = compare_slopes([(plus, minus)])
    assert found["slope_onsite_error"] == pytest.approx(0.1)
    assert found["slope_intra_error"] == pytest.approx(0.03)
    assert found["slope_inter_error"] == pytest.approx(0.0)
    assert found["slope_error"] == pytest.approx(np.sqrt((0.01 + 0.0009) / 3.0))
    assert compare_slopes([]) == {}


def test_blocks_that_one_lacks_count_as_zero():
    first = np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]), np.ones((2, 2, 2))
    second = np.array([[1, 0, 0, 0, 0], [1, 0, 1, 0, 0]]), 3.0 * np.ones((2, 2, 2))
    values = sorted(subtract_blocks(first, second)[:, 0, 0])
    assert values == [-3.0, -2.0, 1.0]


def test_pairs_are_found_by_name():
    names = ["b_p", "b_m", "a_m", "a_p", "lonely_p", "slide"]
    assert find_pairs(names) == [("a_p", "a_m"), ("b_p", "b_m")]
