"""Lattice periods that every training cell has: there an atom and its image always moved together.

A network that never saw an atom at a distance without seeing its image there too has fitted what
holds in that cell alone: trained on 3×3 cells of graphene, errors doubled in 4×4 and tripled in
6×6. Periods are compared by length, since cells may be turned against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

TOLERANCE = 0.03
"""Relative difference of two periods that count as one: strained cells of one shape."""


def list_periods(atoms: Atoms, reach: float) -> NDArray[np.float64]:
    """List the lengths of the lattice translations of a structure.

    Args:
        atoms: Å; directions that are not periodic have no translations.
        reach: Å, the longest that is listed.

    Returns:
        (n_periods,), Å, ascending, each length once.
    """
    cell = atoms.cell.array[np.asarray(atoms.pbc)]
    if not len(cell):
        return np.empty(0)
    # |n_i| ≤ reach · |row of the reciprocal cell|
    counts = np.floor(reach * np.linalg.norm(np.linalg.pinv(cell), axis=0) + 1e-9).astype(int)
    ranges = [range(-count, count + 1) for count in counts]
    lengths = np.linalg.norm(np.array(list(product(*ranges))) @ cell, axis=1)
    lengths = np.sort(lengths[(lengths > 1e-6) & (lengths <= reach)])
    return lengths[np.diff(lengths, prepend=-1.0) > 1e-6 * reach]


def find_unseen_periods(
    structures: Sequence[Atoms], atoms: Atoms, reach: float
) -> NDArray[np.float64]:
    """Find the periods that all training structures have and a structure lacks.

    Args:
        structures: of the training; none gives no periods.
        atoms: structure that the network is asked about, Å.
        reach: Å, how far the environment of an atom reaches in the network.

    Returns:
        (n_periods,), Å, ascending.
    """
    if not structures:
        return np.empty(0)
    wider = reach * (1.0 + TOLERANCE)
    others = [list_periods(one, wider) for one in (*structures[1:], structures[0])]
    own = list_periods(atoms, wider)
    shared = list_periods(structures[0], reach)
    for periods in others:
        shared = shared[_near(shared, periods)]
    return np.asarray(shared[~_near(shared, own)])


def _near(lengths: NDArray[np.float64], periods: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which lengths are a period."""
    if not periods.size:
        return np.zeros(len(lengths), dtype=bool)
    return np.asarray(
        (np.abs(lengths[:, None] - periods[None]) <= TOLERANCE * lengths[:, None]).any(axis=1)
    )
