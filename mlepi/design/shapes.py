"""Which supercells: of many shapes, wide enough for the networks, as small as that allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.design.material import Material
from mlepi.errors import ConfigError, message
from mlepi.physics.vibrations.supercell_shapes import count_cells, list_shapes, measure_width

DIGITS = 3
"""Of lengths and angles by which shapes are told apart, Å and Å²."""
DENSEST = {1: 1.0, 2: 2.0 / math.sqrt(3.0), 3: math.sqrt(2.0)}
"""Number of directions → w^d / V of the densest lattice, of width w and volume V: chain, hexagonal,
face-centred cubic."""


@dataclass(frozen=True)
class Shape:
    """One supercell.

    Attributes:
        matrix: (3, 3) int, reduced.
        width: Å, shortest lattice translation.
        n_cells: primitive cells.
    """

    matrix: NDArray[np.int64]
    width: float
    n_cells: int


def choose_shapes(
    material: Material, *, reach: float, n_shapes: int, min_atoms: int, max_atoms: int
) -> list[Shape]:
    """Choose supercells in which no atom meets its image within the reach of a network.

    The smallest ones that are wide enough are taken; where ``max_atoms`` allows fewer than are
    wanted, the widest of the others follow. No two are the same but for a rotation or a reflection.

    Args:
        material: the crystal.
        reach: Å, receptive field of the networks.
        n_shapes: wanted.
        min_atoms: of a supercell.
        max_atoms: of a supercell.

    Returns:
        ``n_shapes`` or fewer, where there are no more.

    Raises:
        ConfigError: no supercell has so many atoms.
    """
    n_atoms = len(material.atoms)
    smallest, largest = max(1, -(-min_atoms // n_atoms)), max_atoms // n_atoms
    if smallest > largest:
        got = f"min_atoms={min_atoms} and max_atoms={max_atoms} for a cell of {n_atoms} atoms"
        fix = f"Set max_atoms={smallest * n_atoms} or more."
        raise ConfigError(message("max_atoms", got, "room for a number of whole cells", fix))
    sizes = range(smallest, largest + 1)
    bounds = {size: bound_width(material, size) for size in sizes}
    known: set[tuple[float, ...]] = set()
    wide: list[Shape] = []
    narrow: list[Shape] = []
    for size in (size for size in sizes if bounds[size] >= reach):
        for shape in _list_new(material, size, known):
            (wide if shape.width >= reach else narrow).append(shape)
        if len(wide) >= n_shapes:
            return wide[:n_shapes]
    missing = n_shapes - len(wide)
    for size in (size for size in reversed(sizes) if bounds[size] < reach):
        narrow.sort(key=lambda shape: (-round(shape.width, DIGITS), shape.n_cells))
        if len(narrow) >= missing and bounds[size] < narrow[missing - 1].width:
            break
        narrow += _list_new(material, size, known)
    narrow.sort(key=lambda shape: (-round(shape.width, DIGITS), shape.n_cells))
    return [*wide, *narrow][:n_shapes]


def bound_width(material: Material, n_cells: int) -> float:
    """Return how wide a supercell can be at most, Å: that of the densest lattice.

    Args:
        material: the crystal.
        n_cells: primitive cells of the supercell.
    """
    rows = material.atoms.cell.array[list(material.axes)]
    volume = n_cells * float(np.sqrt(np.linalg.det(rows @ rows.T)))
    return float((DENSEST[len(rows)] * volume) ** (1.0 / len(rows)))


def _list_new(material: Material, size: int, known: set[tuple[float, ...]]) -> list[Shape]:
    """List the supercells of a size that are unlike all known ones, which they then are."""
    cell, axes = material.atoms.cell.array, material.axes
    found = []
    for matrix in list_shapes(cell, axes, [size]):
        key = _describe_lattice((matrix @ cell)[list(axes)])
        if key not in known:
            known.add(key)
            found.append(Shape(matrix, measure_width(matrix @ cell, axes), count_cells(matrix)))
    return found


def _describe_lattice(rows: NDArray[np.float64]) -> tuple[float, ...]:
    """Return lengths and scalar products of reduced rows, equal for congruent lattices.

    Rows of equal lengths may stand in any order and have any sign: products are sorted, by size.
    Some lattices that are not congruent have equal ones too, and count once.
    """
    metric = rows @ rows.T
    lengths = np.sort(np.diag(metric))
    products = np.sort(np.abs(metric[np.triu_indices(len(rows), 1)]))
    return tuple(np.round(np.concatenate([lengths, products]), DIGITS).tolist())
