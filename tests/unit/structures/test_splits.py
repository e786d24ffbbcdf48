"""Splits: reproducible from names and seed, in proportion for every stratum, checked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.structures import make_split, read_split, write_split

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}
NAMES = [f"random_{i:03d}" for i in range(70)] + [f"slide_{i:03d}" for i in range(30)]
KINDS = {name: name.split("_")[0] for name in NAMES}


def test_every_structure_once_and_in_proportion():
    split = make_split(NAMES, FRACTIONS, seed=1)
    assert {subset: len(members) for subset, members in split.items()} == {
        "train": 60,
        "val": 20,
        "test": 20,
    }
    assert sorted(name for members in split.values() for name in members) == sorted(NAMES)
    assert all(members == sorted(members) for members in split.values())


def test_strata_are_in_proportion():
    split = make_split(NAMES, {"train": 0.81, "val": 0.09, "test": 0.10}, seed=1, strata=KINDS)
    assert [len(members) for members in split.values()] == [81, 9, 10]
    for kind, total in (("random", 70), ("slide", 30)):
        counts = [sum(KINDS[name] == kind for name in members) for members in split.values()]
        assert np.abs(np.array(counts) - np.array([0.81, 0.09, 0.10]) * total).max() <= 2


def test_order_of_names_does_not_matter_but_the_seed_does():
    shuffled = np.random.default_rng(0).permutation(NAMES).tolist()
    assert make_split(shuffled, FRACTIONS, seed=1, strata=KINDS) == make_split(
        NAMES, FRACTIONS, seed=1, strata=KINDS
    )
    assert make_split(NAMES, FRACTIONS, seed=1) != make_split(NAMES, FRACTIONS, seed=2)


def test_known_split():
    """Renewed by printing it.

    Guards against a change of the rule, which would mix train and test of old checkpoints.
    """
    assert make_split("abcdefghij", FRACTIONS, seed=0) == {
        "train": list("aceghj"),
        "val": list("fi"),
        "test": list("bd"),
    }


@pytest.mark.parametrize(
    ("names", "fractions", "strata", "text"),
    [
        (["a", "a"], FRACTIONS, None, "split: got a name twice"),
        (NAMES, {"train": 0.6, "val": 0.2}, None, "positive numbers with sum 1"),
        (NAMES, {"train": 1.2, "val": -0.2}, None, "positive numbers with sum 1"),
        (NAMES, {}, None, "positive numbers with sum 1"),
        (NAMES, FRACTIONS, {}, "none for 'random_000', 'random_001', 'random_002' and 97 more"),
        (["a", "b"], FRACTIONS, None, r"no structure in \['test'\]"),
    ],
)
def test_impossible_splits_are_refused(names, fractions, strata, text):
    with pytest.raises(DataError, match=text):
        make_split(names, fractions, seed=0, strata=strata)


def test_round_trip(tmp_path):
    split = make_split(NAMES, FRACTIONS, seed=1)
    write_split(tmp_path / "s.json", split, {"seed": 1})
    assert read_split(tmp_path / "s.json", reversed(NAMES)) == split
    assert json.loads((tmp_path / "s.json").read_text())["provenance"] == {"seed": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


@pytest.mark.parametrize(
    ("split", "names", "text"),
    [
        ({"train": ["a"], "test": ["b"]}, "abc", "'c' in no subset"),
        ({"train": ["a", "x"], "test": ["b"]}, "ab", "'x' not in the data set"),
        ({"train": ["a"], "test": ["a", "b"]}, "ab", "'a' in two subsets"),
        ({"train": ["a", "a"], "test": ["b"]}, "ab", "'a' in two subsets"),
    ],
)
def test_splits_of_other_data_are_refused(tmp_path, split, names, text):
    write_split(tmp_path / "s.json", split, {})
    with pytest.raises(
        DataError, match=f"s.json: got {text}; expected every structure of the data set once"
    ):
        read_split(tmp_path / "s.json", names)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"split": [1]}', '{"split": {"train": ["a"]}}']
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(DataError, match=r"s.json: got no readable split"):
        read_split(tmp_path / "s.json", ["a"])
    with pytest.raises(DataError, match=r"none.json: got no readable split"):
        read_split(tmp_path / "none.json", ["a"])


def test_unknown_versions_are_refused(tmp_path):
    (tmp_path / "s.json").write_text(
        '{"format": "mlepi-split", "format_version": 7, "split": {"train": ["a"]}}'
    )
    with pytest.raises(DataError, match=r"format \('mlepi-split', 7\)"):
        read_split(tmp_path / "s.json", ["a"])
