"""The embedding of lengths, the weight of messages, and the frames of edges and self-loops."""

from __future__ import annotations

import math

import pytest
import torch

from mlepi.models.backbone import Edges
from mlepi.models.edge_embedding import EdgeEmbedding
from mlepi.models.wigner import order_rows

VECTORS = torch.tensor([[1.0, 0, 0], [0, 2.5, 0], [0, 0, 3.6]], dtype=torch.float64)


def build(**changes):
    settings = {"envelope_width": 1.0, "message_decay": None, "num_degrees": 3, **changes}
    torch.manual_seed(1)
    cutoffs = {"intra": 3.0, "inter": 4.0}
    return EdgeEmbedding(
        num_scalars=4, n_elements=2, cutoffs=cutoffs, num_radial=5, **settings
    ).double()


def edges_of(vectors, relation=(0, 0, 1)):
    lengths = torch.linalg.norm(vectors, dim=1)
    source, target = torch.tensor([1, 1, 0]), torch.tensor([0, 1, 1])
    return Edges(source, target, vectors, lengths, torch.tensor(relation), torch.zeros(2).long())


def test_weights_fall_to_zero_at_the_cutoff_of_the_relation():
    step = [1.0, 0.5, 0.4**3 * (10.0 - 15.0 * 0.4 + 6.0 * 0.4**2)]
    chunk = build()(torch.tensor([0, 1]), edges_of(VECTORS))
    assert chunk.weight.tolist() == pytest.approx(step)
    decaying = build(message_decay=2.0)(torch.tensor([0, 1]), edges_of(VECTORS))
    expected = [s * math.exp(-r / 2.0) for s, r in zip(step, (1.0, 2.5, 3.6), strict=True)]
    assert decaying.weight.tolist() == pytest.approx(expected)
    hard = build(envelope_width=None)(torch.tensor([0, 1]), edges_of(VECTORS))
    assert hard.weight.tolist() == [1.0, 1.0, 1.0]


def test_pairs_scalars_and_frames():
    module = build()
    chunk = module(torch.tensor([0, 1]), edges_of(VECTORS))
    assert chunk.pair.tolist() == [1, 3, 2]  # target·2 + source
    assert chunk.features[0].shape == (3, 4)
    torch.testing.assert_close(
        chunk.features[0], chunk.radial @ module.weight.T + module.bias, rtol=0, atol=1e-14
    )
    assert [d.shape for d in chunk.rotations] == [(3, n, n) for n in (1, 3, 5)]
    axes = VECTORS[:, [1, 2, 0]] / torch.linalg.norm(VECTORS, dim=1, keepdim=True)
    torch.testing.assert_close(chunk.rotations[1][:, :, 0], axes, rtol=0, atol=1e-14)


def test_loops_stand_in_the_global_frame():
    atoms, zero = torch.arange(2), torch.zeros(2, 3, dtype=torch.float64)
    loops = Edges(atoms, atoms, zero, zero[:, 0], 0 * atoms, 0 * atoms)
    chunk = build()(torch.tensor([0, 1]), loops, loops=True)
    assert chunk.loops
    unit = torch.eye(5, dtype=torch.float64)[:, order_rows(2)]
    assert torch.equal(chunk.rotations[2], unit.expand(2, -1, -1))
