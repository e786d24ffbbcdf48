"""POSCAR, INCAR and KPOINTS of one self-consistent VASP calculation, without the POTCAR."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.structures.k_density import check_kgrid


@dataclass(frozen=True, kw_only=True)
class VaspSettings:
    """Settings of a calculation.

    Attributes:
        incar: tag → value, written as they are.
        primitive_kgrid: k-points for a primitive cell, Γ-centred; a supercell gets as many fewer.
    """

    incar: Mapping[str, str | int | float | bool]
    primitive_kgrid: Sequence[int]

    def __post_init__(self) -> None:
        """Refuse a mesh that is none."""
        check_kgrid("vasp.primitive_kgrid", self.primitive_kgrid)


def write_vasp_input(
    folder: str | Path, atoms: Atoms, settings: VaspSettings, kgrid: Sequence[int]
) -> None:
    """Write POSCAR (Cartesian, atoms sorted by element), INCAR and KPOINTS into a folder.

    Args:
        folder: made if it does not exist; its name becomes the system's.
        atoms: structure, Å.
        settings: of the calculation.
        kgrid: k-points along the three reciprocal vectors.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in build_vasp_input(folder.name, atoms, settings, kgrid).items():
        (folder / name).write_text(text, encoding="utf-8")


def build_vasp_input(
    name: str, atoms: Atoms, settings: VaspSettings, kgrid: Sequence[int]
) -> dict[str, str]:
    """Return the texts of POSCAR (Cartesian, atoms sorted by element), INCAR and KPOINTS.

    Args:
        name: of the system.
        atoms: structure, Å.
        settings: of the calculation.
        kgrid: k-points along the three reciprocal vectors.
    """
    stream = io.StringIO()
    ase.io.write(stream, atoms[sort_by_element(atoms)], format="vasp", direct=False)
    tags = {"SYSTEM": name, **settings.incar}
    lines = [f"{tag} = {_text(value)}" for tag, value in tags.items()]
    mesh = " ".join(str(int(n)) for n in kgrid)
    return {
        "POSCAR": stream.getvalue(),
        "INCAR": "\n".join(lines) + "\n",
        "KPOINTS": f"{name}\n0\nGamma\n{mesh}\n0 0 0\n",
    }


def sort_by_element(atoms: Atoms) -> NDArray[np.int64]:
    """Return the atoms in the order of the symbols of their elements, (n_atoms,) int."""
    return np.argsort(atoms.get_chemical_symbols(), kind="stable")


def _text(value: object) -> str:
    return {True: ".TRUE.", False: ".FALSE."}[value] if isinstance(value, bool) else str(value)
