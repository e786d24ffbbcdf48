"""Neighbour tables, message paths, and the refusal of impossible settings."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mlepi.errors import ConfigError
from mlepi.models import MACE, HeteroNetwork, PhononNetwork
from mlepi.models.mace import message_paths, neighbour_table

SETTINGS = {
    "elements": [6],
    "cutoffs": {"intra": 3.0, "inter": 4.0},
    "mean_neighbours": {"intra": 3.0, "inter": 5.0},
    "num_layers": 2,
    "num_features": 2,
    "l_max": 2,
    "l_max_hidden": 1,
    "correlation": 2,
    "num_bessel": 3,
    "cutoff_power": 5,
    "radial_widths": [4],
}


def test_neighbour_table_holds_every_edge_once():
    target = torch.tensor([2, 0, 2, 2, 0])
    edge_of_slot, filled = neighbour_table(target, 4)
    assert edge_of_slot.shape == (4, 3)
    assert [sorted(row[mask].tolist()) for row, mask in zip(edge_of_slot, filled, strict=True)] == [[1, 4], [], [0, 2, 3], []]


def test_neighbour_table_without_edges():
    edge_of_slot, filled = neighbour_table(torch.zeros(0, dtype=torch.long), 3)
    assert edge_of_slot.shape == filled.shape == (3, 0)


def test_paths_keep_natural_parity_and_order():
    paths = message_paths(1, 3)
    assert len(paths) == 10  # 0⊗l→l four times; 1⊗0→1, 1⊗1→0,2, 1⊗2→1,3, 1⊗3→2
    assert all((l1 + l2 + l3) % 2 == 0 and abs(l1 - l2) <= l3 <= l1 + l2 for l1, l2, l3 in paths)
    assert paths == sorted(paths, key=lambda path: (path[2], path[0], path[1]))


def test_normaliser_is_that_of_the_relation_or_of_all():
    for name, value in (("intra", 3.0), ("inter", 5.0), ("all", 8.0)):
        assert MACE(name, **SETTINGS).interactions[0].mean_neighbours == value


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"cutoffs": {"intra": 3.0}}, r"MACE\.cutoffs: got \['intra'\]; expected \['intra', 'inter'\]"),
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
        ({"atomic_energies": [1.0, 2.0]}, r"model\.atomic_energies: got 2 values; expected one per element of \(6,\)"),
        ({"energy_scale": 0.0}, r"model\.energy_scale: got 0\.0; expected a positive energy in eV"),
    ],
)
def test_phonon_network_refuses_bad_references(changes, text):
    arguments = {"network": build_network({"all": ["intra", "inter"]}), "atomic_energies": [1.0], "energy_scale": 1.0}
    with pytest.raises(ConfigError, match=text):
        PhononNetwork(**{**arguments, **changes})


def test_sub_network_of_one_relation_bears_its_name():
    network = build_network({"inter": ["intra"], "intra": ["inter"]})
    with pytest.raises(ConfigError, match=r"inter: \['intra'\]; expected the name 'intra'"):
        PhononNetwork(network=network, atomic_energies=[1.0], energy_scale=1.0)


def test_phonon_network_needs_a_backbone():
    network = build_network({"all": ["intra", "inter"]})
    network.backbones["all"] = torch.nn.Identity()
    with pytest.raises(ConfigError, match=r"model\.network\.backbone: got Identity; expected a Backbone"):
        PhononNetwork(network=network, atomic_energies=[1.0], energy_scale=1.0)
