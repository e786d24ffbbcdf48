"""The dense layout against the plain Bloch sum."""

from __future__ import annotations

import numpy as np
import pytest
from toys import honeycomb, tight_binding

from mlepi.physics.eigenstates import dense_bloch
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import bloch_sum, lay_out_blocks, solve_many, unique_rows

K_POINTS = [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.21, -0.37, 0.0]]


@pytest.mark.parametrize("kpoint", K_POINTS)
@pytest.mark.parametrize("repeats", [(1, 1, 1), (4, 4, 1)])
def test_layout_equals_the_bloch_sum(repeats, kpoint):
    atoms = honeycomb(bilayer=True).repeat(repeats)
    edge_index, shifts, h, _, offsets = tight_binding(atoms, overlap=0.1, images=(2, 2, 0))
    layout = lay_out_blocks(h, edge_index, shifts, offsets)
    expected = bloch_sum(h, edge_index, shifts, offsets, [kpoint])[0]
    np.testing.assert_allclose(layout.at(kpoint), expected, atol=1e-13)
    out = np.full(expected.shape, 7.0 + 1j)
    result = layout.at(kpoint, out)
    np.testing.assert_allclose(result, expected, atol=1e-13)
    real = np.allclose(2 * np.array(kpoint), np.round(2 * np.array(kpoint)))
    assert np.isrealobj(result) == real
    assert (result is out) != real
    many = layout.at_many([kpoint, [0.1, 0.2, 0.0]])
    np.testing.assert_allclose(
        many, bloch_sum(h, edge_index, shifts, offsets, [kpoint, [0.1, 0.2, 0.0]]), atol=1e-13
    )


def test_atoms_with_different_numbers_of_orbitals():
    rng = np.random.default_rng(0)
    counts = np.array([2, 3, 1])
    offsets = np.append(0, np.cumsum(counts))
    edge_index = np.array([[0, 1, 2, 1, 0, 2, 2], [0, 1, 2, 0, 1, 0, 0]])
    shifts = np.array(
        [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [0, -1, 0]]
    )
    blocks = np.zeros((7, 3, 3))
    for block, source, target in zip(blocks, *edge_index, strict=True):
        block[: counts[target], : counts[source]] = rng.normal(
            size=(counts[target], counts[source])
        )
    layout = lay_out_blocks(blocks, edge_index, shifts, offsets)
    assert layout.elements.shape == (2, 6, 6)
    for kpoint in K_POINTS:
        np.testing.assert_allclose(
            layout.at(kpoint),
            bloch_sum(blocks, edge_index, shifts, offsets, [kpoint])[0],
            atol=1e-13,
        )


def test_bands_at_many_k_points_are_those_of_the_plain_sum(monkeypatch):
    edge_index, shifts, h, s, offsets = tight_binding(honeycomb(bilayer=True), overlap=0.1)
    layouts = [lay_out_blocks(blocks, edge_index, shifts, offsets) for blocks in (h, s)]
    expected = [
        solve_bands(*(bloch_sum(x, edge_index, shifts, offsets, [k])[0] for x in (h, s)))
        for k in K_POINTS
    ]
    np.testing.assert_allclose(solve_many(*layouts, np.array(K_POINTS)), expected, atol=1e-12)
    monkeypatch.setattr(dense_bloch, "MANY_ELEMENTS", 2 * 4**2)  # two points at a time
    np.testing.assert_allclose(solve_many(*layouts, np.array(K_POINTS)), expected, atol=1e-12)


def test_no_edges_give_zero():
    layout = lay_out_blocks(
        np.zeros((0, 2, 2)), np.zeros((2, 0), int), np.zeros((0, 3), int), np.array([0, 2])
    )
    np.testing.assert_array_equal(layout.at([0.1, 0.0, 0.0]), np.zeros((2, 2)))


def test_unique_rows_equal_numpy():
    rows = np.random.default_rng(0).integers(-3, 4, size=(200, 4))
    rows[:, 2] = 5
    for found, expected in zip(
        unique_rows(rows), np.unique(rows, axis=0, return_inverse=True), strict=True
    ):
        np.testing.assert_array_equal(found, expected.reshape(found.shape))
    assert [part.shape for part in unique_rows(rows[:0])] == [(0, 4), (0,)]
