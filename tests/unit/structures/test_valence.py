"""Electrons per element from counts, from names, and what users write."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.valence import (
    assign_electrons,
    count_electrons,
    find_valence_electrons,
    name_electrons,
    read_symbols,
    suggest_electrons,
)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([({6: 4}, 16.0)], {6: 4}),
        ([({14: 2}, 7.4)], {14: 4}),  # a metal on few k-points
        ([({42: 1, 16: 2}, 26.0)], {42: 14, 16: 6}),
        ([({42: 1, 16: 2}, 18.0)], {42: 6, 16: 6}),  # of a smaller valence, the only closed cores
        ([({5: 2, 7: 2}, 16.0)], {5: 3, 7: 5}),
        ([({12: 1, 8: 1}, 8.0)], {12: 2, 8: 6}),
        ([({12: 1, 8: 1}, 16.0)], {12: 10, 8: 6}),
        ([({29: 4}, 45.0)], {29: 11}),
        ([({29: 4}, 75.0)], {29: 19}),
        ([({29: 4}, 52.0)], None),  # 13 are no closed core
        ([({6: 4}, 4.0)], None),
        ([], None),
    ],
)
def test_electrons_of_elements(cells, expected):
    elements = sorted(cells[0][0]) if cells else [6]
    assert assign_electrons(elements, cells) == expected


def test_an_element_that_no_cell_has_stays_unknown():
    assert assign_electrons([6, 8], [({6: 4}, 16.0)]) is None


def chain(n_cells: int, fermi_energy: float | None) -> LabelledStructure:
    """Cells of two levels of one s shell each, −1 and 1 eV, coupled by 0.2 eV to the next cell."""
    numbers = [6] * (2 * n_cells)
    atoms = Atoms(numbers, positions=np.arange(2.0 * n_cells)[:, None] * [1.5, 0, 0])
    atoms.cell, atoms.pbc = np.diag([3.0 * n_cells, 9.0, 9.0]), [True, False, False]
    n = len(numbers)
    own = np.tile(np.arange(n), (2, 1))
    there = np.stack([(np.arange(n) + 2) % n, np.arange(n)])
    shift = np.zeros((3 * n, 3), dtype=np.int64)
    shift[n : 2 * n, 0] = (np.arange(n) + 2) // n
    shift[2 * n :] = -shift[n : 2 * n]
    hopping = np.full(2 * n, 0.1)
    blocks = np.concatenate([np.tile([-1.0, 1.0], n_cells), hopping])[:, None, None]
    overlap = np.concatenate([np.ones(n), np.zeros(2 * n)])[:, None, None]
    return LabelledStructure(
        name=f"chain{n_cells}",
        atoms=atoms,
        basis=OrbitalBasis({6: (0,)}, {6: 2.0}, {6: ""}),
        edge_index=np.concatenate([own, there, there[::-1]], axis=1),
        edge_cell_shift=shift,
        hamiltonian_blocks=blocks,
        overlap_blocks=overlap,
        fermi_energy=fermi_energy,
    )


@pytest.mark.parametrize(("energy", "electrons"), [(0.0, 2.0), (-5.0, 0.0), (5.0, 4.0)])
@pytest.mark.parametrize("n_cells", [1, 3])
def test_electrons_are_twice_the_states_below_the_fermi_energy(n_cells, energy, electrons):
    assert count_electrons(chain(n_cells, energy)) == electrons * n_cells


def test_without_a_fermi_energy_nothing_is_counted():
    found = find_valence_electrons([chain(1, None)])
    assert (found.electrons, list(found.cells), found.suggestion) == (None, [], "{C: 4}")


def test_the_smallest_cell_is_counted():
    found = find_valence_electrons([chain(3, 0.0), chain(1, 0.0)])
    assert list(found.cells) == ["1.00 per C"]
    assert found.electrons is None  # one electron per carbon is no pseudopotential
    outlines = [chain(3, 0.0), chain(1, 0.0)]
    loaded = []
    find_valence_electrons(outlines, lambda place: loaded.append(place) or outlines[place])
    assert loaded == [1]


def test_names_of_openmx_tell_their_electrons():
    names = {6: "C6.0-s2p2", 42: "Mo7.0-s3p2d2", 26: "Fe5.5H-s3p2d1", 16: ""}
    shells = dict.fromkeys(names, (0,))
    assert name_electrons(OrbitalBasis(shells, dict.fromkeys(names, 1.0), names)) == {6: 4, 42: 14}


def test_users_write_symbols_or_numbers():
    assert read_symbols({"Mo": 14, 16: 6, "6": 4}) == {42: 14, 16: 6, 6: 4}
    with pytest.raises(ValueError, match="'Xx' is no element"):
        read_symbols({"Xx": 1})
    assert suggest_electrons([16, 42, 29]) == "{S: 6, Mo: 14, Cu: 1}"


def test_electrons_travel_with_the_basis_and_make_no_other_basis():
    bare = OrbitalBasis({6: (0,)}, {6: 2.0}, {6: ""})
    known = OrbitalBasis({6: (0,)}, {6: 2.0}, {6: ""}, {6: 4})
    assert bare == known
    assert "valence_electrons" not in bare.to_dict()
    assert OrbitalBasis.from_dict(known.to_dict()).valence_electrons == {6: 4.0}
