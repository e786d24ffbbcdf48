"""The one room in which files are opened that anybody may have written or damaged.

Sizes, headers and encodings are looked at before anything is read, what unpacks is compared with
what it unpacks from, memory is limited while other people's parsers run, and HDF5 files are first
looked through by a child process that may hang or crash. Whatever is wrong becomes one message.
"""

from mlepi.untrusted.archives import check_archive, load_npy, open_npz, read_npy_header
from mlepi.untrusted.compressed import COMPRESSED, strip_compression, unpack
from mlepi.untrusted.hdf5 import note_own, open_hdf5
from mlepi.untrusted.hdf5_walk import MOST_HEADER, PlainHeader, has_plain_addresses, parse_header
from mlepi.untrusted.limits import check_size, guard, limit_memory, reading
from mlepi.untrusted.shells import LARGEST_RADIUS, parse_shells
from mlepi.untrusted.text import check_text, parse_json, read_json, read_text

__all__ = [
    "COMPRESSED",
    "LARGEST_RADIUS",
    "MOST_HEADER",
    "PlainHeader",
    "check_archive",
    "check_size",
    "check_text",
    "guard",
    "has_plain_addresses",
    "limit_memory",
    "load_npy",
    "note_own",
    "open_hdf5",
    "open_npz",
    "parse_header",
    "parse_json",
    "parse_shells",
    "read_json",
    "read_npy_header",
    "read_text",
    "reading",
    "strip_compression",
    "unpack",
]
