"""The on-disk format of Hamiltonian data.

One HDF5 file holds structures and ragged blocks in flat arrays with offsets. ``COLUMNS`` below is
the format: every array with its type, unit and length. Besides them the file holds, as attributes
of its root, the format name and version, the orbital basis and the provenance (JSON); every array
carries its unit and the SHA-256 of its values, and the file the SHA-256 of all the rest.
Blocks are in internal orbital order, one direction
per pair (``ragged``), as float32 (version 1) or as compressed multiples of the attribute
``quantum`` (``packing``, version 2); everything else is exact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message

FORMAT = "mlepi-hamiltonian"
PLAIN, PACKED = 1, 2
"""Format versions: Hamiltonian blocks as float32, or packed."""

HEADER_CHECKSUM = "sha256"
"""Attribute of the file: checksum of all that is no array."""

CHUNK = 65536  # values per HDF5 chunk of a flat array; near one 36-atom structure


@dataclass(frozen=True)
class Column:
    """One array of the file: (length of its level, *shape), with its unit."""

    level: str  # structure | atom | edge | value | byte; what the first axis counts
    dtype: str
    shape: tuple[int, ...] = ()
    unit: str = "1"
    ends: bool = False  # offsets: one entry more than its level has, the first is 0
    optional: bool = False
    versions: tuple[int, ...] = (PLAIN, PACKED)  # that have it


COLUMNS: dict[str, Column] = {
    "structures/name": Column("structure", "str"),
    "structures/provenance": Column("structure", "str"),  # JSON
    "structures/cell": Column("structure", "<f8", (3, 3), "angstrom"),  # rows = lattice vectors
    "structures/pbc": Column("structure", "|u1", (3,)),
    "structures/energy": Column("structure", "<f8", (), "eV"),  # NaN when there is none
    "structures/fermi_energy": Column("structure", "<f8", (), "eV"),  # NaN when there is none
    "structures/atom_offsets": Column("structure", "<i8", ends=True),
    "structures/edge_offsets": Column("structure", "<i8", ends=True),
    "structures/value_offsets": Column("structure", "<i8", ends=True),
    "structures/byte_offsets": Column("structure", "<i8", ends=True, versions=(PACKED,)),
    "atoms/numbers": Column("atom", "<i4"),
    "atoms/layer": Column("atom", "<i4"),
    "atoms/positions": Column("atom", "<f8", (3,), "angstrom"),
    "atoms/forces": Column("atom", "<f8", (3,), "eV/angstrom"),  # NaN when there are none
    "edges/index": Column("edge", "<i4", (2,)),  # source, target
    "edges/cell_shift": Column("edge", "<i4", (3,)),
    "blocks/hamiltonian": Column("value", "<f4", (), "eV", versions=(PLAIN,)),
    "blocks/packed_hamiltonian": Column("byte", "|u1", (), "quantum", versions=(PACKED,)),
    "blocks/overlap": Column("value", "<f4", (), "1", optional=True),
}


def check_layout(path: Path, file: h5py.File) -> None:
    """Check format, version, types, shapes and offsets of a file against ``COLUMNS``.

    Raises:
        DataError: something is missing or differs; the message names it.
    """
    if file.attrs.get("format") != FORMAT:
        raise DataError(
            message(
                str(path),
                "a foreign HDF5 file",
                f"format {FORMAT!r}",
                "Convert it with a reader of mlepi.",
            )
        )
    version = file.attrs["format_version"]
    if version not in (PLAIN, PACKED):
        raise DataError(
            message(
                str(path),
                f"format version {version}",
                f"{PLAIN} or {PACKED}",
                "Use the mlepi version that wrote it.",
            )
        )
    arrays = find_arrays(file)
    problems = [
        key
        for key, column in COLUMNS.items()
        if version in column.versions and key not in arrays and not column.optional
    ]
    if version == PACKED and not float(file.attrs.get("quantum", 0.0)) > 0:
        problems.append("quantum")
    problems = problems or _list_inconsistent(arrays)
    if problems:
        raise DataError(
            message(
                str(path),
                f"missing or inconsistent {problems}",
                "the arrays of the format",
                "Copy it again.",
            )
        )


def find_arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return the arrays of the format that a file has, in the order of ``COLUMNS``."""
    return {key: file[key] for key in COLUMNS if key in file}


def _list_inconsistent(arrays: Mapping[str, h5py.Dataset]) -> list[str]:
    """Return the arrays whose type, shape or offsets are not those of the format."""
    levels = [key.split("/")[1].removesuffix("_offsets") for key in arrays if "_offsets" in key]
    ends = {level: arrays[f"structures/{level}_offsets"][()] for level in levels}
    lengths = {level: int(values[-1]) for level, values in ends.items()}
    lengths["structure"] = len(arrays["structures/name"])
    problems = [
        f"{level}_offsets"
        for level, values in ends.items()
        if values[0] != 0 or (np.diff(values) < 0).any()
    ]
    for key, array in arrays.items():
        column, dtype = COLUMNS[key], array.dtype
        shape = (lengths[column.level] + column.ends, *column.shape)
        is_text = column.dtype == "str"
        same_type = h5py.check_string_dtype(dtype) if is_text else dtype == column.dtype
        problems += [] if array.shape == shape and same_type else [key]
        unit = array.attrs.get("unit")
        problems += [] if unit == column.unit else [f"{key} in {unit} (not {column.unit})"]
    return problems


def hash_header(file: h5py.File) -> str:
    """Digest all that is no array: format, basis, provenance, and units and checksums of arrays."""
    names = ("format", "format_version", "quantum", "basis", "provenance")
    header = {name: str(file.attrs[name]) for name in names if name in file.attrs}
    arrays = {
        key: [str(array.attrs[name]) for name in ("unit", "sha256")]
        + [str(array.dtype), list(array.shape)]
        for key, array in find_arrays(file).items()
    }
    text = json.dumps([header, arrays], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def verify_header(path: Path, file: h5py.File) -> None:
    """Compare what is no array with its checksum; files that were written before have none.

    Raises:
        DataError: it differs.
    """
    if HEADER_CHECKSUM in file.attrs and file.attrs[HEADER_CHECKSUM] != hash_header(file):
        raise DataError(
            message(
                str(path),
                "another basis, unit, provenance or set of arrays than was written",
                "those of the stored checksum",
                "Copy it again, or make it again with the right ones.",
            )
        )


def verify_checksums(path: Path, file: h5py.File, keys: Iterable[str]) -> None:
    """Compare the SHA-256 of some arrays with the stored ones.

    Raises:
        DataError: some differ; the message names them.
    """
    arrays = {key: file[key] for key in keys}
    tell_changed(path, [key for key, a in arrays.items() if a.attrs["sha256"] != checksum(a)])


def tell_changed(path: Path, damaged: Sequence[str]) -> None:
    """Raise ``DataError`` where there are arrays with other values than were written.

    Args:
        path: of the data set.
        damaged: keys of these arrays.
    """
    if damaged:
        raise DataError(
            message(
                str(path),
                f"changed values in {damaged}",
                "those of the stored checksums",
                "Copy it again.",
            )
        )


def checksum(array: h5py.Dataset) -> str:
    """Compute the SHA-256 of the values of one array; strings end with a zero byte."""
    digest = hashlib.sha256()
    step = 16 * CHUNK
    for start in range(0, len(array), step):
        add_to_checksum(digest, array[start : start + step])
    return digest.hexdigest()


def add_to_checksum(digest: Any, values: NDArray[Any]) -> None:
    """Add the next values of an array, of the type of its column, to its SHA-256."""
    if values.dtype == object:
        digest.update(b"".join(value + b"\0" for value in values))
    else:
        digest.update(np.ascontiguousarray(values).data)
