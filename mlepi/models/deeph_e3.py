"""The DeepH-E3 backbone (Gong et al. 2023, doi:10.1038/s41467-023-38468-8) in SO(2) form.

Node and edge updates alternate; both convolve concat(node_i, node_j, edge_ij) with the harmonics of
the edge. Edge features stay in the frame of their edge through the whole network; nodes are turned
into it and messages back. Departures from the published network, each with its published setting: a
local norm ("structure"), a smooth cutoff (``envelope_width: null``), messages divided by √(mean
number of neighbours) (``mean_neighbours: 1``), no self-loop edges (``self_loops: true``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.models.edge_convolution import (
    ConvolutionSizes,
    EdgeConvolution,
    EdgeState,
    self_loops,
    split_edges,
)
from mlepi.models.equivariant_layers import DegreeLinear, EquivariantNorm, NormKind
from mlepi.models.hedgenet import Backbone, Edges
from mlepi.models.radial import GaussianBasis
from mlepi.models.so2 import EdgeFeatures, flat_size, join_degrees, split_degrees
from mlepi.models.wigner import columns_by_order, edge_rotations

GAUSSIAN_POWER = math.sqrt(math.pi)
"""Σ_k exp(−(r − μ_k)²/Δ²) of Gaussians as wide as their spacing: the squared norm of the expansion.
"""


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
        self.node_channels, self.outputs, self.pseudo_outputs = (
            tuple(node_channels),
            tuple(outputs),
            tuple(pseudo_outputs),
        )
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
        self.after_pseudo = (
            DegreeLinear(inputs=pseudo_outputs, outputs=pseudo_outputs) if pseudo_outputs else None
        )
        self.self_connection = DegreeLinear(
            inputs=node_channels, outputs=outputs, num_types=n_elements
        )
        self.norm = EquivariantNorm(outputs, norm)
        same = self.node_channels == self.outputs
        self.skip = None if same else DegreeLinear(inputs=node_channels, outputs=outputs)

    def forward(self, nodes: Tensor, species: Tensor, state: Sequence[EdgeState]) -> Tensor:
        """Return flat node features: natural parity first, then unnatural."""
        parts = split_degrees(nodes, self.node_channels)
        senders, structure = self.before.nodes(parts), state[0].edges.structure
        n_atoms, channels = nodes.shape[0], (self.outputs, self.pseudo_outputs)
        total = [
            nodes.new_zeros(n_atoms, 2 * l + 1, count)
            for counts in channels
            for l, count in enumerate(counts)
        ]
        for loops, chunks in itertools.groupby(state, key=lambda chunk: chunk.loops):
            matrices = self.convolution.matrices(zero_vector=loops)
            for chunk in chunks:
                messages = self.convolution.messages(
                    senders, chunk, matrices, chunk.weight * self.factor
                )
                total = [
                    x.index_add(0, chunk.edges.target, y)
                    for x, y in zip(total, messages, strict=True)
                ]
        gathered, unnatural = total[: len(self.outputs)], total[len(self.outputs) :]
        updated = [
            a + b
            for a, b in zip(
                self.after.nodes(gathered), self.self_connection.nodes(parts, species), strict=True
            )
        ]
        result = self.norm.nodes(join_degrees(updated), structure)
        result = result + (nodes if self.skip is None else join_degrees(self.skip.nodes(parts)))
        if self.after_pseudo is None:
            return result
        unnatural = self.after_pseudo.nodes(unnatural)
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
        self.self_connection = DegreeLinear(
            inputs=edge_channels, outputs=outputs, num_types=n_elements**2
        )
        self.norm = EquivariantNorm(outputs, norm)
        self.skip = (
            None
            if tuple(edge_channels) == tuple(outputs)
            else DegreeLinear(inputs=edge_channels, outputs=outputs)
        )

    def forward(
        self, nodes: Tensor, state: Sequence[EdgeState]
    ) -> list[tuple[EdgeFeatures, EdgeFeatures]]:
        """Return natural- and unnatural-parity features of the edges of every chunk.

        Args:
            nodes: flat node features; unnatural-parity columns beyond ``node_channels`` are
                ignored.
            state: edges and their features.
        """
        parts = split_degrees(nodes[:, : flat_size(self.node_channels)], self.node_channels)
        after, connection = self.after.matrices(), self.self_connection.matrices()
        skip = None if self.skip is None else self.skip.matrices()
        updated, pseudo = [], []
        for loops, chunks in itertools.groupby(state, key=lambda chunk: chunk.loops):
            matrices = self.convolution.matrices(self.before, zero_vector=loops)
            for chunk in chunks:
                natural, unnatural = self.convolution.features(parts, chunk, matrices)
                new, old = (
                    self.after.edges(natural, matrices=after),
                    self.self_connection.edges(chunk.features, chunk.pair, connection),
                )
                updated.append(add_orders(new, old))
                pseudo.append(unnatural)
        results = self.norm.edges(
            updated,
            [chunk.rotations for chunk in state],
            [chunk.edges.structure[chunk.edges.target] for chunk in state],
        )
        for k, chunk in enumerate(state):
            skipped = (
                chunk.features
                if self.skip is None
                else self.skip.edges(chunk.features, matrices=skip)
            )
            results[k] = add_orders(results[k], skipped)
        return list(zip(results, pseudo, strict=True))


def add_orders(first: EdgeFeatures, second: EdgeFeatures) -> EdgeFeatures:
    """Add edge features; orders that one of them lacks are zero there."""
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    return [x + shorter[m] if m < len(shorter) else x for m, x in enumerate(longer)]


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
        self_loops: every atom also has an edge to itself (published), of which only the L = 0
            harmonic is non-zero; on-site blocks are then read from these edges, and the nodes need
            no ``pseudo_channels``.
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
        if (
            num_layers < 1
            or len(channels) < 2
            or min(channels) < 1
            or len(pseudo_channels) > len(channels)
        ):
            raise ConfigError(
                message(
                    f"model.network.backbone ({name})",
                    f"num_layers {num_layers}, channels {list(channels)}, pseudo_channels "
                    f"{list(pseudo_channels)}",
                    "at least one layer, channels for l = 0 and 1, and no pseudo_channels of "
                    "higher l than channels",
                    "Edit the config.",
                )
            )
        self.num_layers, self.channels, self.pseudo_channels = (
            num_layers,
            tuple(channels),
            tuple(pseudo_channels),
        )
        self.l_max, self.envelope_width, self.message_decay, self.norm = (
            l_max,
            envelope_width,
            message_decay,
            norm,
        )
        self.n_elements, self.self_loops = len(elements), self_loops
        self.register_buffer(
            "cutoffs",
            torch.tensor([cutoffs[r] for r in fields.RELATIONS], dtype=torch.float64),
            persistent=False,
        )
        self.embedding_channels = (embedding_channels,)
        self.node_embedding = nn.Embedding(self.n_elements, embedding_channels)
        self.edge_embedding = nn.Linear(num_radial, embedding_channels)
        self.radial_basis = GaussianBasis(max(cutoffs.values()), num_radial)
        self.radial_scale = math.sqrt(num_radial / GAUSSIAN_POWER)
        self.convolution = ConvolutionSizes(
            l_max=l_max, num_radial=num_radial, radial_hidden=tuple(radial_hidden)
        )
        self.node_updates = nn.ModuleList()
        self.edge_updates = nn.ModuleList()
        for layer in range(num_layers):
            inputs = self.embedding_channels if layer == 0 else self.channels
            last = layer == num_layers - 1
            neighbours = (
                mean_neighbours[name] if name in fields.RELATIONS else sum(mean_neighbours.values())
            )
            self.node_updates.append(
                NodeUpdate(
                    node_channels=inputs,
                    edge_channels=inputs,
                    outputs=self.channels,
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
        """Embed elements and lengths, and compute the geometry that all layers share, in chunks of edges."""
        state = [self._embed_edges(species, chunk) for chunk in split_edges(edges)]
        if self.self_loops:
            state.append(
                self._embed_edges(species, self_loops(edges, species.shape[0]), loops=True)
            )
        return self.node_embedding(species), state

    def _embed_edges(self, species: Tensor, edges: Edges, loops: bool = False) -> EdgeState:
        if loops:
            unit = [
                torch.eye(2 * l + 1, dtype=edges.vectors.dtype, device=edges.vectors.device)
                for l in range(len(self.channels))
            ]
            rotations = columns_by_order([matrix.expand(len(species), -1, -1) for matrix in unit])
        else:
            rotations = edge_rotations(edges.vectors, len(self.channels) - 1)
        radial = self.radial_basis(edges.lengths) * self.radial_scale
        envelope = smooth_step_envelope(
            edges.lengths, self.cutoffs.to(edges.lengths)[edges.relation], self.envelope_width
        )
        weight = (
            envelope
            if self.message_decay is None
            else envelope * torch.exp(-edges.lengths / self.message_decay)
        )
        pair = species[edges.target] * self.n_elements + species[edges.source]
        return EdgeState(
            edges, rotations, radial, weight, pair, [self.edge_embedding(radial)], loops
        )

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

    def scalars(self, layer: int, nodes: Tensor) -> Tensor:
        """Return the scalar channels."""
        return nodes[:, : self.channels[0]]

    def num_scalars(self, layer: int) -> int:
        """Count the scalar channels."""
        return self.channels[0]
