"""Dataclasses as HDF5 groups: what they may hold, and how they read once the class has changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass

import h5py
import numpy as np
import pytest
from example_record import Example, Inner, example
from stored_records import read_record

from mlepi.errors import DataError
from mlepi.results import unit
from mlepi.results.hdf5 import build_record, hash_group, read_fields, write_record


def written(tmp_path, record):
    file = h5py.File(tmp_path / "x.h5", "w")
    write_record(file.create_group("record"), record)
    return file["record"]


def test_every_kind_of_value_comes_back_with_its_type(tmp_path):
    group = written(tmp_path, example())
    fields = read_fields(group)
    assert {name: type(value).__name__ for name, value in fields.items()} == {
        "atoms": "Atoms",
        "count": "int",
        "flag": "bool",
        "inner": "dict",
        "labels": "tuple",
        "missing": "NoneType",
        "name": "str",
        "numbers": "tuple",
        "ratio": "float",
        "spectrum": "ndarray",
        "table": "dict",
    }
    assert fields["labels"] == ("Γ", "M")
    assert fields["numbers"] == (6, 6, 1)
    assert fields["spectrum"].dtype == np.complex128
    again = build_record(fields, Example, "here")
    assert isinstance(again.inner, Inner)
    np.testing.assert_array_equal(again.inner.values, read_record(group, Example).inner.values)


@pytest.mark.parametrize("value", [[1, 2], {1, 2}, object(), ("a", 1), np.array(["a"])])
def test_a_record_refuses_objects(tmp_path, value):
    with pytest.raises(DataError, match=r"values: got .*; expected arrays, .* Convert it first"):
        written(tmp_path, Inner(value))


def test_empty_and_mixed_tuples_of_numbers(tmp_path):
    @dataclass(frozen=True)
    class Numbers:
        empty: tuple[float, ...]
        mixed: tuple[float, ...]

    again = read_record(written(tmp_path, Numbers((), (1, 2.5))), Numbers)
    assert again == Numbers((), (1.0, 2.5))
    assert isinstance(again.mixed[0], float)


def test_large_arrays_are_compressed_and_small_ones_are_not(tmp_path):
    group = written(tmp_path, Inner(np.zeros(1025)))
    assert group["values"].compression == "gzip"
    group.file.close()
    assert written(tmp_path, Inner(np.zeros(1024)))["values"].compression is None


@dataclass(frozen=True)
class Young:
    """As ``Old`` was."""

    energies: np.ndarray = field(metadata=unit("eV"))
    name: str


@dataclass(frozen=True)
class Old:
    """As it is now: a field was dropped, three with defaults came."""

    energies: np.ndarray = field(metadata=unit("eV"))
    spread: np.ndarray | None = field(default=None, metadata=unit("eV"))
    labels: tuple[str, ...] = ("Γ",)
    table: Mapping[str, float] = field(default_factory=dict)


def test_a_missing_field_takes_its_default(tmp_path):
    again = read_record(written(tmp_path, Young(np.arange(2.0), "x")), Old)
    np.testing.assert_array_equal(again.energies, [0.0, 1.0])
    assert (again.spread, again.labels, again.table) == (None, ("Γ",), {})
    other = read_record(written(tmp_path, Young(np.arange(2.0), "x")), Old)
    assert again.table is not other.table


def test_a_missing_field_without_default_says_which(tmp_path):
    new = make_dataclass("New", [("energies", np.ndarray), ("masses", np.ndarray)])
    with pytest.raises(
        DataError,
        match=r"x.h5:/record: got no field 'masses'; expected the fields of New. .* run again",
    ):
        read_record(written(tmp_path, Young(np.arange(2.0), "x")), new)


@dataclass(frozen=True)
class Outer:
    inner: Young
    maybe: Young | None
    several: Mapping[str, Young]
    plain: dict


@dataclass(frozen=True)
class OuterNow:
    inner: Old
    maybe: Old | None
    several: Mapping[str, Old]
    plain: dict
    extra: Old | None = None


def test_nested_records_take_defaults_as_well(tmp_path):
    young = Young(np.ones(1), "x")
    again = read_record(
        written(tmp_path, Outer(young, young, {"a": young}, {"b": np.ones(2)})), OuterNow
    )
    for record in (again.inner, again.maybe, again.several["a"]):
        assert isinstance(record, Old)
        assert record.labels == ("Γ",)
    np.testing.assert_array_equal(again.plain["b"], np.ones(2))
    assert again.extra is None
    without = read_record(written(tmp_path, Outer(young, None, {}, {})), OuterNow)
    assert without.maybe is None
    assert without.several == {}


def test_a_nested_record_names_the_place_of_what_is_missing(tmp_path):
    strict = make_dataclass("Strict", [("inner", Old), ("maybe", Example)])
    young = Young(np.ones(1), "x")
    with pytest.raises(DataError, match=r"/record/maybe: got no field 'atoms'"):
        read_record(written(tmp_path, Outer(young, young, {}, {})), strict)


def test_the_digest_knows_names_types_and_numbers(tmp_path):
    def digest(record):
        group = written(tmp_path, record)
        value = hash_group(group)
        group.file.close()
        return value

    first = digest(Young(np.arange(3.0), "x"))
    assert digest(Young(np.arange(3.0), "x")) == first
    others = [
        Young(np.arange(3.0), "y"),
        Young(np.arange(3.0)[:, None], "x"),
        Young(np.arange(3), "x"),
        Young(np.array([0.0, 1.0, np.nextafter(2.0, 3.0)]), "x"),
        make_dataclass("Renamed", ["energy", "name"])(np.arange(3.0), "x"),
        make_dataclass("Longer", ["energies", "name", "more"])(np.arange(3.0), "x", None),
    ]
    digests = {digest(record) for record in others}
    assert len(digests) == len(others)
    assert first not in digests
