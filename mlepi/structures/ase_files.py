"""Structures, energies and forces in files of VASP, phonopy, extxyz, and what else ASE reads.

Units are ASE's own, eV and Å, which are the internal ones. **Energy**: forces are derivatives of
the electronic free energy, so where a file has it (VASP: ``free energy TOTEN``) it is taken, and
not the one extrapolated to zero smearing, ASE's ``energy``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from mlepi.errors import DataError, StructureError, message
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.phonopy_files import read_phonopy
from mlepi.structures.remarks import UNUSUAL, tell
from mlepi.structures.vasp_output import read_ml_ab, read_vaspout

FORCE_FORMATS = {
    "vasprun.xml": "vasp-xml",
    "OUTCAR": "vasp-out",
    "vaspout.h5": "vasp-h5",
    "ML_AB": "vasp-ml",
    "FORCE_SETS": "phonopy",
    "phonopy": "phonopy",
    ".db": "db",
    ".traj": "traj",
}
"""Names inside a file name by which files with forces are known, the first that fits; everything
else with labels is taken as extxyz."""

OWN_READERS: dict[str, Callable[[Path], list[Atoms]]] = {
    "vasp-h5": read_vaspout,
    "vasp-ml": read_ml_ab,
    "phonopy": read_phonopy,
}
"""Formats that ASE does not read."""


def read_structure(path: str | Path) -> Atoms:
    """Read the last structure of a file in any format that ASE knows.

    Args:
        path: e.g. POSCAR, CIF, xyz with a lattice; a supplied array ``layer`` is kept.

    Returns:
        The structure without calculator, periodic in all three directions, Å.

    Raises:
        DataError: the file is missing or cannot be read.
        StructureError: it holds no atoms, positions that are not finite, or no cell with a volume.
    """
    path = Path(path)
    frames = _read_frames(path, index="-1", file_format=None)
    if not frames or len(frames[-1]) == 0:
        raise StructureError(message(str(path), "no atoms", "at least one", "Check the file."))
    atoms = frames[-1]
    atoms.calc = None
    _check_periodic(str(path), atoms)
    atoms.pbc = True
    return atoms


def read_forces_dataset(path: str | Path) -> list[LabelledStructure]:
    """Read all structures of a file with their energies and forces.

    Args:
        path: a file whose name contains one of ``FORCE_FORMATS``, or extxyz.

    Returns:
        One entry per structure: energy in eV (the free energy where the file has it), forces
        (n_atoms, 3) in eV/Å, stress (3, 3) in eV/Å³ where the file has it. Names are the ``name``
        of an extxyz frame, else the stem of the file and the position in it; other extxyz keys
        become the provenance.

    Raises:
        DataError: the file cannot be read or is empty, energy or forces are missing or not finite,
            or a name repeats.
        StructureError: a structure is not periodic.
    """
    path = Path(path)
    file_format = find_force_format(path)
    if file_format in OWN_READERS:
        _require(path)
        frames = OWN_READERS[file_format](path)
    else:
        frames = _read_frames(path, index=":", file_format=file_format)
    if not frames:
        raise DataError(
            message(
                str(path),
                "no structures",
                "at least one",
                "Check that the calculation has finished.",
            )
        )
    structures = [
        _labelled(path, position, atoms, file_format) for position, atoms in enumerate(frames)
    ]
    harmonic = sum("harmonic_energy" in s.provenance.get(UNUSUAL, {}) for s in structures)
    if harmonic:
        tell(str(path), {"harmonic_energy": float(harmonic)})
    names = [structure.name for structure in structures]
    if len(set(names)) != len(names):
        raise DataError(
            message(
                str(path),
                "two structures of one name",
                "unique names",
                "Change the key `name` of one frame.",
            )
        )
    return structures


def find_force_format(path: Path) -> str:
    """Return the format of a file with forces by its name: "extxyz" where nothing else fits."""
    return next((name for part, name in FORCE_FORMATS.items() if part in path.name), "extxyz")


def write_extxyz(path: str | Path, structures: Iterable[LabelledStructure]) -> None:
    """Write structures with energies and forces as extended xyz.

    ``read_forces_dataset`` rebuilds them. Energies keep all digits; positions and forces keep eight
    decimals. Provenance and Fermi energy become keys of the frame.

    Args:
        path: file to write; it appears complete or not at all.
        structures: each with energy and forces.

    Raises:
        DataError: a structure has no energy or no forces, or its name or provenance would be read
            back as something else.
    """
    path = Path(path)
    frames = []
    for structure in structures:
        if structure.energy is None or structure.forces is None:
            raise DataError(
                message(
                    structure.name,
                    "no energy or forces",
                    "both",
                    "Drop the structure or read its labels.",
                )
            )
        atoms = structure.atoms.copy()
        extra = {
            "name": structure.name,
            "fermi_energy": structure.fermi_energy,
            **structure.provenance,
        }
        atoms.info = {key: _plain(value) for key, value in extra.items() if value is not None}
        _check_keys(structure.name, atoms.info)
        labels = {"energy": float(structure.energy), "forces": np.asarray(structure.forces)}
        if structure.stress is not None:
            labels["stress"] = full_3x3_to_voigt_6_stress(structure.stress)
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        ase.io.write(unfinished, frames, format="extxyz")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _require(path: Path) -> None:
    if not path.is_file():
        raise DataError(message(str(path), "no such file", "a structure file", "Check the path."))


def _read_frames(path: Path, index: str, file_format: str | None) -> list[Atoms]:
    """Read frames with ASE and turn whatever its parsers raise into one ``DataError``."""
    _require(path)
    try:
        frames = ase.io.read(path, index=index, format=file_format, do_not_split_by_at_sign=True)
    except (
        Exception
    ) as error:  # ASE's parsers raise anything, down to StopIteration and AssertionError
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        expected = (
            f"a file in ASE's format {file_format!r}"
            if file_format
            else "a structure in a format that ASE knows"
        )
        raise DataError(
            message(
                str(path), f"an unreadable file ({reason})", expected, "Check that it is complete."
            )
        ) from error
    return frames if isinstance(frames, list) else [frames]


def _labelled(path: Path, position: int, atoms: Atoms, file_format: str) -> LabelledStructure:
    info = dict(atoms.info)
    where = f"{path}, structure {position}"
    results: Mapping[str, Any] = atoms.calc.results if atoms.calc is not None else {}
    energy, forces = results.get("free_energy", results.get("energy")), results.get("forces")
    if energy is None or forces is None:
        fix = (
            "In extxyz the keys must be `energy` and `forces`; in VASP the calculation must have "
            "finished."
        )
        raise DataError(
            message(where, f"only {sorted(results) or 'no labels'}", "an energy and forces", fix)
        )
    forces = np.array(forces, dtype=np.float64)
    if forces.shape != (len(atoms), 3) or not np.isfinite(forces).all() or not np.isfinite(energy):
        got = f"forces of shape {forces.shape} or a value that is not finite"
        raise DataError(
            message(
                where,
                got,
                f"an energy and ({len(atoms)}, 3) finite forces",
                "Remove the structure.",
            )
        )
    _check_periodic(where, atoms)
    fermi_energy = info.pop("fermi_energy", None)
    if info.pop("harmonic_energy", False):
        info[UNUSUAL] = {"harmonic_energy": 1.0}
    atoms = atoms.copy()
    atoms.info, atoms.pbc = {}, True
    atoms.set_constraint()
    return LabelledStructure(
        name=str(info.pop("name", f"{path.stem}_{position:05d}")),
        atoms=atoms,
        energy=float(energy),
        forces=forces,
        fermi_energy=None if fermi_energy is None else float(fermi_energy),
        provenance={
            "file": path.name,
            "format": file_format,
            **{key: _plain(value) for key, value in info.items()},
        },
        stress=_full_stress(where, results.get("stress")),
    )


def _full_stress(where: str, stress: Any) -> NDArray[np.float64] | None:
    """Return the stress as (3, 3), eV/Å³, from six or nine numbers; None without one."""
    if stress is None:
        return None
    values = np.array(stress, dtype=np.float64)
    if values.size not in (6, 9) or not np.isfinite(values).all():
        got = f"a stress of shape {values.shape} or a value that is not finite"
        raise DataError(message(where, got, "6 or 9 finite numbers", "Remove the key `stress`."))
    if values.size == 6:
        return np.asarray(voigt_6_to_full_3x3_stress(values))
    return values.reshape(3, 3)


def _check_keys(where: str, info: dict[str, Any]) -> None:
    """Refuse keys that extxyz reserves, and text that it would read back as something else."""
    reserved = sorted({*all_properties, "Lattice", "Properties", "pbc"} & set(info))
    changed = [
        key
        for key, value in info.items()
        if _plain(key_val_str_to_dict(key_val_dict_to_str({key: value}))) != {key: value}
    ]
    if reserved or changed:
        got = (
            f"the keys {reserved + changed} with values {[info[key] for key in reserved + changed]}"
        )
        raise DataError(
            message(
                where,
                got,
                "a name and provenance that extxyz can hold",
                "Rename the key or change its value.",
            )
        )


def _check_periodic(where: str, atoms: Atoms) -> None:
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise StructureError(
            message(
                where, "positions or a cell that are not finite", "numbers in Å", "Check the file."
            )
        )
    if atoms.cell.rank < 3 or atoms.cell.volume < 1e-3:
        expected = "three lattice vectors; a slab needs vacuum along the third"
        raise StructureError(
            message(where, "no periodic cell", expected, "Add a lattice to the file.")
        )


def _plain(value: Any) -> Any:
    """Turn numpy values into Python's."""
    return json.loads(json.dumps(value, default=lambda v: v.tolist()))
