"""Part files: results of single samples, appended one by one, that survive being killed at any moment.

A part file is a sequence of frames: magic, length and CRC-32 of the payload, payload. The payload
is an ``.npz`` of the arrays and of a ``__key__`` (JSON text). The first frame names the inputs that
the results belong to. A frame that ends beyond the file is the one that was being written when the
process died and is dropped; any other disagreement is damage and raises.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message

MAGIC = b"MLEPIPRT"
HEADER = struct.Struct("<8sQI")
KEY = "__key__"


class PartFile:
    """Results of samples of one stage, written by one process.

    Args:
        path: the file; it is created by the first ``append``.
        inputs: digest of what decides the result of one sample.
    """

    def __init__(self, path: Path, inputs: str) -> None:
        self.path = path
        self.inputs = inputs

    def append(self, key: tuple[Any, ...], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Add the result of one sample and make sure that it reaches the disk.

        Args:
            key: plain numbers or texts that identify the sample.
            arrays: named arrays.
        """
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            if new:
                stream.write(_frame(("inputs", self.inputs), {}))
            stream.write(_frame(key, arrays))
            stream.flush()
            os.fsync(stream.fileno())

    def keys(self) -> set[tuple[Any, ...]]:
        """Return the keys of all complete results; an unfinished frame at the end is cut off first.

        A file of other inputs is deleted: its results belong to another calculation.

        Raises:
            DataError: the file is damaged.
        """
        if not self.path.exists():
            return set()
        keys: list[tuple[Any, ...]] = []
        complete = 0
        for end, payload in _frames(self.path):
            keys.append(_key(payload, self.path))
            complete = end
        if not keys or keys[0] != ("inputs", self.inputs):
            self.path.unlink()
            return set()
        if complete < self.path.stat().st_size:
            os.truncate(self.path, complete)
        return set(keys[1:])

    def places(self) -> dict[tuple[Any, ...], int]:
        """Return where in the file the result of each sample stands.

        Raises:
            DataError: the file is damaged.
        """
        places: dict[tuple[Any, ...], int] = {}
        start = 0
        if self.path.exists():
            for end, payload in _frames(self.path):
                places[_key(payload, self.path)] = start
                start = end
        places.pop(("inputs", self.inputs), None)
        return places

    def load(self, place: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of the result at a position from ``places``."""
        _, payload = next(_frames(self.path, place))
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name != KEY}


def _frame(key: tuple[Any, ...], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{KEY: np.array(json.dumps(key)), **arrays})
    payload = buffer.getvalue()
    return HEADER.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


def _frames(path: Path, position: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the end position and the payload of every complete frame from a position on."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(position)
        while position + HEADER.size <= size:
            magic, length, checksum = HEADER.unpack(stream.read(HEADER.size))
            if magic != MAGIC:
                raise _damaged(path, position)
            if position + HEADER.size + length > size:
                return
            payload = stream.read(length)
            if zlib.crc32(payload) != checksum:
                raise _damaged(path, position)
            position += HEADER.size + length
            yield position, payload


def _key(payload: bytes, path: Path) -> tuple[Any, ...]:
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as archive:
            return tuple(json.loads(str(archive[KEY])))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise _damaged(path, 0) from error


def _damaged(path: Path, position: int) -> DataError:
    return DataError(
        message(
            f"{path}, byte {position}",
            "a damaged frame",
            "the results of samples",
            "Delete the file; its samples are redone.",
        )
    )
