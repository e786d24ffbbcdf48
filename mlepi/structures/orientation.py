"""How a structure must be turned to have the axes of its overlaps, where a program lost them.

A cell given by lengths and angles (CIF) has no axes; programs that read one lay its first vector
along x and the second into the xy plane. Blocks keep the axes of the calculation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.structures.bonds import SAME_PLACE
from mlepi.structures.pair_lists import BlockList

NEAR = 1.2
"""Pairs up to this times the shortest distance of two elements are compared: there the overlap of
two shells has one sign."""

STRONG = 0.2
"""Part of the largest s–p overlap of two shells from which a direction is taken."""

TURNED = 1e-2
"""Sine of the angle between bonds and s–p overlaps from which other axes are tried."""

BETTER = 10.0
"""How many times smaller the largest angle must become."""

IN_SPACE = 0.05
"""Smallest singular value of the directions, relative to the largest: bonds in one plane do not
tell a turn from one by half a turn more."""

TRIANGULAR = 1e-5
"""Å; largest component above the diagonal of a cell made from lengths and angles."""


def turn_to_overlaps(
    atoms: Atoms, shells: Mapping[int, Sequence[int]], overlap: BlockList
) -> tuple[Atoms, float]:
    """Turn a structure whose cell was made from lengths and angles onto its overlaps.

    ⟨s_i|p_j⟩ is a vector along the bond, of one sign for near pairs of two shells. The turn is the
    one that lays all bonds onto them at once (Kabsch, 10.1107/S0567739476001873).

    Args:
        atoms: structure, Å.
        shells: atomic number → l of its shells, in the order of the blocks.
        overlap: in e3nn's order, sizes checked.

    Returns:
        The turned structure and the angle in degrees; the given one and 0 where its cell has axes,
        its bonds lie along the overlaps, or no turn lays them there.
    """
    has_axes = np.abs(np.triu(atoms.cell.array, 1)).max() > TRIANGULAR
    if has_axes or not np.isfinite(overlap.values).all():
        return atoms, 0.0
    groups = _list_directions(atoms, shells, overlap)
    given = _largest_sine(groups, np.eye(3))
    sums = [vectors.T @ bonds for vectors, bonds in groups]
    values = [np.linalg.svd(matrix, compute_uv=False) for matrix in sums]
    in_space = [
        matrix * np.sign(np.linalg.det(matrix)) / sizes[0]
        for matrix, sizes in zip(sums, values, strict=True)
        if sizes[2] > IN_SPACE * sizes[0]
    ]
    if given < TURNED or not in_space:
        return atoms, 0.0
    left, _, right = np.linalg.svd(np.sum(in_space, axis=0))
    turn = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    if _largest_sine(groups, turn) * BETTER > given:
        return atoms, 0.0
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ turn.T)
    turned.positions = atoms.positions @ turn.T
    cosine = np.clip((np.trace(turn) - 1.0) / 2.0, -1.0, 1.0)
    return turned, float(np.degrees(np.arccos(cosine)))


def _list_directions(
    atoms: Atoms, shells: Mapping[int, Sequence[int]], overlap: BlockList
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """List, for every s and p shell of two elements, unit vectors of overlaps and of their bonds.

    Returns:
        Two (n, 3) arrays each, of the strong ones among near pairs.
    """
    pairs, numbers = overlap.pairs, atoms.numbers
    i, j = pairs[:, 3], pairs[:, 4]
    bonds = atoms.positions[j] + pairs[:, :3] @ atoms.cell.array - atoms.positions[i]
    lengths = np.linalg.norm(bonds, axis=1)
    groups = []
    for a, b in product(shells, repeat=2):
        chosen = np.flatnonzero((numbers[i] == a) & (numbers[j] == b) & (lengths > SAME_PLACE))
        chosen = chosen[lengths[chosen] <= NEAR * lengths[chosen].min(initial=np.inf)]
        rows, columns = (np.cumsum([0, *(2 * l + 1 for l in shells[z])]) for z in (a, b))
        places = overlap.boundaries[chosen][:, None] + np.arange(rows[-1] * columns[-1])
        blocks = overlap.values[places].reshape(len(chosen), rows[-1], columns[-1])
        for (m, l), (n, other) in product(enumerate(shells[a]), enumerate(shells[b])):
            if not len(chosen) or (l, other) not in ((0, 1), (1, 0)):
                continue
            cut = blocks[:, rows[m] : rows[m + 1], columns[n] : columns[n + 1]].reshape(-1, 3)
            vectors = cut[:, [2, 0, 1]] * (1.0 if other else -1.0)
            sizes = np.linalg.norm(vectors, axis=1)
            strong = sizes > STRONG * sizes.max()
            if strong.any():
                axes = bonds[chosen][strong] / lengths[chosen][strong, None]
                groups.append((vectors[strong] / sizes[strong, None], axes))
    return groups


def _largest_sine(
    groups: list[tuple[NDArray[np.float64], NDArray[np.float64]]], turn: NDArray[np.float64]
) -> float:
    """Return the largest sine between overlaps and turned bonds; 0 without any."""
    sines = [
        np.linalg.norm(np.cross(vectors, bonds @ turn.T), axis=1).max() for vectors, bonds in groups
    ]
    return float(max(sines, default=0.0))
