"""HDF5 files that appear complete or not at all, and whose failed writes are one ``OSError``.

The HDF5 library cannot give up: what it could not write it tries again when a file is closed, and
h5py prints tracebacks of its own. Here it writes through Python. What the file system refuses is
kept in memory until HDF5 has closed the file, and then told.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import h5py

from mlepi.untrusted import note_own


class _Sink:
    """What HDF5 writes to: a file, and memory for what comes after a write that failed.

    Args:
        stream: of the file, without a buffer, for reading and writing.
    """

    def __init__(self, stream: Any) -> None:
        self.failure: OSError | None = None
        self._stream = stream
        self._held: list[tuple[int, bytes]] = []
        self._place = self._end = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._end}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def write(self, data: Any) -> int:
        """Write all of the data."""
        view = memoryview(data).cast("B")
        if self.failure is None:
            try:
                self._stream.seek(self._place)
                rest = view
                while rest:
                    rest = rest[self._stream.write(rest) :]
            except OSError as error:
                self.failure = error
        if self.failure is not None:
            self._held.append((self._place, bytes(view)))
        self._place += len(view)
        self._end = max(self._end, self._place)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Read what was written, wherever it is."""
        view = memoryview(buffer).cast("B")
        begin, read = self._place, 0
        with suppress(OSError):
            self._stream.seek(begin)
            read = self._stream.readinto(view) or 0
        for place, data in self._held:
            first, last = max(begin, place), min(begin + len(view), place + len(data))
            if first < last:
                view[first - begin : last - begin] = data[first - place : last - place]
                read = max(read, last - begin)
        self._place += read
        return read

    def truncate(self, size: int) -> int:
        """Set the size of the file."""
        if self.failure is None:
            try:
                self._stream.truncate(size)
            except OSError as error:
                self.failure = error
        self._end = size
        return size

    def flush(self) -> None:
        """Do nothing, as there is no buffer."""


_SINKS: WeakKeyDictionary[h5py.File, _Sink] = WeakKeyDictionary()


def check_written(file: h5py.File) -> None:
    """Tell early that something could not be written to a file of ``create_hdf5``.

    Raises:
        OSError: of the file system.
    """
    sink = _SINKS.get(file)
    if sink is not None and sink.failure is not None:
        raise sink.failure


@contextmanager
def create_hdf5(path: Path, libver: str | None = None) -> Iterator[h5py.File]:
    """Open a new HDF5 file for writing, and close it.

    Args:
        path: of the file.
        libver: oldest version of the library that shall read it, as h5py names it.

    Raises:
        OSError: of the file system, after HDF5 has closed the file.
    """
    with path.open("w+b", buffering=0) as stream:
        sink = _Sink(stream)
        with h5py.File(path, "w", driver="fileobj", fileobj=sink, libver=libver) as file:
            _SINKS[file] = sink
            yield file
        if sink.failure is not None:
            raise sink.failure


@contextmanager
def replace_hdf5(
    path: Path, libver: str | None = None, durable: bool = False
) -> Iterator[h5py.File]:
    """Write an HDF5 file under a hidden name, which replaces ``path`` when it is complete.

    Args:
        path: of the file; this process opens it without a look through it, as its own.
        libver: see ``create_hdf5``.
        durable: wait until it is on the disk, before it replaces the earlier one.

    Raises:
        OSError: of the file system; an earlier file is as it was.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        with create_hdf5(unfinished, libver) as file:
            yield file
        if durable:
            with unfinished.open("rb") as stream:
                os.fsync(stream.fileno())
        unfinished.replace(path)
        note_own(path)
    finally:
        unfinished.unlink(missing_ok=True)
