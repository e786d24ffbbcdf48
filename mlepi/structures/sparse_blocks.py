"""From sparse matrices, orbital by orbital, to blocks, atom by atom."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlepi.structures.pair_lists import BlockList


def gather_blocks(
    counts: NDArray[np.int64],
    cells: NDArray[np.int64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    values: NDArray[np.float64],
) -> BlockList:
    """Collect elements ⟨row, cell 0| · |column, cell R⟩ into blocks, zero where none is given.

    Args:
        counts: (n_atoms,) int, orbitals of every atom.
        cells: (n_values, 3) int, R.
        rows: (n_values,) int, orbital from 0.
        columns: (n_values,) int, orbital from 0.
        values: (n_values,), any unit; elements given twice are added.

    Returns:
        Every pair of atoms that has an element.
    """
    ends = np.concatenate([[0], np.cumsum(counts)])
    atom = np.repeat(np.arange(len(counts)), counts)
    keys = np.column_stack([cells, atom[rows], atom[columns]])
    pairs, place = np.unique(keys, axis=0, return_inverse=True)
    sizes = counts[pairs[:, 3]] * counts[pairs[:, 4]]
    boundaries = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    inside = (rows - ends[atom[rows]]) * counts[atom[columns]] + columns - ends[atom[columns]]
    flat = np.zeros(int(boundaries[-1]))
    np.add.at(flat, boundaries[place.ravel()] + inside, values)
    return BlockList(pairs.astype(np.int64), flat, boundaries)
