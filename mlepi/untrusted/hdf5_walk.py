"""Program of the child that looks through an HDF5 file: it may hang, crash, or use up its memory.

It is started as ``python -I -S hdf5_walk.py LIBRARY FILE SECONDS BYTES`` and calls the HDF5 library
itself, since numpy and h5py would take five times as long to import. Every link, object and
attribute is opened, whatever is of variable length is read, and the index of all chunks is walked.
Of datasets whose headers are equal, as those of thousands of blocks are, the library opens one: it
would do the same with the others. One line is written for everything that mlepi refuses. Exit
status 3 says that the library could not be used, any other than 0 that it failed.
"""

import ctypes
import mmap
import os
import signal
import sys
from collections.abc import Sequence
from ctypes import byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, NamedTuple, NoReturn

EXTERNAL_LINK = 64
"""H5L_TYPE_EXTERNAL; beyond are those that users define."""
ADDRESS = 24
"""Where H5L_info_t has the address of what a hard link leads to, 8 bytes."""
GROUP, DATASET, VIRTUAL, VARIABLE = 2, 5, 3, 9
"""H5I_GROUP, H5I_DATASET, H5D_VIRTUAL, H5T_VLEN."""
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32", 32000: "lzf"}
"""What may lie between file and numbers; other filters are read by code of other people."""
SMALL = 64 * 2**20
"""Bytes that an array may claim without further question."""
MOST_INFLATED = 200
"""Bytes in memory for one in the file, beyond that size; zeros reach 1000."""
MOST_ATTRIBUTE = 16 * 2**20
"""Bytes of one attribute."""

MOST_KINDS = 8
"""Headers that others are compared with."""

CALL = ctypes.CFUNCTYPE(c_int, c_int64, c_char_p, c_void_p, c_void_p)
INTEGER, LONG = ctypes.POINTER(c_int), ctypes.POINTER(c_uint64)
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
    "H5Dget_offset": (c_uint64, c_int64),
    "H5Dread": (c_int, c_int64, c_int64, c_int64, c_int64, c_int64, c_void_p),
    "H5Sclose": (c_int, c_int64),
    "H5Tclose": (c_int, c_int64),
    "H5Pclose": (c_int, c_int64),
    "H5Pget_layout": (c_int, c_int64),
    "H5Pget_external_count": (c_int, c_int64),
    "H5Pget_nfilters": (c_int, c_int64),
    "H5Pget_filter2": (c_int, c_int64, c_uint, *[c_void_p] * 3, c_size_t, *[c_void_p] * 2),
}

PREFIX, MOST_HEADER = 16, 4096
"""Bytes before the first message of an object header of version 1, and of the longest header."""
DATASPACE, LAYOUT, CONTINUED, MODIFIED = 0x0001, 0x0008, 0x0010, 0x0012
"""Messages of an object header."""
SHARED = 2
"""Flag of a message that stands elsewhere."""
ONE_STRETCH = bytes([3, 1])
"""Layout message: version 3, contiguous."""
MOST_POINTS = 2**20
"""Along one axis of datasets that are told by their headers."""


class PlainHeader(NamedTuple):
    """Header of a dataset whose numbers stand in one stretch of the file.

    HDF5 File Format Specification 3.0, sections IV.A.1.a, IV.A.2.b and IV.A.2.i.

    Attributes:
        length: bytes.
        fixed: 255 where headers of datasets that differ in size and place alone are equal, else 0.
        shape: place of the sizes in it, 8 bytes each.
        rank: number of sizes.
        limited: the same numbers follow again, as the largest sizes.
        stretch: place of address and number of bytes of the values, 8 bytes each.
    """

    length: int
    fixed: bytes
    shape: int
    rank: int
    limited: bool
    stretch: int


def has_plain_addresses(raw: bytes) -> bool:
    """Say whether addresses of a file are places in it, and they and sizes have 8 bytes.

    Args:
        raw: the first 16 bytes of the file (specification, section II.A).
    """
    widths = raw[13:15] if raw[8:9] < b"\2" else raw[9:11]
    return raw[:8] == b"\x89HDF\r\n\x1a\n" and widths == b"\x08\x08"


def parse_header(raw: bytes) -> PlainHeader | None:
    """Say what may differ between a header and those of datasets like it; None for other headers.

    Args:
        raw: the file from the beginning of the header on, ``MOST_HEADER`` bytes suffice.
    """
    length = PREFIX + int.from_bytes(raw[8:12], "little")
    if len(raw) < length or raw[0] != 1:
        return None
    fixed = bytearray(b"\xff" * length)
    shape = rank = stretch = 0
    limited, start = False, PREFIX
    while start + 8 <= length:
        kind = int.from_bytes(raw[start : start + 2], "little")
        body = start + 8
        start = body + int.from_bytes(raw[start + 2 : start + 4], "little")
        content, shared = raw[body:start], raw[body - 4] & SHARED
        if kind == CONTINUED or start > length or (shared and kind in (DATASPACE, LAYOUT)):
            return None
        if kind == DATASPACE and content[:1] == b"\1" and len(content) >= 8 and not shape:
            rank, limited, shape = content[1], bool(content[2] & 1), body + 8
            end = shape + 8 * rank * (1 + limited)
            if rank == 0 or end > start:
                return None
            fixed[shape:end] = bytes(end - shape)
        elif kind == LAYOUT and content[:2] == ONE_STRETCH and len(content) >= 18 and not stretch:
            stretch = body + 2
            fixed[stretch : stretch + 16] = bytes(16)
        elif kind == MODIFIED:
            fixed[body:start] = bytes(start - body)
        elif kind in (DATASPACE, LAYOUT):
            return None
    if not (shape and stretch):
        return None
    return PlainHeader(length, bytes(fixed), shape, rank, limited, stretch)


class Alike(NamedTuple):
    """A header that the library has read, to compare others with.

    Attributes:
        header: of the first of them.
        mask: its ``fixed`` as one number.
        value: its bytes where they are fixed, as one number.
        item: bytes of one value.
    """

    header: PlainHeader
    mask: int
    value: int
    item: int

    def measure(self, content: Any, place: int) -> int | None:
        """Return the bytes that a dataset holds, None where it is not like this one.

        Args:
            content: of the file.
            place: of the header of the dataset.
        """
        header = self.header
        raw = content[place : place + header.length]
        if int.from_bytes(raw, "little") & self.mask != self.value or len(raw) < header.length:
            return None
        sizes = raw[header.shape : header.shape + 8 * header.rank]
        largest = raw[header.shape + len(sizes) : header.shape + 2 * len(sizes)]
        expected = self.item
        for k in range(0, len(sizes), 8):
            size = int.from_bytes(sizes[k : k + 8], "little")
            expected *= size if size < MOST_POINTS else 0
        start = int.from_bytes(raw[header.stretch : header.stretch + 8], "little")
        stored = int.from_bytes(raw[header.stretch + 8 : header.stretch + 16], "little")
        inside = 0 < start <= len(content) - stored
        told = 0 < stored == expected and (not header.limited or sizes == largest)
        return stored if inside and told else None


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
        self.alike: list[Alike] = []
        self.within = b""
        self.groups: list[bytes] = [b""]
        self.seen: set[int] = set()
        number = os.open(path, os.O_RDONLY)
        self.content = mmap.mmap(number, 0, access=mmap.ACCESS_READ)
        os.close(number)
        self.compares = has_plain_addresses(self.content[:16])
        self.file = self.call.H5Fopen(path, 0, 0)
        self.on_link, self.on_attribute = CALL(self.look_at_link), CALL(self.look_at_attribute)
        if self.check(self.file, "the file"):
            self.look_at_object(b"/", 0)
            while self.groups:
                self.look_at_group(self.groups.pop())

    def check(self, result: int, what: str) -> bool:
        """Note where a call of the library failed; say whether it did not."""
        if result < 0:
            self.problems.append(f"{what}, which the HDF5 library cannot read")
        return result >= 0

    def look_at_group(self, name: bytes) -> None:
        """Look at all links of a group."""
        self.within = name + b"/" if name else b""
        opened = self.call.H5Oopen(self.file, name or b"/", 0)
        if self.check(opened, _text(name)):
            self.check(self.call.iterate(opened, 0, 2, None, self.on_link, None), "its links")
            self.call.H5Oclose(opened)

    def look_at_link(self, _: int, name: bytes, info: int, __: int) -> int:
        """Look at one link of a group, and at what it leads to inside of the file."""
        kind = ctypes.cast(info, INTEGER)[0]
        if kind >= EXTERNAL_LINK:
            self.problems.append(f"a link {_text(self.within + name)} out of the file")
        elif kind == 0:
            place = ctypes.cast(info + ADDRESS, LONG)[0]
            for known in self.alike:
                size = known.measure(self.content, place)
                if size is not None:
                    self.claimed += size
                    return 0
            self.look_at_object(self.within + name, place)
        return 0

    def look_at_object(self, name: bytes, place: int) -> None:
        """Look at an object with its attributes, and at the storage of a data set.

        Args:
            name: of the object in the file.
            place: of its header, 0 of the file itself.
        """
        opened = self.call.H5Oopen(self.file, name, 0)
        if not self.check(opened, _text(name)):
            return
        n_problems = len(self.problems)
        found = self.call.H5Aiterate2(opened, 0, 2, None, self.on_attribute, None)
        self.check(found, f"attributes of {_text(name)}")
        kind = self.call.H5Iget_type(opened)
        if kind == GROUP and place and place not in self.seen:
            self.groups.append(name)
        self.seen.add(place)
        if kind == DATASET:
            item = self.look_at_data(opened, _text(name))
            if item and self.compares and len(self.problems) == n_problems:
                self.remember(opened, place, item)
        self.call.H5Oclose(opened)

    def remember(self, opened: int, place: int, item: int) -> None:
        """Keep the header of a sound data set, where it says what the library has found."""
        raw = self.content[place : place + MOST_HEADER]
        header = parse_header(raw)
        if header is None or len(self.alike) >= MOST_KINDS:
            return
        mask = int.from_bytes(header.fixed, "little")
        known = Alike(header, mask, int.from_bytes(raw[: header.length], "little") & mask, item)
        start = int.from_bytes(raw[header.stretch : header.stretch + 8], "little")
        stored = self.call.H5Dget_storage_size(opened)
        if (known.measure(self.content, place), start) == (stored, self.call.H5Dget_offset(opened)):
            self.alike.append(known)

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

    def look_at_data(self, opened: int, word: str) -> int:
        """Compare what a data set claims to hold with what is stored of it.

        Returns:
            Bytes of one value, 0 where the data set is refused or its values are elsewhere.
        """
        call = self.call
        kind, space = call.H5Dget_type(opened), call.H5Dget_space(opened)
        plist = call.H5Dget_create_plist(opened)
        if not self.check(min(kind, space, plist), word):
            return 0
        points, item = call.H5Sget_simple_extent_npoints(space), call.H5Tget_size(kind)
        stored, variable = call.H5Dget_storage_size(opened), call.H5Tdetect_class(kind, VARIABLE)
        size = points * item
        if refusal := self.judge_storage(plist, size, stored):
            self.problems.append(f"data set {word} {refusal}")
        elif variable > 0 and 0 < size <= SMALL:
            values = ctypes.create_string_buffer(size)
            self.check(call.H5Dread(opened, kind, 0, 0, 0, values), word)
        self.claimed += max(0, size)
        call.H5Tclose(kind)
        call.H5Sclose(space)
        call.H5Pclose(plist)
        return 0 if refusal or variable else int(item)

    def judge_storage(self, plist: int, size: int, stored: int) -> str:
        """Say why a data set is refused that claims one size, has another, and lies somewhere."""
        call = self.call
        if call.H5Pget_layout(plist) == VIRTUAL or call.H5Pget_external_count(plist) > 0:
            return "that lies in another file"
        for k in range(max(0, call.H5Pget_nfilters(plist))):
            flags, count, info = c_uint(), c_size_t(), c_uint()
            number = call.H5Pget_filter2(
                plist, k, byref(flags), byref(count), None, 0, None, byref(info)
            )
            if number not in FILTERS:
                return f"behind filter {number}"
        if size > SMALL and size > MOST_INFLATED * stored:
            return f"of {size} bytes, of which {stored} are stored"
        return ""


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
    library.iterate = library.H5Literate2 if hasattr(library, "H5Literate2") else library.H5Literate
    library.iterate.restype = c_int
    library.iterate.argtypes = [c_int64, c_int, c_int, c_void_p, CALL, c_void_p]
    library.H5open()
    library.H5Eset_auto2(0, None, None)
    return library


def _text(name: bytes) -> str:
    return repr(name.decode("utf-8", "replace"))


def main(arguments: Sequence[str]) -> NoReturn:
    """Look through one file under limits of processor time (s) and memory (bytes)."""
    import resource

    name, path, seconds, memory = arguments
    try:
        library = load(name)
    except (OSError, AttributeError):
        os._exit(3)
    signal.setitimer(signal.ITIMER_PROF, float(seconds))  # its signal ends the process
    resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    walk = Walk(library, os.fsencode(path))
    size = len(walk.content)
    if not walk.problems and walk.claimed > max(SMALL, MOST_INFLATED * size):
        walk.problems.append(f"{size} bytes that claim to hold {walk.claimed}")
    print("\n".join(walk.problems), flush=True)
    os._exit(0)  # what the library does at the end can crash on objects that are open


if __name__ == "__main__":
    main(sys.argv[1:])
