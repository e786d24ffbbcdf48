"""Structures, energies and forces in files of VASP, phonopy, extxyz, and what else ASE reads.

Files of forces may be compressed.

Units are ASE's own, eV and Å, which are the internal ones. **Energy**: forces are derivatives of
the electronic free energy, so where a file has it (VASP: ``free energy TOTEN``) it is taken, and
not the one extrapolated to zero smearing, ASE's ``energy``.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict
from ase.stress import full_3x3_to_voigt_6_stress

from mlepi.errors import DataError, StructureError, message
from mlepi.structures.frame_labels import (
    CHECKSUM,
    N_STRUCTURES,
    UNCONVERGED,
    check_periodic,
    hash_frame,
    is_complete,
    label_frame,
    plain,
)
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.phonopy_files import read_phonopy
from mlepi.structures.remarks import UNUSUAL, tell
from mlepi.structures.vasp_convergence import find_unconverged
from mlepi.structures.vasp_outcar import read_outcar
from mlepi.structures.vasp_output import read_ml_ab, read_vaspout
from mlepi.untrusted import (
    check_size,
    check_text,
    guard,
    limit_memory,
    open_hdf5,
    read_text,
    strip_compression,
    unpack,
)

FORCE_FORMATS = {
    r"vasprun.*\.xml": "vasp-xml",
    r"outcar": "vasp-out",
    r"vaspout.*\.h5$": "vasp-h5",
    r"^ml_ab": "vasp-ml",
    r"^force_sets": "phonopy",
    r"^phonopy.*\.ya?ml$": "phonopy",
    r"\.db$": "db",
    r"\.traj$": "traj",
}
"""Patterns of names by which files with forces are known, the first that fits, in capitals or not;
everything else with labels is taken as extxyz."""

NO_DATA = (".py", ".pyc", ".ipynb", ".sh", ".md", ".rst", ".png", ".pdf", ".svg", ".html", ".tar")
"""Ends of names that only sound like files with forces."""

EXPANSION = 4.0
"""Bytes in memory for one of a file of structures."""
HDF5_SUFFIXES = (".h5", ".hdf5", ".nc")
XYZ_SUFFIXES = (".xyz", ".extxyz")
TEXT_SUFFIXES = (".xyz", ".extxyz", ".cif", ".vasp", ".poscar", ".xml", ".xsf", ".gen")
TEXT_NAMES = ("POSCAR", "CONTCAR", "OUTCAR")
OWN_READERS: dict[str, Callable[[Path], list[Atoms]]] = {
    "vasp-out": read_outcar,
    "vasp-h5": read_vaspout,
    "vasp-ml": read_ml_ab,
    "phonopy": read_phonopy,
}
"""Formats that ASE does not read, or not of all versions."""


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
    check_periodic(str(path), atoms)
    atoms.pbc = True
    return atoms


@guard("structures in a format that ASE knows")
def read_frames(path: str | Path) -> list[Atoms]:
    """Read all structures of a file, with what the file says of them and no labels required.

    Args:
        path: a file in any format that ASE knows.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    return _read_frames(Path(path), index=":", file_format=None)


@guard("structures with energies and forces")
def read_forces_dataset(path: str | Path) -> list[LabelledStructure]:
    """Read all structures of a file with their energies and forces.

    Args:
        path: a file whose name fits one of ``FORCE_FORMATS``, or extxyz; may be compressed.

    Returns:
        One entry per structure: energy in eV (the free energy where the file has it), forces
        (n_atoms, 3) in eV/Å, stress (3, 3) in eV/Å³ where the file has it. Names are the ``name``
        of an extxyz frame, else the stem of the file and the position in it; other extxyz keys
        become the provenance. Frames without energy or forces, and those whose electrons have not
        converged, are left out with a remark.

    Raises:
        DataError: the file cannot be read or is empty, no frame has energy and forces, or they are
            not finite, or a name repeats.
        StructureError: a structure is not periodic.
    """
    with unpack(Path(path)) as plain_path:
        return _read_forces(plain_path, str(path))


def _read_forces(path: Path, where: str) -> list[LabelledStructure]:
    """Read what ``read_forces_dataset`` reads, from a file that is not compressed."""
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
    _check_number(path, frames)
    structures, remarks = _label_frames(path, frames, file_format)
    tell(where, remarks)
    return _name_frames(path, structures, sealed=any(CHECKSUM in atoms.info for atoms in frames))


def _check_number(path: Path, frames: list[Atoms]) -> None:
    """Refuse a file of ours that was cut between two frames; several may stand in one file."""
    for position, atoms in enumerate(frames):
        written = atoms.info.get(N_STRUCTURES) if CHECKSUM in atoms.info else None
        left = len(frames) - position
        if isinstance(written, int | np.integer) and written > left:
            got = f"{left} of the {written} structures that were written"
            fix = (
                "Copy the file again; of one that was shortened on purpose, take the keys "
                f"{N_STRUCTURES} and {CHECKSUM} from the frame that has both."
            )
            raise DataError(message(str(path), got, "all of them", fix))


def _label_frames(
    path: Path, frames: list[Atoms], file_format: str
) -> tuple[list[LabelledStructure], dict[str, float]]:
    """Return the labels of complete frames, and what is unusual about the file."""
    for position in find_unconverged(path, file_format, len(frames)):
        frames[position].info[UNCONVERGED] = True
    unconverged = sum(bool(atoms.info.get(UNCONVERGED, False)) for atoms in frames)
    kept = [position for position, atoms in enumerate(frames) if is_complete(atoms)]
    if not kept and unconverged:
        got = f"{unconverged} steps, none with converged electrons"
        fix = "Raise NELM; with ALGO = None or ICHARG = 11 nothing becomes self-consistent."
        raise DataError(message(str(path), got, "a converged calculation", fix))
    structures = [
        label_frame(path, position, frames[position], file_format) for position in kept or [0]
    ]
    harmonic = sum("harmonic_energy" in s.provenance.get(UNUSUAL, {}) for s in structures)
    missing = len(frames) - len(kept) - unconverged
    left_out = {"unconverged_steps": unconverged, "frames_without_labels": missing}
    remarks = {kind: float(n) for kind, n in left_out.items() if n > 0}
    if remarks:
        first = structures[0].provenance
        unusual = {**first.get(UNUSUAL, {}), **remarks}
        structures[0] = replace(structures[0], provenance={**first, UNUSUAL: unusual})
    return structures, {**({"harmonic_energy": float(harmonic)} if harmonic else {}), **remarks}


def _name_frames(
    path: Path, structures: list[LabelledStructure], *, sealed: bool
) -> list[LabelledStructure]:
    """Number names that repeat, or refuse them in a file that mlepi has written."""
    counts = Counter(structure.name for structure in structures)
    if max(counts.values()) == 1:
        return structures
    numbered = [
        replace(structure, name=f"{structure.name}_{position:05d}")
        if counts[structure.name] > 1
        else structure
        for position, structure in enumerate(structures)
    ]
    if sealed or len({structure.name for structure in numbered}) < len(numbered):
        fix = "Change the key `name` of one frame."
        raise DataError(message(str(path), "two structures of one name", "unique names", fix))
    return numbered


def find_force_format(path: Path) -> str:
    """Return the format of a file with forces by its name: "extxyz" where nothing else fits."""
    name = strip_compression(path)
    known = FORCE_FORMATS.items()
    if any(suffix.lower() in NO_DATA for suffix in Path(name).suffixes[-2:]):
        return "extxyz"
    return next((kind for part, kind in known if re.search(part, name, re.IGNORECASE)), "extxyz")


def find_unfit_keys(info: dict[str, Any]) -> list[str]:
    """Return the keys of a frame that extxyz reserves, or would read back as something else."""
    ours = {CHECKSUM, N_STRUCTURES}
    reserved = {*all_properties, "Lattice", "Properties", "pbc", *ours} & set(info)

    def comes_back(key: str, value: Any) -> bool:
        try:
            return bool(
                plain(key_val_str_to_dict(key_val_dict_to_str({key: value}))) == {key: value}
            )
        except ValueError:  # special keys of ASE must have special shapes
            return False

    return sorted(reserved) + [key for key, value in info.items() if not comes_back(key, value)]


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
    frames: list[Atoms] = []
    structures = list(structures)
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
        atoms.info = {key: plain(value) for key, value in extra.items() if value is not None}
        _check_keys(structure.name, atoms.info)
        if not frames:
            atoms.info[N_STRUCTURES] = len(structures)
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
        with limit_memory(size), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # on ASE's own plans
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


def _check_keys(where: str, info: dict[str, Any]) -> None:
    """Refuse keys that extxyz cannot hold."""
    unfit = find_unfit_keys(info)
    if unfit:
        got = f"the keys {unfit} with values {[info[key] for key in unfit]}"
        expected, fix = "a name and provenance that extxyz can hold", "Rename the key or change its"
        raise DataError(message(where, got, expected, f"{fix} value."))
