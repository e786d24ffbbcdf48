"""Reader of the binary ``.HSX`` of SIESTA: since version 5 H, S, structure and shells in one file.

Fortran records of 4-byte integers and of floats in either precision; energies in Rydberg, lengths
in Bohr. Rows are orbitals of the home cell, columns those of a supercell of cells ``isc_off``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.structures.siesta_hsx_old import read_old_hsx
from mlepi.structures.siesta_records import Hsx, Records, check_spin, find_shells
from mlepi.untrusted import guard

VERSIONS = (1, 2)
"""Of the format: SIESTA 5."""

OLD = 16
"""Bytes of the first record, four sizes, of the format before, which has no version."""

LABEL = 20
"""Characters of the label of a species."""


@guard("a .HSX of SIESTA")
def read_hsx(path: Path) -> Hsx:
    """Read the file record by record, in the order in which SIESTA writes it.

    Raises:
        DataError: another version, spin, a damaged file, or one of SIESTA 4 (``siesta_hsx_old``)
            without its structure beside it.
    """
    file = Records(path)
    first = file.next("the version")
    if len(first) == OLD:
        return read_old_hsx(path)
    version = int.from_bytes(first[:4], "little") if len(first) == 4 else 0
    if version not in VERSIONS:
        file.refuse(f"HSX format {version}", "version 1 or 2, of SIESTA 5, or that of SIESTA 4")
    double = bool(file.integers("the precision", 1)[0])
    kind = "<f8" if double else "<f4"
    n_atoms, n_orbitals, n_spins, n_species, *n_cells = file.integers("the sizes", 7).tolist()
    check_spin(path, n_spins)
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
    lengths = np.bincount(rows, minlength=n_orbitals)
    hamiltonian, overlap = (
        file.rows(what, kind, lengths) for what in ("the Hamiltonian", "the overlap")
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


def _read_shells(file: Records, label: str, n_orbitals: int) -> tuple[int, ...]:
    """Read n, l, zeta of every orbital of a species; return l of every shell."""
    l = file.integers(f"the orbitals of {label}", 3 * n_orbitals).reshape(-1, 3)[:, 1]
    return find_shells(file, label, l)


def _read_pattern(
    file: Records, n_orbitals: int, n_columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read which elements there are: rows and columns from 0."""
    lengths = file.integers("the row lengths", n_orbitals)
    lists = [file.integers("the columns", n) for n in lengths.tolist()]
    columns = np.concatenate(lists) - 1
    if columns.min() < 0 or columns.max() >= n_columns:
        file.refuse("a column outside the supercell", f"1 … {n_columns}")
    return np.repeat(np.arange(n_orbitals), lengths), columns
