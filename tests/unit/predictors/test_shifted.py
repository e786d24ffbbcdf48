"""Derivatives of Hamiltonians with the level shift, and the shift that a checkpoint names."""

from __future__ import annotations

import numpy as np
import pytest
from real_supercells import real_supercell
from toy_models import ToyElectron, build_honeycomb

from mlepi.errors import DataError, PhysicsError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.shifted_matrix import shift_hamiltonian, shift_matrix
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.predictors import compute_derivatives, compute_second_derivatives
from mlepi.predictors.level_shifts import DEFAULTS, read_level_shift
from mlepi.predictors.shifted import ShiftedModel
from mlepi.structures.basis import OrbitalBasis

SHIFT = LevelShift(0.3, 2.0, 0.1)  # of a toy whose S has no soft direction


def test_levels_of_displaced_structures_move_as_the_derivatives_say():
    atoms = build_honeycomb()
    model = ShiftedModel(ToyElectron(0.2), SHIFT, step=1e-3)
    directions = np.random.default_rng(0).normal(size=(2, 2, 3))
    found = compute_derivatives(model, atoms, directions)
    kpoint, step = np.array([0.2, 0.1, 0.0]), 1e-4

    def matrix(derivative, n):
        whole = model.overlap(atoms)
        blocks = derivative.values[n]
        return BlockMatrix(
            whole.numbers, whole.basis, derivative.edge_index, derivative.edge_cell_shift, blocks
        ).dense(kpoint)

    h, s = model.hamiltonian(atoms).dense(kpoint), model.overlap(atoms).dense(kpoint)
    levels, vectors = solve_bands(h, s, vectors=True)
    for n, direction in enumerate(directions):
        dh, ds = (matrix(part, n) for part in (found.hamiltonian, found.overlap))
        slopes = np.einsum("an,ab,bn->n", vectors.conj(), dh, vectors).real
        slopes -= levels * np.einsum("an,ab,bn->n", vectors.conj(), ds, vectors).real
        ends = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions += sign * step * direction
            pair = model.hamiltonian(moved), model.overlap(moved)
            ends.append(solve_bands(*(each.dense(kpoint) for each in pair)))
        np.testing.assert_allclose(slopes, (ends[0] - ends[1]) / (2 * step), atol=2e-4)
    plain = compute_derivatives(ToyElectron(0.2), atoms, directions)
    assert not np.allclose(plain.hamiltonian.values, found.hamiltonian.values, atol=1e-3)


def test_second_derivatives_carry_the_shift_too():
    atoms, model = build_honeycomb(), ToyElectron(0.2)
    directions = np.random.default_rng(1).normal(size=(1, 2, 3))
    found = compute_second_derivatives(ShiftedModel(model, SHIFT), atoms, directions, directions)
    plain = compute_second_derivatives(model, atoms, directions, directions)
    step, ends = 5e-3, []
    for factor in (1, 0, -1):
        moved = atoms.copy()
        moved.positions += factor * step * directions[0]
        ends.append(shift_matrix(moved, model.overlap(moved), SHIFT).blocks)
    expected = (ends[0] - 2 * ends[1] + ends[2]) / step**2
    added = found.hamiltonian.values[0] - plain.hamiltonian.values[0]
    np.testing.assert_allclose(added, expected, atol=1e-2 * np.abs(expected).max())


def test_pairs_of_either_matrix_have_derivatives():
    class Longer(ToyElectron):
        def hamiltonian(self, atoms, *, device="cpu", dtype="float64"):
            whole = super().hamiltonian(atoms)
            kept = np.flatnonzero(whole.edge_index[0] == whole.edge_index[1])
            return BlockMatrix(
                whole.numbers,
                whole.basis,
                whole.edge_index[:, kept],
                whole.edge_cell_shift[kept],
                whole.blocks[kept],
            )

    atoms, directions = build_honeycomb(), np.ones((1, 2, 3)) * [[1.0], [0.0]]
    found = compute_derivatives(ShiftedModel(Longer(0.2), SHIFT), atoms, directions)
    assert found.hamiltonian.values.shape[1] == found.overlap.values.shape[1]
    assert np.abs(found.hamiltonian.values).max() > 1e-3


def test_without_a_shift_the_hamiltonian_is_the_same_object():
    atoms, (h, s), _, _ = real_supercell()
    assert shift_hamiltonian(atoms, h, s, None) is h


def test_an_overlap_of_other_atoms_is_refused():
    atoms, (_, s), _, _ = real_supercell()
    with pytest.raises(DataError, match="level shift: got an overlap of 4 atoms for 8"):
        shift_matrix(atoms.repeat((2, 1, 1)), s, SHIFT)


def test_a_checkpoint_names_its_shift_and_old_ones_have_that_of_their_basis():
    basis = OrbitalBasis({6: (0, 0, 1, 1)}, {6: 3.2}, {6: "C6.0-s2p2"})
    assert read_level_shift({}, basis) == DEFAULTS[frozenset({"C6.0-s2p2"})]
    assert read_level_shift({"level_shift": None}, basis) is None
    assert read_level_shift({"level_shift": SHIFT.to_dict()}, basis) == SHIFT
    other = OrbitalBasis({6: (0,)}, {6: 3.2}, {6: "toy"})
    assert read_level_shift({}, other) is None
    with pytest.raises(PhysicsError, match="level shift: got keys"):
        read_level_shift({"level_shift": {"tau": 1.0}}, basis)
