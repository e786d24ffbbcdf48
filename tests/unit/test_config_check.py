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


def test_a_value_from_a_key_that_is_misspelt_is_told():
    config = OmegaConf.create({"a": {"b": "${c.max_epochs}"}, "c": {"max__epochs": 1}})
    [text] = list_missing_values(config)
    assert text.startswith("a.b: got a value from elsewhere, which is not there")
    assert "c.max_epochs" in text


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
    [text] = check_target("part", {"_target_": "mlepi.models.DeepH3"})
    assert text.startswith("part._target_: got 'mlepi.models.DeepH3'; expected a class or")
    assert text.endswith("function of mlepi.models. Did you mean 'DeepHE3'?")
    [text] = check_target("part", {"_target_": "mlepi.nothing.MACE"})
    assert text.startswith("part._target_: got 'mlepi.nothing.MACE' (")


class Fixed(Base):
    def __init__(self, *, colour: str, **arguments: int) -> None:
        super().__init__(width=2.0, **arguments)
        self.colour = colour


class ByPosition(Base):
    def __init__(self, sites: int, **arguments: float) -> None:
        Base.__init__(self, **arguments)
        self.sites = sites


class Kept(Base):
    def __init__(self, **arguments: float) -> None:
        super().__init__(width=1.0)
        self.kept = arguments


def test_arguments_that_a_class_gives_to_its_base_are_not_asked_for():
    here = f"{__name__}.Fixed"
    assert check_target("part", {"_target_": here, "colour": "red"}, complete=True) == []
    [text] = check_target("part", {"_target_": here, "colour": "red", "width": 1.0})
    assert text.startswith("part.width: got an unknown key; expected a key of part.")


def test_arguments_handed_to_a_named_base_are_followed():
    here = f"{__name__}.ByPosition"
    [text] = check_target("part", {"_target_": here, "sites": 1}, complete=True)
    assert text.startswith("part.width: got nothing")


def test_arguments_that_are_kept_may_be_anything():
    assert check_target("part", {"_target_": f"{__name__}.Kept", "whatever": 1}) == []


@pytest.mark.parametrize(
    ("calculator", "arguments"),
    [
        ("lj.LennardJones", {"sigma": 3.4, "epsilon": 0.01, "rc": 8.0}),
        ("morse.MorsePotential", {"epsilon": 1.0, "r0": 1.4, "rho0": 6.0}),
        ("vasp.Vasp", {"xc": "PBE", "encut": 400, "ismear": 0, "kpts": [6, 6, 1]}),
        ("dftb.Dftb", {"Hamiltonian_SCC": "Yes", "kpts": [4, 4, 1]}),
        ("espresso.Espresso", {"pseudopotentials": {"C": "C.upf"}, "kpts": [4, 4, 1]}),
        ("siesta.Siesta", {"mesh_cutoff": 2700.0, "fdf_arguments": {"DM.MixingWeight": 0.1}}),
        ("tip3p.TIP3P", {"rc": 4.0}),
    ],
)
def test_any_calculator_of_ase_takes_its_own_keywords(calculator, arguments):
    node = {"_target_": f"ase.calculators.{calculator}", **arguments}
    assert check_target("phonon", node, complete=True) == []


@pytest.mark.parametrize(
    ("calculator", "key", "meant"),
    [
        ("lj.LennardJones", "sgima", "sigma"),
        ("morse.MorsePotential", "epsilom", "epsilon"),
        ("dftb.Dftb", "slako_dirr", "slako_dir"),
        ("tip3p.TIP3P", "widht", "width"),
        ("tip3p.TIP3P", "charge", None),
    ],
)
def test_misspelt_keywords_of_calculators_are_refused(calculator, key, meant):
    [text] = check_target("phonon", {"_target_": f"ase.calculators.{calculator}", key: 1.0})
    assert text.startswith(f"phonon.{key}: got an unknown key")
    assert text.endswith("Known: rc, width." if meant is None else f"Did you mean {meant!r}?")
