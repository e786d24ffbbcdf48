"""Zip archives and numpy's files: what they claim to hold is compared with what is there.

``torch.save`` and ``numpy.savez`` store their arrays as they are; nothing that they write grows
much when it is unpacked, and no two members share their bytes.
"""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.untrusted.limits import check_size, limit_memory, reading

SMALL = 64 * 2**20
"""Bytes that an archive may unpack to without further question."""
MOST_INFLATED = 200
"""Bytes unpacked for one packed, beyond that size; zeros reach 1000."""
MOST_MEMBERS = 100_000
UNREADABLE = "an unreadable file"
FIX = "Copy it again; do not open it if you do not know where it is from."


def check_archive(where: str, archive: zipfile.ZipFile, size: int, *, stored: bool = False) -> None:
    """Refuse an archive that unpacks to more than it can hold.

    Args:
        where: file, for the message.
        archive: opened; only its table of contents is looked at.
        size: bytes of the file.
        stored: its members are not compressed, as in the files of ``torch.save``.

    Raises:
        DataError: sizes in the table of contents do not fit the file, or claim too much.
    """
    members = archive.infolist()
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    problem = ""
    if len(members) > MOST_MEMBERS:
        problem = f"{len(members)} members"
    elif packed > size:
        problem = f"members of {packed} bytes together in a file of {size}"
    elif stored and any(member.file_size != member.compress_size for member in members):
        problem = "compressed members"
    elif unpacked > SMALL and unpacked > MOST_INFLATED * size:
        problem = f"{size} bytes that unpack to {unpacked}"
    if problem:
        raise DataError(message(where, problem, "an archive as it was written", FIX))


@contextlib.contextmanager
def open_npz(where: str, source: Path | bytes) -> Iterator[Any]:
    """Open an ``.npz``; whatever goes wrong while its arrays are read is one ``DataError``.

    Args:
        where: file, for messages.
        source: the file, or its content.

    Yields:
        Arrays by name, as ``numpy.load`` gives them, read when they are asked for.

    Raises:
        DataError: it is missing, no archive of arrays, damaged, or claims too much.
    """
    size = check_size(source) if isinstance(source, Path) else len(source)
    with reading(where, "arrays in an .npz", FIX), contextlib.ExitStack() as stack:
        opened = source.open("rb") if isinstance(source, Path) else io.BytesIO(source)
        archive = np.load(stack.enter_context(opened), allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile) or archive.zip is None:
            raise ValueError("a single array")
        stack.enter_context(archive)
        check_archive(where, archive.zip, size)
        yield archive


def read_npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of the array in an ``.npy``, whose size must be theirs.

    Raises:
        DataError: it is missing, no such file, holds Python objects, or is of another size.
    """
    size = check_size(path) if path.exists() else 0
    with reading(str(path), "a numpy array", FIX, UNREADABLE), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, kind = read(file)
        expected = file.tell() + math.prod(shape) * kind.itemsize
    if kind.hasobject or size != expected:
        why = "Python objects" if kind.hasobject else f"{size} bytes for an array of shape {shape}"
        got = f"{UNREADABLE} ({why})"
        raise DataError(message(str(path), got, f"numbers, {expected} bytes", "Save it again."))
    return tuple(int(n) for n in shape), kind


def load_npy(path: Path) -> NDArray[Any]:
    """Load the array of an ``.npy``.

    Raises:
        DataError: see ``read_npy_header``.
    """
    read_npy_header(path)
    with reading(str(path), "a numpy array"), limit_memory(path.stat().st_size):
        return np.asarray(np.load(path, allow_pickle=False))
