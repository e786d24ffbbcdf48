"""Node and edge updates of DeepH-E3, each a convolution between linear maps.

Gong et al. 2023, doi:10.1038/s41467-023-38468-8, in SO(2) form.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from mlepi.models.backbone import Channels, EdgeFeatureSource, Edges, EdgeState
from mlepi.models.compilation import Backend
from mlepi.models.edge_convolution import ConvolutionSizes, EdgeConvolution
from mlepi.models.equivariant_layers import DegreeLinear, EquivariantNorm, NormKind
from mlepi.models.so2 import EdgeFeatures, flat_size, join_degrees, split_degrees


class NodeUpdate(nn.Module):
    """Linear → convolution → sum over edges → linear → + self-connection → norm → + skip.

    The self-connection depends on the element.
    """

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

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile the convolution."""
        self.convolution.compile_kernels(backend)


class EdgeUpdate(EdgeFeatureSource):
    """The same as the node update without the sum, for edges and element pairs.

    All in the edge frame. Where ``state`` holds the edge features before the update, it makes those
    from which blocks are read.
    """

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
        self.channels = Channels(tuple(outputs), tuple(pseudo_outputs))
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

    def edge_features(
        self, nodes: Tensor, species: Tensor, edges: Edges, state: Sequence[EdgeState]
    ) -> list[tuple[EdgeState, EdgeFeatures, EdgeFeatures]]:
        """Return the updated features of every chunk in ``state``."""
        return [(chunk, *pair) for chunk, pair in zip(state, self(nodes, state), strict=True)]

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile the convolution."""
        self.convolution.compile_kernels(backend)


def add_orders(first: EdgeFeatures, second: EdgeFeatures) -> EdgeFeatures:
    """Add edge features; orders that one of them lacks are zero there."""
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    return [x + shorter[m] if m < len(shorter) else x for m, x in enumerate(longer)]
