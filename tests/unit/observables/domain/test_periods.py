"""Periods that all training cells share are found, whatever the strain and the turn of a cell."""

import numpy as np
import pytest

from mlepi.observables.domain.periods import find_unseen_periods, list_periods
from mlepi.structures import build_graphene, build_supercell, build_twisted_bilayer

A = 2.46
REACH = 2 * 6.35


def cell(*repeats, strain=0.0):
    atoms = build_supercell(build_graphene("AB"), (*repeats, 1))
    atoms.set_cell(atoms.cell.array * (1 + strain), scale_atoms=True)
    return atoms


def test_periods_of_a_hexagonal_cell():
    expected = A * np.array([3.0, 3 * np.sqrt(3)])
    np.testing.assert_allclose(list_periods(cell(3, 3), 13.0), expected, rtol=1e-12)
    assert not list_periods(cell(6, 6), REACH).size


def test_vacuum_is_no_period_when_it_is_not_periodic():
    atoms = cell(6, 6)
    atoms.set_cell([*atoms.cell.array[:2], [0, 0, 9.0]])
    assert list_periods(atoms, REACH) == pytest.approx([9.0])
    atoms.pbc = (True, True, False)
    assert not list_periods(atoms, REACH).size


def test_larger_cells_lack_the_period_of_3x3():
    training = [cell(3, 3), cell(1, 1), cell(3, 3, strain=0.015), cell(3, 3, strain=-0.01)]
    assert not find_unseen_periods(training, cell(3, 3, strain=0.005), REACH).size
    for other in (cell(4, 4), cell(6, 6), build_twisted_bilayer(1, 1)):
        assert find_unseen_periods(training, other, REACH)[0] == pytest.approx(3 * A)


def test_cells_of_two_shapes_share_nothing_within_reach():
    training = [cell(3, 3), cell(4, 4), cell(1, 1)]
    assert not find_unseen_periods(training, cell(6, 6), REACH).size


def test_a_short_reach_sees_no_images():
    assert not find_unseen_periods([cell(3, 3)], cell(6, 6), 7.0).size


def test_no_training_structures_no_periods():
    assert not find_unseen_periods([], cell(6, 6), REACH).size
