"""The DeepH-E3 backbone (Gong et al. 2023, doi:10.1038/s41467-023-38468-8) in SO(2) form.

Node and edge updates alternate; both convolve concat(node_i, node_j, edge_ij) with the harmonics of the edge. Edge
features stay in the frame of their edge through the whole network; nodes are turned into it and messages back.
Departures from the published network, each with its published setting: a local norm ("structure"), a smooth cutoff
(``envelope_width: null``), messages divided by √(mean number of neighbours) (``mean_neighbours: 1``), no self-loop edges
(``self_loops: true``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.models.equivariant_layers import DegreeLinear, EquivariantNorm, Gate, NormKind
from mlepi.models.hedgenet import Backbone, Edges
from mlepi.models.radial import GaussianBasis, RadialMLP
from mlepi.models.so2 import (
    EdgeFeatures,
    SO2Product,
    flat_size,
    join_degrees,
    rotate_to_edges,
    rotate_to_global,
    split_degrees,
    to_degrees,
    to_orders,
)
from mlepi.models.wigner import edge_frames, wigner_matrices

GAUSSIAN_POWER = math.sqrt(math.pi)
"""Σ_k exp(−(r − μ_k)²/Δ²) of Gaussians as wide as their spacing: the squared norm of the expansion."""


@dataclass(frozen=True)
class EdgeState:
    """What one sub-network keeps per edge; with self-loops these are the last rows, one per atom, in the global frame.

    Attributes:
        edges: the edges.
        matrices: Wigner matrices from the edge frame to the global frame, one (n_edges, 2l+1, 2l+1) per l.
        radial: (n_edges, num_radial), expansion of the length.
        weight: (n_edges,), of messages: decays with the length and is smoothly 0 at the cutoff.
        pair: (n_edges,) int, element pair, target·n_elements + source.
        features: edge features in the edge frame.
        num_loops: number of self-loops.
    """

    edges: Edges
    matrices: list[Tensor]
    radial: Tensor
    weight: Tensor
    pair: Tensor
    features: EdgeFeatures
    num_loops: int = 0


def append_self_loops(edges: Edges, n_atoms: int) -> Edges:
    """Return the edges followed by an edge of zero length from every atom to itself, counted to the first relation."""
    atoms = torch.arange(n_atoms, device=edges.source.device)
    return Edges(
        source=torch.cat([edges.source, atoms]),
        target=torch.cat([edges.target, atoms]),
        vectors=torch.cat([edges.vectors, edges.vectors.new_zeros(n_atoms, 3)]),
        lengths=torch.cat([edges.lengths, edges.lengths.new_zeros(n_atoms)]),
        relation=torch.cat([edges.relation, torch.zeros_like(atoms)]),
        structure=edges.structure,
    )


def smooth_step_envelope(lengths: Tensor, cutoffs: Tensor, width: float | None) -> Tensor:
    """Return a factor that is 1 up to ``cutoff − width`` and falls to 0 at the cutoff with two vanishing derivatives.

    Args:
        lengths: (n_edges,), Å.
        cutoffs: (n_edges,), Å.
        width: Å; None gives 1 everywhere (the published hard edge list).
    """
    if width is None:
        return torch.ones_like(lengths)
    x = ((cutoffs - lengths) / width).clamp(0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


class ConvolutionSizes(TypedDict):
    """Sizes that all convolutions of a sub-network share: see ``EdgeConvolution``."""

    l_max: int
    num_radial: int
    radial_hidden: Sequence[int]


class EdgeConvolution(nn.Module):
    """concat(node_i, node_j, edge_ij) ⊗ Y(edge), gate, one radial factor per channel; result in the edge frame.

    Args:
        node_channels: channels of every l of the nodes.
        edge_channels: of the edges.
        outputs: natural-parity output channels.
        pseudo_outputs: unnatural-parity output channels.
        l_max: largest degree of the harmonics.
        num_radial: size of the length expansion.
        radial_hidden: hidden widths of the radial network.
    """

    def __init__(
        self,
        *,
        node_channels: Sequence[int],
        edge_channels: Sequence[int],
        outputs: Sequence[int],
        pseudo_outputs: Sequence[int] = (),
        l_max: int,
        num_radial: int,
        radial_hidden: Sequence[int],
    ) -> None:
        super().__init__()
        self.gate = Gate(outputs, pseudo_outputs)
        pair_channels = [2 * count for count in node_channels]
        wanted, unnatural = self.gate.inputs, tuple(pseudo_outputs)
        self.node_product = SO2Product(inputs=pair_channels, outputs=wanted, pseudo_outputs=unnatural, l_max=l_max)
        self.edge_product = SO2Product(inputs=edge_channels, outputs=wanted, pseudo_outputs=unnatural, l_max=l_max)
        self.radial_network = RadialMLP([num_radial, *radial_hidden, sum(outputs) + sum(pseudo_outputs)])

    def forward(self, nodes: Sequence[Tensor], state: EdgeState) -> tuple[EdgeFeatures, EdgeFeatures]:
        """Return natural and unnatural edge-frame features of every edge.

        Args:
            nodes: per-l node features (n_atoms, 2l+1, node_channels[l]).
            state: edges and their features.
        """
        edges = state.edges
        pairs = [torch.cat([part[edges.target], part[edges.source]], dim=2) for part in nodes]
        node_natural, node_pseudo = self.node_product(to_orders(rotate_to_edges(pairs, state.matrices)), state.num_loops)
        edge_natural, edge_pseudo = self.edge_product(state.features, state.num_loops)
        natural = [(a + b) * math.sqrt(0.5) for a, b in zip(node_natural, edge_natural, strict=True)]
        pseudo = [(a + b) * math.sqrt(0.5) for a, b in zip(node_pseudo, edge_pseudo, strict=True)]
        return self.gate(natural, pseudo, self.radial_network(state.radial))


class NodeUpdate(nn.Module):
    """Linear → convolution → sum over edges → linear → + element self-connection → norm → + skip."""

    def __init__(
        self,
        *,
        node_channels: Sequence[int],
        edge_channels: Sequence[int],
        outputs: Sequence[int],
        pseudo_outputs: Sequence[int],
        n_elements: int,
        mean_neighbours: float,
        norm: NormKind,
        **convolution: Unpack[ConvolutionSizes],
    ) -> None:
        super().__init__()
        self.node_channels, self.outputs, self.pseudo_outputs = tuple(node_channels), tuple(outputs), tuple(pseudo_outputs)
        self.factor = 1.0 / math.sqrt(mean_neighbours)
        self.before = DegreeLinear(inputs=node_channels, outputs=node_channels, bias=True)
        self.convolution = EdgeConvolution(
            node_channels=node_channels,
            edge_channels=edge_channels,
            outputs=outputs,
            pseudo_outputs=pseudo_outputs,
            **convolution,
        )
        self.after = DegreeLinear(inputs=outputs, outputs=outputs, bias=True)
        self.after_pseudo = DegreeLinear(inputs=pseudo_outputs, outputs=pseudo_outputs) if pseudo_outputs else None
        self.self_connection = DegreeLinear(inputs=node_channels, outputs=outputs, num_types=n_elements)
        self.norm = EquivariantNorm(outputs, norm)
        same = self.node_channels == self.outputs
        self.skip = None if same else DegreeLinear(inputs=node_channels, outputs=outputs)

    def forward(self, nodes: Tensor, species: Tensor, state: EdgeState) -> Tensor:
        """Return flat node features: natural parity first, then unnatural."""
        parts = split_degrees(nodes, self.node_channels)
        natural, pseudo = self.convolution(self.before.nodes(parts), state)
        messages = rotate_to_global(to_degrees(natural, self.outputs), state.matrices)
        if pseudo:
            messages += rotate_to_global(to_degrees(pseudo, self.pseudo_outputs), state.matrices)
        flat = join_degrees(messages) * (state.weight * self.factor).unsqueeze(1)
        total = flat.new_zeros(nodes.shape[0], flat.shape[1]).index_add(0, state.edges.target, flat)
        size = flat_size(self.outputs)
        gathered = split_degrees(total[:, :size], self.outputs)
        updated = [a + b for a, b in zip(self.after.nodes(gathered), self.self_connection.nodes(parts, species), strict=True)]
        result = self.norm.nodes(join_degrees(updated), state.edges.structure)
        result = result + (nodes if self.skip is None else join_degrees(self.skip.nodes(parts)))
        if self.after_pseudo is None:
            return result
        unnatural = self.after_pseudo.nodes(split_degrees(total[:, size:], self.pseudo_outputs))
        return torch.cat([result, join_degrees(unnatural)], dim=1)


class EdgeUpdate(nn.Module):
    """The same as the node update without the sum, for edges and element pairs, all in the edge frame."""

    def __init__(
        self,
        *,
        node_channels: Sequence[int],
        edge_channels: Sequence[int],
        outputs: Sequence[int],
        pseudo_outputs: Sequence[int] = (),
        n_elements: int,
        norm: NormKind,
        **convolution: Unpack[ConvolutionSizes],
    ) -> None:
        super().__init__()
        self.node_channels = tuple(node_channels)
        self.before = DegreeLinear(inputs=edge_channels, outputs=edge_channels, bias=True)
        self.convolution = EdgeConvolution(
            node_channels=node_channels,
            edge_channels=edge_channels,
            outputs=outputs,
            pseudo_outputs=pseudo_outputs,
            **convolution,
        )
        self.after = DegreeLinear(inputs=outputs, outputs=outputs, bias=True)
        self.self_connection = DegreeLinear(inputs=edge_channels, outputs=outputs, num_types=n_elements**2)
        self.norm = EquivariantNorm(outputs, norm)
        self.skip = None if tuple(edge_channels) == tuple(outputs) else DegreeLinear(inputs=edge_channels, outputs=outputs)

    def forward(self, nodes: Tensor, state: EdgeState) -> tuple[EdgeFeatures, EdgeFeatures]:
        """Return natural- and unnatural-parity edge features.

        Args:
            nodes: flat node features; unnatural-parity columns beyond ``node_channels`` are ignored.
            state: edges and their features.
        """
        parts = split_degrees(nodes[:, : flat_size(self.node_channels)], self.node_channels)
        inner = replace(state, features=self.before.edges(state.features))
        natural, pseudo = self.convolution(parts, inner)
        updated = [
            a + b for a, b in zip(self.after.edges(natural), self.self_connection.edges(state.features, state.pair), strict=True)
        ]
        result = self.norm.edges(updated, state.matrices, state.edges.structure[state.edges.target])
        skipped = state.features if self.skip is None else self.skip.edges(state.features)
        return [a + b for a, b in zip(result, skipped, strict=True)], pseudo


class DeepHE3(Backbone):
    """DeepH-E3 sub-network.

    Args:
        name: of the sub-network: a relation, or any other name for all of them.
        elements: atomic numbers.
        cutoffs: relation → Å.
        num_layers: pairs of node and edge updates; the edge update of the last one belongs to the block read-out.
        channels: copies of every degree l of the middle features, natural parity; published 64x0e+32x1o+16x2e+8x3o+8x4e.
        embedding_channels: scalars of the node and edge embeddings (published 64).
        pseudo_channels: unnatural-parity channels per l that the last node update adds for the on-site blocks.
        l_max: largest degree of the edge harmonics.
        num_radial: Gaussians over [0, cutoff] (published 128).
        radial_hidden: hidden widths of the radial networks (published 64, 64).
        envelope_width: Å over which messages and blocks fade out before the cutoff; None switches it off.
        message_decay: Å over which messages fall by 1/e, on top of the envelope; None for no decay (published).
        mean_neighbours: relation → average number of its edges per atom in the training set; a sub-network that sees all
            relations takes their sum.
        norm: "local", "structure" (published) or "none".
        self_loops: every atom also has an edge to itself (published), of which only the L = 0 harmonic is non-zero; on-site
            blocks are then read from these edges, and the nodes need no ``pseudo_channels``.
    """

    cutoffs: Tensor  # (n_relations,), Å

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
        self_loops: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1 or len(channels) < 2 or min(channels) < 1 or len(pseudo_channels) > len(channels):
            raise ConfigError(
                message(
                    f"model.network.backbone ({name})",
                    f"num_layers {num_layers}, channels {list(channels)}, pseudo_channels {list(pseudo_channels)}",
                    "at least one layer, channels for l = 0 and 1, and no pseudo_channels of higher l than channels",
                    "Edit the config.",
                )
            )
        self.num_layers, self.channels, self.pseudo_channels = num_layers, tuple(channels), tuple(pseudo_channels)
        self.l_max, self.envelope_width, self.message_decay, self.norm = l_max, envelope_width, message_decay, norm
        self.n_elements, self.self_loops = len(elements), self_loops
        self.register_buffer(
            "cutoffs", torch.tensor([cutoffs[r] for r in fields.RELATIONS], dtype=torch.float64), persistent=False
        )
        self.embedding_channels = (embedding_channels,)
        self.node_embedding = nn.Embedding(self.n_elements, embedding_channels)
        self.edge_embedding = nn.Linear(num_radial, embedding_channels)
        self.radial_basis = GaussianBasis(max(cutoffs.values()), num_radial)
        self.radial_scale = math.sqrt(num_radial / GAUSSIAN_POWER)
        self.convolution = ConvolutionSizes(l_max=l_max, num_radial=num_radial, radial_hidden=tuple(radial_hidden))
        self.node_updates = nn.ModuleList()
        self.edge_updates = nn.ModuleList()
        for layer in range(num_layers):
            inputs = self.embedding_channels if layer == 0 else self.channels
            last = layer == num_layers - 1
            neighbours = mean_neighbours[name] if name in fields.RELATIONS else sum(mean_neighbours.values())
            self.node_updates.append(
                NodeUpdate(
                    node_channels=inputs,
                    edge_channels=inputs,
                    outputs=self.channels,
                    pseudo_outputs=self.pseudo_channels if last and not self_loops else (),
                    n_elements=self.n_elements,
                    mean_neighbours=neighbours or 1.0,  # a training set of monolayers has no inter edges
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

    def embed(self, species: Tensor, edges: Edges) -> tuple[Tensor, EdgeState]:
        """Embed elements and lengths, and compute the geometry that all layers share."""
        matrices = wigner_matrices(edge_frames(edges.vectors), len(self.channels) - 1)
        num_loops = species.shape[0] if self.self_loops else 0
        if self.self_loops:
            edges = append_self_loops(edges, num_loops)
            matrices = [torch.cat([d, torch.eye(d.shape[1]).to(d).expand(num_loops, -1, -1)]) for d in matrices]
        radial = self.radial_basis(edges.lengths) * self.radial_scale
        envelope = smooth_step_envelope(edges.lengths, self.cutoffs.to(edges.lengths)[edges.relation], self.envelope_width)
        pair = species[edges.target] * self.n_elements + species[edges.source]
        weight = envelope if self.message_decay is None else envelope * torch.exp(-edges.lengths / self.message_decay)
        state = EdgeState(edges, matrices, radial, weight, pair, [self.edge_embedding(radial)], num_loops)
        return self.node_embedding(species), state

    def update_nodes(self, layer: int, nodes: Tensor, species: Tensor, state: EdgeState) -> Tensor:
        """Run one node update."""
        return self.node_updates[layer](nodes, species, state)

    def update_edges(self, layer: int, nodes: Tensor, species: Tensor, state: EdgeState) -> EdgeState:
        """Run one edge update."""
        features, _ = self.edge_updates[layer](nodes, state)
        return replace(state, features=features)

    def scalars(self, layer: int, nodes: Tensor) -> Tensor:
        """Return the scalar channels."""
        return nodes[:, : self.channels[0]]

    def num_scalars(self, layer: int) -> int:
        """Count the scalar channels."""
        return self.channels[0]
