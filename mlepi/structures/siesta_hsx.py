"""Reader of the binary ``.HSX`` of SIESTA 5: H, S, structure and shells in one file.

Fortran records of 4-byte integers and of floats in either precision; energies in Rydberg, lengths
in Bohr. Rows are orbitals of the home cell, columns those of a supercell of cells ``isc_off``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.untrusted import check_size, guard

VERSIONS = (1, 2)
"""Of the format: SIESTA 5."""

LABEL = 20
"""Characters of the label of a species."""


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
        fermi_energy: Rydberg.
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
    fermi_energy: float


class _Records:
    """The records of a Fortran file, one after the other."""

    def __init__(self, path: Path) -> None:
        check_size(path, 4.0)
        self.where, self.data, self.position = str(path), path.read_bytes(), 0

    def next(self, what: str, n_bytes: int | None = None) -> bytes:
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
        chunk = self.next(what, None if count is None else 4 * count)
        return np.frombuffer(chunk, "<i4").astype(np.int64)

    def refuse(self, got: str, expected: str) -> None:
        fix = "Copy the file again, or repeat the run with SIESTA 5."
        raise DataError(message(self.where, got, expected, fix))


@guard("a .HSX of SIESTA 5")
def read_hsx(path: Path) -> Hsx:
    """Read the file record by record, in the order in which SIESTA writes it.

    Raises:
        DataError: another version, spin, or a damaged file.
    """
    file = _Records(path)
    first = file.next("the version")
    version = int.from_bytes(first[:4], "little") if len(first) == 4 else 0
    if version not in VERSIONS:
        expected = "version 1 or 2, of SIESTA 5"
        file.refuse(f"HSX format {version if len(first) == 4 else '0, of SIESTA 4'}", expected)
    double = bool(file.integers("the precision", 1)[0])
    kind = "<f8" if double else "<f4"
    n_atoms, n_orbitals, n_spins, n_species, *n_cells = file.integers("the sizes", 7).tolist()
    if n_spins != 1:
        raise DataError(
            message(
                file.where,
                f"{n_spins} spin components",
                "a calculation without spin",
                "Repeat it with Spin none.",
            )
        )
    if min(n_atoms, n_orbitals, n_species, *n_cells) < 1:
        file.refuse("sizes below 1", "positive numbers of atoms, orbitals and cells")
    lattice = np.frombuffer(file.next("the cell", 96), "<f8")
    total = int(np.prod(n_cells))
    geometry = file.next("the structure", 12 * total + 32 * n_atoms)
    cells = np.frombuffer(geometry[: 12 * total], "<i4").reshape(total, 3).astype(np.int64)
    rest = geometry[12 * total :]
    positions = np.frombuffer(rest[: 24 * n_atoms], "<f8").reshape(n_atoms, 3)
    species = np.frombuffer(rest[24 * n_atoms : 28 * n_atoms], "<i4").astype(np.int64) - 1
    described = file.next("the species", 32 * n_species)
    parts = [described[32 * k : 32 * k + 32] for k in range(n_species)]
    labels = [part[:LABEL].decode("ascii", "replace").strip() for part in parts]
    counts = [int.from_bytes(part[28:32], "little") for part in parts]
    shells = [_read_shells(file, label, n) for label, n in zip(labels, counts, strict=True)]
    if species.min() < 0 or species.max() >= n_species:
        file.refuse("a species index out of range", f"1 … {n_species}")
    if sum(counts[k] for k in species) != n_orbitals:
        file.refuse(f"{sum(counts[k] for k in species)} orbitals of the atoms", f"{n_orbitals}")
    if version > 1:
        file.next("the k-mesh")
    rows, columns = _read_pattern(file, n_orbitals, n_orbitals * total)
    hamiltonian, overlap = (
        _read_values(file, what, kind, np.bincount(rows, minlength=n_orbitals))
        for what in ("the Hamiltonian", "the overlap")
    )
    return Hsx(
        cell=lattice[:9].reshape(3, 3),
        positions=positions,
        species=species,
        labels=labels,
        shells=shells,
        cells=cells,
        rows=rows,
        columns=columns % n_orbitals,
        places=columns // n_orbitals,
        hamiltonian=hamiltonian,
        overlap=overlap,
        fermi_energy=float(lattice[9]),
    )


def _read_shells(file: _Records, label: str, n_orbitals: int) -> tuple[int, ...]:
    """Read n, l, zeta of every orbital of a species; return l of every shell."""
    l = file.integers(f"the orbitals of {label}", 3 * n_orbitals).reshape(-1, 3)[:, 1]
    shells: list[int] = []
    place = 0
    while place < n_orbitals:
        shells.append(int(l[place]))
        if not (l[place : place + 2 * shells[-1] + 1] == shells[-1]).all():
            file.refuse(f"a broken shell of {label}", "2l + 1 orbitals of every shell")
        place += 2 * shells[-1] + 1
    return tuple(shells)


def _read_pattern(
    file: _Records, n_orbitals: int, n_columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read which elements there are: rows and columns from 0."""
    lengths = file.integers("the row lengths", n_orbitals)
    lists = [file.integers("the columns", n) for n in lengths.tolist()]
    columns = np.concatenate(lists) - 1
    if columns.min() < 0 or columns.max() >= n_columns:
        file.refuse("a column outside the supercell", f"1 … {n_columns}")
    return np.repeat(np.arange(n_orbitals), lengths), columns


def _read_values(
    file: _Records, what: str, kind: str, lengths: NDArray[np.int64]
) -> NDArray[np.float64]:
    size = np.dtype(kind).itemsize
    return np.concatenate(
        [np.frombuffer(file.next(what, size * n), kind) for n in lengths.tolist()]
    ).astype(np.float64)
