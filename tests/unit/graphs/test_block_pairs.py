"""One direction of every pair and back, tables of pairs, matrices on the union of their edges."""

import dataclasses

import numpy as np
import pytest
from toys import honeycomb, tight_binding

from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import (
    align_matrices,
    find_pairs,
    keep_one_direction,
    list_edges,
    list_pairs,
    restore_directions,
    spread_blocks,
    unite_pairs,
)
from mlepi.structures.basis import OrbitalBasis

BASIS = OrbitalBasis({6: (0,)}, {6: 2.0}, {6: "toy"})


@pytest.fixture(scope="module")
def matrices():
    atoms = honeycomb(bilayer=True).repeat((2, 2, 1))
    atoms.positions += 0.05 * np.random.default_rng(0).normal(size=atoms.positions.shape)
    edge_index, shifts, h, s, _ = tight_binding(atoms, overlap=0.1)
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    return [BlockMatrix(numbers, BASIS, edge_index, shifts, blocks) for blocks in (h, s)]


def test_one_direction_of_every_pair_is_enough(matrices):
    h, s = matrices
    pairs, blocks = keep_one_direction(h.edge_index, h.edge_cell_shift, h.blocks)
    assert 2 * len(pairs) == len(h.blocks) + len(h.numbers)
    _, overlaps = keep_one_direction(s.edge_index, s.edge_cell_shift, s.blocks)
    rows, both = restore_directions(pairs, blocks, overlaps)
    whole = list_pairs(h.edge_index, h.edge_cell_shift)
    assert len(rows) == len(whole)
    for restored, matrix in zip(both, (h, s), strict=True):
        np.testing.assert_allclose(spread_blocks(whole, rows, restored), matrix.blocks, atol=1e-12)


def test_tables_and_edges_are_the_same_thing(matrices):
    h = matrices[0]
    edge_index, shifts = list_edges(list_pairs(h.edge_index, h.edge_cell_shift))
    np.testing.assert_array_equal(edge_index, h.edge_index)
    np.testing.assert_array_equal(shifts, h.edge_cell_shift)


def test_tables_are_united_and_searched(matrices):
    h = matrices[0]
    pairs, blocks = keep_one_direction(h.edge_index, h.edge_cell_shift, h.blocks)
    union = unite_pairs([pairs[:5], pairs[3:9]])
    assert len(union) == 9
    np.testing.assert_array_equal(union[find_pairs(union, pairs[:9])], pairs[:9])
    np.testing.assert_array_equal(find_pairs(pairs[:5], pairs[3:9]), [3, 4, -1, -1, -1, -1])
    spread = spread_blocks(union, pairs[3:9], blocks[3:9])
    assert spread.sum() == pytest.approx(blocks[3:9].sum())


def test_matrices_are_aligned_on_the_union_of_their_edges(matrices):
    """Other orders and missing pairs change no Bloch sum."""
    h, s = matrices
    order = np.random.default_rng(1).permutation(len(s.blocks))
    kept = order[np.abs(s.blocks[order, 0, 0]) > np.median(np.abs(s.blocks))]
    few = dataclasses.replace(
        s,
        edge_index=s.edge_index[:, kept],
        edge_cell_shift=s.edge_cell_shift[kept],
        blocks=s.blocks[kept],
    )
    assert len(kept) < len(order)
    edge_index, shifts, blocks = align_matrices([few, h])
    rows = list_pairs(edge_index, shifts)
    np.testing.assert_array_equal(rows, rows[np.lexsort(rows.T[::-1])])
    assert len(rows) == len(h.blocks)
    kpoint = [0.2, -0.3, 0.0]
    for matrix, aligned in zip((few, h), blocks, strict=True):
        found = BlockMatrix(matrix.numbers, BASIS, edge_index, shifts, aligned)
        np.testing.assert_allclose(found.dense(kpoint), matrix.dense(kpoint), atol=1e-13)
