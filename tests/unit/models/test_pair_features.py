"""Features of pairs and their sums: parities, degrees, smoothness, and refused settings."""

from __future__ import annotations

import pytest
import torch

from mlepi.errors import ConfigError
from mlepi.models import PairFeatures
from mlepi.models.backbone import Channels, Edges
from mlepi.models.block_targets import BlockTargets
from mlepi.models.pair_features import PairSums
from mlepi.models.so2 import flat_size

SETTINGS = {
    "node_channels": [3, 3],
    "elements": [6, 7],
    "cutoffs": {"intra": 3.0, "inter": 4.0},
    "mean_neighbours": {"intra": 4.0, "inter": 9.0},
    "channels": [4, 3, 2],
    "pseudo_channels": [0, 2],
    "l_max": 2,
    "num_radial": 6,
    "radial_hidden": [5],
    "envelope_width": 1.0,
    "message_decay": None,
    "norm": "none",
}


def build(name="all", **changes):
    torch.manual_seed(3)
    return PairFeatures(name, **{**SETTINGS, **changes}).double()


def edges_of(vectors):
    """Edges from atom 1 to atom 0 of a structure of two atoms."""
    n = len(vectors)
    zeros = torch.zeros(n, dtype=torch.long)
    lengths = torch.linalg.norm(vectors, dim=1)
    return Edges(zeros + 1, zeros, vectors, lengths, zeros, torch.zeros(2, dtype=torch.long))


def evaluate(module, vectors, nodes):
    species = torch.tensor([0, 1])
    return module.edge_features(nodes, species, edges_of(vectors), None)[0]


def nodes_of(channels=(3, 3)):
    torch.manual_seed(8)
    return torch.randn(2, flat_size(channels), dtype=torch.float64)


def test_nodes_of_both_ends_and_the_length_enter():
    module, nodes = build(), nodes_of()
    vectors = torch.tensor([[0.7, -0.4, 1.1]], dtype=torch.float64)
    _, natural, pseudo = evaluate(module, vectors, nodes)
    assert [order.shape[-1] for order in natural] == [9, 5]  # nodes with l ≤ 1 reach |m| ≤ 1
    assert [order.shape[-1] for order in pseudo] == [2, 2]
    for changed in (0, 1):
        other = nodes.clone()
        other[changed] += 0.1
        assert not torch.allclose(evaluate(module, vectors, other)[1][0], natural[0])
    assert not torch.allclose(evaluate(module, 1.1 * vectors, nodes)[1][0], natural[0])


def test_unnatural_parity_vanishes_where_a_mirror_forbids_it():
    """Nodes whose vectors lie along the edge leave all mirrors that contain it."""
    module = build()
    nodes = torch.zeros(2, flat_size((3, 3)), dtype=torch.float64)
    nodes[:, :3] = 1.0
    nodes[:, 6:9] = torch.tensor([0.5, -1.0, 2.0])  # z components of the vectors: axes (y, z, x)
    along = torch.tensor([[0.0, 0.0, 1.3]], dtype=torch.float64)
    _, _, pseudo = evaluate(module, along, nodes)
    assert all(order.abs().max() < 1e-14 for order in pseudo)
    tilted = torch.tensor([[0.4, 0.0, 1.3]], dtype=torch.float64)
    assert evaluate(module, tilted, nodes)[2][1].abs().max() > 1e-4


@pytest.mark.parametrize(("name", "neighbours"), [("intra", 4.0), ("inter", 9.0), ("all", 13.0)])
def test_weights_of_sums(name, neighbours):
    """A smooth step to zero at the cutoff, over the root of the mean number of neighbours."""
    vectors = torch.tensor([[1.0, 0, 0], [2.5, 0, 0], [3.0, 0, 0]], dtype=torch.float64)
    chunk = evaluate(build(name), vectors, nodes_of())[0]
    expected = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64) / neighbours**0.5
    torch.testing.assert_close(chunk.weight, expected, rtol=1e-14, atol=1e-15)


def test_training_sets_without_a_relation_divide_by_one():
    module = build("inter", mean_neighbours={"intra": 4.0, "inter": 0.0})
    assert module.factor == 1.0


def test_sums_supply_what_nodes_lack():
    targets = BlockTargets([6, 7], {6: [0, 1], 7: [0, 1]})
    assert (targets.natural, targets.pseudo) == ((2, 2, 1), (0, 1))
    pairs = Channels((4, 3, 2), (0, 2))
    sums = PairSums(nodes=Channels((3, 3)), pairs=pairs, targets=targets, n_elements=2)
    assert sums.inputs == [[0, 0, 2], [0, 2]]
    sums = PairSums(nodes=Channels((3, 3, 3), (0, 1)), pairs=pairs, targets=targets, n_elements=2)
    assert sums.inputs == [[0, 0, 0], [0, 0]]


def test_sums_are_those_of_the_edges_in_the_global_frame():
    """Two edges that are mirror images: what is odd cancels, what is even doubles."""
    torch.manual_seed(2)
    targets = BlockTargets([6, 7], {6: [0, 1], 7: [0, 1]})
    module = build()
    sums = PairSums(
        nodes=Channels((3,)), pairs=module.channels, targets=targets, n_elements=2
    ).double()
    assert sums.inputs == [[0, 3, 2], [0, 2]]
    nodes = torch.zeros(2, flat_size((3, 3)), dtype=torch.float64)
    nodes[:, :3] = torch.randn(3, dtype=torch.float64)
    vector = torch.tensor([[0.3, 0.8, -0.5]], dtype=torch.float64)
    parts = {}
    for key, vectors in {"one": vector, "both": torch.cat([vector, -vector])}.items():
        chunk, natural, pseudo = evaluate(module, vectors, nodes)
        parts[key] = sums.add(sums.start(nodes), chunk, (natural, pseudo))
    assert parts["one"][1].abs().max() > 1e-3
    torch.testing.assert_close(parts["both"][1][0], torch.zeros_like(parts["both"][1][0]))
    torch.testing.assert_close(parts["both"][2], 2.0 * parts["one"][2])
    assert not parts["both"][2][1].any()  # atom 1 is nobody's target
    assert sums(parts["both"], torch.tensor([0, 1])).shape == (2, targets.matrix.shape[0])


def test_products_of_scalars_are_refused_where_unnatural_parity_is_wanted():
    with pytest.raises(
        ConfigError, match=r"\[0, 2\] for nodes that are scalars.*l_max_out to 1 at least"
    ):
        build(node_channels=[3])
