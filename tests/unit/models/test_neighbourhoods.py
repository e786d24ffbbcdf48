"""Neighbour tables hold every edge once and waste few slots.

Couplings are Clebsch–Gordan coefficients times harmonics.
"""

from __future__ import annotations

import pytest
import torch

from mlepi.models.message_paths import message_paths, path_blocks
from mlepi.models.neighbourhoods import LEAST_FILLING, SPARE_SLOTS, coupling_table, neighbour_table
from mlepi.models.wigner import wigner_3j


def test_every_edge_is_in_the_row_of_its_target():
    target = torch.tensor([2, 0, 2, 2, 0])
    table = neighbour_table(target, 4)
    assert table.order.tolist() == [2, 0, 1, 3]
    assert table.groups == [(2, 3)]
    assert [rows.tolist() for rows in table.split(table.edge_of_slot)] == [[[0, 2, 3], [1, 4, 0]]]
    assert table.filled.tolist() == [True] * 5 + [False]


@pytest.mark.parametrize("n_atoms", [1, 7, 200])
def test_uneven_numbers_of_neighbours(n_atoms):
    torch.manual_seed(n_atoms)
    counts = torch.randint(0, 60, (n_atoms,)) * (torch.rand(n_atoms) > 0.2)
    target = torch.repeat_interleave(torch.arange(n_atoms), counts)[
        torch.randperm(int(counts.sum()))
    ]
    table = neighbour_table(target, n_atoms)
    assert sorted(table.edge_of_slot[table.filled].tolist()) == list(range(len(target)))
    assert int(table.filled.sum()) >= LEAST_FILLING * (len(table.filled) - SPARE_SLOTS)
    sums = [
        (edge * filled).sum(1)
        for edge, filled in zip(
            table.split(table.edge_of_slot), table.split(table.filled), strict=True
        )
    ]
    expected = torch.zeros(n_atoms, dtype=torch.long).index_add(
        0, target, torch.arange(len(target))
    )
    assert torch.equal(table.to_atoms(table.to_rows(sums, (), target)), expected)


def test_table_without_edges():
    table = neighbour_table(torch.zeros(0, dtype=torch.long), 3)
    assert table.groups == []
    assert table.edge_of_slot.shape == table.filled.shape == (0,)
    assert table.to_atoms(table.to_rows([], (2,), torch.ones(1))).tolist() == [[0.0, 0.0]] * 3


def test_couplings_are_clebsch_gordan_coefficients_times_harmonics():
    paths = tuple(message_paths(2, 3))
    harmonics = torch.randn(5, 16, dtype=torch.float64)
    couplings = harmonics @ coupling_table(paths, 3)
    for (l1, l2, l3), block in zip(paths, path_blocks(paths), strict=True):
        expected = (
            torch.einsum(
                "abc,eb->eac", wigner_3j(l1, l2, l3), harmonics[:, l2 * l2 : (l2 + 1) ** 2]
            )
            * (2 * l3 + 1) ** 0.5
        )
        torch.testing.assert_close(
            couplings[:, block.coupling].view(expected.shape), expected, rtol=0, atol=1e-13
        )


def test_a_few_atoms_with_fewer_neighbours_join_a_wide_group():
    target = torch.repeat_interleave(torch.arange(20), torch.tensor([30] * 17 + [20] * 3))
    assert neighbour_table(target, 20).groups == [(20, 30)]
    target = torch.repeat_interleave(torch.arange(40), torch.tensor([30] * 20 + [20] * 20))
    assert neighbour_table(target, 40).groups == [(20, 30), (20, 20)]
