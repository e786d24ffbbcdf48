"""The level shift: its filter, its blocks, ghosts that it removes, and every solver with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from real_supercells import REAL_SUPERCELL, real_supercell

from mlepi.errors import PhysicsError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.shifted_matrix import shift_hamiltonian, shift_matrix
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.bands.velocity_matrices import band_velocities, derivatives_at
from mlepi.physics.eigenstates import level_shift
from mlepi.physics.eigenstates.batched_states import count_batch_below
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.kpoint_sequence import KpointSequence
from mlepi.physics.eigenstates.level_shift import (
    LevelShift,
    choose_mesh,
    first_order_levels,
    pair_window,
    soft_filter,
)
from mlepi.physics.eigenstates.shift_invert import count_states_below
from mlepi.physics.eigenstates.sparse import (
    build_pencil,
    choose_factorisation,
    solve_numbered_states,
)
from mlepi.physics.eigenstates.sparse.states import count_states_below as count_sparse
from mlepi.physics.eigenstates.window_states import (
    solve_points,
    solve_points_together,
)

SHIFT = LevelShift(threshold=0.01, strength=0.5, offset=0.0018)


@pytest.fixture(scope="module")
def cells():
    """Primitive cell and 3×3 cell, each with atoms, exact H, S; and H with errors in the latter."""
    atoms, (h, s), noisy, overlap = real_supercell()
    wide = atoms.repeat(REAL_SUPERCELL)
    tiled = np.tile(h.blocks, (9, 1, 1))
    exact = BlockMatrix(noisy.numbers, h.basis, noisy.edge_index, noisy.edge_cell_shift, tiled)
    return (atoms, h, s), (wide, exact, overlap), noisy


@pytest.fixture(scope="module")
def shifted(cells):
    """The supercell's H with errors and the shift, and its overlap."""
    _, (wide, _, overlap), noisy = cells
    return shift_hamiltonian(wide, noisy, overlap, SHIFT), overlap


def test_the_filter_is_that_function_of_s(monkeypatch):
    monkeypatch.setattr("mlepi.physics.eigenstates.level_shift.TILE", 4)
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 9, 9)) + 1j * rng.normal(size=(3, 9, 9)))[0]
    values = 10.0 ** rng.uniform(-3.0, 1.0, size=(3, 9))
    for matrices in (turn, np.linalg.qr(rng.normal(size=(3, 9, 9)))[0]):
        adjoint = matrices.conj().swapaxes(1, 2)
        overlaps = (matrices * values[:, None]) @ adjoint
        expected = (matrices * ((0.01 / (values + 0.01)) ** 4)[:, None]) @ adjoint
        found = soft_filter(torch.from_numpy(overlaps), 0.01).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-11)
        np.testing.assert_array_equal(found, found.conj().swapaxes(1, 2))


def test_a_negative_overlap_is_refused():
    with pytest.raises(PhysicsError, match=r"overlap matrix: got an eigenvalue below −0\.01"):
        soft_filter(torch.diag(torch.tensor([1.0, -0.1], dtype=torch.float64)), 0.01)


@pytest.mark.parametrize("values", [(0.0, 1.0, 0.0), (0.01, -1.0, 0.0), (0.01, 1.0, np.nan)])
def test_parameters_without_meaning_are_refused(values):
    with pytest.raises(PhysicsError, match="level shift: got threshold"):
        LevelShift(*values)


def test_parameters_are_plain_data():
    assert LevelShift.from_dict(SHIFT.to_dict()) == SHIFT
    assert LevelShift.from_dict({"threshold": 0.01, "strength": 1}).offset == 0.0
    for wrong in ({"threshold": 0.01}, {"threshold": 0.01, "strength": 1.0, "power": 4}):
        with pytest.raises(PhysicsError, match="expected threshold, strength and perhaps offset"):
            LevelShift.from_dict(wrong)


def test_the_window_fades_inside_the_range():
    distances = np.array([0.0, 0.53, 0.765, 1.0, 1.2]) * 6.35
    found = pair_window(distances, np.full(5, 6.35))
    np.testing.assert_allclose(found, [1.0, 1.0, 0.5, 0.0, 0.0], atol=1e-12)


def test_the_mesh_is_as_long_as_the_images_are_weak():
    shifts = np.array([[1, 0, 0], [0, -1, 0], [0, 0, 0]])
    assert choose_mesh(shifts, np.diag([2.46, 14.76, 18.0])) == (12, 2, 1)


def test_added_blocks_are_exactly_symmetric(cells):
    atoms, _, s = cells[0]
    added = shift_matrix(atoms, s.symmetrised(), SHIFT)
    np.testing.assert_array_equal(added.blocks, added.symmetrised().blocks)


def test_a_supercell_has_the_folded_levels_of_its_primitive_cell(cells):
    (atoms, h, s), (wide, exact, overlap), _ = cells
    kpoint = np.array([0.3, 0.1, 0.0])
    found = solve_bands(
        shift_hamiltonian(wide, exact, overlap, SHIFT).dense(kpoint), overlap.dense(kpoint)
    )
    folded = (cell_major_map(4, REAL_SUPERCELL).cells[::4] + kpoint) / np.array(REAL_SUPERCELL)
    primitive = shift_hamiltonian(atoms, h, s, SHIFT)
    levels = [solve_bands(primitive.dense(k), s.dense(k)) for k in folded]
    np.testing.assert_allclose(found, np.sort(np.concatenate(levels)), atol=1e-8)


def test_ghosts_of_a_wrong_hamiltonian_are_lifted_and_right_levels_stay(cells):
    _, (wide, exact, overlap), _ = cells
    gamma = np.zeros(3)
    s = overlap.dense(gamma).real
    right, vectors = solve_bands(exact.dense(gamma).real, s, vectors=True)
    # an on-site error along the softest combination of all orbitals
    softest = np.linalg.eigh(s)[1][:, 0].reshape(36, 8)
    softest /= np.linalg.norm(softest, axis=1)[:, None]
    error = -0.3 * softest[:, :, None] * softest[:, None, :]
    blocks = exact.blocks.copy()
    blocks[_onsite(overlap)] += error
    wrong = BlockMatrix(exact.numbers, exact.basis, exact.edge_index, exact.edge_cell_shift, blocks)
    haunted = solve_bands(wrong.dense(gamma).real, s)
    assert np.count_nonzero(haunted < right[0] - 1.0) >= 1
    mended = shift_hamiltonian(wide, wrong, overlap, LevelShift(0.01, 1.0)).dense(gamma).real
    assert count_states_below(mended, s, right[0] - 1.0) == 0
    added = shift_matrix(wide, overlap, SHIFT).dense(gamma).real
    found, states = solve_bands(exact.dense(gamma).real + added, s, vectors=True)
    near = np.abs(right - right[36 * 2]) < 2.0
    bias = (found - right)[near]
    assert np.sqrt(np.mean((bias - bias.mean()) ** 2)) < 1e-3
    corrected = first_order_levels(found, states, added)[near] - right[near]
    assert np.sqrt(np.mean(corrected**2)) < 1e-3
    np.testing.assert_allclose(
        first_order_levels(right, vectors, np.zeros_like(added)), right, atol=1e-12
    )


def _onsite(matrix):
    return (matrix.edge_index[0] == matrix.edge_index[1]) & ~np.any(matrix.edge_cell_shift, axis=1)


def test_every_solver_finds_the_shifted_levels(cells, shifted):
    wide, kpoints = cells[1][0], np.array([[0.0, 0.0, 0.0], [0.03, 0.015, 0.0], [0.06, 0.03, 0.0]])
    layouts = [matrix.lay_out() for matrix in shifted]
    levels = [solve_bands(*(layout.at(k) for layout in layouts)) for k in kpoints]
    centre = float(levels[0][71:73].mean())
    sites = np.repeat(wide.get_scaled_positions(), 8, axis=0)
    sequence = KpointSequence(kpoints, np.array([0.0, 0.02, 0.04]), sites, wide.cell.array)
    followed = solve_points(sequence, (layouts[0], layouts[1]), centre, 1.2)
    batched = solve_points_together(sequence, (layouts[0], layouts[1]), centre, 1.2, "cpu")
    for exact, *found in zip(levels, followed, batched, strict=True):
        for states in found:
            expected = exact[states.first : states.first + len(states.values)]
            np.testing.assert_allclose(states.values, expected, atol=5e-5)
            assert len(states.values) > 4
    pencil = build_pencil(*shifted, kpoints[1])
    sparse = solve_numbered_states(pencil, 68, 8, centre, choose_factorisation("superlu"))
    np.testing.assert_allclose(sparse.energies, levels[1][68:76], atol=1e-7)


def test_all_counts_agree_with_the_shift(shifted):
    kpoint, energy = np.array([0.1, 0.2, 0.0]), 0.0
    dense = [matrix.dense(kpoint) for matrix in shifted]
    levels = solve_bands(*dense)
    energy = float(levels[70:72].mean())
    batch = [torch.from_numpy(matrix[None]) for matrix in dense]
    assert count_states_below(*dense, energy) == 71
    assert count_batch_below(*batch, torch.tensor([energy], dtype=torch.float64)) == [71]
    factorise = choose_factorisation("superlu")
    assert count_sparse(build_pencil(*shifted, kpoint), energy, factorise) == 71


def test_velocities_are_the_slopes_of_the_shifted_levels(cells):
    atoms, h, s = cells[0]
    raised = shift_hamiltonian(atoms, h, s, LevelShift(0.01, 5.0))
    kpoint, step = np.array([0.21, 0.13, 0.0]), 1e-5
    to_fractional = atoms.cell.array / (2.0 * np.pi)
    levels, vectors = solve_bands(raised.dense(kpoint), s.dense(kpoint), vectors=True)
    derivatives = [
        derivatives_at(matrix.lay_out_derivatives(atoms.cell.array), kpoint)
        for matrix in (raised, s)
    ]
    found = band_velocities(levels, vectors, *derivatives)
    for axis in range(2):
        ends = [
            solve_bands(raised.dense(k), s.dense(k))
            for k in (kpoint + sign * step * to_fractional[:, axis] for sign in (1, -1))
        ]
        np.testing.assert_allclose(
            found[axis][:20], (ends[0] - ends[1])[:20] / (2 * step), atol=1e-5
        )


def test_orthonormal_orbitals_stay_as_they_are(cells):
    atoms, h, s = cells[0]
    identity = BlockMatrix(
        s.numbers, s.basis, s.edge_index, s.edge_cell_shift, np.zeros_like(s.blocks)
    )
    identity.blocks[_onsite(s)] = np.eye(8)
    raised = shift_hamiltonian(atoms, h, identity, LevelShift(0.01, 1.0))
    np.testing.assert_allclose(raised.dense([0.1, 0.2, 0]), h.dense([0.1, 0.2, 0]), atol=2e-8)


def test_single_precision_of_the_filter_moves_no_level(cells, monkeypatch):
    wide, exact, overlap = cells[1]
    gamma = np.zeros(3)
    monkeypatch.setattr(level_shift, "SINGLE_ORBITALS", 64)
    rounded = shift_hamiltonian(wide, exact, overlap, SHIFT).dense(gamma).real
    monkeypatch.undo()
    whole = shift_hamiltonian(wide, exact, overlap, SHIFT).dense(gamma).real
    s = overlap.dense(gamma).real
    found, expected = (solve_bands(h, s, subset=(64, 80)) for h in (rounded, whole))
    np.testing.assert_allclose(found, expected, atol=1e-6)
