"""Pairs of atoms within a distance, images included: the one place where vesin is called."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import vesin
from numpy.typing import NDArray

MOST_BOXES, FEW_BOXES = 9e4, 100.0
"""Of a cell, in a search of neighbours."""


class Pairs(NamedTuple):
    """Pairs i, j with the vector r_j + shift·cell − r_i: (n,), (n,), (n, 3) int and (n,), Å."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shifts: NDArray[np.int64]
    lengths: NDArray[np.float64]


def search_pairs(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    cutoff: float,
    *,
    both_ways: bool = True,
    periodic: bool | NDArray[np.bool_] = True,
) -> Pairs:
    """List the pairs of atoms closer than a cutoff, in no order.

    Args:
        positions: (n_atoms, 3), Å; they need not be wrapped into the cell.
        cell: (3, 3), rows = lattice vectors, Å.
        cutoff: Å.
        both_ways: list i, j and j, i.
        periodic: along all lattice vectors or none, or along each.
    """
    searched = _widen(cell, cutoff) if np.all(periodic) else cutoff
    i, j, shifts, lengths = vesin.NeighborList(cutoff=searched, full_list=both_ways).compute(
        points=np.ascontiguousarray(positions),
        box=np.ascontiguousarray(cell),
        periodic=periodic,
        quantities="ijSd",
        copy=True,
    )
    pairs = Pairs(i.astype(np.int64), j.astype(np.int64), shifts.astype(np.int64), lengths)
    if searched == cutoff:
        return pairs
    near = lengths < cutoff
    return Pairs(*(values[near] for values in pairs))


def _widen(cell: NDArray[np.float64], cutoff: float) -> float:
    """Return a distance, Å, at least the cutoff, within which pairs can be searched in a cell.

    Vesin divides a cell into at most ``MOST_BOXES``; where it must take fewer than fit, and one
    direction has but a few, none is left in it and the process dies.
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    searched = cutoff
    while True:
        boxes = np.maximum(heights / searched, 1.0)
        if boxes.prod() < MOST_BOXES or boxes.min() > FEW_BOXES:
            return searched
        searched *= 2.0
