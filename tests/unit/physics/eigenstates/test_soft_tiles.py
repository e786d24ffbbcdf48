"""f(S) from overlapping clusters is that of the whole crystal."""

from __future__ import annotations

import numpy as np
import pytest
from real_supercells import REAL_SUPERCELL, real_supercell

from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import choose_mesh, filter_blocks, pair_window
from mlepi.physics.eigenstates.soft_tiles import filter_in_tiles


@pytest.fixture(scope="module")
def supercell():
    atoms, (h, _), noisy, overlap = real_supercell()
    tiled = np.tile(h.blocks, (9, 1, 1))
    exact = BlockMatrix(noisy.numbers, h.basis, noisy.edge_index, noisy.edge_cell_shift, tiled)
    return atoms.repeat(REAL_SUPERCELL), exact, overlap


def test_tiles_give_the_filter_of_the_whole(supercell):
    atoms, _, overlap = supercell
    cell = atoms.cell.array
    whole = filter_blocks(overlap, 0.01, choose_mesh(overlap.edge_cell_shift, cell))
    found = filter_in_tiles(overlap, 0.01, atoms.positions, cell)
    assert np.abs(found - whole).max() < 2e-3
    assert np.sqrt(np.mean((found - whole) ** 2)) < 5e-5
    # an atom that was folded into another cell has the same blocks
    moved = atoms.positions + np.eye(3)[0] @ cell
    np.testing.assert_allclose(filter_in_tiles(overlap, 0.01, moved, cell), found, atol=1e-5)


def test_levels_do_not_notice_the_tiles(supercell):
    atoms, exact, overlap = supercell
    cell, gamma = atoms.cell.array, np.zeros(3)
    source, target = overlap.edge_index
    vectors = atoms.positions[source] + overlap.edge_cell_shift @ cell - atoms.positions[target]
    window = pair_window(np.linalg.norm(vectors, axis=1), np.full(len(source), 6.35))
    levels = []
    for soft in (
        filter_blocks(overlap, 0.01, choose_mesh(overlap.edge_cell_shift, cell)),
        filter_in_tiles(overlap, 0.01, atoms.positions, cell),
    ):
        blocks = exact.blocks + 0.5 * window[:, None, None] * soft
        shifted = BlockMatrix(
            exact.numbers, exact.basis, exact.edge_index, exact.edge_cell_shift, blocks
        ).symmetrised()
        h, s = (matrix.dense(gamma).real for matrix in (shifted, overlap))
        levels.append(solve_bands(h, s, subset=(64, 80)))
    np.testing.assert_allclose(*levels, atol=1e-4)
