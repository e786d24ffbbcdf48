"""Thousands of small datasets in one HDF5 group, read as one stretch of bytes where that is safe.

Opening a dataset costs HDF5 fifty microseconds, a block of a Hamiltonian has a hundred numbers. The
object headers of blocks that one program wrote are equal but for sizes and addresses: the first is
opened by HDF5, others with the same header (``untrusted.PlainHeader``) are taken from their
addresses, and all the rest are read by HDF5.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.untrusted import MOST_HEADER, PlainHeader, has_plain_addresses, parse_header

REFUSED_SPIN = ("spinful data (2 × 2 spin blocks)", "spinless blocks")
"""What is found and expected where numbers are complex."""


def read_small_datasets(where: str, group: h5py.Group) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Read every dataset of a group.

    Args:
        where: file, for messages.
        group: holds nothing but datasets of real numbers.

    Yields:
        Name and values, float64.

    Raises:
        DataError: a dataset is complex (spin), no numbers, or cannot be read.
    """
    places = _find_places(group)
    known = _read_alike(group, places)
    for name in places:
        values = known.get(name)
        yield name, _read_one(where, group, name) if values is None else values


def _read_one(where: str, group: h5py.Group, name: str) -> NDArray[np.float64]:
    """Read one dataset with the calls of HDF5 itself."""
    whole, double = h5py.h5s.ALL, h5py.h5t.NATIVE_DOUBLE
    try:
        dataset = h5py.h5d.open(group.id, name.encode())
        values = np.empty(dataset.shape)
        dataset.read(whole, whole, values, double)
    except (OSError, LookupError, TypeError, RuntimeError, AttributeError, ValueError) as error:
        found = group.get(name)
        if isinstance(found, h5py.Dataset) and found.dtype.kind == "c":
            fix = "Repeat the calculation without spin."
            raise DataError(message(where, *REFUSED_SPIN, fix)) from error
        got = f"an unreadable dataset {name!r} ({error})"
        raise DataError(message(where, got, "real numbers", "Write the file again.")) from error
    return values


def _find_places(group: h5py.Group) -> dict[str, int]:
    """Return the address of what every hard link of a group leads to, 0 for other links."""
    places: dict[str, int] = {}

    def note(name: bytes, info: Any) -> None:
        hard = info.type == h5py.h5l.TYPE_HARD
        places[name.decode("utf-8", "surrogateescape")] = info.u if hard else 0

    group.id.links.iterate(note, info=True)
    return places


def _read_alike(group: h5py.Group, found: dict[str, int]) -> dict[str, NDArray[np.float64]]:
    """Return the values of datasets whose header is that of the first; none where that is unsafe.

    Nothing is trusted: a header must be equal byte for byte, and its stretch inside of the file and
    of the size that its shape says.
    """
    file, names = group.file, list(found)
    if not names or file.userblock_size or file.driver not in ("sec2", "stdio"):
        return {}
    places = np.fromiter(found.values(), dtype=np.int64, count=len(names))
    content = np.fromfile(Path(file.filename), dtype=np.uint8)
    dtype, header = _find_header(group, names[0], content, int(places[0]))
    if header is None:
        return {}
    inside = (places > 0) & (places < len(content) - header.length)
    headers = sliding_window_view(content, header.length)[np.where(inside, places, 0)]
    fixed = np.frombuffer(header.fixed, dtype=np.uint8)
    alike = inside & ((headers & fixed) == (headers[0] & fixed)).all(axis=1)
    shapes = _integers(headers, header.shape, header.rank)
    stretch = _integers(headers, header.stretch, 2)
    n_values = shapes.prod(axis=1)
    alike &= (shapes > 0).all(axis=1) & (shapes < 2**20).all(axis=1)
    alike &= (stretch[:, 1] == n_values * dtype.itemsize) & (stretch[:, 0] > 0)
    alike &= stretch[:, 0] < len(content) - np.where(alike, stretch[:, 1], 0)
    read: dict[str, NDArray[np.float64]] = {}
    chosen = np.flatnonzero(alike)
    for shape in np.unique(shapes[chosen], axis=0):
        same = chosen[(shapes[chosen] == shape).all(axis=1)]
        windows = sliding_window_view(content, int(stretch[same[0], 1]))[stretch[same, 0]]
        values = windows.view(dtype).astype(np.float64).reshape(-1, *shape.tolist())
        read |= zip((names[k] for k in same.tolist()), values, strict=True)
    return read


def _integers(headers: NDArray[np.uint8], start: int, count: int) -> NDArray[np.int64]:
    """Read integers of 8 bytes from all headers: (n_headers, count)."""
    part = np.ascontiguousarray(headers[:, start : start + 8 * count])
    return part.view("<i8").astype(np.int64)


def _find_header(
    group: h5py.Group, name: str, content: NDArray[np.uint8], place: int
) -> tuple[np.dtype[Any], PlainHeader | None]:
    """Return type and header of a dataset with plain real numbers in one stretch."""
    dataset = group.get(name)
    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.dtype not in (np.dtype("<f8"), np.dtype("<f4"))
        or dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS
        or not has_plain_addresses(content[:16].tobytes())
        or not 0 < place < len(content)
    ):
        return np.dtype("<f8"), None
    raw = content[place : place + MOST_HEADER].tobytes()
    header = parse_header(raw)
    if header is None or header.rank != len(dataset.shape):
        return dataset.dtype, None
    start = int.from_bytes(raw[header.stretch : header.stretch + 8], "little")
    return dataset.dtype, header if dataset.id.get_offset() == start else None
