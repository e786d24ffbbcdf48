"""Structures, energies and forces in files of VASP, phonopy, extxyz, and what else ASE reads.

Units are ASE's own, eV and Å, which are the internal ones. **Energy**: forces are derivatives of
the electronic free energy, so where a file has it (VASP: ``free energy TOTEN``) it is taken, and
not the one extrapolated to zero smearing, ASE's ``energy``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
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
from mlepi.structures.block_checks import check_geometry
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.phonopy_files import read_phonopy
from mlepi.structures.remarks import UNUSUAL, tell
from mlepi.structures.vasp_output import read_ml_ab, read_vaspout
from mlepi.untrusted import check_size, check_text, guard, limit_memory, open_hdf5, read_text

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

CHECKSUM = "checksum"
"""Key of a frame that ``write_extxyz`` wrote: SHA-256 of its numbers and other keys."""
EXPANSION = 4.0
"""Bytes in memory for one of a file of structures."""
HDF5_SUFFIXES = (".h5", ".hdf5", ".nc")
XYZ_SUFFIXES = (".xyz", ".extxyz")
TEXT_SUFFIXES = (".xyz", ".extxyz", ".cif", ".vasp", ".poscar", ".xml", ".xsf", ".gen")
TEXT_NAMES = ("POSCAR", "CONTCAR", "OUTCAR")
LARGEST_FORCE, LARGEST_ENERGY = 1e4, 1e8
"""eV/Å and eV: beyond are wrong bytes, not wrong units."""

OWN_READERS: dict[str, Callable[[Path], list[Atoms]]] = {
    "vasp-h5": read_vaspout,
    "vasp-ml": read_ml_ab,
    "phonopy": read_phonopy,
}
"""Formats that ASE does not read."""


@guard("a structure in a format that ASE knows")
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
    if path.suffix == ".cif":
        _check_formula(path, atoms)
    _check_periodic(str(path), atoms)
    atoms.pbc = True
    return atoms


@guard("structures with energies and forces")
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
        atoms.info[CHECKSUM] = hash_frame(structure, atoms.info)
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
    size = check_size(path, EXPANSION)
    if path.suffix in HDF5_SUFFIXES:
        open_hdf5(path).close()
    elif path.suffix in TEXT_SUFFIXES or path.name.startswith(TEXT_NAMES):
        check_text(path, ends=path.suffix != ".cif")
        if path.suffix in XYZ_SUFFIXES:
            check_counts(path)
    try:
        with limit_memory(size):
            frames = ase.io.read(
                path, index=index, format=file_format, do_not_split_by_at_sign=True
            )
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


def check_counts(path: Path) -> None:
    """Refuse an xyz file whose frames have fewer lines than atoms, through which ASE would count.

    Args:
        path: ``.xyz`` or ``.extxyz``.

    Raises:
        DataError: a frame claims more atoms than there are lines.
    """
    with path.open("rb") as file:
        while line := file.readline(1000):
            count = line.split()[0][:20] if line.split() else b""
            if not count.isdigit():
                return  # cell vectors, or nothing that ASE reads
            n_lines = sum(1 for _ in islice(file, int(count) + 1))
            if n_lines < int(count) + 1:
                got = f"a frame of {int(count)} atoms in {n_lines} lines"
                fix = "Check that it is complete."
                raise DataError(
                    message(str(path), f"an unreadable file ({got})", "whole frames", fix)
                )


def _check_formula(path: Path, atoms: Atoms) -> None:
    """Compare the atoms of a CIF with the sum formula in it, where there is one."""
    found = re.search(r"^_chemical_formula_sum\s+['\"]?([^'\"\n]+)", read_text(path), re.MULTILINE)
    formula = found[1].strip() if found else ""
    parts = re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", formula)
    said = {symbol: float(count or 1) for symbol, count in parts}
    here = {symbol: float(n) for symbol, n in atoms.symbols.formula.count().items()}
    ratios = [here.get(symbol, 0.0) / count for symbol, count in said.items() if count]
    if said and (set(here) != set(said) or max(ratios) - min(ratios) > 1e-3):
        fix = "Complete the file, or remove _chemical_formula_sum where it is known to be wrong."
        got = f"atoms {atoms.get_chemical_formula()}"
        raise DataError(message(str(path), got, f"the sum formula {formula}", fix))


def _labelled(path: Path, position: int, atoms: Atoms, file_format: str) -> LabelledStructure:
    info = dict(atoms.info)
    where = f"{path}, structure {position}"
    stored, described = info.pop(CHECKSUM, None), dict(info)
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
    finite = forces.shape == (len(atoms), 3) and bool(np.isfinite(forces).all())
    if finite and (np.abs(forces).max() > LARGEST_FORCE or abs(energy) > LARGEST_ENERGY):
        got = f"an energy of {energy:.4g} eV, forces up to {np.abs(forces).max():.4g} eV/Å"
        expected = f"at most {LARGEST_ENERGY:g} and {LARGEST_FORCE:g}"
        raise DataError(message(where, got, expected, "Copy the file again."))
    if not finite or not np.isfinite(energy):
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
    name = str(info.pop("name", f"{path.stem}_{position:05d}"))
    structure = LabelledStructure(
        name=name,
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
    if stored is not None and stored != hash_frame(structure, described):
        fix = "Copy the file again; if you changed the frame, remove its key checksum."
        expected = "those of its checksum"
        raise DataError(message(where, "changed numbers or keys", expected, fix))
    return structure


def hash_frame(structure: LabelledStructure, info: Mapping[str, Any]) -> str:
    """Digest a frame as extxyz holds it: positions and forces to eight decimals.

    Args:
        structure: with energy and forces.
        info: keys of the frame.
    """
    vectors = [structure.atoms.positions, structure.forces]
    exact = [structure.atoms.cell.array, [structure.energy]]
    if structure.stress is not None:
        exact.append(structure.stress)
    plain = {key: _plain(value) for key, value in info.items() if key != CHECKSUM}
    pieces = [
        json.dumps([structure.atoms.numbers.tolist(), plain], sort_keys=True),
        *(f"{x:.8f}" for part in vectors for x in np.asarray(part, dtype=np.float64).flat),
        *(f"{x:.12g}" for part in exact for x in np.asarray(part, dtype=np.float64).flat),
    ]
    return hashlib.sha256(" ".join(pieces).encode()).hexdigest()


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
    reserved = sorted({*all_properties, "Lattice", "Properties", "pbc", CHECKSUM} & set(info))
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
    check_geometry(where, atoms)


def _plain(value: Any) -> Any:
    """Turn numpy values into Python's."""
    return json.loads(json.dumps(value, default=lambda v: v.tolist()))
