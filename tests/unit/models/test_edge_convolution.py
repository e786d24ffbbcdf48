"""Chunks of edges and compiled kernels: neither may move a number, forward or backward."""

from __future__ import annotations

import copy

import pytest
import torch
from electron_models import CUTOFFS, MODELS, bilayer, build_model

from mlepi.graphs.build import build_graph
from mlepi.models.edge_convolution import EDGES_PER_CHUNK, split_edges
from mlepi.models.hedgenet import HeteroNetwork
from mlepi.structures.basis import OrbitalBasis

NAMES = [
    "deeph_e3",
    "hedgenet_late",
    "hedgenet_per_layer",
    "structure_norm",
    "deeph_e3_exact",
    "hedgenet_self_loops",
    "mace_hamiltonian",
]


def blocks_and_gradients(model, dtype=torch.float64):
    """All blocks, and the gradients of their squares in every parameter and the positions."""
    graph = build_graph(bilayer(), CUTOFFS, dtype=dtype)
    positions = graph["atom"].positions.requires_grad_()
    results = model(graph)
    blocks = [results["onsite_blocks"], *results["edge_blocks"].values()]
    loss = torch.stack([block.square().sum() for block in blocks]).sum()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, [positions, *parameters], allow_unused=True)
    return [*blocks, *(x for x in gradients if x is not None)]


def assert_same(actual, expected, tolerance):
    assert len(actual) == len(expected) > 20
    for first, second in zip(actual, expected, strict=True):
        if second.numel():
            scale = float(second.detach().abs().max())
            torch.testing.assert_close(first, second, rtol=0, atol=tolerance * max(scale, 1.0))


@pytest.mark.parametrize("name", NAMES)
def test_chunks_change_nothing(name, monkeypatch):
    model = build_model(name)
    whole = blocks_and_gradients(model)
    monkeypatch.setitem(EDGES_PER_CHUNK, "cpu", 7)
    assert_same(blocks_and_gradients(model), whole, 1e-12)


def test_chunks_hold_all_edges_in_order(monkeypatch):
    monkeypatch.setitem(EDGES_PER_CHUNK, "cpu", 10)
    edges = HeteroNetwork.collect_edges(build_graph(bilayer(), CUTOFFS), ("intra", "inter"))
    chunks = list(split_edges(edges))
    sizes = [len(chunk.source) for chunk in chunks]
    assert max(sizes) <= 10
    assert max(sizes) - min(sizes) <= 1
    for name in ("source", "target", "vectors", "lengths", "relation"):
        assert torch.equal(
            torch.cat([getattr(chunk, name) for chunk in chunks]), getattr(edges, name)
        )


def test_no_edges_make_one_empty_chunk():
    edges = HeteroNetwork.collect_edges(
        build_graph(bilayer()[:1], {"intra": 1.0, "inter": 1.0}), ("intra",)
    )
    assert [len(chunk.source) for chunk in split_edges(edges)] == [0]


def test_compiled_kernels_change_nothing(monkeypatch):
    """With a compiler that traces and differentiates, without its code generator."""
    basis = OrbitalBasis({6: (0, 1), 1: (0,)}, {6: 2.1, 1: 1.5}, {6: "C-s1p1", 1: "H-s1"})
    small = [f"model.network.backbone.{value}" for value in ("num_layers=1", "l_max=2")]
    monkeypatch.setitem(MODELS, "one layer", ["+model=hedgenet_electron", *small])
    model = build_model("one layer", basis=basis, channels="[3,2,1]", pseudo="[0,1]")
    expected = blocks_and_gradients(model)
    compiled = copy.deepcopy(model)
    compiled.compile_kernels("aot_eager")
    assert compiled.state_dict().keys() == model.state_dict().keys()
    assert_same(blocks_and_gradients(compiled), expected, 1e-12)
    monkeypatch.setitem(EDGES_PER_CHUNK, "cpu", 20)  # the same code for other numbers of edges
    with torch.inference_mode():
        results = compiled(build_graph(bilayer(), CUTOFFS, dtype=torch.float64))
    torch.testing.assert_close(results["onsite_blocks"], expected[0].detach(), rtol=0, atol=1e-12)


def test_sub_networks_share_compiled_code():
    model = build_model("hedgenet_late")
    model.compile_kernels("eager")
    first, second = (
        backbone.node_updates[-1].convolution for backbone in model.network.backbones.values()
    )
    assert first.messages_kernel is second.messages_kernel
