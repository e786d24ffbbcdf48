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


def is_openmx_out(path: Path) -> bool:
    """Say whether a file is such a text: it repeats the species of the input."""
    if path.suffix != ".out" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return "Definition.of.Atomic.Species" in file.read(20000)


@guard("a .out of OpenMX")
def read_openmx_out(path: str | Path, name: str | None = None) -> LabelledStructure:
    """Read the last step of a run from its text.

    Args:
        path: ``.out``.
        name: name of the structure; the stem of the file when None.

    Returns:
        Structure, energy, Fermi energy (the chemical potential), and forces where they are printed;
        no matrices, which are in the ``.scfout``.

    Raises:
        DataError: the structure or the energy is missing or malformed.
    """
    path = Path(path)
    where = str(path)
    text = read_text(path)
    rows = find_block(text, "Atoms.SpeciesAndCoordinates")
    vectors = find_block(text, "Atoms.UnitVectors")
    energies = re.findall(rf"^\s*Utot\.?\s+({NUMBER})", text, flags=re.MULTILINE)
    potentials = re.findall(rf"Chemical potential \(Hartree\)\s+({NUMBER})", text)
    if not (rows and vectors and energies and potentials):
        fix = "Give the .out of a finished run, with its input at the top."
        got = "no unit vectors, coordinates, Utot or chemical potential"
        raise DataError(message(where, got, "all of them", fix))
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


def _unit(text: str, keyword: str) -> str:
    found = re.search(
        rf"^\s*{re.escape(keyword)}\s+(\w+)", text, flags=re.MULTILINE | re.IGNORECASE
    )
    return found.group(1).upper() if found else "ANG"
