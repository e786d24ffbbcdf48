"""Structures that stand out: the score by hand, and groups that are too small."""

import pytest

from mlepi.evaluation.outliers import find_outliers, score


def test_the_score_is_that_of_median_and_median_deviation():
    """Median 3, deviations 2, 1, 0, 1, 17: their median is 1."""
    assert score([1.0, 2.0, 3.0, 4.0, 20.0]) == pytest.approx(
        [0.6745 * x for x in (-2, -1, 0, 1, 17)]
    )
    assert score([2.0, 2.0, 2.0, 7.0]) == pytest.approx([0, 0, 0, 0.7979 * 5 / 1.25])
    assert score([2.0, 2.0]) == pytest.approx([0, 0])


def test_only_large_errors_of_large_enough_groups_are_outliers():
    errors = {name: {"mae": value} for name, value in zip("abcde", (1, 2, 3, 4, 20), strict=True)}
    (found,) = find_outliers(errors, ("mae", "absent"))
    assert found == {
        "structure": "e",
        "metric": "mae",
        "value": 20,
        "median": 3.0,
        "score": pytest.approx(0.6745 * 17),
    }
    errors["e"]["mae"] = -20
    assert not find_outliers(errors, ("mae",))
    del errors["a"]
    errors["e"]["mae"] = 20
    assert not find_outliers(errors, ("mae",))
