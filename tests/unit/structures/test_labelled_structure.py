"""The edge convention, every pair in both directions, and the energy zero."""

from __future__ import annotations

import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.structures import build_graphene, reverse_edges
from mlepi.structures.labelled_structure import LabelledStructure, subtract_fermi_energy

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


def test_energies_are_counted_from_the_fermi_energy():
    h, s = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    labels = LabelledStructure("one", build_graphene("AB"), None, None, None, h, s, 0.7)
    moved = subtract_fermi_energy(labels)
    np.testing.assert_allclose(moved.hamiltonian_blocks, h - 0.7 * s)
    assert moved.fermi_energy == 0.0
    assert labels.fermi_energy == 0.7
    for lacking, text in (
        ({"fermi_energy": None}, "'one': got no Fermi energy; expected one for every structure"),
        ({"overlap_blocks": None}, "'one': got no blocks"),
    ):
        with pytest.raises(DataError, match=text):
            subtract_fermi_energy(LabelledStructure(**{**vars(labels), **lacking}))
