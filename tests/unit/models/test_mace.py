"""The first layer's short cut, normalisation, and the refusal of impossible settings."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from mlepi.errors import ConfigError
from mlepi.models import MACE, HeteroNetwork, PhononNetwork
from mlepi.models.backbone import Edges
from mlepi.models.message_paths import path_blocks
from mlepi.models.neighbourhoods import coupling_table

SETTINGS = {
    "elements": [6],
    "cutoffs": {"intra": 3.0, "inter": 4.0},
    "mean_neighbours": {"intra": 3.0, "inter": 5.0},
    "num_layers": 2,
    "num_features": 2,
    "l_max": 2,
    "l_max_hidden": 1,
    "l_max_out": 0,
    "correlation": 2,
    "num_bessel": 3,
    "cutoff_power": 5,
    "radial_widths": [4],
}


def test_first_layer_by_elements_equals_the_general_sum():
    """Summing over neighbours of one element before the channels is the same sum."""
    torch.manual_seed(5)
    backbone = MACE("all", **{**SETTINGS, "elements": [6, 7, 8], "num_features": 3}).double()
    species = torch.tensor([0, 2, 2, 0, 0])
    source, target = torch.randint(5, (2, 17))
    vectors = torch.randn(17, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.linalg.norm(vectors, dim=1)
    edges = Edges(
        source, target, vectors, lengths, torch.zeros_like(source), torch.zeros_like(species)
    )
    nodes, state = backbone.embed(species, edges)
    interaction = backbone.interactions[0]
    blocks = path_blocks(interaction.paths)
    table = coupling_table(interaction.paths, backbone.l_max)
    general = dataclasses.replace(state, couplings=state.harmonics @ table)
    assert blocks[-1].coupling.stop == general.couplings.shape[1]
    results = []
    for messages in (
        interaction.from_elements(backbone.embed_elements(state.kinds), state),
        interaction(nodes, general),
    ):
        (first,) = torch.autograd.grad(messages.sin().sum(), vectors, create_graph=True)
        gradients = torch.autograd.grad(
            first.square().sum(), [backbone.embedding, *interaction.parameters()]
        )
        results.append([messages, first, *gradients])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(
            found, expected, rtol=0, atol=1e-12 * float(expected.detach().abs().max())
        )


def test_normaliser_is_that_of_the_relation_or_of_all():
    for name, value in (("intra", 3.0), ("inter", 5.0), ("all", 8.0)):
        assert MACE(name, **SETTINGS).interactions[0].mean_neighbours == value


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"cutoffs": {"intra": 3.0}},
            r"MACE\.cutoffs: got \['intra'\]; expected \['intra', 'inter'\]",
        ),
        ({"mean_neighbours": {"all": 3.0}}, r"MACE\.mean_neighbours: got \['all'\]"),
        ({"l_max_hidden": 3}, r"MACE\.l_max_hidden: got 3; expected 0 … l_max = 2"),
        ({"num_layers": 0}, r"MACE\.num_layers: got 0; expected at least 1"),
        ({"first_self_connection": "none"}, r"MACE\.first_self_connection: got 'none'"),
    ],
)
def test_impossible_settings_are_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        MACE("all", **{**SETTINGS, **changes})


def build_network(relations):
    return HeteroNetwork(elements=[6], relations=relations, backbone=partial(MACE, **SETTINGS))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"atomic_energies": [1.0, 2.0]},
            r"model\.atomic_energies: got 2 values; expected one per element of \(6,\)",
        ),
        ({"energy_scale": 0.0}, r"model\.energy_scale: got 0\.0; expected a positive energy in eV"),
    ],
)
def test_phonon_network_refuses_bad_references(changes, text):
    arguments = {
        "network": build_network({"all": ["intra", "inter"]}),
        "atomic_energies": [1.0],
        "energy_scale": 1.0,
    }
    with pytest.raises(ConfigError, match=text):
        PhononNetwork(**{**arguments, **changes})


def test_sub_network_of_one_relation_bears_its_name():
    network = build_network({"inter": ["intra"], "intra": ["inter"]})
    with pytest.raises(ConfigError, match=r"inter: \['intra'\]; expected the name 'intra'"):
        PhononNetwork(network=network, atomic_energies=[1.0], energy_scale=1.0)


def test_phonon_network_needs_a_backbone():
    network = build_network({"all": ["intra", "inter"]})
    network.backbones["all"] = torch.nn.Identity()
    with pytest.raises(
        ConfigError, match=r"model\.network\.backbone: got Identity; expected a Backbone"
    ):
        PhononNetwork(network=network, atomic_energies=[1.0], energy_scale=1.0)
