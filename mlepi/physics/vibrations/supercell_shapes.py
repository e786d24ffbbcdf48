"""Supercells of every shape: reduced integer matrices, their cells, and how wide they are.

A supercell is an integer matrix M whose rows are its lattice vectors in those of the primitive
cell, A_super = M A. One lattice has many such matrices; the reduced one has the shortest rows. In
cells of one shape alone an atom and its periodic images always move together, and a network that
sees further than that takes it for a law.

Matrices are (3, 3); along axes that are not repeated, those of vacuum, they are the identity.

References:
    Hart, Forcade, Phys. Rev. B 77, 224115 (2008), doi:10.1103/PhysRevB.77.224115, Sec. II (all
    superlattices of a size, by their Hermite normal forms).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms
from ase.geometry.minkowski_reduction import minkowski_reduce
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message

EQUAL = 1e-9
"""Lengths that differ by less, relative to the shorter, are equal, and their rows keep their
order."""


def count_cells(matrix: NDArray[np.int64]) -> int:
    """Return the number of primitive cells in a supercell, |det M|."""
    return abs(round(float(np.linalg.det(matrix))))


def list_shapes(
    cell: NDArray[np.float64], axes: Sequence[int], sizes: Sequence[int]
) -> list[NDArray[np.int64]]:
    """List the reduced matrices of all supercells of given sizes, every lattice once.

    Args:
        cell: (3, 3), primitive vectors as rows, Å.
        axes: along which cells are repeated, one to three of 0, 1, 2.
        sizes: numbers of primitive cells.

    Returns:
        (3, 3) int each, sorted by their entries.
    """
    rows = {
        tuple(reduce_shape(matrix, cell, axes).ravel().tolist())
        for size in sizes
        for matrix in _list_normal_forms(size, axes)
    }
    return [np.array(row, dtype=np.int64).reshape(3, 3) for row in sorted(rows)]


def reduce_shape(
    matrix: NDArray[np.int64], cell: NDArray[np.float64], axes: Sequence[int]
) -> NDArray[np.int64]:
    """Return the shortest rows that span the same lattice, of positive determinant.

    Two rows are reduced as Lagrange and Gauss do, three as Minkowski.

    Args:
        matrix: (3, 3) int, the identity along the other axes.
        cell: (3, 3), primitive vectors as rows, Å.
        axes: along which cells are repeated.
    """
    reduced = np.array(matrix, dtype=np.int64)
    places: tuple[NDArray[np.int64], ...] = np.ix_(axes, axes)
    if len(axes) == 3:
        operation = minkowski_reduce(reduced @ cell)[1]
        reduced = np.asarray(operation, dtype=np.int64) @ reduced
    elif len(axes) == 2:
        reduced[places] = _reduce_pair(reduced[places], np.asarray(cell)[list(axes)])
    if np.linalg.det(reduced) < 0:
        reduced[axes[-1]] *= -1
    return reduced


def list_lattice_points(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """List the primitive cells inside a supercell, in the order of their numbers.

    Args:
        matrix: (3, 3) int.

    Returns:
        (n_cells, 3) int, points n with 0 ≤ n M⁻¹ < 1, decided in integers.
    """
    matrix = np.asarray(matrix, dtype=np.int64)
    low = np.minimum(matrix, 0).sum(axis=0)
    high = np.maximum(matrix, 0).sum(axis=0)
    ranges = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    fractions, size = _scale(points, matrix)
    return np.asarray(points[((fractions >= 0) & (fractions < size)).all(axis=1)])


def wrap_points(points: NDArray[np.int64], matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Take lattice points into a supercell: (n, 3) int, those of ``list_lattice_points``."""
    fractions, size = _scale(points, matrix)
    return np.asarray(points - fractions // size @ matrix)


def measure_width(cell: NDArray[np.float64], axes: Sequence[int]) -> float:
    """Return the length of the shortest lattice translation, Å.

    Args:
        cell: (3, 3), vectors of the supercell as rows, Å.
        axes: that count; those of vacuum do not.
    """
    chosen = np.asarray(cell, dtype=np.float64)[list(axes)]
    if len(axes) == 2:
        chosen = _reduce_pair(np.eye(2, dtype=np.int64), chosen) @ chosen
    elif len(axes) == 3:
        chosen = np.asarray(minkowski_reduce(chosen)[0])
    return float(np.linalg.norm(chosen, axis=1).min())


def build_shaped_supercell(atoms: Atoms, matrix: NDArray[np.int64]) -> Atoms:
    """Repeat a primitive cell so as to fill a supercell of any shape.

    Args:
        atoms: primitive cell, Å; its arrays are repeated.
        matrix: (3, 3) int.

    Returns:
        Atoms cell by cell, in the order of ``list_lattice_points``.

    Raises:
        ConfigError: the matrix has no volume.
    """
    if count_cells(matrix) == 0:
        got = f"rows {np.asarray(matrix).tolist()}"
        fix = "Give independent rows."
        raise ConfigError(message("supercell", got, "a matrix of determinant 1 or more", fix))
    points = list_lattice_points(matrix)
    supercell = atoms.copy()
    supercell = supercell[np.tile(np.arange(len(atoms)), len(points))]
    shifts = np.repeat(points @ atoms.cell.array, len(atoms), axis=0)
    supercell.positions = np.tile(atoms.positions, (len(points), 1)) + shifts
    supercell.set_cell(np.asarray(matrix) @ atoms.cell.array)
    supercell.pbc = True
    return supercell


def _list_normal_forms(size: int, axes: Sequence[int]) -> Iterator[NDArray[np.int64]]:
    """Yield the Hermite normal forms of a determinant: upper triangles, every lattice once."""
    for diagonal in _list_factors(size, len(axes)):
        above = [(row, column) for column in range(len(axes)) for row in range(column)]
        for entries in np.ndindex(*(diagonal[column] for _, column in above)):
            block = np.diag(diagonal)
            for (row, column), entry in zip(above, entries, strict=True):
                block[row, column] = entry
            matrix: NDArray[np.int64] = np.eye(3, dtype=np.int64)
            matrix[np.ix_(axes, axes)] = block
            yield matrix


def _list_factors(size: int, n: int) -> Iterator[list[int]]:
    """Yield all ways to write a number as an ordered product of n numbers."""
    if n == 1:
        yield [size]
        return
    for first in range(1, size + 1):
        if size % first == 0:
            for rest in _list_factors(size // first, n - 1):
                yield [first, *rest]


def _reduce_pair(rows: NDArray[np.int64], vectors: NDArray[np.float64]) -> NDArray[np.int64]:
    """Reduce two integer rows (2, 2) of vectors (2, 3), Å."""
    rows = rows.copy()
    while True:
        lengths = np.linalg.norm(rows @ vectors, axis=1)
        if lengths[0] > lengths[1] * (1.0 + EQUAL):
            rows, lengths = rows[::-1].copy(), lengths[::-1]
        projection = float((rows[0] @ vectors) @ (rows[1] @ vectors) / lengths[0] ** 2)
        if abs(projection) <= 0.5 + EQUAL:
            return rows
        rows[1] -= round(projection) * rows[0]


def _scale(points: NDArray[np.int64], matrix: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return |det M| · n M⁻¹ of points n, in integers, and |det M|."""
    a, b, c = np.asarray(matrix, dtype=np.int64)
    adjugate = np.column_stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)])
    determinant = int(a @ np.cross(b, c))
    sign = 1 if determinant > 0 else -1
    return sign * points @ adjugate, abs(determinant)
