"""How folders are searched for structures, and how what is found is named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mlepi.errors import DataError, message
from mlepi.untrusted import COMPRESSED, reading, strip_compression

REFUSED = {
    "graph_data.npz": "HamGNN's pickled graphs: mlepi unpickle FILE FOLDER makes files to convert",
    ".mdb": "pickles in a database: export with dftio parse -f dat",
    "_nao.dat": "ABACUS' binary form: out_hsr 1 (before: out_mat_hs2 1) writes text",
    "_nao.npz": "ABACUS' form for numpy: out_hsr 1 (before: out_mat_hs2 1) writes text",
    "_data-HR-sparse_SPIN0.csr": "of one step of molecular dynamics: run scf on its structure",
    ".pkl": "a pickle, which can run any code: export it as text, HDF5 or .npy",
    ".tar": "an archive: unpack it, and give the folder",
    ".zip": "an archive: unpack it, and give the folder",
    **dict.fromkeys(
        (".tgz", ".tar.lzma", ".tar.zst", ".7z", ".rar"),
        "an archive: unpack it, and give the folder",
    ),
    **dict.fromkeys(COMPRESSED, "compressed: unpack it (only files of forces are read packed)"),
}
"""Ends of names that get one message instead of a reader."""

ONE_RUN = ("vaspout.h5", "vasprun.xml", "outcar", "phonopy_params.yaml", "force_sets")
"""Of these names, all of one run, the first in a folder is taken."""

SAME_STEM = ((".scfout", ".out"), (".hsx", ".tshs", ".nc"))
"""Suffixes of files of one run, of which the first with the same stem is taken."""

NETCDF, HDF5, SPARSE = ".nc", b"\x89HDF\r\n\x1a\n", b"SPARSE"
"""Files that end so hold matrices of SIESTA where they begin so and have a group of this name;
others are densities, potentials, orbitals, transmissions, or of other programs."""

HEAD = 2**18
"""Bytes within which the names of groups stand."""

DEEPEST = 32
"""Folders inside each other that are searched."""

Item = TypeVar("Item")


def find_only(path: Path, *suffixes: str) -> Path | None:
    """Return the file itself, or the only run of a folder with one of these suffixes, first come.

    Args:
        path: file or folder.
        suffixes: in capitals or not, the preferred one first.
    """
    wanted = [suffix.lower() for suffix in suffixes]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    found = [
        file
        for suffix in wanted
        for file in files
        if file.suffix.lower() == suffix and file.is_file() and not _is_other_netcdf(file)
    ]
    return found[0] if len({file.stem for file in found}) == 1 else None


def _is_other_netcdf(file: Path) -> bool:
    """Say whether a file is NetCDF without sparse matrices."""
    if file.suffix.lower() != NETCDF:
        return False
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    return not head.startswith(HDF5) or SPARSE not in head


def search_folder(path: Path, recognise: Callable[[Path], list[Item]]) -> list[Item]:
    """List what a path is, and what lies below it.

    Args:
        path: file or folder.
        recognise: what a single path is, nothing where it is unknown.

    Raises:
        DataError: a file or folder cannot be read.
    """
    return _search(path, recognise, set(), 0)


def _search(
    path: Path,
    recognise: Callable[[Path], list[Item]],
    seen: set[tuple[int, int]],
    depth: int,
) -> list[Item]:
    """Search a folder once, however it is linked; files of a folder that is a structure are its."""
    fix, got = "Change its permissions, or leave it out.", "a path that cannot be read"
    with reading(str(path), "a readable file or folder", fix, got):
        found = recognise(path)
        if not path.is_dir():
            return found
        here = (path.stat().st_dev, path.stat().st_ino)
        if here in seen or depth > DEEPEST:
            return []
        seen.add(here)
        with os.scandir(path) as listed:
            entries = sorted(Path(entry.path) for entry in listed if entry.name[0] != ".")
    below = [entry for entry in entries if entry.is_dir()] if found else _leave_copies(entries)
    return [
        *found,
        *(item for entry in below for item in _search(entry, recognise, seen, depth + 1)),
    ]


def _leave_copies(entries: list[Path]) -> list[Path]:
    """Leave out files that hold less of a run than others beside them."""
    names = [strip_compression(entry).lower() for entry in entries]
    runs = [
        entry
        for known in ONE_RUN
        for entry, name in zip(entries, names, strict=True)
        if name == known
    ]
    files = {(entry.stem, entry.suffix.lower()) for entry in entries}

    def is_second(entry: Path) -> bool:
        for suffixes in SAME_STEM:
            if entry.suffix.lower() in suffixes:
                better = suffixes[: suffixes.index(entry.suffix.lower())]
                return any((entry.stem, suffix) in files for suffix in better)
        return entry in runs[1:]

    return [entry for entry in entries if not is_second(entry)]


def tell_refused(path: Path, expected: str, whole: str | None = None) -> DataError:
    """Say why nothing was found in a path.

    Args:
        path: file or folder.
        expected: the formats that were looked for.
        whole: what the folder of a file is, where it is a structure.
    """
    names = _list_names(path) if path.is_dir() else [path.name]
    for name in names:
        ends = (name, strip_compression(Path(name)))
        reason = next(
            (text for end, text in REFUSED.items() if any(n.endswith(end) for n in ends)), None
        )
        if reason:
            return DataError(message(str(path), name, "a format that is read", f"It is {reason}."))
    if whole is not None and path.is_file():
        fix = f"Give the folder, {path.parent}."
        return DataError(message(str(path), "a single file of several", whole, fix))
    fix = "Check the path; docs/data_formats.md lists which files each format needs."
    got = "no structure in it or below it" if path.is_dir() else "a file of no known format"
    return DataError(message(str(path), got, expected, fix))


def _list_names(folder: Path) -> list[str]:
    """List the names in a folder, then those below it, at most 2000 of each."""
    here = sorted(entry.name for entry in islice(folder.iterdir(), 2000))
    return here + sorted(entry.name for entry in islice(folder.rglob("*/*"), 2000))


def name_uniquely(parts: Sequence[tuple[tuple[str, ...], str]]) -> list[str]:
    """Put as many folders in front of names as make them unique.

    Args:
        parts: folders above, from the root, and name of every structure.
    """
    chosen = [name for _, name in parts]
    for depth in range(1, max((len(folders) for folders, _ in parts), default=0) + 1):
        counts = Counter(chosen)
        if max(counts.values()) == 1:
            break
        chosen = [
            "_".join([*folders[-depth:], name]) if counts[short] > 1 else short
            for short, (folders, name) in zip(chosen, parts, strict=True)
        ]
    return chosen
