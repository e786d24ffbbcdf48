"""Neighbour lists against a brute-force search, and the structures that they refuse."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms

from mlepi.errors import StructureError
from mlepi.graphs.neighbours import check_distances, find_edges, find_pairs

CUTOFF = 3.3


def sheared_cell(pbc=True) -> Atoms:
    cell = [[2.9, 0.2, 0.0], [-1.4, 3.1, 0.3], [0.4, -0.2, 4.5]]
    # the last one far outside the cell
    positions = np.array([[0.1, 0.2, 0.3], [1.6, 0.4, 1.1], [4.9, -6.0, 12.2]])
    return Atoms("CHC", positions=positions, cell=cell, pbc=pbc)


def brute_force(atoms: Atoms, cutoff: float) -> set[tuple[int, ...]]:
    """(source j, target i, R) of all pairs with |r_j + R·cell − r_i| < cutoff."""
    reach = [range(-9, 10) if periodic else [0] for periodic in atoms.pbc]
    shifts = np.array(list(itertools.product(*reach)))
    found = set()
    for i, j in itertools.product(range(len(atoms)), repeat=2):
        distance = np.linalg.norm(
            atoms.positions[j] + shifts @ atoms.cell.array - atoms.positions[i], axis=1
        )
        for shift in shifts[(distance < cutoff) & (distance > 1e-9)]:
            found.add((j, i, *shift.tolist()))
    return found


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
def test_same_pairs_as_brute_force(pbc):
    atoms = sheared_cell(pbc)
    edge_index, shift = find_edges(atoms, CUTOFF)
    found = [(int(j), int(i), *r.tolist()) for j, i, r in zip(*edge_index, shift, strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == brute_force(atoms, CUTOFF)
    assert edge_index.dtype == shift.dtype == np.int64


def test_cutoff_beyond_several_cells():
    edge_index, shift = find_edges(sheared_cell(), 9.0)
    assert edge_index.shape[1] == len(brute_force(sheared_cell(), 9.0))
    assert np.abs(shift).max() >= 3


def test_vector_convention_and_order():
    """Source − target along the vector; sorted by target, source, shift; both directions."""
    atoms = Atoms("CC", positions=[[0, 0, 0], [1.4, 0, 0]], cell=[20, 20, 20], pbc=True)
    edge_index, shift = find_edges(atoms, 2.0)
    assert edge_index.tolist() == [[1, 0], [0, 1]]
    vectors = (
        atoms.positions[edge_index[0]] + shift @ atoms.cell.array - atoms.positions[edge_index[1]]
    )
    np.testing.assert_allclose(vectors, [[1.4, 0, 0], [-1.4, 0, 0]])
    edge_index, shift = find_edges(sheared_cell(), CUTOFF)
    keys = list(zip(edge_index[1].tolist(), edge_index[0].tolist(), *shift.T.tolist(), strict=True))
    assert keys == sorted(keys)


def test_a_lone_atom_has_no_edges():
    edge_index, shift = find_edges(Atoms("C", cell=[20, 20, 20], pbc=True), CUTOFF)
    assert edge_index.shape == (2, 0)
    assert shift.shape == (0, 3)


def test_the_structure_is_not_changed():
    atoms = sheared_cell()
    before = atoms.positions.copy()
    find_edges(atoms, CUTOFF)
    assert np.array_equal(atoms.positions, before)


@pytest.mark.parametrize(
    ("atoms", "text"),
    [
        (Atoms(), "no atoms or non-finite coordinates"),
        (
            Atoms("C", positions=[[np.nan, 0, 0]], cell=[5, 5, 5], pbc=True),
            "no atoms or non-finite coordinates",
        ),
        (
            Atoms("C", cell=[[np.inf, 0, 0], [0, 5, 0], [0, 0, 5]], pbc=True),
            "no atoms or non-finite coordinates",
        ),
        (Atoms("C", cell=[5, 5, 0], pbc=True), "a cell without volume"),
        (
            Atoms("CC", positions=[[0, 0, 0], [0, 0, 0.4]], cell=[5, 5, 5], pbc=True),
            "atoms 0 and 1 0.400 Å apart",
        ),
        (
            Atoms("CC", positions=[[0, 0, 0], [0, 0, 4.7]], cell=[5, 5, 5], pbc=True),
            r"apart; expected at least 0\.5 Å",
        ),
    ],
    ids=[
        "empty",
        "nan",
        "infinite cell",
        "flat cell",
        "too close",
        "too close across the boundary",
    ],
)
def test_impossible_structures_are_refused(atoms, text):
    with pytest.raises(StructureError, match=text):
        find_edges(atoms, CUTOFF)


@pytest.mark.parametrize("pbc", [True, (True, True, False), False])
@pytest.mark.parametrize("cutoff", [CUTOFF, 9.0])
def test_pairs_are_the_edges_in_one_direction(pbc, cutoff):
    atoms = sheared_cell(pbc)
    pairs, shift = find_pairs(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    one_way = {(int(j), int(i), *r.tolist()) for j, i, r in zip(*pairs, shift, strict=True)}
    other_way = {(i, j, *(-np.array(r)).tolist()) for j, i, *r in one_way}
    assert len(one_way) == pairs.shape[1]
    assert not one_way & other_way
    assert one_way | other_way == brute_force(atoms, cutoff)


@pytest.mark.parametrize(("distance", "fine"), [(1.0, False), (1.2, True)])
def test_unphysically_close_atoms_are_named(distance, fine):
    """Two carbon atoms 1.0 Å apart are a mistake; the bond of acetylene, 1.2 Å, is none."""
    atoms = Atoms("HC2", [[0, 0, 4], [0, 0, 0], [0, 0, distance]], cell=[9, 9, 9], pbc=True)
    if fine:
        check_distances("structure", atoms)
        return
    with pytest.raises(
        StructureError, match=r"atoms C [12] and C [12] 1\.000 Å apart.*1\.00 Å, 0\.66"
    ):
        check_distances("structure", atoms)


@pytest.mark.parametrize(
    ("symbols", "length"),
    [("H2", 0.741), ("N2", 1.098), ("CO", 1.128), ("C2", 1.203), ("UO", 1.76), ("LaO", 1.826)],
)
def test_the_shortest_bonds_that_there_are_pass(symbols, length):
    check_distances("bond", Atoms(symbols, [[0, 0, 0], [0, 0, length]], cell=[9, 9, 9], pbc=True))
