"""Blocks of H and S of the primitive cell, averaged over the cells of supercells and over samples, one direction of each pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.eigenstates.dense_bloch import unique_rows

Pairs = NDArray[np.int64]
"""(n_pairs, 5) int: target, source and R of ⟨target, 0| · |source, R⟩."""


def keep_one_direction(
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    blocks: NDArray[np.float64],
) -> tuple[Pairs, NDArray[np.float64]]:
    """Leave out every pair whose reverse is kept.

    R > 0 lexicographically stays, or R = 0 with target ≤ source.

    Args:
        edge_index: (2, n_edges) int, source and target.
        edge_cell_shift: (n_edges, 3) int.
        blocks: (n_edges, p, p).

    Returns:
        Pairs (n_pairs, 5) and their blocks (n_pairs, p, p).
    """
    shift = np.asarray(edge_cell_shift, dtype=np.int64)
    source, target = np.asarray(edge_index, dtype=np.int64)
    sign = np.sign(shift)
    leading = np.where(
        sign[:, 0] != 0, sign[:, 0], np.where(sign[:, 1] != 0, sign[:, 1], sign[:, 2])
    )
    kept = (leading > 0) | ((leading == 0) & (target <= source))
    return np.concatenate([target[:, None], source[:, None], shift], axis=1)[kept], blocks[kept]


def restore_directions(
    pairs: Pairs, blocks: NDArray[np.float64]
) -> tuple[Pairs, NDArray[np.float64]]:
    """Add the reverse of every pair with the transposed block, (…, n_pairs, p, p) → (…, n_edges, p, p)."""
    single = (pairs[:, 0] == pairs[:, 1]) & ~np.any(pairs[:, 2:], axis=1)
    reverse = np.concatenate([pairs[:, 1:2], pairs[:, :1], -pairs[:, 2:]], axis=1)[~single]
    return np.concatenate([pairs, reverse]), np.concatenate(
        [blocks, np.swapaxes(blocks[..., ~single, :, :], -1, -2)], axis=-3
    )


def unite_pairs(tables: Sequence[Pairs]) -> Pairs:
    """Return every pair that occurs in any of the tables, once: (n_pairs, 5)."""
    return unique_rows(np.concatenate(tables))[0]


def spread(union: Pairs, pairs: Pairs, blocks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Put blocks where their pairs are in a larger table, zeros elsewhere: (n_union, p, p)."""
    numbers = unique_rows(np.concatenate([union, pairs]))[1]
    result = np.zeros((len(union), *blocks.shape[1:]))
    result[np.argsort(numbers[: len(union)])[numbers[len(union) :]]] = blocks
    return result
