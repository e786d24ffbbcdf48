"""Edge features come from the backbone or from pairs, never both, and must reach all blocks."""

from __future__ import annotations

import pytest
import torch
from electron_models import bilayer, build_config, build_model, predict
from hydra.utils import instantiate

from mlepi.errors import ConfigError
from mlepi.models.backbone import Channels
from mlepi.models.block_readout import build_source, check_channels
from mlepi.models.block_targets import BlockTargets
from mlepi.models.deeph_e3 import DeepHE3
from mlepi.models.pair_features import PairFeatures
from mlepi.models.updates import EdgeUpdate

TARGETS = BlockTargets([6], {6: [0, 1]})


def sources(name):
    return {type(readout.update) for readout in build_model(name).readouts.values()}


def test_each_backbone_has_its_source():
    assert sources("hedgenet_late") == {EdgeUpdate}
    assert sources("hedgenet_mace_late") == {PairFeatures}


@pytest.mark.parametrize(
    ("name", "other", "text"),
    [
        ("deeph_e3", "mace_hamiltonian", "got some for DeepHE3.*model=deeph_e3"),
        ("mace_hamiltonian", "deeph_e3", "got none for MACE.*model=mace_hamiltonian"),
    ],
)
def test_one_source_and_one_only(name, other, text):
    config = build_config(name)
    config["pair_features"] = build_config(other)["pair_features"]
    with pytest.raises(Exception, match=r"model\.pair_features: " + text) as error:
        instantiate(config, _convert_="all")
    assert isinstance(error.value.__cause__ or error.value, ConfigError)


def test_only_backbones_are_read():
    with pytest.raises(ConfigError, match=r"got Identity; expected a Backbone"):
        build_source("all", torch.nn.Identity(), None)


def test_channels_must_cover_the_blocks():
    enough = Channels((2, 1, 1), (0, 1))
    check_channels(TARGETS, nodes=enough, edges=enough)
    check_channels(TARGETS, nodes=None, edges=enough)
    for short in (Channels((2, 1), (0, 1)), Channels((2, 1, 1)), Channels((2, 0, 1), (0, 1))):
        with pytest.raises(ConfigError, match=r"channels for l = 0 … 2 and pseudo_channels"):
            check_channels(TARGETS, nodes=None, edges=short)
        with pytest.raises(ConfigError, match=r"too few degrees"):
            check_channels(TARGETS, nodes=short, edges=enough)


def test_read_outs_of_low_nodes_reach_every_degree():
    """Blocks are whole although nodes with l ≤ 1 make edge features with |m| ≤ 1 alone."""
    blocks = predict(build_model("mace_vectors"), bilayer())
    assert all(block.shape == (10, 10) for block in blocks.values())


def test_deeph_e3_builds_its_last_edge_update():
    model = build_model("deeph_e3")
    backbone = model.network.sub_networks["all"]
    assert isinstance(backbone, DeepHE3)
    own, read = backbone.build_edge_source(), model.readouts["all"].update
    assert own.state_dict().keys() == read.state_dict().keys()
    assert own.channels == Channels(backbone.channels, backbone.pseudo_channels)
