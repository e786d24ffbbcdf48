"""The DeepH backbone (Li et al. 2022, doi:10.1038/s43588-022-00265-6, arXiv:2104.03786).

Node and edge features are numbers that no rotation changes, made of lengths alone; directions enter
in the read-out, ``local_messages``, which looks at neighbours from the local frame of an edge.
Every atom has an edge to itself, as published: it carries messages, and the on-site block is read
from it. Departures from the published network, each with its published setting: a local norm
("structure"), a smooth cutoff (``envelope_width: null``), messages divided by √(mean number of
neighbours) (``mean_neighbours: 1``), near-collinear neighbours that fix no frame (``min_sine:
1e-6``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.models.backbone import Backbone, Channels, Edges, sum_of_neighbours
from mlepi.models.edge_convolution import self_loops
from mlepi.models.equivariant_layers import NormKind
from mlepi.models.invariant_messages import EdgePerceptron, GatedUpdate, InvariantEdges
from mlepi.models.local_messages import LocalFrameSource
from mlepi.models.radial import GaussianBasis, smooth_step_envelope


class DeepH(Backbone):
    """DeepH sub-network: invariant messages, blocks predicted in local frames.

    Its frames are its weakness. Where an atom changes place with another as the nearest neighbour,
    the frame jumps; what the network has learned in one frame need not be what it says in the
    other, so blocks jump and have no derivative there. Its frames are all right-handed: it knows
    rotations, but must learn from data what inversion and mirrors do.

    Args:
        name: of the sub-network: a relation, or any other name for all of them.
        elements: atomic numbers.
        cutoffs: relation → Å.
        num_layers: pairs of node and edge updates; the edge update of the last one belongs to the
            read-out (published 5).
        node_features: width of the nodes (published 64).
        edge_features: width of the edges, and number of Gaussians over [0, the largest cutoff]
            (published 128 up to 6 Å).
        hidden: width inside edge updates and read-out (published 128).
        l_max: largest degree of the harmonics in the local frame (published 4).
        channels: copies of every degree l, natural parity, from which blocks are made.
        pseudo_channels: of unnatural parity.
        message_width: σ of the weights exp(−r²/2σ²) of messages, Å (published 3).
        envelope_width: Å over which messages fade out before the cutoff; None switches it off.
        mean_neighbours: relation → average number of its edges per atom in the training set; a
            sub-network that sees all relations takes their sum.
        norm: "local", "structure" (published) or "none".
        min_sine: neighbours whose direction has a smaller sine with that of the edge do not fix its
            frame.
    """

    self_loops = True

    def __init__(
        self,
        name: str,
        *,
        elements: Sequence[int],
        cutoffs: Mapping[str, float],
        num_layers: int,
        node_features: int,
        edge_features: int,
        hidden: int,
        l_max: int,
        channels: Sequence[int],
        pseudo_channels: Sequence[int],
        message_width: float,
        envelope_width: float | None,
        mean_neighbours: Mapping[str, float],
        norm: NormKind,
        min_sine: float,
    ) -> None:
        super().__init__()
        _check_sizes(name, num_layers, node_features, edge_features, l_max, min_sine)
        self.num_layers, self.node_features = num_layers, node_features
        self.n_elements, self.message_width = len(elements), message_width
        self.envelope_width, self.cutoffs = envelope_width, dict(cutoffs)
        neighbours = sum_of_neighbours(name, mean_neighbours)
        # a training set of monolayers has no inter edges
        self.factor = 1.0 / math.sqrt(neighbours or 1.0)
        self.embedding = nn.Embedding(self.n_elements, node_features)
        self.radial_basis = GaussianBasis(max(cutoffs.values()), edge_features)
        widths = {"node_features": node_features, "edge_features": edge_features}
        self.node_updates = nn.ModuleList(
            GatedUpdate(**widths, norm=norm) for _ in range(num_layers)
        )
        self.edge_updates = nn.ModuleList(
            EdgePerceptron(**widths, hidden=hidden, outputs=edge_features)
            for _ in range(num_layers - 1)
        )
        self.read: dict[str, Any] = {
            **widths,
            "hidden": hidden,
            "l_max": l_max,
            "channels": Channels(tuple(channels), tuple(pseudo_channels)),
            "min_sine": min_sine,
        }

    def embed(self, species: Tensor, edges: Edges) -> tuple[Tensor, InvariantEdges]:
        """Embed elements and lengths, and add the self-loops."""
        n_atoms = species.shape[0]
        loops = self_loops(edges, n_atoms)
        both = Edges(
            source=torch.cat([edges.source, loops.source]),
            target=torch.cat([edges.target, loops.target]),
            vectors=torch.cat([edges.vectors, loops.vectors]),
            lengths=torch.cat([edges.lengths, loops.lengths]),
            relation=torch.cat([edges.relation, loops.relation]),
            structure=edges.structure,
        )
        named = fields.order_relations(self.cutoffs)
        cutoffs = both.lengths.new_tensor([self.cutoffs[relation] for relation in named])
        envelope = smooth_step_envelope(both.lengths, cutoffs[both.relation], self.envelope_width)
        if edges.weight is not None:
            envelope = envelope * torch.cat([edges.weight, torch.ones_like(loops.lengths)])
        damping = torch.exp(-0.5 * (both.lengths / self.message_width) ** 2)
        radial, nodes = self.radial_basis(both.lengths), self.embedding(species)
        return nodes, InvariantEdges(
            edges=both,
            radial=radial,
            envelope=envelope,
            weight=envelope * damping * self.factor,
            pair=species[both.target] * self.n_elements + species[both.source],
            features=radial,
            first_nodes=nodes,
            first_features=radial,
        )

    def update_nodes(
        self, layer: int, nodes: Tensor, species: Tensor, state: InvariantEdges
    ) -> Tensor:
        """Run one node update; every second layer begins with the skip connection."""
        begin = state.first_nodes if layer % 2 == 0 else nodes
        return cast(Tensor, self.node_updates[layer](begin, state))

    def update_edges(
        self, layer: int, nodes: Tensor, species: Tensor, state: InvariantEdges
    ) -> InvariantEdges:
        """Run one edge update; the skip connections end after every second layer."""
        features = self.edge_updates[layer](nodes, state)
        if layer % 2 == 0:
            return replace(state, features=features)
        features = state.first_features + features
        return replace(
            state,
            features=features,
            first_nodes=state.first_nodes + nodes,
            first_features=features,
        )

    @property
    def node_channels(self) -> Channels:
        """Scalars alone."""
        return Channels((self.node_features,))

    def flat_nodes(self, nodes: Tensor) -> Tensor:
        """Return the node features as they are."""
        return nodes

    def scalars(self, layer: int, nodes: Tensor) -> Tensor:
        """Return all node features."""
        return nodes

    def num_scalars(self, layer: int) -> int:
        """Count the node features."""
        return self.node_features

    def build_edge_source(self) -> LocalFrameSource:
        """Build the last edge update and what looks at neighbours from local frames."""
        return LocalFrameSource(**self.read)


def _check_sizes(
    name: str, num_layers: int, node_features: int, edge_features: int, l_max: int, min_sine: float
) -> None:
    """Raise ``ConfigError`` where sizes leave a layer without features, or no neighbour a frame."""
    harmonics = (l_max + 1) ** 2
    if (
        num_layers < 1
        or node_features < 1
        or l_max < 0
        or edge_features <= harmonics
        or not 0.0 < min_sine < 0.5
    ):
        raise ConfigError(
            message(
                f"model.network.backbone ({name})",
                f"num_layers {num_layers}, node_features {node_features}, edge_features "
                f"{edge_features}, l_max {l_max}, min_sine {min_sine}",
                f"at least one layer and node feature, more than (l_max + 1)² = {harmonics} edge "
                "features, of which the harmonics take the place, and min_sine in (0, 0.5)",
                "Edit size.deeph or model.network.backbone.",
            )
        )
