"""Which files of other programs are known, how they are recognised, and how each is read.

A format lists what a path holds; that decides whether a path is of it, in capitals or not. Formats
of other packages (``mlepi.plugins``) are read when they are named, never guessed. How folders are
searched is in ``source_search``.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mlepi.errors import DataError, message
from mlepi.plugins import find_plugins
from mlepi.structures.abacus import list_steps, read_abacus
from mlepi.structures.ase_files import find_force_format, read_forces_dataset
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dataset_format import FORMAT
from mlepi.structures.deeph import read_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.dftio import count_dftio_frames, read_dftio
from mlepi.structures.gpaw_files import read_gpaw
from mlepi.structures.hamgnn import GRAPH, read_hamgnn
from mlepi.structures.kmesh_files import list_kmesh_frames, read_kmesh
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.openmx import read_openmx
from mlepi.structures.openmx_out import is_openmx_out, read_openmx_out
from mlepi.structures.siesta import SISL_FILES, read_siesta
from mlepi.structures.source_search import find_only, name_uniquely, search_folder, tell_refused
from mlepi.untrusted import open_hdf5, reading, strip_compression

FORCE_SUFFIXES = (".extxyz", ".xyz")

SINGLE = ("openmx", "siesta")
"""Formats of single files, which lie in folders with many others."""

SIESTA_FILES = (".HSX", *SISL_FILES)

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


def _read_openmx(source: Source, _: Radii) -> list[LabelledStructure]:
    path = find_only(source.path, ".scfout") or source.path
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
    name = strip_compression(path)
    known = find_force_format(path) != "extxyz" and not name.endswith("_disp.yaml")
    return _one(path.is_file() and (known or Path(name).suffix.lower() in FORCE_SUFFIXES))


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
        lambda path: (find_only(path, ".scfout") or path).stem,
        lambda path: _one(find_only(path, ".scfout") is not None),
        _read_openmx,
    ),
    "siesta": ForeignFormat(
        "SIESTA .HSX, .TSHS, .nc",
        True,
        True,
        lambda path: (find_only(path, *SIESTA_FILES) or path).stem,
        lambda path: _one(find_only(path, *SIESTA_FILES) is not None),
        lambda source, _: [
            read_siesta(find_only(source.path, *SIESTA_FILES) or source.path, source.name)
        ],
    ),
    "abacus": ForeignFormat(
        "ABACUS OUT.NAME",
        True,
        True,
        lambda path: path.resolve().name.removeprefix("OUT."),
        list_steps,
        lambda source, _: [read_abacus(source.path, source.name, source.frame)],
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
        lambda path: list(range(count_dftio_frames(path))),
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
        lambda path: _one(path.is_file() and path.suffix.lower() == ".gpw"),
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
        lambda path: Path(strip_compression(path)).stem,
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
        paths: files and folders; a folder stands for what it is itself and for all below it.
        source_format: only this one; None to recognise each.

    Returns:
        Sources by path, each once however often it is linked or given, with unique names.

    Raises:
        DataError: a path does not exist or holds nothing of a known format.
    """
    found: dict[tuple[str, Path, int | None], tuple[str, Path, int | None]] = {}
    for path in map(Path, paths):
        if not path.exists():
            fix = "Check the path."
            raise DataError(message(str(path), "no such file or folder", "a source", fix))
        here = list(_search(path, source_format))
        if not here:
            kinds = _choose(source_format)
            expected = "; ".join(kind.title for kind in kinds.values())
            above = [kind for kind, *_ in _recognise(path.parent, kinds) if kind not in SINGLE]
            whole = kinds[above[0]].title if above else None
            raise tell_refused(path, expected, whole)
        for kind, place, frame in here:
            found.setdefault((kind, place.resolve(), frame), (kind, place, frame))
    return _name(list(found.values()))


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


def _search(path: Path, source_format: str | None) -> Iterable[tuple[str, Path, int | None]]:
    """Recognise a path and everything below it."""
    if source_format is not None and source_format not in FORMATS:
        return [(source_format, path, None)]
    chosen = _choose(source_format)
    return search_folder(path, lambda place: _recognise(place, chosen))


def _choose(source_format: str | None) -> dict[str, ForeignFormat]:
    return FORMATS if source_format is None else {source_format: FORMATS[source_format]}


def _recognise(
    path: Path, kinds: Mapping[str, ForeignFormat]
) -> list[tuple[str, Path, int | None]]:
    """Say what a path itself is, by the first format that it fits."""
    for name, kind in kinds.items():
        try:
            frames = kind.list_frames(path)
        except DataError:  # its reader will say what is wrong with it
            frames = [None]
        if frames:
            return [(name, path, frame) for frame in frames]
    return []


def _name(found: list[tuple[str, Path, int | None]]) -> list[Source]:
    """Name sources by file or folder, by the folders above too where that is not unique.

    Files of one folder and stem (``vasprun.xml-001``, ``vasprun.xml-002``) have their whole names.
    """
    several = {path for _, path, frame in found if frame}
    stems = [FORMATS[kind].stem(path) if kind in FORMATS else path.stem for kind, path, _ in found]
    places = {(path.resolve(), stem) for (_, path, _), stem in zip(found, stems, strict=True)}
    counts = Counter((place.parent, stem) for place, stem in places if place.is_file())
    parts = []
    for (_, path, frame), stem in zip(found, stems, strict=True):
        whole = path.resolve()
        if counts[whole.parent, stem] > 1 and whole.is_file():
            stem = whole.name
        folder = whole if path.is_dir() and stem != whole.name else whole.parent
        number = f"_{frame:05d}" if path in several and frame is not None else ""
        parts.append((folder.parts[1:], stem + number))
    return [
        Source(kind, path, frame, name)
        for (kind, path, frame), name in zip(found, name_uniquely(parts), strict=True)
    ]
