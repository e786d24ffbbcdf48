"""Frozen dataclasses as HDF5 groups: one member per field, its unit as an attribute.

A field may hold an array, a number, a truth value, a text, None, a tuple of numbers or texts, a
mapping from names to arrays, an ``ase.Atoms`` or another such dataclass; everything else is
refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from ase import Atoms

from mlepi.errors import DataError, message

UNIT = "unit"
KIND = "kind"
ERROR_OF = "error_of"
QUANTITY = "quantity"
SECONDARY = "secondary"
COMPONENTS = "components"


def unit(
    name: str,
    *,
    error_of: str = "",
    quantity: bool = False,
    secondary: bool = False,
    components: Sequence[str] = (),
) -> dict[str, Any]:
    """Declare the unit of a field of a record, ``field(metadata=unit("eV"))``.

    It is written beside the numbers. A field that holds standard errors says of which other field;
    both then have a row in the error budget of a run (``mlepi.results.quantities``).

    Args:
        name: e.g. "eV/Å²"; "1" for numbers without one.
        error_of: the field whose standard errors these are.
        quantity: whether the error budget lists the field although it has no standard errors.
        secondary: whether the report alone lists it, and the screen leaves it out; said by the
            field with the errors.
        components: what the last axis of the values runs over; said by the field with the errors,
            or by the quantity itself.

    Returns:
        The metadata of a dataclass field.
    """
    return {
        UNIT: name,
        ERROR_OF: error_of,
        QUANTITY: quantity,
        SECONDARY: secondary,
        COMPONENTS: tuple(components),
    }


def write_record(group: h5py.Group, record: Any) -> None:
    """Write a dataclass instance into an empty group.

    Args:
        group: receives one member per field.
        record: a dataclass instance.

    Raises:
        DataError: a field holds something that has no place in a record.
    """
    for field in dataclasses.fields(record):
        _write_value(
            group, field.name, getattr(record, field.name), str(field.metadata.get(UNIT, "1"))
        )


def read_fields(group: h5py.Group) -> dict[str, Any]:
    """Read everything that ``write_record`` wrote, whatever the dataclass says now.

    Args:
        group: of a record.

    Returns:
        Name → value; nested records and mappings are dicts again.
    """
    return {name: _read_value(item) for name, item in group.items()}


def build_record(fields: Mapping[str, Any], record_type: type, where: str) -> Any:
    """Build a dataclass instance from what a file holds of it.

    A field that the file does not have yet takes its default; one that the dataclass no longer has
    is left out.

    Args:
        fields: result of ``read_fields``.
        record_type: the dataclass.
        where: file and group, for messages.

    Returns:
        An instance.

    Raises:
        DataError: a field without a default is missing.
    """
    annotations = typing.get_type_hints(record_type)
    values = {}
    for field in dataclasses.fields(record_type):
        if field.name in fields:
            values[field.name] = _build_value(
                fields[field.name], annotations[field.name], f"{where}/{field.name}"
            )
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise DataError(
                message(
                    where,
                    f"no field {field.name!r}",
                    f"the fields of {record_type.__name__}",
                    "It was written by another version: delete the run folder and run again.",
                )
            )
    return record_type(**values)


def hash_group(group: h5py.Group) -> str:
    """Digest names, types and numbers of everything in a group.

    Equal content gives an equal digest.
    """
    digest = hashlib.sha256()

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        digest.update(f"|{name}|{item.attrs.get(KIND, '')}|".encode())
        if isinstance(item, h5py.Dataset):
            value = item[()]
            if isinstance(value, h5py.Empty):
                digest.update(b"empty")
            elif isinstance(value, bytes):
                digest.update(value)
            elif value.dtype.kind == "O":  # texts; their memory holds addresses
                digest.update(repr(value.tolist()).encode())
            else:
                array = np.ascontiguousarray(value)
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(array.tobytes())

    group.visititems(add)
    return digest.hexdigest()


def _write_value(group: h5py.Group, name: str, value: Any, unit_name: str) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        member = group.create_group(name)
        member.attrs[KIND] = "record"
        write_record(member, value)
    elif isinstance(value, Atoms):
        _write_atoms(group.create_group(name), value)
    elif isinstance(value, Mapping):
        member = group.create_group(name)
        member.attrs[KIND] = "mapping"
        for key, item in value.items():
            _write_value(member, str(key), item, unit_name)
    else:
        kind, data = _as_dataset(value, f"field {group.name}/{name}")
        options = (
            {"compression": "gzip", "shuffle": True} if kind == "array" and data.size > 1024 else {}
        )
        member = group.create_dataset(name, data=data, **options)
        member.attrs[KIND] = kind
        member.attrs[UNIT] = unit_name


def _as_dataset(value: Any, where: str) -> tuple[str, Any]:
    if value is None:
        return "none", h5py.Empty("f8")
    if isinstance(value, str):
        return "text", value
    if isinstance(value, (bool, np.bool_)):
        return "truth", np.bool_(value)
    if isinstance(value, (int, np.integer)):
        return "integer", np.int64(value)
    if isinstance(value, (float, np.floating)):
        return "number", np.float64(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "bifuc":
        return "array", value
    if isinstance(value, tuple) and value and all(isinstance(item, str) for item in value):
        return "texts", np.array([item.encode() for item in value], dtype=h5py.string_dtype())
    if isinstance(value, tuple) and all(
        isinstance(item, (int, float, np.number)) for item in value
    ):
        integers = bool(value) and all(isinstance(item, (int, np.integer)) for item in value)
        return "numbers", np.array(value, dtype=np.int64 if integers else np.float64)
    raise DataError(
        message(
            where,
            type(value).__name__,
            "arrays, numbers, texts, Atoms or records",
            "Convert it first.",
        )
    )


def _build_value(value: Any, annotation: Any, where: str) -> Any:
    """Turn the dict of a nested record, or of a mapping with records, into what the field holds."""
    if not isinstance(value, dict):
        return value
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    for option in typing.get_args(annotation) if union else (annotation,):
        origin = typing.get_origin(option)
        if isinstance(option, type) and dataclasses.is_dataclass(option):
            return build_record(value, option, where)
        if isinstance(origin, type) and issubclass(origin, Mapping):
            item = typing.get_args(option)[1]
            return {name: _build_value(x, item, f"{where}/{name}") for name, x in value.items()}
    return value


def _read_value(item: h5py.Group | h5py.Dataset) -> Any:
    kind = item.attrs[KIND]
    if kind in ("record", "mapping"):
        return read_fields(item)
    if kind == "atoms":
        return _read_atoms(item)
    if kind == "none":
        return None
    if kind == "text":
        return item.asstr()[()]
    if kind == "texts":
        return tuple(item.asstr()[()])
    if kind == "numbers":
        return tuple(item[()].tolist())
    if kind == "array":
        return item[()]
    return item[()].item()


def _write_atoms(group: h5py.Group, atoms: Atoms) -> None:
    group.attrs[KIND] = "atoms"
    arrays = {
        "numbers": (np.asarray(atoms.numbers, dtype=np.int64), "1"),
        "positions": (atoms.positions, "Å"),
        "cell": (atoms.cell.array, "Å"),
        "pbc": (np.asarray(atoms.pbc), "1"),
        "masses": (np.asarray(atoms.get_masses()), "amu"),
    }
    if "layer" in atoms.arrays:
        arrays["layer"] = (np.asarray(atoms.arrays["layer"], dtype=np.int64), "1")
    for name, (values, unit_name) in arrays.items():
        group.create_dataset(name, data=values).attrs[UNIT] = unit_name


def _read_atoms(group: h5py.Group) -> Atoms:
    atoms = Atoms(
        group["numbers"][()], group["positions"][()], cell=group["cell"][()], pbc=group["pbc"][()]
    )
    atoms.set_masses(group["masses"][()])
    if "layer" in group:
        atoms.arrays["layer"] = group["layer"][()]
    return atoms
