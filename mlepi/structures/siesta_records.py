"""Records of SIESTA's binary files, and what is used of a ``.HSX`` of any version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.untrusted import check_size


@dataclass(frozen=True)
class Hsx:
    """What is used of a ``.HSX``, in its units.

    Attributes:
        cell: (3, 3) rows, Bohr.
        positions: (n_atoms, 3), Bohr.
        species: (n_atoms,) int from 0.
        labels: of the species.
        shells: angular momenta of the shells of every species.
        cells: (n_cells, 3) int, the cells of the supercell.
        rows: (n_values,) int, orbital of the home cell.
        columns: (n_values,) int, orbital of the home cell that the column is an image of.
        places: (n_values,) int, which cell the column is in.
        hamiltonian: (n_values,), Rydberg.
        overlap: (n_values,).
        fermi_energy: Rydberg; None where nothing tells.
    """

    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    species: NDArray[np.int64]
    labels: list[str]
    shells: list[tuple[int, ...]]
    cells: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    places: NDArray[np.int64]
    hamiltonian: NDArray[np.float64]
    overlap: NDArray[np.float64]
    fermi_energy: float | None


class Records:
    """The records of a Fortran file, one after the other.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        """Read the bytes."""
        check_size(path, 4.0)
        self.where, self.data, self.position = str(path), path.read_bytes(), 0

    def next(self, what: str, n_bytes: int | None = None) -> bytes:
        """Return the next record, of so many bytes."""
        start = self.position
        length = int.from_bytes(self.data[start : start + 4], "little", signed=True)
        end = start + 8 + length
        if start + 4 > len(self.data) or length < 0 or end > len(self.data):
            self.refuse(
                f"the end of the file ({len(self.data)} bytes) inside {what}", "a whole file"
            )
        if self.data[end - 4 : end] != self.data[start : start + 4]:
            self.refuse(f"a broken record of {what}", "Fortran records of a little-endian machine")
        if n_bytes is not None and length != n_bytes:
            self.refuse(f"{length} bytes of {what}", f"{n_bytes}")
        self.position = end
        return self.data[start + 4 : end - 4]

    def integers(self, what: str, count: int | None = None) -> NDArray[np.int64]:
        """Return the integers of the next record, so many."""
        chunk = self.next(what, None if count is None else 4 * count)
        return np.frombuffer(chunk, "<i4").astype(np.int64)

    def rows(self, what: str, kind: str, lengths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the numbers of one record per row, of these lengths, one after the other."""
        size = np.dtype(kind).itemsize
        return np.concatenate(
            [np.frombuffer(self.next(what, size * n), kind) for n in lengths.tolist()]
        ).astype(np.float64)

    def refuse(self, got: str, expected: str) -> None:
        """Raise what is wrong with the file."""
        fix = "Copy the file again, or repeat the run with SIESTA 5."
        raise DataError(message(self.where, got, expected, fix))


def check_spin(path: Path, n_spins: int) -> None:
    """Refuse a calculation with spin.

    Args:
        path: of the file.
        n_spins: components of H.
    """
    if n_spins != 1:
        fix = "Repeat it with Spin none."
        got = f"{n_spins} spin components"
        raise DataError(message(str(path), got, "a calculation without spin", fix))


def find_shells(file: Records, label: str, l: NDArray[np.int64]) -> tuple[int, ...]:
    """Return l of every shell of a species.

    Args:
        file: for the message.
        label: of the species.
        l: of every orbital.
    """
    shells: list[int] = []
    place = 0
    while place < len(l):
        shells.append(int(l[place]))
        if shells[-1] < 0 or l[place : place + 2 * shells[-1] + 1].tolist() != [shells[-1]] * (
            2 * shells[-1] + 1
        ):
            file.refuse(f"a broken shell of {label}", "2l + 1 orbitals of every shell")
        place += 2 * shells[-1] + 1
    return tuple(shells)
