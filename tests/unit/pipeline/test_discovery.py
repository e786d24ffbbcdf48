"""Stages are found by their place, and run in the order of what they require."""

import sys
import types

import pytest

import mlepi.pipeline.stages
from mlepi.errors import ConfigError
from mlepi.pipeline import SampledStage, find_stages
from mlepi.pipeline.discovery import list_dependents, order_stages, resolve_names

STAGE = """
from dataclasses import dataclass
from typing import ClassVar
from mlepi.pipeline import PlainStage, SampledStage

@dataclass(frozen=True, kw_only=True)
class Own(PlainStage):
    name: ClassVar = "{name}"
    requires: ClassVar = {requires}
    record: ClassVar = int
    lists: ClassVar = {lists}
    def inputs(self, settings): return {{}}
    def summarize(self, record): return ""
    def compute(self, run, line): return 1

"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make a package of stages, name → (requires, lists), and return it."""

    def make(name, stages):
        folder = tmp_path / name
        for stage, (requires, lists) in stages.items():
            (folder / stage).mkdir(parents=True)
            (folder / stage / "__init__.py").touch()
            source = STAGE.format(name=stage, requires=requires, lists=lists)
            (folder / stage / "stage.py").write_text(source)
        (folder / "__init__.py").touch()
        (folder / "notes").mkdir()
        (folder / "notes" / "__init__.py").touch()  # a folder without a stage
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return make


def test_a_folder_with_a_stage_is_found_and_one_without_is_not(package):
    own = package("own_stages", {"one": ((), ()), "two": (("one",), ("all",))})
    found = find_stages(mlepi.pipeline.stages, own)
    assert list(found) == ["hamiltonian", "phonon", "sampling", "structure", "two", "one"]
    assert found["one"].__module__ == "own_stages.one.stage"


def test_two_stages_of_one_name_are_refused(package):
    other = package("other_stages", {"phonon": ((), ())})
    with pytest.raises(ConfigError, match=r"stage phonon: got mlepi.*expected one stage of a name"):
        find_stages(mlepi.pipeline.stages, other)


def test_what_a_stage_requires_stands_before_it(package):
    stages = find_stages(
        package("chain", {"c": (("b",), ()), "b": (("a",), ()), "a": ((), ("some",))})
    )
    assert order_stages(["c"], stages) == ["a", "b", "c"]
    assert resolve_names(["c", "a", "c"], stages) == ["a", "b", "c"]
    assert resolve_names("some", stages) == ["a"]
    assert list_dependents("a", stages) == {"b", "c"}
    assert list_dependents("c", stages) == set()


def test_stages_that_look_at_samples_follow_each_other():
    def fake(name, requires, base):
        return types.new_class(name, (base,), exec_body=lambda ns: ns.update(requires=requires))

    stages = {
        "a": fake("a", (), object),
        "plain": fake("plain", ("a",), object),
        "first": fake("first", ("a",), SampledStage),
        "second": fake("second", ("a",), SampledStage),
    }
    assert order_stages(["first", "plain", "second"], stages) == ["a", "first", "second", "plain"]


def test_an_unknown_name_suggests_the_nearest(package):
    stages = find_stages(package("few", {"fermi_velocity": ((), ("all",))}))
    with pytest.raises(ConfigError, match=r"stage\.run: got 'fermi_velocty'.*'fermi_velocity'"):
        resolve_names(["fermi_velocty"], stages)
    assert resolve_names("observables", stages) == ["fermi_velocity"]  # its former name
