"""The border to phonopy, which numbers the atoms of supercells in an order of its own.

A supercell of this package is always ``atoms.repeat(supercell)``, cell-major, so that atom a of
cell (c₀, c₁, c₂) has the index ((c₀·n₁ + c₁)·n₂ + c₂)·n_atoms + a. Every array that crosses the
border goes through ``repeat_order``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from mlepi.errors import PhysicsError, message

ORDER_TOLERANCE = 1e-5
"""Å, within which an atom of phonopy's supercell must sit on its site of ``atoms.repeat``."""


def build_phonopy(atoms: Atoms, repeats: tuple[int, int, int], symprec: float) -> Phonopy:
    """Hand a cell and its supercell to phonopy, without reducing them to a primitive cell.

    Args:
        atoms: unit cell, Å, amu.
        repeats: number of cells along each lattice vector.
        symprec: distance within which atoms count as symmetric, Å.
    """
    cell = PhonopyAtoms(
        numbers=atoms.numbers,
        cell=atoms.cell.array,
        positions=atoms.positions,
        masses=np.array(atoms.get_masses()),
    )
    with warnings.catch_warnings():
        # a supercell may have less symmetry than its cell (4×3×1 of a hexagonal one); phonopy then
        # uses the supercell's
        warnings.filterwarnings("ignore", message=".*Point group symmetries of supercell")
        return Phonopy(
            cell, supercell_matrix=np.diag(repeats), primitive_matrix="P", symprec=symprec
        )


def list_cells(repeats: Sequence[int]) -> NDArray[np.int64]:
    """List the cells of a supercell in the order of ``ase.Atoms.repeat``: (n_cells, 3)."""
    axes = np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, 3)


def cell_index(cells: NDArray[np.int64], repeats: Sequence[int]) -> NDArray[np.int64]:
    """Return the position of cells (…, 3), taken modulo the supercell, in ``list_cells``."""
    wrapped = np.mod(cells, repeats)
    return (wrapped[..., 0] * repeats[1] + wrapped[..., 1]) * repeats[2] + wrapped[..., 2]


def repeat_order(phonon: Phonopy, atoms: Atoms, repeats: tuple[int, int, int]) -> NDArray[np.int64]:
    """Find the index in ``atoms.repeat`` of each atom of phonopy's supercell: (n_supercell,)."""
    supercell = phonon.supercell
    unit = np.array([supercell.u2u_map[int(s)] for s in supercell.s2u_map])
    shifts = (supercell.positions - atoms.positions[unit]) @ np.linalg.inv(atoms.cell.array)
    cells = np.rint(shifts).astype(np.int64)
    order = cell_index(cells, repeats) * len(atoms) + unit
    misfit = float(np.linalg.norm((shifts - cells) @ atoms.cell.array, axis=1).max())
    if misfit > ORDER_TOLERANCE or not np.array_equal(np.sort(order), np.arange(len(supercell))):
        raise PhysicsError(
            message(
                "supercell",
                f"atoms up to {misfit:.1e} Å off their sites",
                "phonopy's supercell to repeat the cell",
                "Report this.",
            )
        )
    return order


def compact_columns(
    phonon: Phonopy, order: NDArray[np.int64], n_atoms: int, repeats: tuple[int, int, int]
) -> NDArray[np.int64]:
    """Find the column of ours that holds each element of phonopy's compact force constants.

    Row p of phonopy belongs to the image p2s_map[p], which need not lie in cell 0; only the
    difference of cells matters.

    Args:
        phonon: of the supercell.
        order: of ``repeat_order``.
        n_atoms: of the cell.
        repeats: number of cells along each lattice vector.

    Returns:
        (n_atoms, n_supercell) int.
    """
    cells = list_cells(repeats)
    rows = order[phonon.primitive.p2s_map]
    difference = cells[order // n_atoms][None] - cells[rows // n_atoms][:, None]
    return cell_index(difference, repeats) * n_atoms + (order % n_atoms)[None]


def from_phonopy(phonon: Phonopy, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return phonopy's force constants in our order: (n_atoms, n_supercell, 3, 3), eV/Å².

    Args:
        phonon: with compact force constants.
        columns: of ``compact_columns``.
    """
    compact = np.array(phonon.force_constants, dtype=np.float64)
    values = np.empty_like(compact)
    for row, column in enumerate(columns):
        values[row, column] = compact[row]
    return values


def load_phonopy(
    atoms: Atoms,
    repeats: tuple[int, int, int],
    values: NDArray[np.float64],
    symprec: float = 1e-5,
) -> tuple[Phonopy, NDArray[np.int64]]:
    """Give known force constants to phonopy.

    Args:
        atoms: unit cell, Å, amu.
        repeats: number of cells along each lattice vector.
        values: (n_atoms, n_supercell, 3, 3), eV/Å², in our order.
        symprec: distance within which atoms count as symmetric, Å.

    Returns:
        Phonopy with the force constants, and the columns that ``from_phonopy`` takes.
    """
    phonon = build_phonopy(atoms, repeats, symprec)
    columns = compact_columns(phonon, repeat_order(phonon, atoms, repeats), len(atoms), repeats)
    phonon.force_constants = np.take_along_axis(values, columns[:, :, None, None], axis=1)
    return phonon, columns
