"""Matrices of Γ alone: which image of a pair an element belongs to, where only one is in reach.

At Γ a code that keeps no supercell adds up the elements of all images of a pair. Where the cell is
so large that only the nearest image of every pair is within the range of the orbitals, the sum has
one term, and H(R) is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from mlepi.errors import DataError, message

TOLERANCE = 1e-3
"""How far within reach a second image must be to count, Å."""

CHUNK = 10_000
"""Pairs whose images are held at the same time."""


def place_pairs(
    where: str,
    atoms: Atoms,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    radii: Mapping[int, float],
) -> NDArray[np.int64]:
    """Return the cell R of the nearest image of pairs, provided that no other is in reach.

    Args:
        where: file, for the message.
        atoms: structure, Å.
        rows: (n,) int, atom of the home cell.
        columns: (n,) int, atom whose image is looked for.
        radii: of the orbitals by atomic number, Å; a pair of elements reaches as far as their sum,
            and as far as the longest of them that is listed (through projectors).

    Returns:
        (n, 3) int.

    Raises:
        DataError: a second image of a pair is in reach.
    """
    keys = np.minimum(rows, columns) * len(atoms) + np.maximum(rows, columns)
    found, inverse = np.unique(keys, return_inverse=True)
    pairs = np.column_stack(np.divmod(found, len(atoms)))
    cells, nearest, second = _find_images(atoms, pairs)
    numbers = np.sort(atoms.numbers[pairs], axis=1)
    kinds, kind = np.unique(numbers, axis=0, return_inverse=True)
    reach = np.array([sum(radii[int(z)] for z in elements) for elements in kinds])
    np.maximum.at(reach, kind.ravel(), nearest)
    excess = reach[kind.ravel()] - second
    worst = int(np.argmax(excess))
    if excess[worst] > TOLERANCE:
        i, j = pairs[worst]
        raise DataError(
            message(
                where,
                f"matrices of Γ alone, in which atoms {i} and {j} (counted from 0) are added up "
                f"over images at {nearest[worst]:.2f} and {second[worst]:.2f} Å",
                f"one image within reach, {reach[kind.ravel()[worst]]:.2f} Å",
                "Repeat it with a mesh of k-points, or with ForceAuxCell T.",
            )
        )
    placed: NDArray[np.int64] = cells[inverse]
    return np.where((rows > columns)[:, None], -placed, placed)


def _find_images(
    atoms: Atoms, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the cell of the nearest image of every pair, its distance, and that of the next, Å."""
    reduced, operation = minkowski_reduce(atoms.cell.array)
    images = np.array(list(product(range(-2, 3), repeat=3)))
    cells = np.zeros((len(pairs), 3), dtype=np.int64)
    distances = np.zeros((len(pairs), 2))
    for start in range(0, len(pairs), CHUNK):
        part = np.s_[start : start + CHUNK]
        apart = atoms.positions[pairs[part, 1]] - atoms.positions[pairs[part, 0]]
        scaled = apart @ np.linalg.inv(reduced)
        shifts = images - np.rint(scaled).astype(np.int64)[:, None]
        lengths = np.linalg.norm((scaled[:, None] + shifts) @ reduced, axis=2)
        order = np.argsort(lengths, axis=1, kind="stable")[:, :2]
        distances[part] = np.take_along_axis(lengths, order, axis=1)
        cells[part] = shifts[np.arange(len(apart)), order[:, 0]] @ operation.astype(np.int64)
    return cells, distances[:, 0], distances[:, 1]
