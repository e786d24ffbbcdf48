"""A file layer that fails: at the n-th call of a kind below a folder, or from there on.

Calls of Python are counted: opening for writing, write, fsync, rename, unlink, link and mkdir.
What libraries do by themselves (HDF5) is bounded by the size that a file may have, for which the
system itself then refuses the write.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

CALLS = ("open", "write", "fsync", "rename", "unlink", "link", "mkdir")
CRASH = "crash"
LIMIT = "limit"
FAULTS: Mapping[str, tuple[str, ...]] = {
    "ENOSPC": ("open", "write", "fsync", "rename", "link", "mkdir"),
    "EIO": ("write", "fsync", "rename", "unlink"),
    "EACCES": ("open", "rename", "unlink", "link", "mkdir"),
    CRASH: CALLS,
}
"""What goes wrong → calls at which it can."""
LASTING = ("ENOSPC", "EACCES")
"""Faults that stay: a full disk, a folder that is read-only by now."""
CRASHED = 77
"""Exit status of a process that ended at a fault."""


@dataclass(frozen=True)
class Point:
    """A call at which something may go wrong.

    Attributes:
        number: of the call.
        call: one of ``CALLS``.
        name: of the file.
    """

    number: int
    call: str
    name: str


class FaultyFiles:
    """Counts the calls below a folder, and lets one of them fail.

    Args:
        folder: elsewhere nothing happens.
        at: number of the call; None only counts.
        fault: key of ``FAULTS``.
    """

    def __init__(self, folder: Path, at: int | None = None, fault: str = CRASH) -> None:
        self.folder = os.path.realpath(folder)
        self.at, self.fault = at, fault
        self.points: list[Point] = []
        self._real = {name: getattr(os, name) for name in ("fsync", "write")}

    def touch(self, call: str, path: Any, begin: Callable[[], object] | None = None) -> None:
        """Count a call, and fail if it is its turn.

        Args:
            call: one of ``CALLS``.
            path: of the file.
            begin: does half of it.

        Raises:
            OSError: the fault.
        """
        place = os.path.realpath(os.fspath(path))
        if not place.startswith(self.folder):
            return
        number = len(self.points)
        self.points.append(Point(number, call, Path(place).name))
        if self.at is None or number < self.at or call not in FAULTS[self.fault]:
            return
        if number > self.at and self.fault not in LASTING:
            return
        if begin is not None:
            begin()
        if self.fault == CRASH:
            os._exit(CRASHED)
        code = getattr(errno, self.fault)
        raise OSError(code, os.strerror(code), os.fspath(path))

    @contextmanager
    def inside(self) -> Iterator[FaultyFiles]:
        """Take the place of the calls of this process."""
        real_open = io.open

        def named(call: str, function: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
            def wrapped(*args: Any, **options: Any) -> Any:
                self.touch(call, args[place])
                return function(*args, **options)

            return wrapped

        def fsync(descriptor: int) -> None:
            self.touch("fsync", Path(f"/proc/self/fd/{descriptor}").readlink())
            self._real["fsync"](descriptor)

        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not isinstance(file, (str, os.PathLike)) or not set(mode) & set("wax+"):
                return real_open(file, mode, *args, **options)
            if not os.path.realpath(os.fspath(file)).startswith(self.folder):
                return real_open(file, mode, *args, **options)
            self.touch("open", file)
            return _open(self, file, mode, *args, **options)

        replaced = {
            "fsync": fsync,
            "replace": named("rename", os.replace, 1),
            "rename": named("rename", os.rename, 1),
            "unlink": named("unlink", os.unlink),
            "remove": named("unlink", os.remove),
            "link": named("link", os.link, 1),
            "mkdir": named("mkdir", os.mkdir),
        }
        with (
            mock.patch.multiple(os, **replaced),
            mock.patch.object(io, "open", opened),
            mock.patch.object(builtins, "open", opened),
        ):
            yield self


class _Raw(io.FileIO):
    """A file whose writes may fail after half of the bytes."""

    layer: FaultyFiles
    path: Any

    def write(self, data: Any) -> int:
        """Write."""
        view = memoryview(data).cast("B")
        self.layer.touch("write", self.path, lambda: io.FileIO.write(self, view[: len(view) // 2]))
        return super().write(view)


def _open(
    layer: FaultyFiles,
    file: Any,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    """Do what ``open`` does, by way of ``_Raw``."""
    raw = _Raw(file, mode.replace("b", "").replace("t", ""), opener=opener)
    raw.layer, raw.path = layer, file
    if "b" in mode and buffering == 0:
        return raw
    buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
    if "b" in mode:
        return buffered
    text = io.TextIOWrapper(
        buffered, io.text_encoding(encoding), errors, newline, line_buffering=buffering == 1
    )
    text.mode = mode
    return text


@contextmanager
def limit_file_size(n_bytes: int) -> Iterator[None]:
    """Let the system refuse every write beyond a size, whoever writes; for the whole process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
