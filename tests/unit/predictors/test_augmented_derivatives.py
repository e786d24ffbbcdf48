"""Derivatives of S of augmented waves, third atoms included, and what predictors make of them."""

import numpy as np
import pytest
from ase import Atoms
from augmented_tables import gaussian_augmented_table, gpaw_table
from tiny_networks import BASIS, CUTOFFS, build_network, corrugated_bilayer

from mlepi.errors import DataError
from mlepi.graphs.augmented_pairs import compute_augmented_overlaps, find_augmented_pairs
from mlepi.graphs.block_pairs import find_pairs, list_pairs
from mlepi.predictors import ElectronPredictor, compute_derivatives
from mlepi.predictors.augmented_derivatives import (
    differentiate_augmented,
    differentiate_augmented_kets,
)
from mlepi.predictors.band_forces import compute_band_forces
from mlepi.structures.basis import OrbitalBasis

STEP = 2e-5


@pytest.fixture(scope="module")
def small():
    """Return five atoms, two motions, and the pairs."""
    atoms = corrugated_bilayer()[:5]
    moves = np.random.default_rng(1).normal(size=(2, 5, 3))
    return atoms, moves, find_augmented_pairs(atoms, gaussian_augmented_table())


def displaced(atoms, pairs, *motions):
    """Return S of a displaced structure, on the pairs at rest."""
    moved = atoms.copy()
    moved.positions += sum(motions)
    matrix = compute_augmented_overlaps(moved, gaussian_augmented_table(), BASIS)
    rows = find_pairs(
        list_pairs(matrix.edge_index, matrix.edge_cell_shift),
        list_pairs(pairs.edge_index, pairs.edge_cell_shift),
    )
    return np.where((rows >= 0)[:, None, None], matrix.blocks[rows], 0.0)


def test_first_derivatives_are_limits_of_differences(small):
    atoms, moves, pairs = small
    found = differentiate_augmented(gaussian_augmented_table(), atoms.numbers, pairs, 5, moves)
    for value, move in zip(found, moves, strict=True):
        ends = [displaced(atoms, pairs, sign * STEP * move) for sign in (1, -1)]
        np.testing.assert_allclose(value, (ends[0] - ends[1]) / (2 * STEP), atol=2e-7)
    assert np.abs(found).max() > 0.1


def test_second_derivatives_are_limits_of_differences(small):
    atoms, moves, pairs = small
    one, other = moves
    table = gaussian_augmented_table()
    found = differentiate_augmented(table, atoms.numbers, pairs, 5, one[None], other[None])[0]
    h = 1e-3
    corners = [
        a * b * displaced(atoms, pairs, a * h * one, b * h * other)
        for a in (1, -1)
        for b in (1, -1)
    ]
    np.testing.assert_allclose(found, sum(corners) / (4 * h * h), atol=5e-4)
    assert np.abs(found).max() > 0.5


def test_a_third_atom_that_moves_changes_the_overlap_of_two():
    atoms = Atoms("B2N", [[0, 0, 0], [2.5, 0, 0], [1.25, 0.72, 0]], cell=[30] * 3, pbc=True)
    table = gpaw_table()
    pairs = find_augmented_pairs(atoms, table)
    motion = np.zeros((1, 3, 3))
    motion[0, 2] = [0.0, 1.0, 0.0]
    found = differentiate_augmented(table, atoms.numbers, pairs, 4, motion)[0]
    (pair,) = np.flatnonzero((pairs.edge_index[0] == 1) & (pairs.edge_index[1] == 0))
    assert np.abs(found[pair]).max() > 2e-3


def test_nothing_changes_when_all_atoms_move_together(small):
    atoms, _, pairs = small
    together = np.tile([0.3, -0.2, 0.7], (1, 5, 1))
    found = differentiate_augmented(gaussian_augmented_table(), atoms.numbers, pairs, 5, together)
    np.testing.assert_allclose(found, 0.0, atol=1e-14)


def test_ket_and_bra_share_the_derivative(small):
    atoms, moves, pairs = small
    given = gaussian_augmented_table(), atoms.numbers, pairs, 5, moves
    whole, kets = differentiate_augmented(*given), differentiate_augmented_kets(*given)
    reverse = find_pairs(
        list_pairs(pairs.edge_index, pairs.edge_cell_shift),
        list_pairs(pairs.edge_index[::-1], -pairs.edge_cell_shift),
    )
    np.testing.assert_allclose(kets + kets[:, reverse].swapaxes(2, 3), whole, atol=1e-12)


@pytest.mark.parametrize(("symbol", "slope"), [("B", 0.48559), ("N", 0.62885)])
def test_orbitals_of_an_atom_move_as_its_all_electron_ones(symbol, slope):
    """−⟨χ_s|∂χ_pz/∂z⟩ of one atom: 0.48559 and 0.62885 1/Å, integrated over the radial all-electron
    functions φ̃ + Σ (φ_i − φ̃_i)⟨p̃_i|φ̃⟩ of GPAW 26.7.0; its pseudo-orbitals alone give 0.716, 1.193.
    """
    atoms, table = Atoms(symbol, cell=[30] * 3, pbc=True), gpaw_table()
    pairs = find_augmented_pairs(atoms, table)
    (found,) = differentiate_augmented_kets(
        table, atoms.numbers, pairs, 4, np.array([[[0.0, 0.0, 1.0]]])
    )
    assert found[0, 0, 2] == pytest.approx(-slope, abs=2e-4)  # partial waves are not complete
    np.testing.assert_allclose(found[0], -found[0].T, atol=1e-12)


def test_a_predictor_takes_such_a_table():
    """Its basis may reach further than the orbitals: radii are those of the longest pairs."""
    atoms, table = corrugated_bilayer(), gaussian_augmented_table()
    wide = OrbitalBasis(BASIS.shells, {z: r + 0.4 for z, r in BASIS.radii.items()}, BASIS.names)
    network = build_network("electron").double()
    predictor = ElectronPredictor(network, basis=wide, cutoffs=CUTOFFS, overlap_table=table)
    matrix = predictor.overlap(atoms)
    expected = compute_augmented_overlaps(atoms, table, BASIS)
    np.testing.assert_array_equal(matrix.blocks, expected.blocks)
    assert len(predictor.overlaps([atoms, atoms])) == 2
    motion = np.zeros((1, len(atoms), 3))
    motion[0, 0, 2] = 1.0
    found = compute_derivatives(predictor, atoms, motion)
    pairs = find_augmented_pairs(atoms, table)
    given = table, atoms.numbers, pairs, 5, motion
    np.testing.assert_array_equal(found.overlap.values, differentiate_augmented(*given))
    np.testing.assert_array_equal(found.ket_overlap.values, differentiate_augmented_kets(*given))
    assert predictor.second_derivatives(atoms, motion, motion).ket_overlap is None
    with pytest.raises(DataError, match="band forces: got overlaps of augmented waves"):
        compute_band_forces(predictor, atoms, matrix, matrix)
    other = OrbitalBasis({6: (0, 1), 7: (0, 1)}, BASIS.radii, BASIS.names)
    with pytest.raises(DataError, match=r"overlap table, element 7: got shells \(0, 0, 1\)"):
        ElectronPredictor(network, basis=other, cutoffs=CUTOFFS, overlap_table=table)
