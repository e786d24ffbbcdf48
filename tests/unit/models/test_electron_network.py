"""Read-out and preparation of the electron network.

What all configurations share is in tests/contracts.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from electron_models import BASIS, CUTOFFS, bilayer, build_config, build_model, flat_blocks
from hydra.utils import instantiate
from shipped_data import open_shipped, shipped_labels

from mlepi.errors import ConfigError
from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.structures.labelled_structure import LabelledStructure

RANGE = {"intra": 6.351, "inter": 6.351}


def labels_of(graph, name=fields.HAMILTONIAN_BLOCKS) -> torch.Tensor:
    return torch.cat(
        [graph[fields.ATOM][name], *(graph[fields.edge_type(r)][name] for r in fields.RELATIONS)]
    )


def gauge_free_residual(difference, overlap) -> float:
    """Root mean square of ΔH − μS for the best μ, eV."""
    mu = (difference * overlap).sum() / (overlap**2).sum()
    return float((difference - mu * overlap).square().mean().sqrt())


@pytest.fixture(scope="module")
def shipped():
    """Shifted bilayers of the shipped data: graphs to prepare with, and others."""
    names = [name for name in open_shipped().names if name.startswith("slide")]
    structures = shipped_labels(*names[:14])
    graphs = [build_graph(s.atoms, RANGE, s, dtype=torch.float64) for s in structures]
    return structures[0].basis, graphs[0::2], graphs[1::2]


def real_model(basis, baseline="two_center"):
    config = build_config("hedgenet_late", basis=basis, channels="[4,3,2]", pseudo="[0,2]")
    config["cutoffs"] = config["network"]["backbone"]["cutoffs"] = RANGE
    config["baseline"] = baseline
    torch.manual_seed(0)
    return instantiate(config, _convert_="all").double()


def test_prepare_fits_the_shipped_data(shipped):
    """The baseline, from which training starts, leaves little of H, also of unseen structures."""
    basis, training, unseen = shipped
    model = real_model(basis)
    model.prepare(training)
    scales = model.on_site_scale.clone(), model.edge_scale.clone()
    for graphs, share in ((training, 0.20), (unseen, 0.25)):
        for graph in graphs:
            label, overlap = labels_of(graph), labels_of(graph, fields.OVERLAP_BLOCKS)
            with torch.no_grad():
                left = gauge_free_residual(flat_blocks(model(graph)) - label, overlap)
            assert left < share * gauge_free_residual(label, overlap)
    assert all(scale.min() > 0 for scale in scales)
    assert (
        scales[1].max() < 0.5
    )  # eV: the network starts with corrections, not with the Hamiltonian


def test_output_scales_are_those_of_the_residual(shipped):
    """Without a baseline the scale of a shell pair is the root mean square of its labels."""
    basis, training, _ = shipped
    model = real_model(basis, baseline="none")
    model.prepare(training)
    for relation, name in enumerate(fields.RELATIONS):
        blocks = torch.cat(
            [graph[fields.edge_type(name)][fields.HAMILTONIAN_BLOCKS] for graph in training]
        )
        expected = float(blocks[:, :1, :1].square().mean().sqrt())
        assert float(model.edge_scale[relation, 0, 0]) == pytest.approx(expected, rel=1e-6)
    on_site = torch.cat([graph[fields.ATOM][fields.HAMILTONIAN_BLOCKS] for graph in training])
    assert float(model.on_site_scale[0, 0]) == pytest.approx(
        float(on_site[:, 0, 0].square().mean().sqrt()), rel=1e-6
    )


def test_prepare_handles_elements_with_different_shells():
    """Labels made by a random two-centre baseline are found again."""
    truth = build_model("baseline_alone")
    graphs = []
    for seed in range(4):
        atoms = bilayer(seed).repeat((2, 2, 1))
        atoms.positions += 0.1 * np.random.default_rng(seed).normal(size=atoms.positions.shape)
        graph = build_graph(atoms, CUTOFFS, dtype=torch.float64)
        with torch.no_grad():
            out = truth(graph)
        stores = [(graph[fields.ATOM], out["onsite_blocks"])]
        stores += [(graph[fields.edge_type(r)], out["edge_blocks"][r]) for r in fields.RELATIONS]
        for store, blocks in stores:
            store[fields.HAMILTONIAN_BLOCKS] = blocks
            store[fields.OVERLAP_BLOCKS] = torch.zeros_like(blocks)
        identity = torch.as_tensor(BASIS.mask(atoms.numbers)).double()
        graph[fields.ATOM][fields.OVERLAP_BLOCKS] = torch.diag_embed(identity)
        graphs.append(graph)
    model = build_model("baseline_alone", seed=5)
    model.prepare(graphs)
    for graph in graphs:
        label, overlap = labels_of(graph), labels_of(graph, fields.OVERLAP_BLOCKS)
        with torch.no_grad():
            left = gauge_free_residual(flat_blocks(model(graph)) - label, overlap)
        assert left < 0.02 * gauge_free_residual(label, overlap)


def test_prepared_tables_are_saved(shipped):
    basis, training, _ = shipped
    model, other = real_model(basis), real_model(basis)
    model.prepare(training[:2])
    assert not torch.equal(other.baseline.edge_coefficients, model.baseline.edge_coefficients)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(flat_blocks(other(training[0])), flat_blocks(model(training[0])))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"channels": [4, 3]}, "channels for l = 0 … 4"),
        ({"channels": [4, 3, 2, 2]}, "channels for l = 0 … 4"),
        ({"pseudo_channels": [0, 2]}, r"pseudo_channels for every l with \[0, \d+, \d+, \d+\] > 0"),
    ],
)
def test_too_few_degrees_for_the_basis_are_refused(changes, text):
    config = build_config("deeph_e3")
    config["network"]["backbone"].update({"pseudo_channels": [0, 1], **changes})
    with pytest.raises(Exception, match=text) as error:
        instantiate(config, _convert_="all")
    assert isinstance(error.value.__cause__ or error.value, ConfigError)


def test_unknown_baseline_is_refused():
    config = build_config("deeph_e3")
    config["baseline"] = "three_center"
    with pytest.raises(
        Exception, match=r"model\.baseline: got 'three_center'; expected 'two_center' or 'none'"
    ):
        instantiate(config, _convert_="all")


def test_shipped_labels_are_hermitian_in_the_graph(shipped):
    """The label conventions are those of the predictions."""
    _, training, _ = shipped
    for relation in fields.RELATIONS:
        store = training[0][fields.edge_type(relation)]
        blocks = store[fields.HAMILTONIAN_BLOCKS]
        torch.testing.assert_close(
            blocks, blocks[store[fields.REVERSE_EDGE]].transpose(1, 2), rtol=0, atol=1e-6
        )
    assert isinstance(open_shipped()[0], LabelledStructure)
