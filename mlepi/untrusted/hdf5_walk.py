"""Program of the child that looks through an HDF5 file: it may hang, crash, or use up its memory.

It is started as ``python -I -S hdf5_walk.py LIBRARY FILE SECONDS BYTES`` and calls the HDF5 library
itself, since numpy and h5py would take five times as long to import. Every link, object and
attribute is opened, whatever is of variable length is read, and the index of all chunks is walked.
One line is written for everything that mlepi refuses. Exit status 3 says that the library could not
be used, any other than 0 that it failed.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_uint64, c_void_p
from pathlib import Path
from typing import Any, NoReturn

EXTERNAL_LINK = 64
"""H5L_TYPE_EXTERNAL; beyond are those that users define."""
DATASET, VIRTUAL, VARIABLE = 5, 3, 9
"""H5I_DATASET, H5D_VIRTUAL, H5T_VLEN."""
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
"""What may lie between file and numbers; other filters are read by code of other people."""
SMALL = 64 * 2**20
"""Bytes that an array may claim without further question."""
MOST_INFLATED = 200
"""Bytes in memory for one in the file, beyond that size; zeros reach 1000."""
MOST_ATTRIBUTE = 16 * 2**20
"""Bytes of one attribute."""

CALL = ctypes.CFUNCTYPE(c_int, c_int64, c_char_p, c_void_p, c_void_p)
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "H5open": (c_int,),
    "H5Eset_auto2": (c_int, c_int64, c_void_p, c_void_p),
    "H5Fopen": (c_int64, c_char_p, c_uint, c_int64),
    "H5Oopen": (c_int64, c_int64, c_char_p, c_int64),
    "H5Oclose": (c_int, c_int64),
    "H5Iget_type": (c_int, c_int64),
    "H5Aiterate2": (c_int, c_int64, c_int, c_int, c_void_p, CALL, c_void_p),
    "H5Aopen": (c_int64, c_int64, c_char_p, c_int64),
    "H5Aget_type": (c_int64, c_int64),
    "H5Aget_space": (c_int64, c_int64),
    "H5Aread": (c_int, c_int64, c_int64, c_void_p),
    "H5Aclose": (c_int, c_int64),
    "H5Sget_simple_extent_npoints": (c_int64, c_int64),
    "H5Tget_size": (c_size_t, c_int64),
    "H5Tdetect_class": (c_int, c_int64, c_int),
    "H5Dget_type": (c_int64, c_int64),
    "H5Dget_space": (c_int64, c_int64),
    "H5Dget_create_plist": (c_int64, c_int64),
    "H5Dget_storage_size": (c_uint64, c_int64),
    "H5Dread": (c_int, c_int64, c_int64, c_int64, c_int64, c_int64, c_void_p),
    "H5Pget_layout": (c_int, c_int64),
    "H5Pget_external_count": (c_int, c_int64),
    "H5Pget_nfilters": (c_int, c_int64),
    "H5Pget_filter2": (c_int, c_int64, c_uint, *[c_void_p] * 3, c_size_t, *[c_void_p] * 2),
}


class Walk:
    """One file, and what is wrong with it.

    Args:
        library: of HDF5, from ``load``.
        path: of the file.
    """

    def __init__(self, library: Any, path: bytes) -> None:
        self.problems: list[str] = []
        self.claimed = 0
        self.call = library
        self.file = self.call.H5Fopen(path, 0, 0)
        if self.check(self.file, "the file"):
            on_link, self.on_attribute = CALL(self.look_at_link), CALL(self.look_at_attribute)
            self.look_at_object(b"/")
            self.check(self.call.visit(self.file, 0, 2, on_link, None), "its links")

    def check(self, result: int, what: str) -> bool:
        """Note where a call of the library failed; say whether it did not."""
        if result < 0:
            self.problems.append(f"{what}, which the HDF5 library cannot read")
        return result >= 0

    def look_at_link(self, _: int, name: bytes, info: int, __: int) -> int:
        """Look at one link of the file."""
        kind = ctypes.cast(info, ctypes.POINTER(c_int))[0]
        if kind >= EXTERNAL_LINK:
            self.problems.append(f"a link {_text(name)} out of the file")
        elif kind == 0:
            self.look_at_object(name)
        return 0

    def look_at_object(self, name: bytes) -> None:
        """Look at an object with its attributes, and at the storage of a data set."""
        opened = self.call.H5Oopen(self.file, name, 0)
        if not self.check(opened, _text(name)):
            return
        found = self.call.H5Aiterate2(opened, 0, 2, None, self.on_attribute, None)
        self.check(found, f"attributes of {_text(name)}")
        if self.call.H5Iget_type(opened) == DATASET:
            self.look_at_data(opened, _text(name))
        self.call.H5Oclose(opened)

    def look_at_attribute(self, owner: int, name: bytes, _: int, __: int) -> int:
        """Read an attribute, which may lie in a heap of the file."""
        word = f"attribute {_text(name)}"
        opened = self.call.H5Aopen(owner, name, 0)
        if not self.check(opened, word):
            return 0
        kind, space = self.call.H5Aget_type(opened), self.call.H5Aget_space(opened)
        size = self.call.H5Sget_simple_extent_npoints(space) * self.call.H5Tget_size(kind)
        if size > MOST_ATTRIBUTE:
            self.problems.append(f"{word} of {size} bytes")
        elif size > 0:
            values = ctypes.create_string_buffer(size)
            self.check(self.call.H5Aread(opened, kind, values), word)
        self.call.H5Aclose(opened)
        return 0

    def look_at_data(self, opened: int, word: str) -> None:
        """Compare what a data set claims to hold with what is stored of it."""
        call = self.call
        kind, space = call.H5Dget_type(opened), call.H5Dget_space(opened)
        plist = call.H5Dget_create_plist(opened)
        if not self.check(min(kind, space, plist), word):
            return
        if call.H5Pget_layout(plist) == VIRTUAL or call.H5Pget_external_count(plist) > 0:
            self.problems.append(f"data set {word} that lies in another file")
            return
        for k in range(max(0, call.H5Pget_nfilters(plist))):
            flags, count, info = c_uint(), c_size_t(), c_uint()
            number = call.H5Pget_filter2(
                plist, k, byref(flags), byref(count), None, 0, None, byref(info)
            )
            if number not in FILTERS:
                self.problems.append(f"data set {word} behind filter {number}")
                return
        points = call.H5Sget_simple_extent_npoints(space)
        size, stored = points * call.H5Tget_size(kind), call.H5Dget_storage_size(opened)
        self.claimed += max(0, size)
        if size > SMALL and size > MOST_INFLATED * stored:
            self.problems.append(f"data set {word} of {size} bytes, of which {stored} are stored")
        elif (call.H5Tdetect_class(kind, VARIABLE) > 0) and 0 < size <= SMALL:
            values = ctypes.create_string_buffer(size)
            self.check(call.H5Dread(opened, kind, 0, 0, 0, values), word)


def load(path: str) -> Any:
    """Load the HDF5 library and declare the functions that are called.

    Raises:
        OSError: there is none.
        AttributeError: it lacks a function.
    """
    library: Any = ctypes.CDLL(path)
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.visit = library.H5Lvisit2 if hasattr(library, "H5Lvisit2") else library.H5Lvisit
    library.visit.restype = c_int
    library.visit.argtypes = [c_int64, c_int, c_int, CALL, c_void_p]
    library.H5open()
    library.H5Eset_auto2(0, None, None)
    return library


def _text(name: bytes) -> str:
    return repr(name.decode("utf-8", "replace"))


def main(arguments: Sequence[str]) -> NoReturn:
    """Look through one file under limits of processor time (s) and memory (bytes)."""
    name, path, seconds, memory = arguments
    try:
        library = load(name)
    except (OSError, AttributeError):
        os._exit(3)
    signal.setitimer(signal.ITIMER_PROF, float(seconds))  # its signal ends the process
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    walk = Walk(library, os.fsencode(path))
    size = Path(path).stat().st_size
    if not walk.problems and walk.claimed > max(SMALL, MOST_INFLATED * size):
        walk.problems.append(f"{size} bytes that claim to hold {walk.claimed}")
    print("\n".join(walk.problems), flush=True)
    os._exit(0)  # what the library does at the end can crash on objects that are open


if __name__ == "__main__":
    main(sys.argv[1:])
