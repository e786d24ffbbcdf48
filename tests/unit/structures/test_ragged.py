"""One direction and flat blocks: everything comes back."""

from __future__ import annotations

import numpy as np
import pytest
from random_labels import build_labels

from mlepi.errors import DataError
from mlepi.structures import reverse_edges
from mlepi.structures.ragged import (
    block_offsets,
    flatten_blocks,
    pad_blocks,
    restore_both_directions,
    select_one_direction,
)


def test_blocks_of_different_sizes_are_row_major_without_padding():
    blocks = np.arange(18.0).reshape(2, 3, 3)
    n_rows, n_columns = np.array([2, 3]), np.array([3, 1])
    flat = flatten_blocks(blocks, n_rows, n_columns)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 9, 12, 15]
    assert block_offsets(n_rows, n_columns).tolist() == [0, 6, 9]
    padded = pad_blocks(flat, n_rows, n_columns, 3)
    assert np.array_equal(padded[0, :2], blocks[0, :2])
    assert np.array_equal(padded[1, :, :1], blocks[1, :, :1])
    assert not padded[0, 2].any()
    assert not padded[1, :, 1:].any()


def test_wrong_number_of_values_is_refused():
    with pytest.raises(DataError, match="flat blocks: got 8 values; expected 9"):
        pad_blocks(np.zeros(8), np.array([2, 3]), np.array([3, 1]), 3)


def test_one_direction_holds_each_pair_once():
    structure = build_labels("b", 1, n_atoms=6)
    edges, shifts = structure.edge_index, structure.edge_cell_shift
    kept = select_one_direction(edges, shifts)
    reverse = reverse_edges(edges, shifts)
    onsite = reverse == np.arange(len(kept))
    assert onsite.sum() == 6
    assert kept[onsite].all()
    assert np.array_equal(kept[~onsite], ~kept[reverse][~onsite])
    assert select_one_direction(
        np.array([[1, 0, 0], [0, 1, 0]]), np.array([[0, 0, 0], [0, 0, 0], [0, -1, 5]])
    ).tolist() == [
        True,
        False,
        False,
    ]


def test_restored_blocks_are_transposed_and_onsite_symmetric():
    edges, shifts = np.array([[0, 1], [0, 0]]), np.array([[0, 0, 0], [1, 0, 0]])
    blocks = np.array([[[1.0, 2.0], [4.0, 5.0]], [[1.0, 2.0], [3.0, 4.0]]])
    all_edges, all_shifts, (restored,) = restore_both_directions(edges, shifts, blocks)
    assert all_edges.tolist() == [[0, 1, 0], [0, 0, 1]]
    assert all_shifts.tolist() == [[0, 0, 0], [1, 0, 0], [-1, 0, 0]]
    assert restored.tolist() == [[[1, 3], [3, 5]], [[1, 2], [3, 4]], [[1, 3], [2, 4]]]
