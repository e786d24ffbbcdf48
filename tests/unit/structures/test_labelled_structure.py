"""The edge convention: every pair in both directions."""

from __future__ import annotations

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.structures import reverse_edges

EDGES = np.array([[0, 0, 1, 1, 0], [0, 1, 0, 0, 1]])
SHIFTS = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, -2], [-1, 0, 2]])


def test_reverse_is_found_and_onsite_edges_are_their_own():
    assert reverse_edges(EDGES, SHIFTS).tolist() == [0, 2, 1, 4, 3]


def test_reverse_is_an_involution_in_any_order():
    order = np.random.default_rng(0).permutation(5)
    reverse = reverse_edges(EDGES[:, order], SHIFTS[order])
    assert reverse[reverse].tolist() == list(range(5))
    assert np.array_equal(EDGES[:, order][:, reverse], EDGES[::-1, order])
    assert np.array_equal(SHIFTS[order][reverse], -SHIFTS[order])


def test_no_edges_have_no_reverse():
    assert reverse_edges(np.zeros((2, 0), dtype=int), np.zeros((0, 3), dtype=int)).shape == (0,)


def test_missing_reverse_and_double_edge_are_refused():
    with pytest.raises(DataError, match="edges without a reverse"):
        reverse_edges(EDGES[:, :2], SHIFTS[:2])
    with pytest.raises(DataError, match="an edge twice"):
        reverse_edges(np.zeros((2, 2), dtype=int), np.zeros((2, 3), dtype=int))
