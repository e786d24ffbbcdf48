"""What backbones declare about themselves holds, and none ignores a wish for compiled kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from electron_models import CUTOFFS, MODELS, bilayer, build_model
from hydra.utils import instantiate
from tiny_networks import build_config

from mlepi.errors import ConfigError
from mlepi.graphs.build import build_graph
from mlepi.models.backbone import Backbone, Channels
from mlepi.models.compilation import Kernel, compile_method
from mlepi.models.edge_convolution import EdgeConvolution
from mlepi.models.interaction import Interaction
from mlepi.models.native.pieces import NativePieces
from mlepi.models.so2 import flat_size
from mlepi.structures.basis import OrbitalBasis


class Silent(Backbone):
    """Scalars of the elements, without messages."""

    num_layers = 1

    def embed(self, species, edges):
        return species.double().unsqueeze(1), edges

    def update_nodes(self, layer, nodes, species, state):
        return nodes

    @property
    def node_channels(self):
        return Channels((1,))

    def flat_nodes(self, nodes):
        return nodes

    def scalars(self, layer, nodes):
        return nodes

    def num_scalars(self, layer):
        return 1


def test_a_backbone_without_kernels_refuses_to_compile():
    with pytest.raises(
        ConfigError, match=r"compile: got true for the backbone Silent; .* Set compile=false"
    ):
        Silent().compile_kernels()


def test_a_backbone_without_radial_networks_refuses_to_share_them():
    with pytest.raises(
        ConfigError, match=r"shared_radial: got true for the backbone Silent; .*shared_radial=false"
    ):
        Silent().share_radial(Silent())


def test_what_a_backbone_need_not_offer():
    backbone, state = Silent(), object()
    assert backbone.update_edges(0, torch.zeros(1, 1), torch.zeros(1), state) is state
    assert backbone.build_edge_source() is None
    assert not backbone.self_loops


@pytest.mark.parametrize(
    "name", ["deeph_e3", "hedgenet_self_loops", "mace_hamiltonian", "mace_vectors", "deeph"]
)
def test_declared_channels_are_those_of_the_features(name):
    model = build_model(name)
    backbone = next(iter(model.network.sub_networks.values()))
    with torch.no_grad():
        features = model.network(build_graph(bilayer(), CUTOFFS, dtype=torch.float64))
    flat = backbone.flat_nodes(features.nodes[-1])
    channels = backbone.node_channels
    assert flat.shape[1] == flat_size(channels.natural) + flat_size(channels.pseudo)
    scalars = backbone.scalars(backbone.num_layers - 1, features.nodes[-1])
    assert torch.equal(flat[:, : channels.natural[0]], scalars)


def build_phonon_network(name):
    """A tiny MACE, or a DeepH-E3 with the energy as its target."""
    config = build_config("phonon")
    if name == "forces":
        backbone = build_config("electron")["network"]["backbone"]
        config["network"]["backbone"] = {**backbone, "pseudo_channels": [], "l_max_out": 0}
    return instantiate(config, _convert_="all").double()


def kernels_of(model):
    """All exchangeable functions of a network that are worth compiling."""
    for name, module in model.named_modules():
        if isinstance(module, EdgeConvolution):
            yield from (module.features_kernel, module.messages_kernel)
        elif isinstance(module, Interaction) and not name.endswith("interactions.0"):
            pieces = getattr(module.weighted_functions.value, "__self__", None)
            native = isinstance(pieces, NativePieces)  # which leaves the rest to others
            yield (pieces.otherwise if native else module.weighted_functions).value


@pytest.mark.parametrize(
    "name",
    ["deeph_e3", "hedgenet_late", "mace_hamiltonian", "hedgenet_mace_late", "mace", "forces"],
)
def test_every_combination_compiles(name):
    """All its inner functions are exchanged, none stays plain; what they compute, see below."""
    model = build_model(name) if name in MODELS else build_phonon_network(name)
    assert not any(isinstance(kernel, Kernel) for kernel in kernels_of(model))
    compile_method(model)()
    kernels = list(kernels_of(model))
    assert kernels
    assert all(isinstance(kernel, Kernel) for kernel in kernels)


@pytest.mark.slow
def test_compiled_pair_features_change_nothing():
    basis = OrbitalBasis({6: (0, 1), 1: (0,)}, {6: 2.1, 1: 1.5}, {6: "C-s1p1", 1: "H-s1"})
    plain = build_model("mace_vectors", basis=basis, channels="[3,2,1]", pseudo="[0,1]")
    compiled = copy.deepcopy(plain)
    compiled.compile_kernels("eager")
    graph = build_graph(bilayer(), CUTOFFS, dtype=torch.float64)
    expected, found = plain(graph), compiled(graph)
    for key in ("intra", "inter"):
        torch.testing.assert_close(
            found["edge_blocks"][key], expected["edge_blocks"][key], rtol=0, atol=1e-12
        )
    assert torch.allclose(found["onsite_blocks"], expected["onsite_blocks"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["mace_hamiltonian", "hedgenet_mace_late"])
def test_mace_with_one_layer_has_nothing_to_compile(name):
    model = build_model(name)
    for backbone in model.network.sub_networks.values():
        backbone.num_layers = 1
    with pytest.raises(ConfigError, match=r"MACE with one layer, which has no compiled kernels"):
        model.compile_kernels()
