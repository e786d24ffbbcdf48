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
    """Of 1 … 9 and 40 the median is 5.5 and the median deviation 2.5."""
    values = (*range(1, 10), 40)
    errors = {name: {"mae": value} for name, value in zip("abcdefghij", values, strict=True)}
    (found,) = find_outliers(errors, ("mae", "absent"))
    assert found == {
        "structure": "j",
        "metric": "mae",
        "value": 40,
        "median": 5.5,
        "score": pytest.approx(0.6745 * 34.5 / 2.5),
    }
    errors["j"]["mae"] = -40
    assert not find_outliers(errors, ("mae",))
    del errors["a"]
    errors["j"]["mae"] = 40
    assert not find_outliers(errors, ("mae",))
