"""Splits that are made where none is given."""

import pytest
from ase.build import bulk

from mlepi.errors import ConfigError, DataError
from mlepi.structures import LabelledStructure, build_graphene, split_structures
from mlepi.structures.automatic_splits import find_stratum, read_fractions


def structures(n, stacking="AB", kind=None, prefix="s"):
    provenance = {} if kind is None else {"config_type": kind}
    atoms = build_graphene(stacking)
    return [LabelledStructure(f"{prefix}{i:03d}", atoms, provenance=provenance) for i in range(n)]


def test_every_structure_once_in_the_usual_proportions():
    split, provenance = split_structures(structures(40))
    assert {subset: len(names) for subset, names in split.items()} == {
        "train": 32,
        "val": 4,
        "test": 4,
    }
    assert sorted(name for names in split.values() for name in names) == [
        s.name for s in structures(40)
    ]
    assert provenance["fractions"] == [0.8, 0.1, 0.1]


def test_the_split_is_a_function_of_the_structures_alone():
    mixed = [*structures(20), *structures(10, "monolayer", prefix="m")]
    assert split_structures(mixed) == split_structures(mixed[::-1])
    assert split_structures(mixed)[0] != split_structures(mixed, seed=1)[0]


def test_strata_are_kinds_compositions_and_numbers_of_layers():
    """Each is divided in the same proportions, to within two structures."""
    mixed = [
        *structures(30, kind="thermal"),
        *structures(30, kind="slide", prefix="t"),
        *structures(30, "monolayer", prefix="m"),
    ]
    assert len({find_stratum(s) for s in mixed}) == 3
    silicon = LabelledStructure("si", bulk("Si"), provenance={"kind": "strained"})
    assert find_stratum(silicon) == "strained, Si, 1 layer"
    _, provenance = split_structures(mixed)
    for counts in provenance["strata"].values():
        assert abs(counts["val"] - 3) <= 2
        assert abs(counts["train"] - 24) <= 2


@pytest.mark.parametrize("n", range(3, 31))
def test_few_structures_leave_no_subset_empty(n):
    split, _ = split_structures(structures(n))
    assert min(map(len, split.values())) >= 1
    assert len(split["train"]) >= len(split["test"])


def test_fractions_of_ones_own():
    split, _ = split_structures(structures(10), [0.5, 0.3, 0.2])
    assert [len(names) for names in split.values()] == [5, 3, 2]
    assert read_fractions("data.split", (0.8, 0.1, 0.1)) == (0.8, 0.1, 0.1)
    assert read_fractions("data.split", None) is None


@pytest.mark.parametrize(
    "given", [0.8, [0.8, 0.2], [0.8, 0.1, 0.2], [1.0, 0.0, 0.0], ["a"] * 3, {}]
)
def test_what_are_no_fractions_is_refused(given):
    with pytest.raises(ConfigError, match=r"data\.split: got .*; expected a JSON file, null, or"):
        read_fractions("data.split", given)


def test_too_few_structures_are_refused():
    with pytest.raises(DataError, match=r"split: got 2 structures; expected at least three"):
        split_structures(structures(2))
    with pytest.raises(DataError, match=r"no structure in \['val', 'test'\]"):
        split_structures(structures(3), [0.8, 0.1, 0.1])
