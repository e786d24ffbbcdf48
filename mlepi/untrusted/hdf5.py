"""HDF5 files: looked through by a child process before this one opens them.

The HDF5 library walks tables, heaps and trees that a damaged file can close to a ring: it then
never comes back, or takes all memory, or crashes, and nothing in this process could stop it. A
child (``hdf5_walk``) goes first, once for every file and time of change. Files that this process
has written itself, ``note_own``, are not looked through.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import h5py

from mlepi.errors import DataError, message
from mlepi.untrusted.limits import MEMINFO, check_size, reading

SIGNATURE = b"\x89HDF\r\n\x1a\n"
PLACES = (0, *(512 * 2**k for k in range(12)))
"""Where the signature may stand: behind a block of the user's own, of these sizes."""
SECONDS, BYTES_PER_SECOND = 0.75, 4 * 2**20
"""Processor time of the child: for every file (it needs 0.03), and more for large ones.

Small data sets cost most, where their headers differ: 5,400 of 13×13 numbers, 5 MB, take 0.5 s, and
twice that where other processes share the core; with equal headers 0.08 s.
"""
WALL = 60
"""Seconds in which the file system must deliver the file's tables."""
MEMORY = 160 * 2**20
"""Bytes of address space of the child."""
PER_BYTE = 8
WALK = Path(__file__).with_name("hdf5_walk.py")
NO_LIBRARY = 3
"""Exit status of the child where it cannot use the library that h5py uses."""
MAPS = Path("/proc/self/maps")
FIX = "Copy or write it again; do not open it if you do not know where it is from."

Stamp = tuple[int, int, int, int]
_KNOWN: set[Stamp] = set()
"""Device, number, size and time of change of files that were looked through."""


def open_hdf5(
    path: Path,
    expected: str = "an intact HDF5 file",
    fix: str = FIX,
    got: str = "no readable HDF5",
) -> h5py.File:
    """Open an HDF5 file for reading, after it was looked through.

    Args:
        path: of the file.
        expected: what the file should be, for messages.
        fix: what the user can do.
        got: what is wrong with it, before the details.

    Raises:
        DataError: it is missing, no HDF5, damaged, points to other files, needs a filter of other
            people, or claims arrays that it does not hold.
    """
    size = check_size(path, expansion=0.0625)  # read by parts
    stamp = _stamp(path)
    if stamp not in _KNOWN:
        problem = _check_signature(path, size) or _look_through(path, size)
        if problem:
            raise DataError(message(str(path), f"{got} ({problem})", expected, fix))
        _KNOWN.add(stamp)
    with reading(str(path), expected, fix):
        return h5py.File(path, "r")


def note_own(path: Path) -> None:
    """Note that this process has written a file, under this or another name."""
    _KNOWN.add(_stamp(path))


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check_signature(path: Path, size: int) -> str:
    """Return what is wrong with the beginning of the file."""
    with path.open("rb") as file:
        for place in PLACES:
            if place + len(SIGNATURE) > size:
                break
            file.seek(place)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return ""
    return "no HDF5"


def _look_through(path: Path, size: int) -> str:
    """Let a child read all tables of the file; return what is wrong with them."""
    library = _find_library()
    if library is None or not sys.executable:
        return ""
    limits = (SECONDS + size / BYTES_PER_SECOND, MEMORY + PER_BYTE * size)
    command = [sys.executable, "-I", "-S", str(WALK), library, str(path.resolve())]
    command += [str(limit) for limit in limits]
    try:
        child = subprocess.run(  # noqa: S603 - this interpreter, this package's file
            command, capture_output=True, check=False, timeout=WALL, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"its tables cannot be read in {WALL} s"
    if child.returncode == NO_LIBRARY:
        return ""
    found = [line for line in child.stdout.decode("utf-8", "replace").splitlines() if line]
    if child.returncode < 0:
        return "its tables lead the HDF5 library nowhere"
    if child.returncode and not found:
        return "its tables take all memory"
    return "; ".join([*found[:3], *([f"{len(found) - 3} more"] if len(found) > 3 else [])])


@functools.cache
def _find_library() -> str | None:
    """Return the HDF5 library that h5py has loaded; None where the system does not say."""
    if not MEMINFO.is_file() or not MAPS.is_file():
        return None
    text = MAPS.read_text(encoding="utf-8", errors="surrogateescape")
    names = re.findall(r"^[^/\n]*(/.*libhdf5[-.][^/\n]*)$", text, re.MULTILINE)
    return next((name for name in names if Path(name).is_file()), None)
