"""Convert the Hamiltonians of other codes into the package's HDF5 format.

``python -m mlepi.structures.convert``. Other packages add formats, ``mlepi.plugins``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ase.data import chemical_symbols

from mlepi.errors import DataError, MlepiError, message
from mlepi.plugins import find_plugins
from mlepi.structures.dataset_writer import write_hamiltonian_dataset
from mlepi.structures.deeph import read_deeph
from mlepi.structures.deeph_legacy import read_deeph_legacy
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.layers import get_layers
from mlepi.structures.openmx import read_openmx

DEEPH_FORMATS = ("deeph", "deeph_legacy")
"""Formats with a folder per structure, whose files do not say how far orbitals reach."""


def convert(
    sources: Sequence[str | Path],
    source_format: str,
    out: str | Path,
    *,
    radii: dict[str, float] | None = None,
    note: str = "",
) -> int:
    """Read every source and write one Hamiltonian data set.

    Args:
        sources: for "openmx" .scfout files or folders with one each (the .out beside it is used
            when there is one); for the DeepH formats folders of one structure, or folders of such
            folders; for the format of a plug-in what its reader takes.
        source_format: "openmx", "deeph", "deeph_legacy", or that of a plug-in.
        out: HDF5 file to write.
        radii: chemical symbol → orbital radius, Å, for the DeepH formats; when None the largest
            radius that any of the structures shows is used for all of them (every source is then
            read twice).
        note: text for the provenance of the data set: functional, basis, code version, licence.

    Returns:
        Number of structures written.

    Raises:
        DataError: a source cannot be read, or the structures contradict each other.
    """
    paths = [path for source in sources for path in _expand(Path(source), source_format)]
    names = _names(paths, source_format)
    provenance = {"converted_from": source_format, "radii": "in the files", "note": note}
    if source_format in DEEPH_FORMATS:
        provenance["radii"] = "given" if radii else "inferred from the longest pairs"
        radii = radii or _largest_radii(paths, source_format)

    def structures() -> Iterator[LabelledStructure]:
        for path, name in zip(paths, names, strict=True):
            structure = _read(path, source_format, radii, name)
            structure.atoms.set_array("layer", get_layers(structure.atoms))
            yield structure

    write_hamiltonian_dataset(out, structures(), provenance)
    return len(paths)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mlepi.structures.convert", description=__doc__)
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SRC",
        help=".scfout files, or folders of one or of many structures",
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=["openmx", *DEEPH_FORMATS, *find_plugins("readers")],
        help="what the sources are",
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE.h5", help="data set to write; must not exist"
    )
    parser.add_argument(
        "--radius",
        action="append",
        default=[],
        metavar="C=3.175",
        help="orbital radius, Å (DeepH only)",
    )
    parser.add_argument(
        "--note", default="", help="provenance: functional, basis, code version, licence"
    )
    options = parser.parse_args(arguments)
    try:
        if Path(options.out).exists():
            raise DataError(
                message(
                    "--out",
                    f"existing file {options.out}",
                    "a new file",
                    "Remove it or choose another name.",
                )
            )
        radii = _parse_radii(options.radius, options.format)
        n_structures = convert(
            options.sources, options.format, options.out, radii=radii, note=options.note
        )
    except MlepiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {error.filename or options.out}: {error.strerror or error}", file=sys.stderr)
        return 1
    print(f"{options.out}: {n_structures} structures")
    return 0


def _parse_radii(words: Sequence[str], source_format: str) -> dict[str, float] | None:
    """Read "C=3.175" into a mapping; None when nothing is given."""
    if words and source_format not in DEEPH_FORMATS:
        raise DataError(
            message(
                "--radius",
                f"{list(words)}",
                f"none with --format {source_format}",
                "Its files name their radii.",
            )
        )
    radii: dict[str, float] = {}
    for word in words:
        symbol, _, value = word.partition("=")
        try:
            radii[symbol] = float(value)
        except ValueError:
            radii[symbol] = 0.0
        if symbol not in chemical_symbols[1:] or not 0.0 < radii[symbol] < 100.0:
            raise DataError(
                message(
                    "--radius",
                    repr(word),
                    "an element and a radius in Å such as C=3.175",
                    "Write it as SYMBOL=RADIUS, without spaces.",
                )
            )
    return radii or None


def _expand(source: Path, source_format: str) -> list[Path]:
    """List the structures that a source stands for, sorted by name."""
    if not source.exists():
        raise DataError(
            message(
                str(source),
                "no such file or folder",
                f"a source of format {source_format}",
                "Check the path.",
            )
        )
    if source_format == "openmx":
        if source.is_file():
            return [source]
        found = sorted(source.glob("*.scfout"))
        if len(found) != 1:
            raise DataError(
                message(
                    str(source),
                    f"{len(found)} .scfout files",
                    "one",
                    "Name the .scfout files themselves.",
                )
            )
        return found
    if source_format not in DEEPH_FORMATS:
        return [source]
    if source.is_file():
        raise DataError(
            message(
                str(source), "a file", f"a folder of format {source_format}", "Give the folder."
            )
        )
    if (source / "info.json").exists():
        return [source]
    found = sorted(path.parent for path in source.glob("*/info.json"))
    if not found:
        raise DataError(
            message(
                str(source),
                "no info.json in it or in its folders",
                "DeepH folders",
                "Check the path.",
            )
        )
    return found


def _names(paths: Sequence[Path], source_format: str) -> list[str]:
    """Name structures by file stem or folder, by the folder above too where not unique."""
    of_folders = source_format in DEEPH_FORMATS
    short = [path.resolve().name if of_folders else path.stem for path in paths]
    if len(set(short)) == len(short):
        return short
    return [f"{path.resolve().parent.name}_{name}" for path, name in zip(paths, short, strict=True)]


def _read(
    path: Path, source_format: str, radii: dict[str, float] | None, name: str
) -> LabelledStructure:
    if source_format == "openmx":
        log = path.with_suffix(".out")
        structure = read_openmx(path, log if log.exists() else None, name=name)
    elif source_format == "deeph":
        structure = read_deeph(path, radii=radii, name=name)
    elif source_format == "deeph_legacy":
        structure = read_deeph_legacy(path, radii=radii, name=name)
    else:
        structure = find_plugins("readers")[source_format].load()(path, name)
    if structure.hamiltonian_blocks is None:
        raise DataError(
            message(str(path), "an overlap without Hamiltonian", "both", "Leave this folder out.")
        )
    return structure


def _largest_radii(paths: Sequence[Path], source_format: str) -> dict[str, float]:
    """Find per element the largest radius that any structure stores or shows, Å."""
    radii: dict[str, float] = {}
    for path in paths:
        basis = _read(path, source_format, None, path.name).basis
        for number, radius in basis.radii.items() if basis is not None else ():
            radii[chemical_symbols[number]] = max(radius, radii.get(chemical_symbols[number], 0.0))
    return radii


if __name__ == "__main__":
    sys.exit(main())
