"""H and S as sparse matrices of SciPy: rows are orbitals of cell 0, columns those of many cells.

Column c·n + k is orbital k (of n) of the cell R_c, so that H(k) = Σ_c e^{2πi k·R_c} H[:, c·n :
(c + 1)·n] with k fractional.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.exports.output import new_folder
from mlepi.physics.eigenstates.dense_bloch import unique_rows
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure

FILES = ("hamiltonian.npz", "overlap.npz")
"""As ``scipy.sparse.load_npz`` reads them."""


def write_csr(folder: str | Path, labels: LabelledStructure) -> None:
    """Write ``hamiltonian.npz`` (eV), ``overlap.npz``, and ``orbitals.json`` that explains them.

    Args:
        folder: new folder; appears complete or not at all.
        labels: with H and S.

    Raises:
        DataError: the folder exists, or there is no H or S.
    """
    cells = list_cells(labels)
    with new_folder(folder) as unfinished:
        for name, matrix in zip(FILES, build_csr(labels, cells), strict=True):
            scipy.sparse.save_npz(unfinished / name, matrix)
        text = json.dumps(describe_orbitals(labels, cells), indent=1)
        (unfinished / "orbitals.json").write_text(text + "\n", encoding="utf-8")


def list_cells(labels: LabelledStructure) -> NDArray[np.int64]:
    """Return the cells in which orbitals have partners: (n_cells, 3) int, R, cell 0 first."""
    cells = unique_rows(np.asarray(labels.edge_cell_shift, dtype=np.int64))[0]
    return cells[np.argsort(np.abs(cells).sum(axis=1), kind="stable")]


def build_csr(
    labels: LabelledStructure, cells: NDArray[np.integer], order: str = "e3nn"
) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """Lay out H and S orbital by orbital.

    Args:
        labels: with H and S on common pairs.
        cells: (n_cells, 3) int, R of the columns.
        order: of the orbitals of an atom, a name in ``ORBITAL_ORDERS``; its signs are applied.

    Returns:
        H, eV, and S, (n_orbitals, n_orbitals · n_cells); exact zeros are left out.

    Raises:
        DataError: there is no H or S, or a pair lies in none of the cells.
    """
    basis, edges, shifts = labels.basis, labels.edge_index, labels.edge_cell_shift
    parts = labels.hamiltonian_blocks, labels.overlap_blocks
    if basis is None or edges is None or shifts is None or parts[0] is None or parts[1] is None:
        fix = "Give labels with both."
        raise DataError(message(labels.name, "no Hamiltonian or no overlap", "both", fix))
    numbers = labels.atoms.numbers
    offsets, size = basis.offsets(numbers), int(basis.offsets(numbers)[-1])
    places, signs = _translate(basis, numbers, order)
    exists = basis.mask(numbers)
    source, target = edges
    cell = _find_cells(labels.name, np.asarray(cells), shifts)
    inside = exists[target][:, :, None] & exists[source][:, None, :]
    rows = np.broadcast_to((offsets[target][:, None] + places[target])[:, :, None], inside.shape)
    columns = (cell * size + offsets[source])[:, None] + places[source]
    columns = np.broadcast_to(columns[:, None, :], inside.shape)
    factors = (signs[target][:, :, None] * signs[source][:, None, :])[inside]
    shape = (size, size * len(cells))
    matrices = []
    for blocks in parts:
        values = factors * np.asarray(blocks, dtype=np.float64)[inside]
        found = scipy.sparse.coo_array((values, (rows[inside], columns[inside])), shape=shape)
        matrix = scipy.sparse.csr_array(found)
        matrix.eliminate_zeros()
        matrices.append(matrix)
    return matrices[0], matrices[1]


def describe_orbitals(labels: LabelledStructure, cells: NDArray[np.integer]) -> dict[str, object]:
    """Return what the rows and columns of the matrices are, as plain data."""
    atoms, basis = labels.atoms, labels.basis
    rows = [
        {"atom": atom, "l": l, "m": m, "shell": shell}
        for atom, number in enumerate(atoms.numbers)
        for shell, l in enumerate(basis.shells[int(number)] if basis else ())
        for m in range(-l, l + 1)
    ]
    return {
        "name": labels.name,
        "convention": "column c*n + k of an (n, n*n_cells) matrix is orbital k of cell cells[c]; "
        "H(k) = sum_c exp(2 pi i k.cells[c]) H[:, c*n:(c+1)*n], k fractional",
        "harmonics": "real, m = -l..l without Condon-Shortley phase: y, z, x for p",
        "unit": {"hamiltonian": "eV", "overlap": "1", "cell": "angstrom", "positions": "angstrom"},
        "fermi_energy": labels.fermi_energy,
        "cell": atoms.cell.array.tolist(),
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cells": np.asarray(cells).tolist(),
        "orbitals": rows,
    }


def _translate(
    basis: OrbitalBasis, numbers: NDArray[np.integer], order: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return place and sign, in a foreign order, of every internal orbital: (n_atoms, p) each."""
    places = np.zeros((len(numbers), basis.max_orbitals), dtype=np.int64)
    signs = np.ones(places.shape)
    for number in {int(z) for z in numbers}:
        own, count = numbers == number, basis.n_orbitals(number)
        places[own, :count] = basis.permutation(number, order)
        signs[own, :count] = basis.signs(number, order)
    return places, signs


def _find_cells(
    name: str, cells: NDArray[np.integer], shifts: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return the position of every shift among the cells."""
    rows, places = unique_rows(np.concatenate([cells, shifts]).astype(np.int64))
    position = np.full(len(rows), -1, dtype=np.int64)
    position[places[: len(cells)]] = np.arange(len(cells))
    found = position[places[len(cells) :]]
    if np.any(found < 0):
        fix = "Take those of list_cells."
        raise DataError(message(name, "a pair in none of the cells", "all cells of pairs", fix))
    return found
