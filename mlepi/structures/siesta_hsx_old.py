"""Reader of the binary ``.HSX`` of SIESTA 3 and 4, which holds no structure.

Fortran records of 4-byte integers and single precision; energies in Rydberg, lengths in Bohr. Every
element has the vector from the atom of its row to that of its column. Lattice vectors and positions
are those of ``.XV`` or ``.STRUCT_OUT`` beside it, the Fermi energy that of ``.EIG``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.siesta_records import Hsx, Records, check_spin, find_shells
from mlepi.units import BOHR, HARTREE
from mlepi.untrusted import guard, read_text

OFF = 1e-2
"""Largest deviation of a vector of the file from one between the positions, Bohr."""

LABEL = 20
"""Characters of the label of a species."""


@guard("a .HSX of SIESTA 4")
def read_old_hsx(path: Path) -> Hsx:
    """Read the file and the structure beside it.

    Args:
        path: ``NAME.HSX``, with ``NAME.XV`` or ``NAME.STRUCT_OUT``.

    Raises:
        DataError: spin, a damaged file, or no structure beside it that its vectors fit.
    """
    file = Records(path)
    n_orbitals, n_columns, n_spins, n_values = file.integers("the sizes", 4).tolist()
    check_spin(path, n_spins)
    if n_orbitals < 1 or n_columns < n_orbitals or n_columns % n_orbitals:
        file.refuse(f"{n_orbitals} orbitals and {n_columns} of the supercell", "whole cells")
    at_gamma = bool(file.integers("the flag of Γ", 1)[0])
    if at_gamma and n_columns != n_orbitals:
        file.refuse(f"{n_columns} columns at Γ", f"{n_orbitals}")
    homes = np.arange(n_orbitals)
    if not at_gamma:
        homes = file.integers("the orbitals of the supercell", n_columns) - 1
    lengths = file.integers("the row lengths", n_orbitals)
    if lengths.min() < 0 or lengths.sum() != n_values:
        file.refuse(f"rows of {lengths.sum()} elements", f"{n_values}")
    columns = np.concatenate([file.integers("the columns", n) for n in lengths.tolist()]) - 1
    if columns.min(initial=0) < 0 or columns.max(initial=0) >= n_columns:
        file.refuse("a column outside the supercell", f"1 … {n_columns}")
    if homes.min() < 0 or homes.max() >= n_orbitals:
        file.refuse("an orbital outside the cell", f"1 … {n_orbitals}")
    hamiltonian, overlap = (
        file.rows(what, "<f4", lengths) for what in ("the Hamiltonian", "the overlap")
    )
    file.next("the number of electrons")
    vectors = None if at_gamma else file.rows("the vectors", "<f4", 3 * lengths).reshape(-1, 3)
    labels, shells, species = _read_species(file, n_orbitals)
    rows, columns = np.repeat(np.arange(n_orbitals), lengths), homes[columns]
    sizes = [sum(2 * l + 1 for l in shells[k]) for k in species.tolist()]
    atom = np.repeat(np.arange(len(species)), sizes)
    found = _find_structures(path, len(species))
    if vectors is None:
        (cell, positions), shifts = found[0], np.zeros((len(rows), 3), dtype=np.int64)
    else:
        fits = [_fit(vectors, *structure, atom[rows], atom[columns]) for structure in found]
        best = int(np.argmin([off for _, off in fits]))
        (cell, positions), (shifts, off) = found[best], fits[best]
        if off > OFF:
            fix = "Take .STRUCT_OUT or .XV of the step that the .HSX is of."
            got = f"a structure beside it whose bonds are off by {off * BOHR:.3g} Å"
            raise DataError(message(str(path), got, f"at most {OFF * BOHR:.2g} Å", fix))
    cells, places = np.unique(shifts, axis=0, return_inverse=True)
    return Hsx(
        cell=cell,
        positions=positions,
        species=species,
        labels=labels,
        shells=shells,
        cells=cells,
        rows=rows,
        columns=columns,
        places=places.ravel(),
        hamiltonian=hamiltonian,
        overlap=overlap,
        fermi_energy=_find_fermi_energy(path),
    )


def _read_species(
    file: Records, n_orbitals: int
) -> tuple[list[str], list[tuple[int, ...]], NDArray[np.int64]]:
    """Read labels and shells of the species, and the species of every atom from 0."""
    n_species = int(file.integers("the number of species", 1)[0])
    described = file.next("the species")
    size = LABEL + 12
    if n_species < 1 or len(described) != size * n_species:
        file.refuse(f"{len(described)} bytes of {n_species} species", f"{size} of each")
    parts = [described[size * k : size * (k + 1)] for k in range(n_species)]
    labels = [part[:LABEL].decode("ascii", "replace").strip() for part in parts]
    shells = []
    for label, part in zip(labels, parts, strict=True):
        count = int.from_bytes(part[-4:], "little")
        if count > n_orbitals:
            file.refuse(f"{count} orbitals of {label}", f"at most {n_orbitals}")
        read = [file.integers(f"the orbitals of {label}", 3)[1] for _ in range(count)]
        shells.append(find_shells(file, label, np.array(read, dtype=np.int64)))
    n_atoms = int(file.integers("the number of atoms", 1)[0])
    species = file.integers("the species of the atoms", n_atoms) - 1
    if n_atoms < 1 or species.min() < 0 or species.max() >= n_species:
        file.refuse("a species index out of range", f"1 … {n_species}")
    found = sum(sum(2 * l + 1 for l in shells[k]) for k in species.tolist())
    if found != n_orbitals:
        file.refuse(f"{found} orbitals of the atoms", f"{n_orbitals}")
    return labels, shells, species


def _fit(
    vectors: NDArray[np.float64],
    cell: NDArray[np.float64],
    positions: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.int64], float]:
    """Return the cells that vectors between atoms lead to, and how far off they are, Bohr."""
    scaled = (vectors - positions[columns] + positions[rows]) @ np.linalg.inv(cell)
    shifts = np.rint(scaled).astype(np.int64)
    return shifts, float(np.abs((scaled - shifts) @ cell).max(initial=0.0))


def _find_structures(
    path: Path, n_atoms: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return cell and positions, Bohr, of the files beside it.

    After a step of molecular dynamics ``.XV`` is of the next one, ``.STRUCT_OUT`` of this.
    """
    found = []
    for beside in (path.with_suffix(".STRUCT_OUT"), path.with_suffix(".XV")):
        if not beside.is_file():
            continue
        rows = [line.split() for line in read_text(beside).splitlines() if line.strip()]
        try:
            cell = np.array([[float(word) for word in row[:3]] for row in rows[:3]])
            listed = np.array([[float(word) for word in row[2:5]] for row in rows[4:]])
            if int(rows[3][0]) != n_atoms or cell.shape != (3, 3) or listed.shape != (n_atoms, 3):
                raise ValueError(f"{len(listed)} atoms")
            if not np.isfinite(listed).all() or not abs(np.linalg.det(cell)) > 0.0:
                raise ValueError("a cell without a volume")
        except (ValueError, IndexError) as error:
            fix = "Take that of this run, or remove it."
            expected = f"a cell and {n_atoms} atoms"
            raise DataError(message(str(beside), str(error), expected, fix)) from error
        of_run = (cell, listed)
        found.append(of_run if beside.suffix == ".XV" else (cell / BOHR, listed @ cell / BOHR))
    if not found:
        fix = (
            "Keep it with the .HSX, or repeat the run with SIESTA 5, whose .HSX has the structure."
        )
        got = "a .HSX of SIESTA 4, which holds no structure"
        raise DataError(message(str(path), got, ".STRUCT_OUT or .XV of the run beside it", fix))
    return found


def _find_fermi_energy(path: Path) -> float | None:
    """Return the Fermi energy of ``.EIG`` beside it, Rydberg; None without it."""
    beside = path.with_suffix(".EIG")
    if not beside.is_file():
        return None
    words = read_text(beside).split(maxsplit=1)
    try:
        return float(words[0]) / (HARTREE / 2.0)
    except (ValueError, IndexError) as error:
        fix = "Take that of this run, or remove it."
        raise DataError(message(str(beside), "no Fermi energy", "it, in eV", fix)) from error
