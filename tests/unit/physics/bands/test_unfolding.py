"""Unfolding of non-orthogonal toys.

0/1 weights, primitive bands at all k, sum rules and moments.
"""

from __future__ import annotations

import numpy as np
import pytest
from toys import honeycomb, tight_binding

from mlepi.errors import PhysicsError, StructureError
from mlepi.physics.bands import unfolding
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import bloch_sum

OVERLAP = 0.13
K_POINTS = [
    [0.0, 0.0, 0.0],
    [1 / 3, 1 / 3, 0.0],
    [0.21, -0.37, 0.0],
    [0.5, 0.0, 0.0],
    [0.333, 0.31, 0.0],
]


def solve_at(atoms, kpoint):
    edge_index, shifts, h, s, offsets = tight_binding(atoms, overlap=OVERLAP, onsite=0.3)
    hk, sk = (bloch_sum(x, edge_index, shifts, offsets, [kpoint])[0] for x in (h, s))
    values, vectors = solve_bands(hk, sk, vectors=True)
    return values, vectors, hk, sk


def unfold_at(primitive, supercell_atoms, repeats, kpoint):
    atom_map = unfolding.cell_major_map(len(primitive), repeats)
    counts = np.ones(len(primitive), dtype=int)
    values, vectors, hk, sk = solve_at(supercell_atoms, atom_map.fold(kpoint))
    components = unfolding.unfold_states(vectors, sk, atom_map, counts, kpoint)
    return values, components, hk, sk, atom_map.bloch_basis(kpoint, counts).toarray()


@pytest.mark.parametrize("repeats", [(3, 3, 1), (2, 3, 1)])
@pytest.mark.parametrize("kpoint", K_POINTS)
def test_undisplaced_supercell_gives_the_primitive_bands_at_all_k(repeats, kpoint):
    primitive = honeycomb(bilayer=True)
    values, components, *_ = unfold_at(primitive, primitive.repeat(repeats), repeats, kpoint)
    bands, states, _, overlap = solve_at(primitive, kpoint)
    weights = unfolding.total_weights(components)
    by_band = unfolding.band_weights(components, states, overlap)
    # weights per energy level are whole numbers: the degeneracy of that level among the primitive
    # bands
    for level in np.unique(np.round(values, 6)):
        at_level = np.abs(values - level) < 2e-6
        assert weights[at_level].sum() == pytest.approx(
            np.count_nonzero(np.abs(bands - level) < 2e-6), abs=1e-9
        )
    assert np.sum(by_band * (values[None, :] - bands[:, None]) ** 2) == pytest.approx(
        0.0, abs=1e-18
    )
    np.testing.assert_allclose(by_band.sum(axis=1), 1.0, atol=1e-10)


@pytest.mark.parametrize("kpoint", K_POINTS)
def test_sum_rules_and_moments_of_a_displaced_cell(kpoint):
    primitive, repeats = honeycomb(bilayer=True), (3, 3, 1)
    atoms = primitive.repeat(repeats)
    atoms.positions += np.random.default_rng(1).normal(scale=0.05, size=(len(atoms), 3))
    values, components, hk, sk, basis = unfold_at(primitive, atoms, repeats, kpoint)
    weights = unfolding.total_weights(components)
    assert weights.sum() == pytest.approx(4.0, abs=1e-10)
    assert weights.min() >= -1e-12
    assert weights.max() <= 1 + 1e-12
    np.testing.assert_allclose(components @ components.conj().T, np.eye(4), atol=1e-10)
    # first moment of the spectral function = the Hamiltonian in the orthonormalised Bloch sums
    metric = basis.conj().T @ sk @ basis
    moment = np.trace(np.linalg.solve(metric, basis.conj().T @ hk @ basis)).real
    assert weights @ values == pytest.approx(moment, abs=1e-10)
    # the formula of the module, written out
    inner = basis.conj().T @ sk @ np.linalg.solve(sk, np.eye(len(sk)))
    np.testing.assert_allclose(inner, basis.conj().T, atol=1e-9)
    _, states, _, overlap = solve_at(primitive, kpoint)
    by_band = unfolding.band_weights(components, states, overlap)
    np.testing.assert_allclose(by_band.sum(axis=1), 1.0, atol=1e-10)
    np.testing.assert_allclose(by_band.sum(axis=0), weights, atol=1e-10)


def test_weights_equal_the_published_formula():
    primitive, repeats, kpoint = honeycomb(), (2, 2, 1), [0.1, 0.27, 0.0]
    atoms = primitive.repeat(repeats)
    atoms.positions += np.random.default_rng(2).normal(scale=0.05, size=(len(atoms), 3))
    _, components, _, sk, basis = unfold_at(primitive, atoms, repeats, kpoint)
    _, vectors, _, _ = solve_at(atoms, unfolding.cell_major_map(2, repeats).fold(kpoint))
    projected = basis.conj().T @ sk @ vectors
    metric = basis.conj().T @ sk @ basis
    expected = np.einsum("an,ab,bn->n", projected.conj(), np.linalg.inv(metric), projected).real
    np.testing.assert_allclose(unfolding.total_weights(components), expected, atol=1e-12)


def test_one_solution_serves_k_and_minus_k():
    primitive, repeats = honeycomb(bilayer=True), (6, 6, 1)
    atom_map = unfolding.cell_major_map(4, repeats)
    small = np.array([0.01, 0.01, 0.0])
    corner = np.array([1 / 3, 1 / 3, 0.0])
    solved, index, reverse = unfolding.match_folded(
        atom_map, np.array([corner, corner - small, corner + small, -corner - small])
    )
    assert len(solved) == 2
    np.testing.assert_array_equal(index, [0, 1, 1, 1])
    np.testing.assert_array_equal(reverse, [False, False, True, False])
    atoms = primitive.repeat((3, 3, 1))
    atoms.positions += np.random.default_rng(3).normal(scale=0.05, size=(len(atoms), 3))
    small_map, counts = unfolding.cell_major_map(4, (3, 3, 1)), np.ones(4, dtype=int)
    k = corner + small
    values, vectors, _, sk = solve_at(atoms, small_map.fold(k))
    values_minus, vectors_minus, _, sk_minus = solve_at(atoms, small_map.fold(-k))
    np.testing.assert_allclose(values, values_minus, atol=1e-10)
    direct = unfolding.unfold_states(vectors, sk, small_map, counts, k)
    reverted = unfolding.unfold_states(vectors_minus, sk_minus, small_map, counts, k, reverse=True)
    np.testing.assert_allclose(np.abs(direct), np.abs(reverted), atol=1e-7)
    for power in (1, 2):
        np.testing.assert_allclose(
            (direct * values**power) @ direct.conj().T,
            (reverted * values**power) @ reverted.conj().T,
            atol=1e-9,
        )


def test_bloch_basis_of_atoms_with_different_orbital_counts():
    atom_map = unfolding.cell_major_map(2, (2, 1, 1))
    basis = atom_map.bloch_basis([0.25, 0.0, 0.0], np.array([1, 3])).toarray()
    expected = np.concatenate([np.eye(4), 1j * np.eye(4)]) / np.sqrt(2)
    np.testing.assert_allclose(basis, expected, atol=1e-15)


def test_atom_map_is_verified():
    primitive = honeycomb()
    atoms = primitive.repeat((3, 2, 1))
    atom_map = unfolding.cell_major_map(2, (3, 2, 1))
    arguments = (primitive.positions, primitive.cell.array)
    unfolding.check_atom_map(atom_map, *arguments, atoms.positions, atoms.cell.array)
    swapped = atoms.positions[np.roll(np.arange(12), 1)]
    with pytest.raises(StructureError, match=r"atom \d+ at .* Å from its site"):
        unfolding.check_atom_map(atom_map, *arguments, swapped, atoms.cell.array)
    with pytest.raises(StructureError, match="12 atoms in a cell that is not"):
        unfolding.check_atom_map(
            unfolding.cell_major_map(2, (2, 3, 1)), *arguments, atoms.positions, atoms.cell.array
        )


def test_indefinite_metric_is_refused():
    with pytest.raises(PhysicsError, match=r"eigenvalue -1\.000e\+00"):
        unfolding.loewdin_root(np.diag([-1.0, 2.0]))


def test_average_over_cells_gives_the_overlap_of_the_bloch_sums():
    primitive, repeats = honeycomb(bilayer=True), (2, 3, 1)
    atom_map = unfolding.cell_major_map(len(primitive), repeats)
    atoms = primitive.repeat(repeats)
    atoms.positions += 0.03 * np.random.default_rng(3).normal(size=(len(atoms), 3))
    edge_index, shifts, _, s, _ = tight_binding(atoms, overlap=OVERLAP)
    pairs, pair_shifts, blocks = unfolding.average_cells(atom_map, edge_index, shifts, s)
    counts = np.ones(len(primitive), dtype=int)
    layout = unfolding.lay_out_average(atom_map, edge_index, shifts, s, counts)
    for kpoint in K_POINTS:
        *_, sk = solve_at(atoms, atom_map.fold(kpoint))
        basis = atom_map.bloch_basis(kpoint, counts).toarray()
        averaged = bloch_sum(blocks, pairs, pair_shifts, np.arange(len(primitive) + 1), [kpoint])[0]
        np.testing.assert_allclose(averaged, basis.conj().T @ sk @ basis, atol=1e-12)
        np.testing.assert_allclose(layout.at(kpoint), averaged, atol=1e-13)
