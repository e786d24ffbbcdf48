"""Stacks of layers put together from pairs: where that is exact, and beside DFT."""

from pathlib import Path

import numpy as np
import pytest
from tiny_networks import BASIS, CUTOFFS, build_network, corrugated_bilayer, gaussian_overlap_table

from mlepi import compute_bands, load_model
from mlepi.errors import ConfigError, StructureError
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import read_overlap_table
from mlepi.predictors import ElectronPredictor, LayerPairs
from mlepi.structures import HamiltonianDataset

ROOT = Path(__file__).parents[3]
SHIPPED, DATA = ROOT / "data/checkpoints", ROOT / "data/blg_openmx"
FAR = 6.0  # Å, beyond the cutoff of the tiny network
KPOINTS = [[0.0, 0.0, 0.0], [0.11, 0.23, 0.0]]


@pytest.fixture(scope="module")
def model():
    table = gaussian_overlap_table()
    return ElectronPredictor(
        build_network("electron"), basis=BASIS, cutoffs=CUTOFFS, overlap_table=table
    )


def stack(spacing):
    """A corrugated bilayer with a third layer above, in any order of the atoms."""
    atoms = corrugated_bilayer()
    third = atoms[atoms.arrays["layer"] == 0]
    third.positions += [0.3, 0.1, 3.35 + spacing]
    third.arrays["layer"][:] = 2
    atoms += third
    atoms.cell[2, 2] = 30.0
    return atoms[np.random.default_rng(2).permutation(len(atoms))]


def dense(model, atoms):
    return model.hamiltonian(atoms, dtype="float64").dense_many(KPOINTS)


def test_two_layers_are_those_of_the_network(model):
    atoms = corrugated_bilayer()
    pairs = LayerPairs(model=model, apart=FAR)
    np.testing.assert_array_equal(dense(pairs, atoms), dense(model, atoms))
    np.testing.assert_array_equal(pairs.overlap(atoms).blocks, model.overlap(atoms).blocks)


def test_a_layer_out_of_reach_changes_nothing(model):
    """The sum over pairs is then exact: two neighbours, and a layer alone."""
    atoms = stack(FAR)
    pairs = LayerPairs(model=model, apart=FAR)
    np.testing.assert_allclose(dense(pairs, atoms), dense(model, atoms), atol=1e-10)
    assert [m.blocks.shape for m in pairs.overlaps([atoms])] == [model.overlap(atoms).blocks.shape]


def test_three_layers_give_a_hermitian_matrix_that_the_network_does_not(model):
    atoms = stack(3.35)
    found = dense(LayerPairs(model=model, apart=4.0), atoms)
    np.testing.assert_allclose(found, found.conj().swapaxes(1, 2), atol=1e-10)
    assert np.abs(found - dense(model, atoms)).max() > 1e-3


def test_layers_without_vacuum_and_distances_that_are_none_are_refused(model):
    atoms = stack(3.35)
    atoms.cell[2, 2] = 9.0
    with pytest.raises(StructureError, match=r"layers stacked along c, with 4\.20 Å of vacuum"):
        LayerPairs(model=model, apart=FAR).hamiltonian(atoms)
    with pytest.raises(ConfigError, match=r"electron\.apart: got 0\.0 Å"):
        LayerPairs(model=model, apart=0.0)


def test_trilayer_graphene_has_the_levels_of_dft():
    """The label is in no training; the network by itself is off by more than 1 eV."""
    label = HamiltonianDataset(DATA / "hamiltonians.h5")["trilayer2_0"]
    label = complete_overlaps(label, read_overlap_table(DATA / "overlap_C6.0-s2p2.h5"))
    hamiltonian, overlap = block_matrices(label)
    kpoints = [*KPOINTS, [1 / 3, 2 / 3, 0.0]]
    levels = compute_bands(hamiltonian, overlap, kpoints)
    near = np.abs(levels - label.fermi_energy) < 2.0
    network = load_model(SHIPPED / "hedgenet_electron.ckpt", kind="electron")
    errors = {}
    for model in (network, LayerPairs(model=network, apart=3.8)):
        found = compute_bands(model.hamiltonian(label.atoms), overlap, kpoints)
        change = (found - levels)[near]
        errors[type(model).__name__] = np.sqrt(np.mean((change - np.median(change)) ** 2))
    assert errors["LayerPairs"] < 0.012
    assert errors["ElectronPredictor"] > 0.5
