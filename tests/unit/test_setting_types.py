"""Settings are of the types that constructors ask for."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from mlepi.setting_types import describe_type, is_of_type, list_wrong_types


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [3, -1], [3.0, True, "3", None, [3], math.nan]),
        (float, [3, 0.5], [True, "0.5", math.nan, math.inf, -math.inf, {}, []]),
        (bool, [True], [1, "true", None]),
        (str, ["word", ""], [1, None, ["word"]]),
        (float | None, [None, 1.0], ["x", math.nan]),
        (Literal["a", 1], ["a", 1], ["b", True, None]),
        (tuple[float, float], [[1, 2.0]], [[1], [1, 2, 3], 1.0, [1, math.nan], "ab"]),
        (tuple[int, ...], [[], [1, 2]], [[1.5], 1, "12"]),
        (Sequence[float | Sequence[float]], [[1, [2, 3]]], [[["x"]], {"a": 1}]),
        (Mapping[str, float], [{"a": 1}], [{"a": "x"}, [1]]),
        (Path, ["a/b"], [1]),
        (Any, [1, None, "x", {}], [math.inf]),
        (Exception, ["whatever", {"_target_": "a.B"}, None], []),
    ],
)
def test_values_and_annotations(annotation, good, bad):
    assert [value for value in good if not is_of_type(value, annotation)] == []
    assert [value for value in bad if is_of_type(value, annotation)] == []


def test_the_setting_and_what_it_may_be_are_named():
    from mlepi.pipeline.engines import Dask

    [text] = list_wrong_types("engine", Dask, {"workers": "two", "queue": None, "memory": "4 GB"})
    assert text.startswith("engine.workers: got 'two'; expected an integer.")
    assert describe_type(tuple[float, float] | None) == "a list of a number or null"
    assert list_wrong_types("x", dict, {"a": math.nan}) == [], "not a class of this package"
