"""Mistakes in configurations, one text each."""

import pytest
from omegaconf import OmegaConf

from mlepi.config_check import (
    check_target,
    find_targets,
    list_missing_values,
    list_unknown_keys,
    suggest,
)


class Base:
    def __init__(self, *, width: float, depth: int = 1) -> None:
        self.size = (width, depth)


class Derived(Base):
    def __init__(self, *, colour: str = "red", **arguments: float) -> None:
        super().__init__(**arguments)
        self.colour = colour


HERE = f"{__name__}.Derived"


def test_a_suggestion_is_the_closest_word_or_all():
    assert suggest("temprature", ["seed", "temperature"]) == "Did you mean 'temperature'?"
    assert suggest("xyz", ["seed", "dtype"]) == "Known: dtype, seed."


def test_missing_and_unknown():
    [text] = list_missing_values(OmegaConf.create({"a": {"b": "???"}, "c": 1}))
    assert (
        text == "a.b: got no value (???); expected a value. "
        "Give it, for example a.b=… on the command line."
    )
    assert list_unknown_keys("", ["seed"], ["seed"], "conf/x.yaml") == []
    [text] = list_unknown_keys("", ["sede"], ["seed"], "conf/x.yaml")
    assert text == "sede: got an unknown key; expected a key of conf/x.yaml. Did you mean 'seed'?"
    [text] = list_unknown_keys("trainer", ["device"], ["devices"])
    assert (
        text
        == "trainer.device: got an unknown key; expected a key of trainer. Did you mean 'devices'?"
    )


def test_targets_are_found_at_any_depth():
    tree = {"a": {"_target_": "x", "inner": [{"_target_": "y"}, 3]}, "b": 1}
    assert [path for path, _ in find_targets(tree)] == ["a", "a.inner[0]"]


@pytest.mark.parametrize(
    ("node", "options", "expected"),
    [
        ({"width": 1.0, "colour": "blue"}, {"complete": True}, []),
        (
            {"colour": "blue"},
            {"complete": True},
            ["part.width: got nothing; expected a value. Give it."],
        ),
        ({"colour": "blue"}, {"complete": True, "supplied": ["width"]}, []),
        ({}, {}, []),
        (
            {"dept": 2},
            {},
            ["part.dept: got an unknown key; expected a key of part. Did you mean 'depth'?"],
        ),
        (
            {"dept": 2},
            {"supplied": ["depth"]},
            ["part.dept: got an unknown key; expected a key of part. Known: colour, width."],
        ),
    ],
)
def test_keys_are_those_of_the_class_and_its_bases(node, options, expected):
    assert check_target("part", {"_target_": HERE, **node}, **options) == expected


def test_open_arguments_and_missing_classes():
    assert check_target("part", {"_target_": "builtins.dict", "anything": 1}) == []
    [text] = check_target("part", {"_target_": "mlepi.models.Nothing"})
    assert text.startswith("part._target_: got 'mlepi.models.Nothing' (")
