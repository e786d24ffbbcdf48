"""The DeepH-E3 backbone (Gong et al. 2023, doi:10.1038/s41467-023-38468-8) in SO(2) form.

Node and edge updates alternate; both convolve concat(node_i, node_j, edge_ij) with the harmonics of
the edge. Edge features stay in the frame of their edge through the whole network; nodes are turned
into it and messages back. Departures from the published network, each with its published setting: a
local norm ("structure"), a smooth cutoff (``envelope_width: null``), messages divided by √(mean
number of neighbours) (``mean_neighbours: 1``), no self-loop edges (``self_loops: true``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.models.backbone import Backbone, Channels, Edges, EdgeState, sum_of_neighbours
from mlepi.models.compilation import Backend
from mlepi.models.edge_convolution import ConvolutionSizes, self_loops, split_edges
from mlepi.models.edge_embedding import EdgeEmbedding
from mlepi.models.equivariant_layers import NormKind
from mlepi.models.updates import EdgeUpdate, NodeUpdate


class DeepHE3(Backbone):
    """DeepH-E3 sub-network.

    Args:
        name: of the sub-network: a relation, or any other name for all of them.
        elements: atomic numbers.
        cutoffs: relation → Å.
        num_layers: pairs of node and edge updates; the edge update of the last one belongs to the
            block read-out.
        channels: copies of every degree l of the middle features, natural parity; published
            64x0e+32x1o+16x2e+8x3o+8x4e.
        embedding_channels: scalars of the node and edge embeddings (published 64).
        pseudo_channels: unnatural-parity channels per l that the last node update adds for the
            on-site blocks.
        l_max: largest degree of the edge harmonics.
        num_radial: Gaussians over [0, cutoff] (published 128).
        radial_hidden: hidden widths of the radial networks (published 64, 64).
        envelope_width: Å over which messages and blocks fade out before the cutoff; None switches
            it off.
        message_decay: Å over which messages fall by 1/e, on top of the envelope; None for no decay
            (published).
        mean_neighbours: relation → average number of its edges per atom in the training set; a
            sub-network that sees all relations takes their sum.
        norm: "local", "structure" (published) or "none".
        l_max_out: largest l of the node features after the last layer; None for all of
            ``channels``. Energies need 0.
        self_loops: every atom also has an edge to itself (published), of which only the L = 0
            harmonic is non-zero; on-site blocks are then read from these edges, and the nodes need
            no ``pseudo_channels``.
        relation_feature: embedding and radial networks are told the relation of an edge, as a
            one-hot vector beside its length expansion.
    """

    def __init__(
        self,
        name: str,
        *,
        elements: Sequence[int],
        cutoffs: Mapping[str, float],
        num_layers: int,
        channels: Sequence[int],
        embedding_channels: int,
        pseudo_channels: Sequence[int],
        l_max: int,
        num_radial: int,
        radial_hidden: Sequence[int],
        envelope_width: float | None,
        message_decay: float | None,
        mean_neighbours: Mapping[str, float],
        norm: NormKind,
        l_max_out: int | None,
        self_loops: bool = False,
        relation_feature: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(name, num_layers, channels, pseudo_channels, l_max_out)
        self.num_layers, self.channels, self.pseudo_channels = (
            num_layers,
            tuple(channels),
            tuple(pseudo_channels),
        )
        self.norm, self.n_elements, self.self_loops = norm, len(elements), self_loops
        self.outputs = self.channels if l_max_out is None else self.channels[: l_max_out + 1]
        self.embedding_channels = (embedding_channels,)
        self.node_embedding = nn.Embedding(self.n_elements, embedding_channels)
        self.edge_embedding = EdgeEmbedding(
            num_scalars=embedding_channels,
            num_degrees=len(self.channels),
            n_elements=self.n_elements,
            cutoffs=cutoffs,
            num_radial=num_radial,
            envelope_width=envelope_width,
            message_decay=message_decay,
            relation_feature=relation_feature,
        )
        self.convolution = ConvolutionSizes(
            l_max=l_max,
            num_radial=self.edge_embedding.num_radial,
            radial_hidden=tuple(radial_hidden),
        )
        neighbours = sum_of_neighbours(name, mean_neighbours)
        self.node_updates = nn.ModuleList()
        self.edge_updates = nn.ModuleList()
        for layer in range(num_layers):
            inputs = self.embedding_channels if layer == 0 else self.channels
            last = layer == num_layers - 1
            self.node_updates.append(
                NodeUpdate(
                    node_channels=inputs,
                    edge_channels=inputs,
                    outputs=self.outputs if last else self.channels,
                    pseudo_outputs=self.pseudo_channels if last and not self_loops else (),
                    n_elements=self.n_elements,
                    mean_neighbours=neighbours
                    or 1.0,  # a training set of monolayers has no inter edges
                    norm=norm,
                    **self.convolution,
                )
            )
            if not last:
                self.edge_updates.append(
                    EdgeUpdate(
                        node_channels=self.channels,
                        edge_channels=inputs,
                        outputs=self.channels,
                        n_elements=self.n_elements,
                        norm=norm,
                        **self.convolution,
                    )
                )

    def embed(self, species: Tensor, edges: Edges) -> tuple[Tensor, list[EdgeState]]:
        """Embed elements and lengths, and compute the geometry of all layers.

        In chunks of edges.
        """
        state = [self.edge_embedding(species, chunk) for chunk in split_edges(edges)]
        if self.self_loops:
            loops = self_loops(edges, species.shape[0])
            state.append(self.edge_embedding(species, loops, loops=True))
        return self.node_embedding(species), state

    def update_nodes(
        self, layer: int, nodes: Tensor, species: Tensor, state: list[EdgeState]
    ) -> Tensor:
        """Run one node update."""
        return self.node_updates[layer](nodes, species, state)

    def update_edges(
        self, layer: int, nodes: Tensor, species: Tensor, state: list[EdgeState]
    ) -> list[EdgeState]:
        """Run one edge update."""
        updated = self.edge_updates[layer](nodes, state)
        return [
            replace(chunk, features=features)
            for chunk, (features, _) in zip(state, updated, strict=True)
        ]

    @property
    def node_channels(self) -> Channels:
        """Channels of the node features after the last layer."""
        return Channels(self.outputs, () if self.self_loops else self.pseudo_channels)

    def flat_nodes(self, nodes: Tensor) -> Tensor:
        """Return the node features as they are."""
        return nodes

    def build_edge_source(self) -> EdgeUpdate:
        """Build the edge update of the last layer."""
        return EdgeUpdate(
            node_channels=self.outputs,
            edge_channels=self.embedding_channels if self.num_layers == 1 else self.channels,
            outputs=self.channels,
            pseudo_outputs=self.pseudo_channels,
            n_elements=self.n_elements,
            norm=self.norm,
            **self.convolution,
        )

    def share_radial(self, other: Backbone) -> None:
        """Take the radial networks of another sub-network's updates, one by one.

        The last edge update is part of the read-out and keeps its own.
        """
        theirs = cast(DeepHE3, other)
        pairs = [
            *zip(self.node_updates, theirs.node_updates, strict=True),
            *zip(self.edge_updates, theirs.edge_updates, strict=True),
        ]
        for mine, given in pairs:
            cast("NodeUpdate | EdgeUpdate", mine).convolution.radial_network = cast(
                "NodeUpdate | EdgeUpdate", given
            ).convolution.radial_network

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile the convolutions of all updates."""
        for update in [*self.node_updates, *self.edge_updates]:
            cast("NodeUpdate | EdgeUpdate", update).compile_kernels(backend)

    def scalars(self, layer: int, nodes: Tensor) -> Tensor:
        """Return the scalar channels."""
        return nodes[:, : self.channels[0]]

    def num_scalars(self, layer: int) -> int:
        """Count the scalar channels."""
        return self.channels[0]


def _check_sizes(
    name: str,
    num_layers: int,
    channels: Sequence[int],
    pseudo_channels: Sequence[int],
    l_max_out: int | None,
) -> None:
    """Raise ``ConfigError`` where sizes leave a layer without features, or exceed them."""
    top = len(channels) - 1
    if (
        num_layers < 1
        or len(channels) < 2
        or min(channels) < 1
        or len(pseudo_channels) > len(channels)
        or not 0 <= (top if l_max_out is None else l_max_out) <= top
    ):
        raise ConfigError(
            message(
                f"model.network.backbone ({name})",
                f"num_layers {num_layers}, channels {list(channels)}, pseudo_channels "
                f"{list(pseudo_channels)}, l_max_out {l_max_out}",
                "at least one layer, channels for l = 0 and 1, and neither pseudo_channels nor "
                "l_max_out of higher l than channels",
                "Set num_layers and give channels every l up to the largest one used.",
            )
        )
