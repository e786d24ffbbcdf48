"""Compressed text: unpacked into a temporary folder, and only so far as text can be compressed."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlepi.errors import DataError, MlepiError, message
from mlepi.untrusted.limits import check_size, reading

COMPRESSED = (".gz", ".bz2", ".xz")
"""Ends of names."""
OPEN: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
RATIO, FLOOR = 100, 64 * 2**20
"""Bytes that one may become (output of programs: 5 to 30), and how many are always allowed."""
CHUNK = 2**22


def strip_compression(path: Path) -> str:
    """Return the name of a file without the end that says how it is compressed."""
    return path.stem if path.suffix.lower() in COMPRESSED else path.name


@contextlib.contextmanager
def unpack(path: Path) -> Iterator[Path]:
    """Give a file, or for a compressed one what it holds, which exists as long as the context.

    Messages of errors inside name the compressed file.

    Args:
        path: of the file.

    Raises:
        DataError: it is missing or damaged, or becomes more than text can.
    """
    if path.suffix.lower() not in COMPRESSED:
        yield path
        return
    size = check_size(path)
    with tempfile.TemporaryDirectory(prefix="mlepi-") as folder:
        plain = Path(folder) / strip_compression(path)
        with reading(str(path), "compressed text"):
            _write(path, plain, max(RATIO * size, FLOOR))
        try:
            yield plain
        except MlepiError as error:
            raise type(error)(str(error).replace(str(plain), str(path))) from error


def _write(path: Path, plain: Path, limit: int) -> None:
    """Unpack a file in pieces, up to a number of bytes."""
    written = 0
    with OPEN[path.suffix.lower()](path) as packed, plain.open("wb") as file:
        while chunk := packed.read(CHUNK):
            written += len(chunk)
            if written > limit:
                got = f"{path.stat().st_size} bytes that become more than {limit}"
                fix = "Check what it is; unpack it yourself if it is right."
                raise DataError(message(str(path), got, "compressed text", fix))
            file.write(chunk)
