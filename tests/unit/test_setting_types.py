"""Settings are of the types that constructors ask for."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from mlepi.config_check import check_target
from mlepi.errors import ConfigError
from mlepi.setting_types import describe_type, is_of_type, list_wrong_types


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [3, -1], [3.0, True, "3", None, [3], math.nan]),
        (float, [3, 0.5], [True, "0.5", math.nan, math.inf, -math.inf, {}, []]),
        (bool, [True], [1, "true", None]),
        (str, ["word"], [1, None, ["word"], "", "  "]),
        (float, [1.0], [""]),
        (str | None, [None, "word"], [""]),
        (Mapping[str, Any], [{"a": None}], [{"a": ""}, ""]),
        (float | None, [None, 1.0], ["x", math.nan]),
        (Literal["a", 1], ["a", 1], ["b", True, None]),
        (tuple[float, float], [[1, 2.0]], [[1], [1, 2, 3], 1.0, [1, math.nan], "ab"]),
        (tuple[int, ...], [[], [1, 2]], [[1.5], 1, "12"]),
        (Sequence[float | Sequence[float]], [[1, [2, 3]]], [[["x"]], {"a": 1}]),
        (Mapping[str, float], [{"a": 1}], [{"a": "x"}, [1]]),
        (Path, ["a/b"], [1, ""]),
        (Any, [1, None, "x", {}], [math.inf, ""]),
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


def test_texts_are_empty_only_where_they_are_so_by_themselves():
    from mlepi.pipeline.stages.structure.stage import StructureStage

    assert list_wrong_types("stage.structure", StructureStage, {"note": ""}) == []
    [text] = list_wrong_types("stage.structure", StructureStage, {"note": " "})
    assert text.startswith("stage.structure.note: got ' '; expected a text.")


@pytest.mark.parametrize(
    ("task", "change", "text"),
    [
        ("PhononTask", {}, ""),
        ("PhononTask", {"energy_unit": ""}, "task.loss.energy_unit: got ''; expected a number."),
        ("PhononTask", {"energy_unti": 1.0}, "Did you mean 'energy_unit'?"),
        ("PhononTask", {"forces_weight": "1"}, "task.loss.forces_weight: got '1'; expected a numb"),
        ("ElectronTask", {}, ""),
        ("ElectronTask", {"unit": None}, "task.loss.unit: got None; expected a number."),
        ("ElectronTask", {"metric": 3}, "task.loss.metric: got 3; expected settings of MetricLoss"),
        ("ElectronTask", {"metric": {"form": ""}}, "task.loss.metric.form: got ''; expected a tex"),
    ],
)
def test_settings_inside_of_an_argument(task, change, text):
    """Those of a loss are a mapping to the task, and typed arguments to the loss."""
    losses = {
        "PhononTask": {"kind": "mse", "energy_weight": 1, "forces_weight": 1.0, "energy_unit": 0.1},
        "ElectronTask": {"kind": "mse", "gauge_free": True, "unit": 1, "balanced": False},
    }
    node = {"_target_": f"mlepi.training.{task}", "loss": {**losses[task], **change}}
    found = check_target("task", node)
    assert bool(found) == bool(text)
    assert any(text in line for line in found) or not text, found


@pytest.mark.parametrize("unit", [0, 0.0, -1])
def test_units_of_a_loss_are_positive(unit):
    from mlepi.training.losses import ElectronLoss, PhononLoss

    with pytest.raises(ConfigError, match=r"task\.loss\.forces_unit: got (-1|0); expected a posi"):
        PhononLoss(kind="mse", energy_weight=1.0, forces_weight=1.0, forces_unit=unit)
    with pytest.raises(ConfigError, match=r"task\.loss\.unit: got"):
        ElectronLoss(kind="mse", gauge_free=True, unit=unit, balanced=True)
