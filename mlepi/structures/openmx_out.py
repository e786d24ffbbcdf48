"""Labels in the text ``.out`` of OpenMX alone: structure, energy, Fermi energy, and forces."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from ase import Atoms

from mlepi.errors import DataError, message
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.openmx_text import NUMBER, find_block, read_log, read_species
from mlepi.units import BOHR, HARTREE
from mlepi.untrusted import guard, read_text

CRITERION = "3.0e-4"
"""Of a relaxation where the input says nothing, Hartree/Bohr (OpenMX's manual)."""


def is_openmx_out(path: Path) -> bool:
    """Say whether a file is such a text: it repeats the species of the input."""
    if path.suffix != ".out" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return "Definition.of.Atomic.Species" in file.read(20000)


@guard("a .out of OpenMX")
def read_openmx_out(path: str | Path, name: str | None = None) -> LabelledStructure:
    """Read the structure of a run, or that at the end of a relaxation, from its text.

    Args:
        path: ``.out``.
        name: name of the structure; the stem of the file when None.

    Returns:
        Structure, energy, Fermi energy (the chemical potential), and forces where they are printed;
        no matrices, which are in the ``.scfout``.

    Raises:
        DataError: the structure or the energy is missing or malformed, the run is one of molecular
            dynamics, or a relaxation has not converged.
    """
    path = Path(path)
    where = str(path)
    text = read_text(path)
    rows = find_block(text, "Atoms.SpeciesAndCoordinates")
    vectors = find_block(text, "Atoms.UnitVectors")
    energies = re.findall(rf"^\s*Utot\.?\s+({NUMBER})", text, flags=re.MULTILINE)
    potentials = re.findall(rf"Chemical potential \(Hartree\)\s+({NUMBER})", text)
    parts = {
        "Atoms.SpeciesAndCoordinates": rows,
        "Atoms.UnitVectors": vectors,
        "Utot": energies,
        "Chemical potential": potentials,
    }
    if not (rows and vectors and energies and potentials):
        missing = [name for name, part in parts.items() if not part]
        fix = "Give the .out of a finished run, with its input at the top; a molecule needs a cell."
        raise DataError(message(where, f"no {' and no '.join(missing)}", "all of them", fix))
    species, labels = read_species(where, text, len(rows))
    try:
        cell = np.array([[float(word) for word in row[:3]] for row in vectors])
        places = np.array([[float(word) for word in row[2:5]] for row in rows])
        cell = cell.reshape(3, 3) * (BOHR if _unit(text, "Atoms.UnitVectors.Unit") == "AU" else 1.0)
    except ValueError as error:
        fix = "Write three numbers per line."
        raise DataError(message(where, f"malformed vectors ({error})", "numbers", fix)) from error
    unit = _unit(text, "Atoms.SpeciesAndCoordinates.Unit")
    positions = places @ cell if unit == "FRAC" else places * (BOHR if unit == "AU" else 1.0)
    numbers = [species[label].number for label in labels]
    atoms = Atoms(numbers, positions=positions, cell=cell, pbc=True)
    if len(energies) > 1 and _word(text, "MD.Type", "nomd").lower() != "nomd":
        _move_to_end(where, text, atoms)
    potential = float(potentials[-1])
    _, forces = read_log(where, text, atoms, potential, required=False)
    return LabelledStructure(
        name=name or path.stem,
        atoms=atoms,
        energy=float(energies[-1]) * HARTREE,
        forces=forces,
        fermi_energy=potential * HARTREE,
        provenance={"code": "OpenMX", "out": path.name},
    )


def _move_to_end(where: str, text: str, atoms: Atoms) -> None:
    """Put atoms and cell where a relaxation has ended, which the text prints.

    Steps before the last are in other files. Where a relaxation was stopped before it had
    converged, OpenMX has moved the atoms on after the last forces.
    """
    _, found, history = text.rpartition("History of ")
    rows = re.findall(rf"^\s+\d+((?:\s+{NUMBER}){{4,6}})\s*$", history, flags=re.MULTILINE)
    fix = "Run it with MD.Type nomd on the structure that is wanted."
    if not found or not history.startswith(("geometry", "cell")) or not rows:
        got = f"several steps of MD.Type {_word(text, 'MD.Type', '')}"
        raise DataError(message(where, got, "one structure, or a relaxation", fix))
    largest, limit = float(rows[-1].split()[1]), _word(text, "MD.Opt.criterion", CRITERION)
    if not largest <= float(limit):
        got = f"a relaxation that ends with a force of {largest:.2g} Hartree/Bohr"
        raise DataError(message(where, got, f"at most {limit}, MD.Opt.criterion", fix))
    moved = re.findall(rf"^\s*a[123] =((?:\s+{NUMBER}){{3}})", text, flags=re.MULTILINE)
    if history.startswith("cell"):
        atoms.set_cell(np.array([row.split() for row in moved[-3:]], dtype=float).reshape(3, 3))
    _, found, end = text.rpartition("Fractional coordinates of the final structure")
    table = re.findall(rf"^\s+\d+\s+[A-Z]\w*((?:\s+{NUMBER}){{3}})\s*$", end, flags=re.MULTILINE)
    if not found or len(table) < len(atoms):
        got = f"{len(table) if found else 0} fractional coordinates of the final structure"
        raise DataError(message(where, got, f"{len(atoms)}", fix))
    scaled = np.array([row.split() for row in table[: len(atoms)]], dtype=float)
    atoms.set_scaled_positions(scaled)


def _unit(text: str, keyword: str) -> str:
    return _word(text, keyword, "ANG").upper()


def _word(text: str, keyword: str, default: str) -> str:
    """Return the first word behind a keyword of the input."""
    found = re.search(
        rf"^\s*{re.escape(keyword)}\s+([^\s#]+)", text, flags=re.MULTILINE | re.IGNORECASE
    )
    return found.group(1) if found else default
