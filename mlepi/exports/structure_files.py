"""Structures as files of other programs: POSCAR, extxyz, and inputs of OpenMX, SIESTA and GPAW.

A structure gets a folder of its own with all that one calculation needs but the pseudopotentials;
extxyz is one file of all. Cartesian positions in Å; VASP alone gets the atoms sorted by element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from mlepi.config_check import check_arguments
from mlepi.errors import ConfigError, message
from mlepi.exports.output import new_file, new_folder
from mlepi.structures.k_density import check_kgrid
from mlepi.structures.openmx_input import OpenmxSettings, reduce_kgrid, write_openmx_input
from mlepi.structures.siesta_input import SiestaSettings, write_siesta_input
from mlepi.structures.vasp_input import VaspSettings, write_vasp_input


@dataclass(frozen=True)
class Frame:
    """One structure to be written.

    Attributes:
        name: of its folder.
        atoms: Å.
        supercell: primitive cells along each vector, by which k-points are reduced.
        info: key → plain value, for extxyz.
    """

    name: str
    atoms: Atoms
    supercell: tuple[int, int, int] = (1, 1, 1)
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GpawSettings:
    """Settings of a calculation with GPAW.

    Attributes:
        parameters: arguments of ``gpaw.GPAW`` beside ``kpts`` and ``txt``.
        primitive_kgrid: k-points for a primitive cell, with Γ; a supercell gets as many fewer.
    """

    parameters: Mapping[str, Any]
    primitive_kgrid: Sequence[int]

    def __post_init__(self) -> None:
        """Refuse a mesh that is none."""
        check_kgrid("gpaw.primitive_kgrid", self.primitive_kgrid)


SETTINGS: Mapping[str, type] = {
    "poscar": VaspSettings,
    "openmx": OpenmxSettings,
    "siesta": SiestaSettings,
    "gpaw": GpawSettings,
}
"""Format → what a file of settings must hold."""

STRUCTURE_FORMATS = ("extxyz", *SETTINGS)


def build_settings(structure_format: str, content: Any, where: str = "--settings") -> Any:
    """Check the settings of a program.

    Args:
        structure_format: of ``STRUCTURE_FORMATS``.
        content: key → value as plain data; None where there are none.
        where: file, for the message.

    Returns:
        The settings; None without any where none are needed.

    Raises:
        ConfigError: they are needed, or not known to this format, or have mistakes.
    """
    kind = SETTINGS.get(structure_format)
    if content is None:
        if structure_format in ("extxyz", "poscar"):
            return None
        fix = "docs/exports.md has one to start from."
        raise ConfigError(message(where, "nothing", f"YAML for {structure_format}", fix))
    if kind is None:
        raise ConfigError(message(where, "settings", "none with extxyz", "Leave them out."))
    fix = "docs/exports.md has an example."
    if not isinstance(content, Mapping):
        raise ConfigError(message(where, repr(content), "YAML: key: value", fix))
    if problems := check_arguments(where, kind, content, complete=True):
        raise ConfigError("\n".join(problems))
    try:
        return kind(**content)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(message(where, str(error), "settings that fit", fix)) from error


def write_frames(
    structure_format: str, out: str | Path, frames: Sequence[Frame], settings: Any = None
) -> None:
    """Write structures; everything appears complete or not at all.

    Args:
        structure_format: of ``STRUCTURE_FORMATS``.
        out: new file for extxyz, new folder otherwise, with one folder per structure.
        frames: structures with unique names.
        settings: of ``build_settings``; without, POSCAR comes without INCAR and KPOINTS.

    Raises:
        DataError: the output exists.
        StructureError: the settings do not know an element.
    """
    if structure_format == "extxyz":
        with new_file(out) as unfinished:
            ase.io.write(unfinished, [_named(frame) for frame in frames], format="extxyz")
        return
    writers: Mapping[str, Callable[[Path, Frame, Any], None]] = {
        "poscar": _write_poscar,
        "openmx": _write_openmx,
        "siesta": _write_siesta,
        "gpaw": _write_gpaw,
    }
    with new_folder(out) as unfinished:
        for frame in frames:
            (unfinished / frame.name).mkdir()
            writers[structure_format](unfinished / frame.name, frame, settings)


def _named(frame: Frame) -> Atoms:
    atoms = frame.atoms.copy()
    atoms.info = {"name": frame.name, **frame.info}
    return atoms


def _write_poscar(folder: Path, frame: Frame, settings: VaspSettings | None) -> None:
    if settings is not None:
        kgrid = reduce_kgrid(settings.primitive_kgrid, frame.supercell)
        write_vasp_input(folder, frame.atoms, settings, kgrid)
        return
    order = np.argsort(frame.atoms.get_chemical_symbols(), kind="stable")
    ase.io.write(folder / "POSCAR", frame.atoms[order], format="vasp", direct=False)


def _write_openmx(folder: Path, frame: Frame, settings: OpenmxSettings) -> None:
    kgrid = reduce_kgrid(settings.primitive_kgrid, frame.supercell)
    write_openmx_input(folder / f"{frame.name}.dat", frame.atoms, settings, kgrid)


def _write_siesta(folder: Path, frame: Frame, settings: SiestaSettings) -> None:
    kgrid = reduce_kgrid(settings.primitive_kgrid, frame.supercell)
    write_siesta_input(folder / f"{frame.name}.fdf", frame.atoms, settings, kgrid)


def _write_gpaw(folder: Path, frame: Frame, settings: GpawSettings) -> None:
    """Write a script of GPAW's own Python: nothing of GPAW (GPL) is used here."""
    ase.io.write(folder / "structure.xyz", _named(frame), format="extxyz")
    size = reduce_kgrid(settings.primitive_kgrid, frame.supercell)
    arguments = [f"    {name}={value!r}," for name, value in settings.parameters.items()]
    lines = [
        '"""One calculation: gpaw python run.py, or mpiexec gpaw python run.py."""',
        "",
        "from ase.io import read",
        "from gpaw import GPAW",
        "",
        'atoms = read("structure.xyz")',
        "atoms.calc = GPAW(",
        *arguments,
        f'    kpts={{"size": {size}, "gamma": True}},',
        '    txt="gpaw.txt",',
        ")",
        "print(atoms.get_potential_energy())",
        "print(atoms.get_forces())",
        'atoms.calc.write("calculation.gpw", mode="all")',
        "",
    ]
    (folder / "run.py").write_text("\n".join(lines), encoding="utf-8")
