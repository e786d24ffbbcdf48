"""The electron predictor.

Hermitian matrices of the right pairs, overlaps from the table, and refusals.
"""

import numpy as np
import pytest
import torch
from ase import Atoms
from tiny_networks import BASIS, CUTOFFS, build_network, corrugated_bilayer, gaussian_overlap_table

from mlepi.errors import ConfigError, DataError, PhysicsError, StructureError
from mlepi.graphs.block_matrix import compute_bands
from mlepi.physics.overlaps import OverlapSample, fit_overlap_table
from mlepi.predictors import ElectronPredictor
from mlepi.structures.basis import OrbitalBasis

K = [0.3, -0.1, 0.0]


@pytest.fixture(scope="module")
def table():
    return gaussian_overlap_table()


@pytest.fixture(scope="module")
def predictor(table):
    return ElectronPredictor(
        build_network("electron").double(), basis=BASIS, cutoffs=CUTOFFS, overlap_table=table
    )


def test_matrices_are_hermitian_and_give_bands(predictor):
    atoms = corrugated_bilayer()
    before = atoms.copy()
    hamiltonian, overlap = predictor.hamiltonian(atoms), predictor.overlap(atoms)
    assert atoms == before
    for matrix in (hamiltonian, overlap):
        assert matrix.blocks.dtype == np.float64
        dense = matrix.dense(K)
        assert dense.shape == (sum(5 if z == 7 else 4 for z in atoms.numbers),) * 2
        np.testing.assert_allclose(dense, dense.conj().T, atol=1e-12)
    assert np.linalg.eigvalsh(overlap.dense(K))[0] > 0
    assert np.isfinite(compute_bands(hamiltonian, overlap, [K])).all()


def test_blocks_of_an_atom_know_nothing_beyond_the_reach(predictor):
    atoms = corrugated_bilayer().repeat((8, 1, 1))
    moved = atoms.copy()
    moved.positions[0] += [0.0, 0.02, 0.03]
    distances = atoms.get_distances(0, range(len(atoms)), mic=True)
    far = np.flatnonzero(distances > predictor.reach + 0.1)
    assert far.size
    before, after = (predictor.hamiltonian(a, dtype="float64") for a in (atoms, moved))
    onsite = []
    for matrix in (before, after):
        source, target = matrix.edge_index
        same = (source == target) & ~matrix.edge_cell_shift.any(axis=1)
        blocks = np.empty((len(atoms), *matrix.blocks.shape[1:]))
        blocks[target[same]] = matrix.blocks[same]
        onsite.append(blocks)
    change = np.abs(onsite[0] - onsite[1]).max(axis=(1, 2))
    assert change[far].max() < 1e-12
    assert change[distances < predictor.reach / 2].max() > 1e-8


def test_a_shift_of_energy_by_the_overlap_shifts_the_bands(predictor):
    atoms = corrugated_bilayer()
    overlap = predictor.overlap(atoms)
    bands = compute_bands(overlap, overlap, [K, [0, 0, 0]])
    np.testing.assert_allclose(bands, 1.0, atol=1e-9)


def test_overlap_covers_all_pairs_within_the_radii(predictor):
    atoms = corrugated_bilayer()
    overlap = predictor.overlap(atoms)
    source, target = overlap.edge_index
    length = np.linalg.norm(
        atoms.positions[source]
        + overlap.edge_cell_shift @ atoms.cell.array
        - atoms.positions[target],
        axis=1,
    )
    radii = np.array([BASIS.radii[int(z)] for z in atoms.numbers])
    assert np.all(length < radii[source] + radii[target])
    n_pairs = 0
    for i in range(len(atoms)):
        for shift in np.ndindex(5, 5, 1):
            vectors = (
                atoms.positions
                + (np.array(shift) - [2, 2, 0]) @ atoms.cell.array
                - atoms.positions[i]
            )
            n_pairs += int(np.sum(np.linalg.norm(vectors, axis=1) < radii + radii[i]))
    assert len(length) == n_pairs
    np.testing.assert_allclose(overlap.blocks[0][:4, :4], np.eye(4), atol=1e-4)


def test_precisions_agree(predictor):
    atoms = corrugated_bilayer()
    single, double = (
        predictor.hamiltonian(atoms, dtype=dtype).blocks for dtype in ("float32", "float64")
    )
    assert 0.0 < np.abs(single - double).max() < 1e-4 * np.abs(double).max()


def test_missing_and_foreign_overlap_tables_are_refused(predictor, table):
    atoms = corrugated_bilayer()
    bare = ElectronPredictor(build_network("electron").double(), basis=BASIS, cutoffs=CUTOFFS)
    with pytest.raises(DataError, match="electron checkpoint: got no overlap table"):
        bare.overlap(atoms)
    np.testing.assert_array_equal(
        bare.overlap(atoms, table).blocks, predictor.overlap(atoms).blocks
    )
    other = gaussian_overlap_table(OrbitalBasis({6: (0, 1), 7: (0, 1)}, BASIS.radii, BASIS.names))
    with pytest.raises(
        DataError, match=r"overlap table, element 7: got shells \(0, 1\).*expected \(0, 0, 1\)"
    ):
        bare.overlap(atoms, other)


def test_a_fitted_table_refuses_distances_it_has_not_seen(predictor, table):
    atoms = corrugated_bilayer()
    overlap = predictor.overlap(atoms)
    vectors = (
        atoms.positions[overlap.edge_index[0]]
        + overlap.edge_cell_shift @ atoms.cell.array
        - atoms.positions[overlap.edge_index[1]]
    )
    sample = OverlapSample(atoms.numbers, overlap.edge_index, vectors, overlap.blocks)
    fitted = fit_overlap_table([sample], table.shells, table.radii, table.names)
    assert predictor.overlap(atoms, fitted).blocks == pytest.approx(overlap.blocks, abs=1e-4)
    squeezed = atoms.copy()
    squeezed.set_cell(atoms.cell * [0.9, 0.9, 1], scale_atoms=True)
    with pytest.raises(PhysicsError, match="distances outside its data"):
        predictor.overlap(squeezed, fitted)


def test_structures_that_cannot_be_used_are_refused(predictor):
    boron = Atoms("B", cell=[5, 5, 5], pbc=True)
    for predict in (predictor.hamiltonian, predictor.overlap):
        with pytest.raises(
            StructureError, match=r"atomic numbers \[5\]; expected only elements of the"
        ):
            predict(boron)
        with pytest.raises(StructureError, match=r"0\.200 Å apart"):
            predict(Atoms("C2", positions=[[0, 0, 0], [0, 0, 0.2]], cell=[5, 5, 5], pbc=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_a_structure_does_not_feel_the_others_of_its_batch(predictor, dtype, tolerance):
    structures = [
        corrugated_bilayer(),
        corrugated_bilayer().repeat((2, 1, 1)),
        corrugated_bilayer(),
    ]
    structures[2].positions[0, 2] += 0.1
    together = predictor.hamiltonians(structures, dtype=dtype)
    for atoms, batched in zip(structures, together, strict=True):
        alone = predictor.hamiltonian(atoms, dtype=dtype)
        np.testing.assert_array_equal(batched.edge_index, alone.edge_index)
        np.testing.assert_array_equal(batched.edge_cell_shift, alone.edge_cell_shift)
        np.testing.assert_allclose(
            batched.blocks, alone.blocks, rtol=0, atol=tolerance * np.abs(alone.blocks).max()
        )
    for atoms, batched in zip(structures, predictor.overlaps(structures), strict=True):
        np.testing.assert_array_equal(batched.blocks, predictor.overlap(atoms).blocks)


def test_kernels_are_compiled_when_asked_for(table):
    network = build_network("electron").double()
    compiled = []
    network.compile_kernels = lambda: compiled.append(True)
    predictor = ElectronPredictor(network, basis=BASIS, cutoffs=CUTOFFS, overlap_table=table)
    before = predictor.hamiltonian(corrugated_bilayer()).blocks
    assert not compiled
    predictor.compile_kernels()
    np.testing.assert_array_equal(predictor.hamiltonian(corrugated_bilayer()).blocks, before)
    assert compiled == [True]
    plain = ElectronPredictor(torch.nn.Linear(1, 1), basis=BASIS, cutoffs=CUTOFFS)
    with pytest.raises(
        ConfigError, match="compile: got true for Linear; expected a network with compiled kernels"
    ):
        plain.compile_kernels()
