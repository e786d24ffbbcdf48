"""Energy, forces and stress of frames, under the names that programs give them, checked.

Units are eV and Å. A frame without energy or forces, or of a step whose electrons have not
converged, is left out; numbers that cannot be are an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress
from numpy.typing import NDArray

from mlepi.errors import DataError, NoLabelsError, StructureError, message
from mlepi.structures.block_checks import check_geometry
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.remarks import UNUSUAL

CHECKSUM = "checksum"
"""Key of a frame that ``write_extxyz`` wrote: SHA-256 of its numbers and other keys."""

N_STRUCTURES = "n_structures"
"""Key of the first of the frames that were written together: how many they are."""

LARGEST_FORCE, LARGEST_ENERGY = 1e4, 1e8
"""eV/Å and eV: beyond are wrong bytes, not wrong units."""

UNCONVERGED = "unconverged"
"""Key of a frame of a step whose electronic loop has ended before it converged."""

ENERGY, FORCES, FORCE = "energy", "forces", "force"
"""How the keys of labels end that have a prefix: REF_energy and REF_forces, dft_energy, …; "force"
is what QUIP writes."""

REFERENCE = "ref_"
"""Prefix, in capitals or not, of labels beside those of models, by the convention of MACE."""

UNIT_KEYS = re.compile(r"(energy|forces?|stress|lengths?|positions?)[-_]?units?", re.IGNORECASE)
OWN_UNITS = re.compile(r"(ev|ev/)?(a|å|ang|angstrom)?(\^3|\*\*3|³)?", re.IGNORECASE)
"""Keys of a frame that name its units, and the values with which its numbers are taken."""


def find_labels(atoms: Atoms) -> dict[str, Any]:
    """Return what a frame has of energy, forces and stress, and under which names.

    Args:
        atoms: with a calculator, or with ``PREFIXenergy`` and ``PREFIXforces`` of one prefix.

    Returns:
        "energy" (the free energy where there is one), "forces", "stress", each where it is there,
        and "keys", the names of energy and forces, () for the usual ones. Of several prefixes only
        ``REFERENCE`` is chosen; "others" are the prefixes where none is.
    """
    results: Mapping[str, Any] = atoms.calc.results if atoms.calc is not None else {}
    energy = results.get("free_energy", results.get(ENERGY))
    labels = {ENERGY: energy, FORCES: results.get(FORCES), "stress": results.get("stress")}
    names = [
        (key, f"{key[: -len(ENERGY)]}{word}")
        for key in atoms.info
        for word in (FORCES, FORCE)
        if key.endswith(ENERGY) and f"{key[: -len(ENERGY)]}{word}" in atoms.arrays
    ]
    references = [pair for pair in names if pair[0].lower() == REFERENCE + ENERGY]
    names = references if len(references) == 1 else names
    chosen: tuple[str, ...] = ()
    if energy is not None and labels[FORCES] is None and FORCE in atoms.arrays:
        chosen = (ENERGY, FORCE)
        labels[FORCES] = atoms.arrays[FORCE]
    elif (energy is None or labels[FORCES] is None) and len(names) == 1:
        chosen = names[0]
        stress = atoms.info.get(f"{chosen[0][: -len(ENERGY)]}stress")
        labels = {
            ENERGY: atoms.info[chosen[0]],
            FORCES: atoms.arrays[chosen[1]],
            "stress": stress,
        }
    found = {key: value for key, value in labels.items() if value is not None}
    others = [] if chosen else [pair[0][: -len(ENERGY)] for pair in names]
    return {**found, "keys": chosen, "others": others}


def is_complete(atoms: Atoms) -> bool:
    """Say whether a frame has energy and forces, of electrons that have converged."""
    return {ENERGY, FORCES} <= set(find_labels(atoms)) and not atoms.info.get(UNCONVERGED, False)


def label_frame(path: Path, position: int, atoms: Atoms, file_format: str) -> LabelledStructure:
    """Check one frame and return its labels.

    Args:
        path: file.
        position: of the frame in it.
        atoms: as the reader of its format made it.
        file_format: for the provenance.

    Returns:
        Labels, eV, eV/Å, eV/Å³; the name is the key ``name``, else stem and position.

    Raises:
        DataError: energy or forces are missing, cannot be, or have another checksum.
        StructureError: the structure is not periodic.
    """
    info = dict(atoms.info)
    where = f"{path}, structure {position}"
    stored, described = info.pop(CHECKSUM, None), dict(info)
    if stored is not None:
        info.pop(N_STRUCTURES, None)
    labels = find_labels(atoms)
    keys, energy, forces = labels["keys"], labels.get(ENERGY), labels.get(FORCES)
    if energy is None or forces is None:
        known = sorted(atoms.calc.results) if atoms.calc is not None else []
        fix = (
            "In extxyz the keys must be `energy` and `forces`; in VASP the calculation must have "
            "finished."
        )
        got = f"only {known}" if known else "no labels"
        if labels["others"]:
            got = f"labels with the prefixes {labels['others']}"
            fix = "Remove one, or rename the right ones to `energy` and `forces`."
        raise NoLabelsError(message(where, got, "an energy and forces", fix))
    _check_units(where, info)
    energy, forces = _check_numbers(where, energy, forces, len(atoms))
    check_periodic(where, atoms)
    fermi_energy = info.pop("fermi_energy", None)
    if info.pop("harmonic_energy", False):
        info[UNUSUAL] = {"harmonic_energy": 1.0}
    if keys:
        info["labels"] = ", ".join(keys)
    atoms = atoms.copy()
    atoms.info, atoms.pbc = {}, True
    atoms.set_constraint()
    atoms.arrays.pop(keys[1] if keys else FORCES, None)
    return _seal(
        where,
        LabelledStructure(
            name=str(info.pop("name", f"{path.stem}_{position:05d}")),
            atoms=atoms,
            energy=energy,
            forces=forces,
            fermi_energy=None if fermi_energy is None else float(fermi_energy),
            provenance={
                "file": path.name,
                "format": file_format,
                **{key: plain(value) for key, value in info.items()},
            },
            stress=_full_stress(where, labels.get("stress")),
        ),
        stored,
        described,
    )


def _check_units(where: str, info: Mapping[str, Any]) -> None:
    """Refuse a frame that says that its numbers have other units."""
    for key, value in info.items():
        if UNIT_KEYS.fullmatch(key) and not OWN_UNITS.fullmatch(str(value)):
            got, fix = f"{key}={value}", "Convert the numbers, and remove the key."
            raise DataError(message(where, got, "energies in eV, lengths in Å", fix))


def _check_numbers(
    where: str, energy: Any, forces: Any, n_atoms: int
) -> tuple[float, NDArray[np.float64]]:
    """Return energy and forces, finite and of a possible size."""
    try:
        energy, forces = float(energy), np.array(forces, dtype=np.float64)
    except (TypeError, ValueError) as error:
        got = f"an energy {str(energy)[:40]!r}"
        raise DataError(message(where, got, "a number in eV", "Correct it.")) from error
    finite = forces.shape == (n_atoms, 3) and bool(np.isfinite(forces).all())
    if finite and (np.abs(forces).max() > LARGEST_FORCE or abs(energy) > LARGEST_ENERGY):
        got = f"an energy of {energy:.4g} eV, forces up to {np.abs(forces).max():.4g} eV/Å"
        expected = f"at most {LARGEST_ENERGY:g} and {LARGEST_FORCE:g}"
        raise DataError(message(where, got, expected, "Copy the file again."))
    if not finite or not np.isfinite(energy):
        got = f"forces of shape {forces.shape} or a value that is not finite"
        expected = f"an energy and ({n_atoms}, 3) finite forces"
        raise DataError(message(where, got, expected, "Remove the structure."))
    return energy, forces


def _seal(
    where: str, structure: LabelledStructure, stored: Any, described: Mapping[str, Any]
) -> LabelledStructure:
    """Compare a structure with the checksum of its frame, where it has one."""
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
    kept = {key: plain(value) for key, value in info.items() if key != CHECKSUM}
    pieces = [
        json.dumps([structure.atoms.numbers.tolist(), kept], sort_keys=True),
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


def check_periodic(where: str, atoms: Atoms) -> None:
    """Check that a structure is finite and periodic in three directions.

    Args:
        where: file, for the message.
        atoms: structure, Å.

    Raises:
        StructureError: it is not.
    """
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


def plain(value: Any) -> Any:
    """Turn numpy values into Python's."""
    return json.loads(json.dumps(value, default=lambda v: v.tolist()))
