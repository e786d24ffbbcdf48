"""What CP2K writes: its text, forces, bands, and H(R), S(R) as lists of elements.

Written by 2023.1. Every lattice vector R of the table "CSR write" has a file of its own with rows
"row column value", orbitals from 1, Hartree for H; M_ij(R) = ⟨i, cell 0| M |j, cell R⟩. Both R and
−R are there.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, NotConvergedError, message
from mlepi.units import HARTREE
from mlepi.untrusted import guard, read_text

OUTPUT = "output.txt"
"""File of what CP2K prints."""

OWN_HARTREE = 27.21138386
"""eV, by which CP2K prints bands: CODATA 2006 (Mohr, Taylor, Newell, Rev. Mod. Phys. 80, 633
(2008), doi:10.1103/RevModPhys.80.633)."""

AGAIN = "Remove the folder of this calculation and repeat it with CP2K 2023.1."


@dataclass(frozen=True)
class Cp2kOutput:
    """What the text of a calculation says.

    Attributes:
        version: of CP2K.
        steps: of self-consistency.
        energy: Hartree, with the entropy of the occupations, to which the forces belong.
        fermi_energy: Hartree.
        radii: atomic number → where orbitals are cut, Å.
        grid: points of the finest grid along the lattice vectors.
        images: "KS" and "S" → (n, 3) int, R of file 1, 2, …
    """

    version: str
    steps: int
    energy: float
    fermi_energy: float
    radii: Mapping[int, float]
    grid: tuple[int, int, int]
    images: Mapping[str, NDArray[np.int64]]


@guard("the output of CP2K")
def read_output(path: Path) -> Cp2kOutput:
    """Read what CP2K prints.

    Raises:
        NotConvergedError: self-consistency was not reached.
        DataError: something is missing: the calculation has not ended well.
    """
    text = read_text(path)
    if "SCF run NOT converged" in text:
        steps = re.findall(r"SCF run NOT converged", text)
        got = f"{len(steps)} self-consistent calculation that did not converge{_last_change(text)}"
        fix = "Raise dft.steps or lower dft.mixing; look at the distances of the atoms."
        raise NotConvergedError(message(str(path), got, "self-consistency", fix))
    stop = re.search(r"\[ABORT\]\s*\*?\s*\n((?: \*.*\n)+)", text)
    if stop or "PROGRAM ENDED AT" not in text:
        words = re.sub(r"[*\\/|_ \n]+", " ", stop[1]).strip() if stop else "it ends too early"
        raise DataError(message(str(path), f"an abort of CP2K: {words[:200]}", "its end", AGAIN))
    cell = [int(n) for n in re.findall(r"PW_GRID\|\s+Bounds\s+\d.*Points:\s+(\d+)", text)[:3]]
    if len(cell) != 3:
        raise _lacks(path, "sizes of grids (PRINT_LEVEL MEDIUM)")
    return Cp2kOutput(
        _find(path, r"CP2K\| version string:\s+(.*\S)", text),
        int(_find(path, r"SCF run converged in\s+(\d+) steps", text)),
        float(_find(path, r"ENERGY\| Total FORCE_EVAL.*:\s+(\S+)", text)),
        float(_find(path, r"Fermi energy:\s+(\S+)", text)),
        _read_radii(path, text),
        (cell[0], cell[1], cell[2]),
        {name: _read_images(path, name, text) for name in ("KS", "S")},
    )


def _lacks(path: Path, what: str) -> DataError:
    return DataError(message(str(path), f"no {what}", "the output of CP2K 2023.1", AGAIN))


def _find(path: Path, pattern: str, text: str) -> str:
    """Return the last match."""
    found = re.findall(pattern, text)
    if not found:
        raise _lacks(path, repr(pattern))
    return str(found[-1])


def _last_change(text: str) -> str:
    """Say how far the last step was from convergence, where the table tells."""
    rows = re.findall(r"^ +\d+ \S+ +\S+ +\S+ +(\d+\.\d+) +-?\d+\.\d+", text, re.MULTILINE)
    return f" (last change {rows[-1]})" if rows else ""


def _read_radii(path: Path, text: str) -> dict[int, float]:
    table = re.search(r"RADII: ORBITAL BASIS in angstrom.*\n((?: +\d+ +\S+ +\S+ +\S+\n)+)", text)
    if table is None:
        raise _lacks(path, "radii of orbitals")
    rows = [line.split() for line in table[1].splitlines()]
    return {chemical_symbols.index(row[1]): float(row[2]) for row in rows}


def _read_images(path: Path, name: str, text: str) -> NDArray[np.int64]:
    """Read the lattice vectors of a matrix."""
    head = rf"^ *{name} CSR write\|\s+(\d+) periodic images\n.*\n"
    table = re.search(head + r"((?: +\d+ +-?\d+ +-?\d+ +-?\d+\n)+)", text, re.MULTILINE)
    if table is None:
        raise _lacks(path, f"lattice vectors of {name}")
    rows = np.array([line.split() for line in table[2].splitlines()], dtype=np.int64)
    if len(rows) != int(table[1]) or not np.array_equal(rows[:, 0], np.arange(len(rows)) + 1):
        raise _lacks(path, f"complete list of lattice vectors of {name}")
    return rows[:, 1:]


@guard("a matrix of CP2K")
def read_matrix(
    folder: Path, name: str, images: NDArray[np.int64], n_orbitals: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Read the elements of one matrix for all lattice vectors.

    Args:
        folder: of the calculation.
        name: KS or S.
        images: (n, 3) int, R of file 1, 2, …
        n_orbitals: rows of the matrix.

    Returns:
        (m, 3) R, (m,) row and (m,) column from 0, and (m,) values, Hartree or 1.

    Raises:
        DataError: a file is missing or damaged.
    """
    parts, cells = [], []
    for number, cell in enumerate(images, start=1):
        files = list(folder.glob(f"*-{name}_SPIN_1_R_{number}-*.csr"))
        if len(files) != 1:
            got = f"{len(files)} files of {name} for R = {cell.tolist()} (number {number})"
            raise DataError(message(str(folder), got, "one", AGAIN))
        text = read_text(files[0])
        if text.strip():
            rows = np.loadtxt(io.StringIO(text), ndmin=2)
            indices = rows[:, :2]
            if rows.shape[1] != 3 or indices.min() < 1 or indices.max() > n_orbitals:
                got = f"{rows.shape[1]} columns, indices {indices.min():g} to {indices.max():g}"
                expected = f"row, column and value of {n_orbitals} orbitals"
                raise DataError(message(str(files[0]), got, expected, AGAIN))
            parts.append(rows)
            cells.append(np.tile(cell, (len(rows), 1)))
    if not parts:
        raise DataError(message(str(folder), f"no element of {name}", "a matrix", AGAIN))
    every = np.concatenate(parts)
    index = every[:, :2].astype(np.int64) - 1
    return np.concatenate(cells), index[:, 0], index[:, 1], every[:, 2]


@guard("forces of CP2K")
def read_forces(path: Path, n_atoms: int) -> NDArray[np.float64]:
    """Read forces, (n_atoms, 3) Hartree/Bohr.

    Raises:
        DataError: not one row for every atom in order.
    """
    text = read_text(path)
    rows = [line.split() for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 6 and row[0].isdigit()]
    if "[a.u.]" not in text or [row[0] for row in rows] != [f"{n + 1}" for n in range(n_atoms)]:
        got = f"forces of {len(rows)} atoms" + ("" if "[a.u.]" in text else ", not in [a.u.]")
        raise DataError(message(str(path), got, f"{n_atoms}, in atomic units", AGAIN))
    return np.array([row[3:] for row in rows], dtype=np.float64)


@guard("bands of CP2K")
def read_bands(path: Path) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Read k-points, (3,) fractional, and energies there, (n_bands,) eV.

    Raises:
        DataError: there are none.
    """
    found = []
    for part in re.split(r"^# +Point +\d+ +Spin 1:", read_text(path), flags=re.MULTILINE)[1:]:
        first, *others = part.splitlines()
        rows = [line.split() for line in others if line.strip() and not line.startswith("#")]
        kpoint = np.array(first.split()[:3], dtype=np.float64)
        energies = np.array([row[1] for row in rows], dtype=np.float64)
        found.append((kpoint, energies * (HARTREE / OWN_HARTREE)))
    if not found:
        raise DataError(message(str(path), "no bands", "energies at k-points", AGAIN))
    return found
