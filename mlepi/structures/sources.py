"""Which files of other programs are known, how they are recognised, and how each is read.

A format lists what a path holds; that decides whether a path is of it. Formats of other packages
(``mlepi.plugins``) are read when they are named, never guessed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlepi.errors import DataError, message
from mlepi.plugins import find_plugins
from mlepi.structures.abacus import find_matrices, read_abacus
from mlepi.structures.ase_files import find_force_format, read_forces_dataset
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_format import FORMAT
from mlepi.structures.deeph import read_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.dftio import count_dftio_frames, find_dftio_file, read_dftio
from mlepi.structures.gpaw_files import read_gpaw
from mlepi.structures.hamgnn import GRAPH, read_hamgnn
from mlepi.structures.kmesh_files import list_kmesh_frames, read_kmesh
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.openmx import read_openmx
from mlepi.structures.openmx_out import is_openmx_out, read_openmx_out
from mlepi.structures.siesta import SISL_FILES, read_siesta
from mlepi.untrusted import open_hdf5, reading

REFUSED = {
    "graph_data.npz": "HamGNN's pickled graphs: mlepi unpickle FILE FOLDER makes files to convert",
    ".mdb": "pickles in a database: export with dftio parse -f dat",
    ".pkl": "a pickle, which can run any code: export it as text, HDF5 or .npy",
}
"""Ends of names that get one message instead of a reader."""

FORCE_FILES = ("vaspout.h5", "vasprun.xml", "OUTCAR", "phonopy_params.yaml", "FORCE_SETS")
"""Of these names, all of one run, the first in a folder is taken."""

DEEPEST = 32
"""Folders inside each other that are searched."""

FORCE_SUFFIXES = (".extxyz", ".xyz", ".db", ".traj")

Radii = Mapping[str, float] | None


@dataclass(frozen=True)
class Source:
    """One structure with a Hamiltonian, or one file of structures with forces.

    Attributes:
        source_format: name in ``FORMATS``, or of a plug-in.
        path: file or folder.
        frame: which of its structures; None for the only one, and for files with forces.
        name: unique among those converted together.
    """

    source_format: str
    path: Path
    frame: int | None
    name: str

    @property
    def where(self) -> str:
        """The path, with the frame where there are several."""
        return str(self.path) if self.frame is None else f"{self.path}, structure {self.frame}"


@dataclass(frozen=True)
class ForeignFormat:
    """How one format is recognised and read.

    Attributes:
        title: for people.
        has_hamiltonian: else it has forces.
        infers_radii: its files do not say how far orbitals reach.
        stem: how a structure is named by its path.
        list_frames: frames of a path, none when the path is not of this format.
        read: structures of a source.
    """

    title: str
    has_hamiltonian: bool
    infers_radii: bool
    stem: Callable[[Path], str]
    list_frames: Callable[[Path], Sequence[int | None]]
    read: Callable[[Source, Radii], list[LabelledStructure]]


def _one(condition: bool) -> list[int | None]:
    return [None] if condition else []


def _has(path: Path, *names: str) -> bool:
    return path.is_dir() and all((path / name).is_file() for name in names)


def _only(path: Path, *suffixes: str) -> Path | None:
    """Return the file itself, or the only file of a folder with one of these suffixes."""
    if path.is_file():
        return path if path.suffix in suffixes else None
    found = [file for suffix in suffixes for file in sorted(path.glob(f"*{suffix}"))]
    return found[0] if len(found) == 1 else None


def _read_openmx(source: Source, _: Radii) -> list[LabelledStructure]:
    path = _only(source.path, ".scfout") or source.path
    log = path.with_suffix(".out")
    return [read_openmx(path, log if log.exists() else None, name=source.name)]


def _is_own(path: Path) -> bool:
    if path.suffix not in (".h5", ".hdf5") or not path.is_file():
        return False
    with open_hdf5(path) as file:
        return bool(file.attrs.get("format") == FORMAT)


@functools.cache
def _verify(path: Path, size: int, changed: int) -> None:
    """Verify all arrays of a data set, once while it has this size and time of change."""
    HamiltonianDataset(path).verify()


def _read_own(source: Source, _: Radii) -> list[LabelledStructure]:
    _verify(source.path, source.path.stat().st_size, source.path.stat().st_mtime_ns)
    structure = HamiltonianDataset(source.path)[source.frame or 0]
    return [replace(structure, name=source.name)]


def _list_forces(path: Path) -> list[int | None]:
    known = find_force_format(path) != "extxyz" and not path.name.endswith("_disp.yaml")
    return _one(path.is_file() and (known or path.suffix in FORCE_SUFFIXES))


def _read_forces(source: Source, _: Radii) -> list[LabelledStructure]:
    return read_forces_dataset(source.path)


FORMATS = {
    "mlepi": ForeignFormat(
        "data set of mlepi",
        True,
        False,
        lambda path: path.stem,
        lambda path: list(range(len(HamiltonianDataset(path)))) if _is_own(path) else [],
        _read_own,
    ),
    "openmx": ForeignFormat(
        "OpenMX .scfout",
        True,
        False,
        lambda path: (_only(path, ".scfout") or path).stem,
        lambda path: _one(_only(path, ".scfout") is not None),
        _read_openmx,
    ),
    "siesta": ForeignFormat(
        "SIESTA .HSX, .TSHS, .nc",
        True,
        True,
        lambda path: (_only(path, ".HSX", *SISL_FILES) or path).stem,
        lambda path: _one(_only(path, ".HSX", *SISL_FILES) is not None),
        lambda source, _: [
            read_siesta(_only(source.path, ".HSX", *SISL_FILES) or source.path, source.name)
        ],
    ),
    "abacus": ForeignFormat(
        "ABACUS OUT.NAME",
        True,
        True,
        lambda path: path.resolve().name.removeprefix("OUT."),
        lambda path: _one(path.is_dir() and find_matrices(path) is not None),
        lambda source, _: [read_abacus(source.path, source.name)],
    ),
    "deeph": ForeignFormat(
        "DeepH folder",
        True,
        True,
        lambda path: path.resolve().name,
        lambda path: _one(_has(path, "info.json", "POSCAR") and not _has(path, "element.dat")),
        lambda source, radii: [read_deeph(source.path, radii=radii, name=source.name)],
    ),
    "deeph_legacy": ForeignFormat(
        "legacy DeepH folder",
        True,
        True,
        lambda path: path.resolve().name,
        lambda path: _one(_has(path, "element.dat") and not _has(path, "basis.dat")),
        lambda source, radii: [read_deeph_legacy(source.path, radii=radii, name=source.name)],
    ),
    "dftio": ForeignFormat(
        "dftio or DeePTB folder",
        True,
        True,
        lambda path: path.resolve().name,
        lambda path: (
            list(range(count_dftio_frames(path)))
            if _has(path, "basis.dat", "cell.dat") and find_dftio_file(path, "hamiltonian")
            else []
        ),
        lambda source, _: [read_dftio(source.path, source.frame or 0, source.name)],
    ),
    "kmesh": ForeignFormat(
        "H(k), S(k) as .npy",
        True,
        True,
        lambda path: path.resolve().name,
        lambda path: list(list_kmesh_frames(path)) if path.is_dir() else [],
        lambda source, _: [read_kmesh(source.path, source.frame or 0, source.name)],
    ),
    "gpaw": ForeignFormat(
        "GPAW .gpw",
        True,
        True,
        lambda path: path.stem,
        lambda path: _one(path.is_file() and path.suffix == ".gpw"),
        lambda source, _: [read_gpaw(source.path, source.name)],
    ),
    "hamgnn": ForeignFormat(
        "HamGNN graph, unpickled",
        True,
        True,
        lambda path: path.name.removesuffix(GRAPH),
        lambda path: _one(path.is_file() and path.name.endswith(GRAPH)),
        lambda source, radii: [read_hamgnn(source.path, radii=radii, name=source.name)],
    ),
    "openmx_out": ForeignFormat(
        "OpenMX .out without .scfout",
        False,
        False,
        lambda path: path.stem,
        lambda path: _one(is_openmx_out(path)),
        lambda source, _: [read_openmx_out(source.path, source.name)],
    ),
    "forces": ForeignFormat(
        "forces of VASP, phonopy, extxyz, ASE",
        False,
        False,
        lambda path: path.stem,
        _list_forces,
        _read_forces,
    ),
}
"""Name → format, in the order in which a path is tried."""


def list_formats() -> list[str]:
    """Return the names of all formats, those of plug-ins last."""
    return [*FORMATS, *find_plugins("readers")]


def find_sources(paths: Iterable[str | Path], source_format: str | None = None) -> list[Source]:
    """List every structure that some paths stand for, folders searched to their ends.

    Args:
        paths: files and folders; a folder that is no structure itself stands for all below it.
        source_format: only this one; None to recognise each.

    Returns:
        Sources by path, with unique names.

    Raises:
        DataError: a path does not exist or holds nothing of a known format.
    """
    found: list[tuple[str, Path, int | None]] = []
    for path in map(Path, paths):
        if not path.exists():
            fix = "Check the path."
            raise DataError(message(str(path), "no such file or folder", "a source", fix))
        here = list(_search(path, source_format, set()))
        if not here:
            raise _nothing(path, source_format)
        found += here
    return _name(found)


def read_source(source: Source, radii: Radii = None) -> list[LabelledStructure]:
    """Read the structures of a source.

    Raises:
        DataError: it cannot be read; the message says why.
    """
    if source.source_format in FORMATS:
        kind = FORMATS[source.source_format]
        with reading(source.where, kind.title):
            return kind.read(source, radii)
    reader = find_plugins("readers")[source.source_format].load()
    structure: LabelledStructure = reader(source.path, source.name)
    return [structure]


def _search(
    path: Path, source_format: str | None, seen: set[tuple[int, int]], depth: int = 0
) -> Iterable[tuple[str, Path, int | None]]:
    """Recognise a path, or everything below it; a folder is searched once, however it is linked."""
    if source_format is not None and source_format not in FORMATS:
        return [(source_format, path, None)]
    chosen = FORMATS if source_format is None else {source_format: FORMATS[source_format]}
    for name, kind in chosen.items():
        try:
            frames = kind.list_frames(path)
        except DataError:  # its reader will say what is wrong with it
            frames = [None]
        if frames:
            return [(name, path, frame) for frame in frames]
    if not path.is_dir():
        return []
    here = (path.stat().st_dev, path.stat().st_ino)
    if here in seen or depth > DEEPEST:
        return []
    seen.add(here)
    entries = sorted(Path(entry.path) for entry in os.scandir(path) if entry.name[0] != ".")
    runs = [entry for name in FORCE_FILES for entry in entries if entry.name == name]
    kept = [entry for entry in entries if entry not in runs[1:]]
    return [item for entry in kept for item in _search(entry, source_format, seen, depth + 1)]


def _nothing(path: Path, source_format: str | None) -> DataError:
    """Say why nothing was found."""
    names = [path.name] if path.is_file() else [p.name for p in sorted(path.iterdir())][:2000]
    for name in names:
        reason = next((text for end, text in REFUSED.items() if name.endswith(end)), None)
        if reason:
            return DataError(message(str(path), name, "a format that is read", f"It is {reason}."))
    kinds = FORMATS if source_format is None else {source_format: FORMATS[source_format]}
    expected = "; ".join(kind.title for kind in kinds.values())
    fix = "Check the path; docs/data_formats.md lists which files each format needs."
    got = "a file of no known format" if path.is_file() else "no structure in it or below it"
    return DataError(message(str(path), got, expected, fix))


def _name(found: list[tuple[str, Path, int | None]]) -> list[Source]:
    """Name sources by file or folder, by the folders above too where that is not unique."""
    several = {path for _, path, frame in found if frame}

    def names(depth: int) -> list[str]:
        words = []
        for kind, path, frame in found:
            stem = FORMATS[kind].stem(path) if kind in FORMATS else path.stem
            whole = path.resolve()
            folder = whole if path.is_dir() and stem != whole.name else whole.parent
            above = folder.parts[-depth:] if depth else ()
            number = [f"{frame:05d}"] if path in several and frame is not None else []
            words.append("_".join([*above, stem, *number]))
        return words

    chosen = names(0)
    for depth in range(1, 5):
        longer = names(depth)
        chosen = [
            long if chosen.count(short) > 1 else short
            for short, long in zip(chosen, longer, strict=True)
        ]
    return [
        Source(kind, path, frame, name)
        for (kind, path, frame), name in zip(found, chosen, strict=True)
    ]
