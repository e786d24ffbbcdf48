"""The level shift in the sums of a batch: its blocks, and levels of exact and wrong matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from real_supercells import real_labels, real_supercell
from torch_geometric.data import Batch

from mlepi.graphs import fields
from mlepi.graphs.block_matrix import block_matrices
from mlepi.graphs.build import build_graph
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.training.bloch_sums import bloch_sums
from mlepi.training.electron_errors import (
    METRIC,
    LevelMeasure,
    electron_metrics,
    sum_blocks,
    sum_levels,
)
from mlepi.training.level_errors import choose_kpoints
from mlepi.training.losses import compute_block_errors
from mlepi.training.shifted_blocks import add_by_part

SHIFT = LevelShift(0.01, 5.0, 0.01)
CUTOFFS = {"intra": 6.4, "inter": 6.4}


@pytest.fixture(scope="module")
def sample():
    """Atoms, H and S; their labels twice in a batch, the second time moved in space."""
    atoms = real_supercell()[0]
    labels = real_labels(choose_kpoints(atoms.cell.array, 2)[1])
    graphs = []
    for shift in (0.0, 0.3):
        moved = atoms.copy()
        moved.positions += shift
        graphs.append(build_graph(moved, CUTOFFS, replace(labels, atoms=moved), torch.float64))
        graphs[-1][fields.STRUCTURE] = torch.tensor([len(graphs) - 1])
    return atoms, *block_matrices(labels), Batch.from_data_list(graphs)


def errors_of(batch, change=None):
    """Errors of a network that knows the labels, but for a change of the on-site blocks."""
    atoms = batch[fields.ATOM]
    prediction = {
        "onsite_blocks": atoms[fields.HAMILTONIAN_BLOCKS] + (0.0 if change is None else change),
        "edge_blocks": {
            name: batch[fields.edge_type(name)][fields.HAMILTONIAN_BLOCKS]
            for name in fields.RELATIONS
        },
    }
    return compute_block_errors(prediction, batch, torch.ones(7, 8, dtype=torch.bool))


def test_blocks_of_a_batch_are_those_of_each_structure(sample):
    atoms, _, s, batch = sample
    errors = errors_of(batch)
    added = add_by_part(errors.overlap, batch, s.basis, SHIFT)
    assert {name: part.shape for name, part in added.items()} == {
        name: part.shape for name, part in errors.overlap.items()
    }
    kpoint = np.array([0.21, 0.13, 0.0])
    expected = shift_matrix(atoms, s, SHIFT).dense(kpoint)
    found = bloch_sums(added, batch, errors.exists, torch.from_numpy(np.stack([kpoint] * 2)))
    for matrix in found:
        np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-9)


def test_exact_labels_move_by_the_bias_of_the_shift(sample):
    atoms, h, s, batch = sample
    sums = sum_levels(errors_of(batch), batch, LevelMeasure(2, SHIFT, 2.0), s.basis)
    kpoints = choose_kpoints(atoms.cell.array, 2)
    added = shift_matrix(atoms, s, SHIFT)
    exact = np.array([solve_bands(h.dense(k), s.dense(k)) for k in kpoints])
    raised = np.array([solve_bands(h.dense(k) + added.dense(k), s.dense(k)) for k in kpoints])
    near = np.abs(exact - float(batch[fields.FERMI_ENERGY][0])) <= 2.0
    expected = np.sum((raised - exact)[near] ** 2)
    assert expected > 1e-6
    for number in (0, 1):
        assert float(sums["bands_2ev"][1, number]) < 1e-12
        assert float(sums["shifted_bands_2ev"][1, number]) == pytest.approx(expected, rel=1e-4)
        assert sums["shifted_ghosts"][:, number].tolist() == [0.0, 0.0, 2.0]
        assert sums["soft_states"][:, number].tolist() == [0.0, 0.0, 2.0]


def test_ghosts_are_counted_without_and_with_the_shift(sample):
    """An on-site error of every atom along the softest direction of S at the centre of the zone."""
    _, _, s, batch = sample
    softest = np.linalg.eigh(s.dense(np.zeros(3)).real)[1][:, 0].reshape(4, 8)
    softest /= np.linalg.norm(softest, axis=1)[:, None]
    change = torch.from_numpy(-np.tile(softest[:, :, None] * softest[:, None, :], (2, 1, 1)))
    errors = errors_of(batch, change)
    measure = LevelMeasure(1, LevelShift(0.01, 2.0), 2.0)
    sums = sum_blocks(errors) | sum_levels(errors, batch, measure, s.basis)
    total = {name: values.sum(1) for name, values in sums.items()} | {METRIC: torch.zeros(3)}
    metrics = electron_metrics(total)
    assert metrics["ghosts_per_1000_k"] >= 1000.0
    assert metrics["soft_states_per_1000_k"] >= metrics["ghosts_per_1000_k"]
    assert metrics["shifted_ghosts_per_1000_k"] == 0.0
    assert metrics["shifted_soft_states_kpoints_percent"] == 0.0
    without = sum_levels(errors, batch, LevelMeasure(1), s.basis)
    assert not any(name.startswith("shifted") or name == "soft_states" for name in without)
