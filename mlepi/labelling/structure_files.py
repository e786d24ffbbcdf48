"""The structures that are to be labelled: from files of any format that ASE reads, with names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlepi.errors import DataError, StructureError, message
from mlepi.structures.ase_files import find_unfit_keys, read_frames, read_structure
from mlepi.structures.block_checks import check_geometry

SAFE = re.compile(r"[A-Za-z0-9][\w.+-]{0,99}")
"""Names that can be those of folders, on every system."""

KEPT = str | int | float | bool
"""Types of what a file says of a frame that are kept with its labels, such as its kind."""

LABELS = {"name", "energy", "free_energy", "forces", "stress", "config_type", "fermi_energy"}
"""Keys of a frame that are not."""


@dataclass(frozen=True)
class NamedStructure:
    """A structure that is to be labelled.

    Attributes:
        name: unique in its set.
        atoms: periodic in three directions, Å.
        notes: where it comes from, such as ``kind``; plain data, kept with the labels.
    """

    name: str
    atoms: Atoms
    notes: Mapping[str, Any] = field(default_factory=dict)


def read_structures(paths: Sequence[str | Path]) -> list[NamedStructure]:
    """Read every frame of every file.

    Names are the ``name`` of an extxyz frame, else the stem of the file, with the number of the
    frame where there are several.

    Args:
        paths: files that ASE reads: cif, POSCAR, xyz with a lattice, trajectories …

    Raises:
        DataError: a file cannot be read, a name is none or comes twice.
        StructureError: a structure is not periodic, or its atoms are in one place.
    """
    found: list[NamedStructure] = []
    for path in map(Path, paths):
        frames = read_frames(path)
        if len(frames) == 1 and path.suffix == ".cif":
            frames = [read_structure(path)]  # compares the atoms with the sum formula
        for number, atoms in enumerate(frames):
            stem = re.sub(r"[^\w.+-]", "_", path.stem)
            default = stem if len(frames) == 1 else f"{stem}_{number:05d}"
            found.append(_name_frame(str(path), atoms, default))
    names = [structure.name for structure in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        fix = "Rename files or frames."
        raise DataError(message("structures", f"the names {twice[:3]} twice", "unique names", fix))
    return found


def _name_frame(where: str, atoms: Atoms, default: str) -> NamedStructure:
    """Check one frame and give it its name."""
    name = str(atoms.info.get("name", default))
    where = f"{where}, {name!r}"
    if not SAFE.fullmatch(name):
        expected = "letters, digits, _ . + - after a letter or digit, at most 100"
        raise DataError(message(where, f"the name {name!r}", expected, "Rename it."))
    if len(atoms) == 0 or atoms.cell.rank < 3 or not np.isfinite(atoms.positions).all():
        got = f"{len(atoms)} atoms in a cell of rank {atoms.cell.rank}"
        fix = "Add the lattice, with empty space where the material ends."
        raise StructureError(message(where, got, "atoms in a periodic cell", fix))
    plain = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    check_geometry(where, plain)
    if "layer" in atoms.arrays:
        plain.set_array("layer", np.asarray(atoms.arrays["layer"], dtype=np.int64))
    notes = {
        str(key): value.item() if isinstance(value, np.generic) else value
        for key, value in atoms.info.items()
        if key not in LABELS and isinstance(value, KEPT | np.generic)
    }
    for key in find_unfit_keys(dict(notes)):
        del notes[key]
    return NamedStructure(name, plain, notes)
