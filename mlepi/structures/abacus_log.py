"""What the running log of ABACUS says: shells, and of every ionic step positions and results."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.abacus_csr import refuse
from mlepi.units import BOHR
from mlepi.untrusted import read_text

NON_SELF_CONSISTENT = "running_nscf.log"
"""Its Fermi energy is that of a few k-points: taken where there is no other log alone."""

NUMBER = r"[-+]?\d[-+.\deE]*"
ROW = rf"[ \t]*(?:tau[cd]_)?[A-Z]\S*(?:[ \t]+{NUMBER}){{3}}[^\n]*\n"
TABLE = re.compile(
    rf"^[ \t]*(DIRECT|CARTESIAN) COORDINATES(?:[^\n]*UNIT =\s*(\S+) Bohr)?[^\n]*\n"
    rf"[ \t]*atom[^\n]*\n((?:{ROW})+)",
    re.MULTILINE,
)
"""Positions as they are printed before every ionic step: kind, unit of length, rows."""

MOST_OF_A_KIND = 2000
"""Characters of a log in which the shells of an element stand, behind "atom label"; newer versions
write "Atom label"."""

SAME = 1e-3
"""Å; how far positions of log and ``STRU`` may be apart."""


@dataclass(frozen=True)
class AbacusLog:
    """What the running log says; nothing where there is none.

    Attributes:
        where: the file, for messages.
        shells: element → l of its shells.
        tables: positions of every ionic step: (n_atoms, 3), fractional where the second is None,
            else multiples of it, Å.
        fermi_energies: of every ionic step, eV; where it is not said so, of iterations.
        energies: likewise, eV; some versions print the last alone.
        forces: of every ionic step, the text behind its title.
    """

    where: str
    shells: dict[str, tuple[int, ...]]
    tables: Sequence[tuple[NDArray[np.float64], float | None]]
    fermi_energies: Sequence[float]
    energies: Sequence[float]
    forces: Sequence[str]


def find_log(folder: Path) -> Path | None:
    """Return the running log of a folder: that of a self-consistent run where there are several."""
    files = sorted(
        folder.glob("running_*.log"), key=lambda file: (file.name == NON_SELF_CONSISTENT, file.name)
    )
    return files[0] if files else None


def read_lattice(file: Path | None) -> NDArray[np.float64] | None:
    """Read the first lattice vectors of a log, in lattice constants."""
    text = file.read_text(encoding="utf-8", errors="replace") if file else ""
    number = rf"\s+({NUMBER})"
    match = re.search(r"Lattice vectors:[^\n]*a_0\)" + f"\\s*{number * 3}" * 3, text, re.IGNORECASE)
    return np.array(match.groups(), dtype=np.float64).reshape(3, 3) if match else None


def read_log(file: Path | None) -> AbacusLog:
    """Read a running log.

    Raises:
        DataError: the calculation has spin.
    """
    text = read_text(file) if file else ""
    if re.search(r"\bnspin\s*=\s*[24]\b", text):
        refuse(str(file), "a calculation with spin", "nspin 1")
    shells: dict[str, tuple[int, ...]] = {}
    for kind in re.split(r"\batom label\s*=", text, flags=re.IGNORECASE)[1:]:
        head = re.split("number of atoms? for", kind[:MOST_OF_A_KIND], flags=re.IGNORECASE)[0]
        counts = re.findall(r"\bL\s*=\s*(\d+),\s*number of zeta\s*=\s*(\d+)", head)
        label = re.match(r"\s*([A-Z][a-z]?)", head)
        if label and counts:
            shells[label.group(1)] = tuple(
                int(l[:4]) for l, count in counts for _ in range(int(count[:4]))
            )
    iterations = re.findall(r"E_Fermi\s+\S+\s+(\S+)", text)
    fermi = re.findall(r"EFERMI\s*=\s*(\S+)\s*eV", text) or iterations[-1:]
    return AbacusLog(
        str(file),
        shells,
        [_read_table(*found) for found in TABLE.findall(text)],
        [float(word) for word in fermi],
        [float(word) for word in re.findall(r"FINAL_ETOT_IS\s+(\S+)\s*eV", text)],
        text.split("TOTAL-FORCE (eV/Angstrom)")[1:],
    )


def _read_table(kind: str, unit: str, rows: str) -> tuple[NDArray[np.float64], float | None]:
    words = re.findall(rf"^\s*\S+\s+({NUMBER})\s+({NUMBER})\s+({NUMBER})", rows, re.MULTILINE)
    return np.array(words, dtype=np.float64), float(unit or 1.0) * BOHR if kind[0] == "C" else None


def choose_step(log: AbacusLog, values: Sequence[float], step: int) -> float | None:
    """Return the value of one ionic step; None where the log does not say which is its.

    Args:
        log: of the run.
        values: of every step, or of the last.
        step: from 0.
    """
    n_steps = len(log.forces) or len(log.tables) or 1
    if len(values) == n_steps:
        return values[step] if step < n_steps else None
    return values[-1] if values and step >= n_steps - 1 else None


def read_forces(log: AbacusLog, step: int, n_atoms: int) -> NDArray[np.float64] | None:
    """Read the total forces of one ionic step, (n_atoms, 3) eV/Å; None where there are none."""
    if step >= len(log.forces):
        return None
    rows = re.findall(
        r"^\s*[A-Z][a-z]?\d+\s+([-\d.eE+]+)\s+([-\d.eE+]+)\s+([-\d.eE+]+)\s*$",
        log.forces[step],
        flags=re.MULTILINE,
    )
    forces = np.array(rows[:n_atoms], dtype=np.float64)
    if forces.shape != (n_atoms, 3):
        got, expected = f"{len(rows)} forces that can be read", f"{n_atoms}"
        raise DataError(message(log.where, got, expected, "Copy the log again."))
    return forces


def find_positions(log: AbacusLog, atoms: Atoms, step: int) -> NDArray[np.float64] | None:
    """Return the fractional positions of an ionic step as printed; None where they are not.

    Args:
        log: of the run.
        atoms: of ``STRU``.
        step: from 0; after the first none in a cell that changes.
    """
    tables = [table for table in log.tables if len(table[0]) == len(atoms)]
    if step >= len(tables) or (step and "cell-relax" in Path(log.where).name):
        return None
    values, unit = tables[step]
    return values if unit is None else values * unit @ np.linalg.inv(atoms.cell.array)


def place_atoms(
    where: str, atoms: Atoms, step: int, printed: NDArray[np.float64] | None
) -> tuple[Atoms, NDArray[np.int64]]:
    """Return the atoms of one ionic step, and in which cell ABACUS has each of them.

    ABACUS moves every atom of ``STRU`` into the cell, 0 ≤ x < 1, before it counts cells. In the
    first step they are returned where ``STRU`` has them, later where ABACUS has them.

    Args:
        where: folder, for messages.
        atoms: of ``STRU``, Å.
        step: from 0.
        printed: (n_atoms, 3), fractional positions of this step; None where they are not known.

    Returns:
        The atoms, and (n_atoms, 3) int, lattice vectors from each to where ABACUS has it.

    Raises:
        DataError: positions are not known of a later step, or are in the first one not those of
            ``STRU``.
    """
    cell = atoms.cell.array
    given = atoms.positions @ np.linalg.inv(cell)
    if step and printed is None:
        fix = "Repeat the calculation (scf) for the structure of that step."
        got = f"H(R) of ionic step {step + 1}"
        raise DataError(message(where, got, "one of known positions in the first cell", fix))
    if step and printed is not None:
        placed = atoms.copy()
        placed.positions = printed @ cell
        return placed, np.zeros((len(atoms), 3), dtype=np.int64)
    if printed is None:
        printed = (given + 10000.0) % 1.0  # as ABACUS does: rounding below a border is on it
        return atoms, np.rint(printed - given).astype(np.int64)
    moves = np.rint(printed - given)
    worst = float(np.linalg.norm((printed - given - moves) @ cell, axis=1).max())
    if worst > SAME:
        got = f"positions {worst:.3g} Å from those of STRU, in log or matrix"
        raise DataError(message(where, got, "the same structure", "Give the STRU of this run."))
    return atoms, moves.astype(np.int64)
