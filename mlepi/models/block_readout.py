"""From the features of edges to the irreps of their blocks, for any backbone.

A backbone with edge features makes them itself; the others get ``PairFeatures``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.models.backbone import Backbone, Channels, EdgeFeatureSource, EdgeState
from mlepi.models.block_targets import BlockTargets
from mlepi.models.equivariant_layers import DegreeLinear
from mlepi.models.hedgenet import HeteroFeatures
from mlepi.models.pair_features import PairFeatures
from mlepi.models.so2 import EdgeFeatures, fill_orders, join_degrees, to_degrees


class EdgeBlockReadout(nn.Module):
    """Edge features of one sub-network and the linear map to the irreps of a block.

    Args:
        source: makes the edge features.
        targets: irreps that a block needs.
        n_pairs: number of element pairs.
    """

    def __init__(self, source: EdgeFeatureSource, targets: BlockTargets, n_pairs: int) -> None:
        super().__init__()
        self.update = source
        self.natural = DegreeLinear(
            inputs=source.channels.natural, outputs=targets.natural, num_types=n_pairs, bias=True
        )
        self.pseudo = DegreeLinear(
            inputs=source.channels.pseudo, outputs=targets.pseudo, num_types=n_pairs
        )

    def forward(
        self, nodes: Tensor, features: HeteroFeatures, name: str
    ) -> Iterator[tuple[EdgeState, Tensor, tuple[EdgeFeatures, EdgeFeatures]]]:
        """Yield every chunk of edges, the irreps of its blocks in the edge frame, and its features.

        Args:
            nodes: fused node features, flat.
            features: of the combination.
            name: of the sub-network.

        Yields:
            The chunk, (n_edges, n_targets), and features of natural and unnatural parity.
        """
        matrices, pseudo_matrices = self.natural.matrices(), self.pseudo.matrices()
        chunks = self.update.edge_features(
            nodes, features.species, features.edges[name], features.states[name]
        )
        for chunk, natural, pseudo in chunks:
            parts = self._degrees(self.natural, natural, chunk.pair, matrices)
            if self.pseudo.outputs:
                parts += self._degrees(self.pseudo, pseudo, chunk.pair, pseudo_matrices)
            yield chunk, join_degrees(parts), (natural, pseudo)

    @staticmethod
    def _degrees(
        linear: DegreeLinear, features: EdgeFeatures, pair: Tensor, matrices: list[Tensor]
    ) -> list[Tensor]:
        orders = fill_orders(linear.edges(features, pair, matrices), linear.outputs)
        return to_degrees(orders, linear.outputs)


def build_source(
    name: str, backbone: Backbone, pair_features: Callable[..., PairFeatures] | None
) -> EdgeFeatureSource:
    """Build what makes the edge features of one sub-network: its own, or pair features.

    Args:
        name: of the sub-network.
        backbone: the sub-network.
        pair_features: see ``ElectronNetwork``.

    Raises:
        ConfigError: the network is no backbone, or there is none or both of the two.
    """
    if not isinstance(backbone, Backbone):
        raise ConfigError(
            message(
                "model.network.backbone",
                type(backbone).__name__,
                "a Backbone",
                "Name one of mlepi.models in model.network.backbone._target_.",
            )
        )
    own = backbone.build_edge_source()
    if (own is None) == (pair_features is None):
        kind = type(backbone).__name__
        raise ConfigError(
            message(
                "model.pair_features",
                f"{'none' if own is None else 'some'} for {kind}",
                "those of a backbone without edge features, null for others",
                f"Take pair_features of model={'mace_hamiltonian' if own is None else 'deeph_e3'}.",
            )
        )
    if pair_features is not None:
        return pair_features(name, node_channels=backbone.node_channels.natural)
    return cast(EdgeFeatureSource, own)


def check_channels(targets: BlockTargets, *, nodes: Channels | None, edges: Channels) -> None:
    """Raise ``ConfigError`` when features lack a degree or a parity that blocks need.

    Args:
        targets: irreps of a block.
        nodes: channels of the node features, if on-site blocks are read from them alone.
        edges: channels of the edge features.
    """
    found = [edges] if nodes is None else [nodes, edges]
    if not all(_covers(channels, targets) for channels in found):
        shown = ", ".join(f"{list(c.natural)} and {list(c.pseudo)}" for c in found)
        raise ConfigError(
            message(
                "model.network.backbone",
                f"too few degrees: {shown} of natural and unnatural parity",
                f"channels for l = 0 … {len(targets.natural) - 1} and pseudo_channels for every l "
                f"with {list(targets.pseudo)} > 0",
                "Extend channels and pseudo_channels to what the blocks of this basis need.",
            )
        )


def _covers(channels: Channels, targets: BlockTargets) -> bool:
    return all(
        l < len(present) and present[l] > 0
        for present, counts in (
            (channels.natural, targets.natural),
            (channels.pseudo, targets.pseudo),
        )
        for l, count in enumerate(counts)
        if count
    )
