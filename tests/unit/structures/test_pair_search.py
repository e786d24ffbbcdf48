"""Pairs within a distance against all images by hand, and cells that vesin alone dies of."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from ase import Atoms

from mlepi.structures.pair_search import search_pairs


def count_by_hand(atoms, cutoff, cells):
    """(i, j, shift) of all pairs closer than a cutoff."""
    found = set()
    for shift in product(*(range(-n, n + 1) for n in cells)):
        apart = atoms.positions + np.array(shift) @ atoms.cell.array - atoms.positions[:, None]
        for i, j in np.argwhere(np.linalg.norm(apart, axis=2) < cutoff):
            if i != j or any(shift):
                found.add((int(i), int(j), *shift))
    return found


@pytest.mark.parametrize(
    ("cell", "cutoff", "cells"),
    [
        ([[3.0, 0, 0], [1.0, 2.5, 0], [0.5, 0.3, 4.0]], 4.5, (4, 4, 3)),
        ([[1000.0, 0, 0], [0, 1000.0, 0], [0, 0, 3.0]], 2.0, (1, 1, 2)),  # wide and thin
        ([[3.0, 0, 0], [0, 2.5, 0], [0, 0, 4e5]], 4.5, (2, 2, 1)),
    ],
)
@pytest.mark.parametrize("both_ways", [True, False])
def test_pairs_are_all_within_the_cutoff(cell, cutoff, cells, both_ways):
    scaled = np.array([[0.1, 0.2, 0.0], [0.1004, 0.2003, 0.1], [0.7, 0.9, 0.4]])
    atoms = Atoms("C3", scaled_positions=scaled, cell=cell, pbc=True)
    pairs = search_pairs(atoms.positions, atoms.cell.array, cutoff, both_ways=both_ways)
    listed = {(*p,) for p in np.column_stack(pairs[:3]).tolist()}
    assert len(listed) == len(pairs.lengths)
    reverse = set() if both_ways else {(j, i, -a, -b, -c) for i, j, a, b, c in listed}
    assert not listed & reverse
    assert listed | reverse == count_by_hand(atoms, cutoff, cells)
    apart = atoms.positions[pairs.second] - atoms.positions[pairs.first]
    apart += pairs.shifts @ atoms.cell.array
    np.testing.assert_allclose(np.linalg.norm(apart, axis=1), pairs.lengths, atol=1e-9)


def test_molecules_have_no_images():
    positions = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.7]])
    pairs = search_pairs(positions, np.zeros((3, 3)), 2.0, periodic=False)
    assert sorted(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == [(0, 1), (1, 0)]
