"""Forces of occupied bands and the change of a k-mesh: against forward mode and differences."""

import numpy as np
import pytest
from electron_models import bilayer, build_smooth_predictor

from mlepi.graphs.band_sums import sum_bands
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.predictors.band_forces import change_mesh, compute_band_forces

VALENCE = {6: 4.0, 1: 1.0}
HOT = 30000.0
"""K, so that occupations vary smoothly on any mesh."""


@pytest.fixture(scope="module")
def predictor():
    return build_smooth_predictor("hedgenet_late")


def random_densities(predictor, atoms):
    rng = np.random.default_rng(5)
    return [
        BlockMatrix(
            m.numbers, m.basis, m.edge_index, m.edge_cell_shift, rng.normal(size=m.blocks.shape)
        )
        for m in (predictor.hamiltonian(atoms, dtype="float64"), predictor.overlap(atoms))
    ]


def test_reverse_mode_agrees_with_forward_mode(predictor):
    atoms = bilayer()
    density, energy_density = random_densities(predictor, atoms)
    moves = np.eye(3 * len(atoms)).reshape(-1, len(atoms), 3)
    slopes = predictor.derivatives(atoms, moves)
    expected = np.einsum("eab,deab->d", energy_density.blocks, slopes.overlap.values)
    expected -= np.einsum("eab,deab->d", density.blocks, slopes.hamiltonian.values)
    forces = compute_band_forces(predictor, atoms, density, energy_density)
    np.testing.assert_allclose(forces.ravel(), expected, rtol=0, atol=1e-9 * abs(expected).max())


def test_the_order_of_blocks_and_blocks_of_zero_do_not_matter(predictor):
    atoms = bilayer()
    density, energy_density = random_densities(predictor, atoms)
    forces = compute_band_forces(predictor, atoms, density, energy_density)
    order = np.random.default_rng(0).permutation(len(density.blocks))
    far = np.array([[0], [0]]), np.array([[50, 0, 0]]), np.ones((1, *density.blocks.shape[1:]))
    mixed = BlockMatrix(
        density.numbers,
        density.basis,
        np.concatenate([density.edge_index[:, order], far[0]], axis=1),
        np.concatenate([density.edge_cell_shift[order], far[1]]),
        np.concatenate([density.blocks[order], far[2]]),
    )
    again = compute_band_forces(predictor, atoms, mixed, energy_density)
    np.testing.assert_allclose(again, forces, rtol=0, atol=1e-10)


def test_the_change_of_a_mesh_is_the_slope_of_the_change_of_free_energy(predictor):
    """Moving an atom changes E(dense) − E(mesh) as the forces say, but for the entropy."""
    atoms = bilayer()
    change = change_mesh(predictor, atoms, (2, 1, 1), 2, HOT, valence=VALENCE)
    pair = predictor.hamiltonian(atoms, dtype="float64"), predictor.overlap(atoms)
    electrons = sum(VALENCE[int(z)] for z in atoms.numbers)
    energies = [sum_bands(*pair, mesh, electrons, HOT).energy for mesh in ((2, 1, 1), (4, 1, 1))]
    assert change.energy == pytest.approx(energies[1] - energies[0], abs=1e-9)
    # moving everything changes nothing
    np.testing.assert_allclose(change.forces.sum(axis=0), 0.0, atol=1e-9)
    assert np.abs(change.forces).max() > 1e-3


def test_a_mesh_along_no_direction_changes_nothing(predictor):
    change = change_mesh(predictor, bilayer(), (1, 1, 1), 3, HOT, valence=VALENCE)
    assert change.energy == 0.0
    np.testing.assert_array_equal(change.forces, 0.0)


def test_bands_of_a_label_take_the_place_of_the_network_s(predictor):
    atoms = bilayer()
    pair = predictor.hamiltonian(atoms, dtype="float64"), predictor.overlap(atoms)
    own = change_mesh(predictor, atoms, (2, 1, 1), 2, HOT, valence=VALENCE)
    given = change_mesh(predictor, atoms, (2, 1, 1), 2, HOT, valence=VALENCE, labelled=pair)
    assert own.energy == given.energy
    np.testing.assert_array_equal(own.forces, given.forces)
