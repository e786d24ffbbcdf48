"""HDF5 files of radial overlap tables: units as attributes, a checksum, written atomically."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.errors import DataError, message
from mlepi.hdf5_files import replace_hdf5
from mlepi.physics.overlaps.augmented import AugmentedOverlapTable, RadialOverlaps, rebuild_overlaps
from mlepi.physics.overlaps.orbitals import read_pao
from mlepi.physics.overlaps.table import OverlapTable
from mlepi.physics.overlaps.tabulate import tabulate_overlaps
from mlepi.untrusted import open_hdf5, parse_json

FORMAT = "mlepi-overlap-table"
VERSION, AUGMENTED_VERSION = 1, 2
"""Of files without and with projectors."""
AUGMENTATION, PARTS = "augmentation", {"corrections": "1", "slopes": "1/Å"}
"""Group of what augmentation adds, and its parts with their units."""


def tabulate_files(
    paths: Sequence[Path],
    selections: Sequence[str],
    output: Path,
    script: str,
    n_grid: int | None = None,
) -> OverlapTable:
    """Tabulate the overlaps of the orbitals in OpenMX's ``.pao`` files and write the table.

    Args:
        paths: one file per element.
        selections: orbitals of each, such as "s2p2".
        output: HDF5 file to write.
        script: path of the calling script in the project, for the provenance.
        n_grid: number of distances; None for the default of ``tabulate_overlaps``.
    """
    orbitals = [read_pao(path, chosen) for path, chosen in zip(paths, selections, strict=True)]
    provenance = {
        "command": " ".join(["python", script, *(path.name for path in paths)]),
        "orbitals": [one.name for one in orbitals],
        "orbitals_sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths],
        "method": "mlepi.physics.overlaps.tabulate_overlaps, "
        + ("default settings" if n_grid is None else f"n_grid={n_grid}"),
    }
    table = tabulate_overlaps(orbitals, **({} if n_grid is None else {"n_grid": n_grid}))
    write_overlap_table(output, table, provenance)
    return table


def write_overlap_table(
    path: str | Path, table: RadialOverlaps, provenance: Mapping[str, Any]
) -> None:
    """Write a table to an HDF5 file; the file appears complete or not at all.

    Args:
        path: file to write.
        table: radial overlap functions, of orbitals alone or of projectors too.
        provenance: how the table was made; plain Python data.
    """
    path = Path(path)
    data = table.to_dict()
    augmented = isinstance(table, AugmentedOverlapTable)
    radial = table.table if isinstance(table, AugmentedOverlapTable) else table
    with replace_hdf5(path) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = AUGMENTED_VERSION if augmented else VERSION
        file.attrs["basis"] = json.dumps(data["basis"])
        file.attrs["provenance"] = json.dumps(dict(provenance))
        file.attrs["checksum"] = _checksum(data)
        for pair, values in data["values"].items():
            group = file.create_group(pair)
            group.attrs["channels"] = json.dumps(
                [list(c) for c in radial.channels(*map(int, pair.split("-")))]
            )
            group.attrs["channels_meaning"] = (
                "shell of element 1, shell of element 2, total angular momentum L"
            )
            functions = group.create_dataset("values", data=values)
            functions.attrs["unit"] = "1/Å^L"
            functions.attrs["meaning"] = (
                "s_L(R)/R^L on equal steps of R from 0 to the sum of the two orbital radii"
            )
            grid = group.create_dataset(
                "distances",
                data=np.linspace(0.0, radial.cutoff(*map(int, pair.split("-"))), values.shape[1]),
            )
            grid.attrs["unit"] = "Å"
            if pair in data["fitted_intervals"]:
                intervals = group.create_dataset(
                    "fitted_intervals", data=data["fitted_intervals"][pair]
                )
                intervals.attrs["unit"] = "Å"
        for part, unit in PARTS.items() if augmented else ():
            for element, values in data[part].items():
                stored = file.create_dataset(f"{AUGMENTATION}/{part}/{element}", data=values)
                stored.attrs["unit"] = unit


def read_overlap_table(path: str | Path) -> RadialOverlaps:
    """Read a table that ``write_overlap_table`` wrote.

    Args:
        path: HDF5 file.

    Returns:
        The table.

    Raises:
        DataError: the file is missing, damaged, of another format or from an unknown version.
    """
    path = Path(path)
    fix = "Make it again with tabulate_overlaps or fit_overlap_table."
    if not path.is_file():
        raise DataError(message(str(path), "no such file", "an overlap table", fix))
    try:
        with open_hdf5(path) as file:
            version = int(file.attrs["version"])
            if file.attrs.get("format") != FORMAT or version not in (VERSION, AUGMENTED_VERSION):
                found = f"format {file.attrs.get('format')!r}, version {file.attrs.get('version')}"
                expected = f"{FORMAT!r}, version {VERSION} or {AUGMENTED_VERSION}"
                raise DataError(message(str(path), found, expected, fix))
            pairs = {name: group for name, group in file.items() if name != AUGMENTATION}
            data = {
                "basis": parse_json(str(path), file.attrs["basis"]),
                "values": {
                    pair: np.asarray(group["values"][()], dtype=np.float64)
                    for pair, group in pairs.items()
                },
                "fitted_intervals": {
                    pair: np.asarray(g["fitted_intervals"][()], dtype=np.float64)
                    for pair, g in pairs.items()
                    if "fitted_intervals" in g
                },
            }
            for part in PARTS if version == AUGMENTED_VERSION else ():
                data[part] = {
                    element: np.asarray(values[()], dtype=np.float64)
                    for element, values in file[AUGMENTATION][part].items()
                }
            checksum = file.attrs["checksum"]
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise DataError(
            message(str(path), f"a damaged file ({error})", "an overlap table in HDF5", fix)
        ) from error
    if _checksum(data) != checksum:
        raise DataError(
            message(str(path), "contents that do not match the checksum", "an unchanged file", fix)
        )
    return rebuild_overlaps(data)


def _checksum(data: Mapping[str, Any]) -> str:
    """Hash the basis and all numbers of a table."""
    digest = hashlib.sha256(json.dumps(data["basis"], sort_keys=True).encode())
    for part in ("values", "fitted_intervals", *PARTS):
        for pair in sorted(data.get(part, {})):
            digest.update(f"{part} {pair}".encode())
            digest.update(np.ascontiguousarray(data[part][pair], dtype="<f8").tobytes())
    return digest.hexdigest()
