"""Orbital blocks as flat arrays in one direction on disk, padded in both in memory.

In memory every block is padded to ``OrbitalBasis.max_orbitals`` and both directions of a pair are
present. On disk one direction is kept, the one with R > 0 lexicographically or R = 0 and target ≤
source, and every block is a stretch of a flat array, row-major, without padding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.block_checks import check_padding


def select_one_direction(
    edge_index: NDArray[np.integer], edge_cell_shift: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Mark the edges that stand on disk: R > 0 lexicographically, or R = 0 and target ≤ source.

    Args:
        edge_index: (2, n_edges) int, source and target atoms, both directions.
        edge_cell_shift: (n_edges, 3) int.

    Returns:
        (n_edges,) bool; on-site edges are marked.
    """
    x, y, z = np.asarray(edge_cell_shift, dtype=np.int64).T
    positive = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    home = (x == 0) & (y == 0) & (z == 0)
    return np.asarray(positive | (home & (edge_index[1] <= edge_index[0])))


def restore_both_directions(
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    *blocks: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.floating]]]:
    """Append the reverse of every edge that is not on-site; its blocks are the transposed ones.

    Args:
        edge_index: (2, n_edges) int, source and target atoms, one direction of every pair and all
            on-site edges.
        edge_cell_shift: (n_edges, 3) int.
        blocks: any number of (n_edges, p, p) arrays, rows = orbitals of the target.

    Returns:
        The edge list, the shifts and the blocks with both directions; on-site blocks are made
        exactly symmetric.
    """
    edge_index = np.asarray(edge_index, dtype=np.int64)
    edge_cell_shift = np.asarray(edge_cell_shift, dtype=np.int64)
    onsite = (edge_index[0] == edge_index[1]) & ~edge_cell_shift.any(axis=1)
    complete = []
    for block in blocks:
        transposed = block.transpose(0, 2, 1)
        forward = np.where(onsite[:, None, None], 0.5 * (block + transposed), block)
        complete.append(np.concatenate([forward, transposed[~onsite]]))
    return (
        np.concatenate([edge_index, edge_index[::-1, ~onsite]], axis=1),
        np.concatenate([edge_cell_shift, -edge_cell_shift[~onsite]]),
        complete,
    )


def flatten_blocks(
    blocks: NDArray[np.floating], n_rows: NDArray[np.int64], n_columns: NDArray[np.int64]
) -> NDArray[np.floating]:
    """Concatenate padded blocks without their padding, row-major.

    Args:
        blocks: (n_blocks, p, p).
        n_rows: (n_blocks,) int, rows of each block that exist.
        n_columns: (n_blocks,) int, columns of each block that exist.

    Returns:
        (Σ n_rows·n_columns,), of the same dtype; block b starts at ``block_offsets(n_rows,
        n_columns)[b]``.
    """
    offsets = block_offsets(n_rows, n_columns)
    values = np.empty(offsets[-1], dtype=blocks.dtype)
    for rows, columns, members, places in _size_groups(n_rows, n_columns, offsets):
        values[places] = blocks[members, :rows, :columns].reshape(len(members), -1)
    return values


def pad_blocks(
    values: NDArray[np.floating], n_rows: NDArray[np.int64], n_columns: NDArray[np.int64], size: int
) -> NDArray[np.float64]:
    """Undo ``flatten_blocks``: zero-padded blocks (n_blocks, size, size), float64."""
    offsets = block_offsets(n_rows, n_columns)
    if len(values) != offsets[-1]:
        raise DataError(
            message(
                "flat blocks",
                f"{len(values)} values",
                f"{offsets[-1]}",
                "Check the basis of the data set.",
            )
        )
    check_padding("flat blocks", len(n_rows), size, len(values))
    blocks = np.zeros((len(n_rows), size, size))
    for rows, columns, members, places in _size_groups(n_rows, n_columns, offsets):
        blocks[members, :rows, :columns] = values[places].reshape(-1, rows, columns)
    return blocks


def block_offsets(n_rows: NDArray[np.int64], n_columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where blocks start in the flat array, and the total last: (n_blocks + 1,) int."""
    return np.concatenate([[0], np.cumsum(n_rows * n_columns)]).astype(np.int64)


def _size_groups(
    n_rows: NDArray[np.int64], n_columns: NDArray[np.int64], offsets: NDArray[np.int64]
) -> list[tuple[int, int, NDArray[np.int64], NDArray[np.int64]]]:
    """Group blocks by size.

    Yields:
        Rows, columns, the blocks (m,), and the places of their values (m, rows·columns).
    """
    groups = []
    for rows, columns in np.unique(np.stack([n_rows, n_columns], axis=1), axis=0).tolist():
        members = np.flatnonzero((n_rows == rows) & (n_columns == columns))
        groups.append(
            (rows, columns, members, offsets[members, None] + np.arange(rows * columns)[None, :])
        )
    return groups
