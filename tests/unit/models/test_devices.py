"""Nothing is made on the default device: what a network needs lives where its inputs live.

With "meta" as the default device, a tensor that is made without a device meets one that holds data,
and torch refuses. This finds on any machine what would otherwise fail on a GPU alone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from electron_models import CUTOFFS, bilayer
from electron_models import build_model as build_electron
from tiny_networks import CUTOFFS as TINY_CUTOFFS
from tiny_networks import build_network, corrugated_bilayer

from mlepi.graphs.build import build_graph
from mlepi.physics.eigenstates.batched_states import count_batch_below, solve_batch_within


@pytest.mark.parametrize(
    "name",
    [
        "hedgenet_late",
        "hedgenet_per_layer",
        "structure_norm",
        "deeph_e3_exact",
        "no_baseline",
        "hedgenet_mace_late",
        "deeph",
    ],
)
def test_electron_network(name):
    model, graph = build_electron(name), build_graph(bilayer(), CUTOFFS, dtype=torch.float64)
    expected = model(
        graph
    )  # also fills the caches of constant tables, which are made on the CPU and moved
    with torch.device("meta"):
        results = model(graph)
        torch.stack(
            [blocks.square().sum() for blocks in results["edge_blocks"].values()]
        ).sum().backward()
    assert torch.equal(results["onsite_blocks"], expected["onsite_blocks"])


def test_phonon_network():
    model = build_network("phonon").double().train()
    graph = build_graph(corrugated_bilayer(), TINY_CUTOFFS, dtype=torch.float64)
    expected = model(graph, compute_stress=True)
    with torch.device("meta"):
        results = model(graph, compute_stress=True)
        (results["energy"].sum() + results["forces"].square().sum()).backward()
    assert torch.equal(results["forces"], expected["forces"])
    assert torch.equal(results["stress"], expected["stress"])


def test_batched_states():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(2, 300, 300)) / 30.0
    overlaps = torch.from_numpy(root @ root.transpose(0, 2, 1) + np.eye(300))
    hamiltonians = torch.from_numpy(root + root.transpose(0, 2, 1)) * 10.0
    expected = solve_batch_within(hamiltonians, overlaps, 0.0, 0.2)
    energies = torch.tensor([0.1, -0.1], dtype=torch.float64)
    with torch.device("meta"):
        results = solve_batch_within(hamiltonians, overlaps, 0.0, 0.2)
        counts = count_batch_below(hamiltonians, overlaps, energies)
    for ours, theirs in zip(results, expected, strict=True):
        assert torch.equal(ours.values, theirs.values)
        assert len(ours.values) > 0
    assert counts == count_batch_below(hamiltonians, overlaps, energies)
