"""Pairs of atoms as rows of a table, in one direction or both, and blocks aligned to them.

A table names the blocks ⟨target, 0| · |source, R⟩ of one matrix. Tables of several matrices or
samples are united, and blocks are put where their pairs stand in the united table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.eigenstates.dense_bloch import unique_rows
from mlepi.structures.ragged import restore_both_directions, select_one_direction

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix

Pairs = NDArray[np.int64]
"""(n_pairs, 5) int: target, source and R of ⟨target, 0| · |source, R⟩."""


def list_pairs(edge_index: NDArray[np.integer], edge_cell_shift: NDArray[np.integer]) -> Pairs:
    """Write edges as a table, (n_edges, 5).

    Args:
        edge_index: (2, n_edges) int, source and target.
        edge_cell_shift: (n_edges, 3) int.
    """
    table: Pairs = np.concatenate([edge_index[::-1].T, edge_cell_shift], axis=1).astype(np.int64)
    return table


def list_edges(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write a table as ``edge_index`` (2, n_pairs) and ``edge_cell_shift`` (n_pairs, 3)."""
    return pairs[:, 1::-1].T, pairs[:, 2:]


def keep_one_direction(
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    blocks: NDArray[np.float64],
) -> tuple[Pairs, NDArray[np.float64]]:
    """Leave out every pair whose reverse is kept, by ``select_one_direction``.

    Args:
        edge_index: (2, n_edges) int, source and target.
        edge_cell_shift: (n_edges, 3) int.
        blocks: (n_edges, p, p).

    Returns:
        Pairs (n_pairs, 5) and their blocks (n_pairs, p, p).
    """
    kept = select_one_direction(edge_index, edge_cell_shift)
    return list_pairs(edge_index, edge_cell_shift)[kept], blocks[kept]


def restore_directions(
    pairs: Pairs, *blocks: NDArray[np.float64]
) -> tuple[Pairs, list[NDArray[np.float64]]]:
    """Add the reverse of every pair with the transposed block, by ``restore_both_directions``.

    Args:
        pairs: (n_pairs, 5), one direction of each.
        blocks: any number of (n_pairs, p, p) arrays.

    Returns:
        Pairs (n_edges, 5) and the blocks (n_edges, p, p), those on a site made exactly symmetric.
    """
    edge_index, edge_cell_shift, both = restore_both_directions(*list_edges(pairs), *blocks)
    complete = [np.asarray(block, dtype=np.float64) for block in both]
    return list_pairs(edge_index, edge_cell_shift), complete


def unite_pairs(tables: Sequence[Pairs]) -> Pairs:
    """Return every pair that occurs in any of the tables, once: (n_pairs, 5), ascending."""
    return unique_rows(np.concatenate(tables))[0]


def find_pairs(table: Pairs, pairs: Pairs) -> NDArray[np.int64]:
    """Find the row of every pair in a table, −1 where it is not there: (n_pairs,).

    Args:
        table: (n_table, 5), every row once.
        pairs: (n_pairs, 5).
    """
    rows, places = unique_rows(np.concatenate([table, pairs]))
    row_of_place = np.full(len(rows), -1, dtype=np.int64)
    row_of_place[places[: len(table)]] = np.arange(len(table))
    return row_of_place[places[len(table) :]]


def spread_blocks(union: Pairs, pairs: Pairs, blocks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Put blocks where their pairs are in a larger table, zeros elsewhere: (n_union, p, p).

    Args:
        union: (n_union, 5), with all of the pairs.
        pairs: (n_pairs, 5).
        blocks: (n_pairs, p, p).
    """
    result = np.zeros((len(union), *blocks.shape[1:]))
    result[find_pairs(union, pairs)] = blocks
    return result


def align_matrices(
    matrices: Sequence[BlockMatrix],
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.float64]]]:
    """Put matrices of one structure and basis on the union of their edges.

    Blocks are zero where a matrix has none.

    Args:
        matrices: with blocks of one size.

    Returns:
        ``edge_index`` (2, n_edges) and ``edge_cell_shift`` (n_edges, 3), sorted by target, source
        and shift, and the blocks of every matrix, (n_edges, p, p).
    """
    tables = [list_pairs(m.edge_index, m.edge_cell_shift) for m in matrices]
    union = unite_pairs(tables)
    blocks = [spread_blocks(union, t, m.blocks) for t, m in zip(tables, matrices, strict=True)]
    edge_index, edge_cell_shift = list_edges(union)
    return edge_index.copy(), edge_cell_shift.copy(), blocks
