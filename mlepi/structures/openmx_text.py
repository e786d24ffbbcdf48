"""What OpenMX's texts say: species and their shells in the input, energy and forces in the log."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.assembly import element_number
from mlepi.structures.basis import SHELL_LETTERS
from mlepi.structures.block_checks import check_finite
from mlepi.units import BOHR, HARTREE
from mlepi.untrusted import parse_shells

PAO_NAME = re.compile(
    r"^[A-Za-z_]+?(?P<radius>\d+(?:\.\d+)?)[A-Za-z_]*-(?P<shells>(?:[spdfg]\d+(?:>\d+)?)+)$"
)

NUMBER = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Species:
    """One line of ``Definition.of.Atomic.Species``."""

    number: int
    shells: tuple[int, ...]
    radius: float  # Å
    pao: str
    pseudopotential: str


def find_block(text: str, keyword: str) -> list[list[str]] | None:
    """Return the words of every line of the last ``<keyword … keyword>`` block, or None.

    Comments are removed, also behind the keyword, and blocks that are comments.
    """
    word = re.escape(keyword)
    found = re.findall(
        rf"^[ \t]*<{word}(?![\w.])[^\n]*\n(.*?){word}>",
        text,
        flags=re.DOTALL | re.IGNORECASE | re.MULTILINE,
    )
    if not found:
        return None
    return [
        words
        for words in (line.split("#", 1)[0].split() for line in found[-1].splitlines())
        if words
    ]


def is_openmx_name(number: int, name: str) -> bool:
    """Say whether a basis has the name of orbitals of OpenMX, such as C6.0-s2p2."""
    return name.startswith(chemical_symbols[number]) and PAO_NAME.match(name) is not None


def parse_pao_name(where: str, pao: str) -> tuple[tuple[int, ...], float]:
    """Read shells and radius off an OpenMX basis name.

    Args:
        where: file, for the message.
        pao: such as "C6.0-s2p2" (two s and two p shells, radius 6.0 Bohr) or "H5.0-s3>1"
            (contracted: one s shell).

    Returns:
        Angular momenta in OpenMX's order (s, p, d, …), and the radius in Å.

    Raises:
        DataError: the name has another form.
    """
    match = PAO_NAME.match(pao)
    if match is None:
        raise DataError(
            message(
                where,
                f"basis name {pao!r}",
                "a name such as C6.0-s2p2",
                "Name such a basis in Definition.of.Atomic.Species.",
            )
        )
    shells: list[int] = []
    for letter, primitives, contracted in re.findall(r"([spdfg])(\d+)(?:>(\d+))?", match["shells"]):
        shells += [SHELL_LETTERS.index(letter)] * int((contracted or primitives)[:4])
    if shells != sorted(shells):
        raise DataError(
            message(
                where,
                f"basis name {pao!r}",
                "shells in the order s, p, d, f",
                "Write the shells in this order, such as C6.0-s2p2d1.",
            )
        )
    return parse_shells(where, shells), float(match["radius"]) * BOHR


def read_species(where: str, text: str, n_atoms: int) -> tuple[dict[str, Species], list[str]]:
    """Read the species definitions and the species label of every atom from an input file's text.

    Args:
        where: file, for the message.
        text: of the input.
        n_atoms: that the structure has.

    Returns:
        Label → species, and the label of every atom.

    Raises:
        DataError: a definition is missing or malformed, or the atoms are not as many.
    """
    definitions = find_block(text, "Definition.of.Atomic.Species")
    coordinates = find_block(text, "Atoms.SpeciesAndCoordinates")
    if definitions is None or coordinates is None:
        raise DataError(
            message(
                where,
                "no Definition.of.Atomic.Species or Atoms.SpeciesAndCoordinates in the input text",
                "the input file, which names the orbitals of every atom",
                "Give the .out file of the run as well.",
            )
        )
    species = dict(_read_definition(where, words) for words in definitions)
    labels = [words[1] if len(words) > 1 else "" for words in coordinates]
    if len(labels) != n_atoms or not set(labels) <= set(species):
        raise DataError(
            message(
                where,
                f"{len(labels)} atoms of species {sorted(set(labels))} in the input text",
                f"{n_atoms} atoms of species {sorted(species)}",
                "The input text does not belong to the matrices.",
            )
        )
    return species, labels


def _read_definition(where: str, words: list[str]) -> tuple[str, Species]:
    """Read label and species from one line of ``Definition.of.Atomic.Species``."""
    if len(words) < 3:
        raise DataError(
            message(
                where,
                f"species line {words}",
                "label, basis, pseudopotential",
                "Write such a line for every species, for example C C6.0-s2p2 C_PBE19.",
            )
        )
    label, pao, pseudopotential = words[:3]
    symbol = re.split(r"[_\d]", pseudopotential)[0]
    if symbol == "E":
        raise DataError(
            message(
                where,
                f"species {label!r} of empty atoms",
                "real atoms only",
                "Remove the ghost atoms.",
            )
        )
    shells, radius = parse_pao_name(where, pao)
    number = element_number(where, symbol)
    return label, Species(number, shells, radius, pao, pseudopotential)


def read_log(
    where: str, text: str, atoms: Atoms, chemical_potential: float, *, required: bool
) -> tuple[float | None, NDArray[np.float64] | None]:
    """Read energy and forces of the last step and check that they belong to the matrices.

    Args:
        where: file, for the message.
        text: of the log.
        atoms: of the matrices, Å.
        chemical_potential: of the matrices, Hartree.
        required: whether a text without them is an error.

    Returns:
        Total energy, eV, and forces, (n_atoms, 3), eV/Å; None where the text has none.

    Raises:
        DataError: something is missing, damaged, or of another run.
    """
    energies = re.findall(rf"^\s*Utot\.?\s+({NUMBER})", text, flags=re.MULTILINE)
    potentials = re.findall(rf"Chemical potential \(Hartree\)\s+({NUMBER})", text)
    block = find_block(text, "coordinates.forces")
    if not (energies and potentials and block):
        if not required:
            return None, None
        names = ("Utot", "Chemical potential", "coordinates.forces")
        parts = (energies, potentials, block)
        missing = [name for name, part in zip(names, parts, strict=True) if not part]
        raise DataError(
            message(
                where,
                f"no {' and no '.join(missing)}",
                "the .out of a finished run",
                "Give the right .out file.",
            )
        )
    if abs(float(potentials[-1]) - chemical_potential) > 1e-6:
        raise DataError(
            message(
                where,
                f"chemical potential {float(potentials[-1]):.8f} Hartree",
                f"{chemical_potential:.8f} as in the .scfout",
                "The two files are of different runs.",
            )
        )
    table = _read_forces(where, block[1:], atoms)
    return float(energies[-1]) * HARTREE, table[:, 3:] * (HARTREE / BOHR)


def _read_forces(where: str, rows: list[list[str]], atoms: Atoms) -> NDArray[np.float64]:
    """Read positions (Å) and forces (Hartree/Bohr): (n_atoms, 6)."""
    if len(rows) != len(atoms) or any(len(row) < 8 for row in rows):
        raise DataError(
            message(
                where,
                f"forces on {len(rows)} atoms",
                f"{len(atoms)}",
                "The two files are of different runs.",
            )
        )
    symbols = [row[1] for row in rows]
    try:
        table = np.array([[float(v) for v in row[2:8]] for row in rows])
    except ValueError as error:
        raise DataError(
            message(where, f"coordinates.forces with {error}", "numbers", "The file is damaged.")
        ) from error
    shift = np.linalg.solve(atoms.cell.array.T, (table[:, :3] - atoms.positions).T).T
    distances = np.linalg.norm((shift - np.round(shift)) @ atoms.cell.array, axis=1)
    if symbols != atoms.get_chemical_symbols() or distances.max() > 1e-3:
        raise DataError(
            message(
                where,
                f"coordinates that differ by up to {distances.max():.4f} Å from those of the "
                ".scfout or the input, or other elements",
                "the same structure",
                "The two files are of different runs or steps.",
            )
        )
    check_finite(where, "force", table)
    return table
