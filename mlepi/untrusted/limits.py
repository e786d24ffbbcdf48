"""How large a file may be, how much memory reading it may take, and one message for all failures.

The limit of memory is that of the address space of this process (``RLIMIT_AS``), lowered while a
parser runs; where the system has none, it is not limited.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from mlepi.errors import DataError, MlepiError, message

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

STATM = Path("/proc/self/statm")
"""Pages of this process; the first number is its address space."""
MEMINFO = Path("/proc/meminfo")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

SPACE = 192 * 2**20
"""Bytes that reading a small file may take."""
PER_BYTE = 64
"""Bytes that reading may take beyond that for every byte of the file: lists of Python's words."""


def check_size(path: Path, expansion: float = 1.0, *, limit: int | None = None) -> int:
    """Refuse what is no file, and a file that cannot be read into the memory that is free.

    Args:
        path: of the file.
        expansion: bytes in memory for one in the file.
        limit: bytes that such a file has at most, whatever is free.

    Returns:
        Its size, bytes.

    Raises:
        DataError: it is missing, no regular file, or too large.
    """
    if not path.is_file():
        kind = "no regular file" if path.exists() else "no such file"
        raise DataError(message(str(path), kind, "a file", "Check the path."))
    size = path.stat().st_size
    most = _free_memory() / expansion if limit is None else limit
    if size > most:
        got, fix = f"{size / 2**20:.0f} MB", "Check that it is the right file."
        if limit is None:
            fix = "Check that it is the right file, or use a machine with more memory."
        raise DataError(message(str(path), got, f"at most {most / 2**20:.0f} MB", fix))
    return size


@contextlib.contextmanager
def limit_memory(size: int) -> Iterator[None]:
    """Let a parser take so much memory and no more; beyond it gets a ``MemoryError``.

    Meant for parsers in Python, not for linear algebra, whose threads take address space as well.

    Args:
        size: bytes of the file; see ``SPACE`` and ``PER_BYTE``.
    """
    if resource is None or not STATM.is_file():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(STATM.read_text(encoding="ascii").split()[0])
    wanted = pages * os.sysconf("SC_PAGE_SIZE") + SPACE + PER_BYTE * size
    lowest = min([wanted, *(limit for limit in before if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_AS, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def reading(
    where: str, expected: str, fix: str = "Copy or write it again.", got: str = "a damaged file"
) -> Iterator[None]:
    """Turn whatever reading a file raises, which may be anything, into one ``DataError``.

    Args:
        where: file, for the message.
        expected: what would have been right.
        fix: what the user can do.
        got: what is wrong with it, before the details.

    Raises:
        DataError: something was raised; errors that mlepi raises itself pass as they are.
    """
    try:
        yield
    except MlepiError:
        raise
    except MemoryError as error:
        text = f"{got} that claims more memory than it can need"
        raise DataError(message(where, text, expected, fix)) from error
    except Exception as error:  # parsers of damaged files raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        raise DataError(message(where, f"{got} ({reason})", expected, fix)) from error


def guard(expected: str) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Decorate a reader, whose first argument is a path, with ``reading``.

    Args:
        expected: what the path should be, for the message.
    """

    def decorate(reader: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @functools.wraps(reader)
        def read(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            where = args[0] if args else next(iter(kwargs.values()), "")
            with reading(str(where), expected):
                return reader(*args, **kwargs)

        return read

    return decorate


def _free_memory() -> float:
    """Return the bytes of memory that are free, infinite where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * float(line.split()[1])
    return float("inf")
