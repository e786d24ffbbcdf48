"""The convolution that node and edge updates of DeepH-E3 share, and what it knows about the edges.

A convolution is concat(node_i, node_j, edge_ij) ⊗ Y(edge), a gate, and one radial factor per
channel. Edges are handled in chunks, so that whatever a convolution needs in between is bounded by
the chunk and not by the structure; only the edge features, the frames and the length expansion of
all edges stay in memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from mlepi.models.backbone import Edges, EdgeState
from mlepi.models.compilation import Backend, Kernel, compile_kernel
from mlepi.models.equivariant_layers import DegreeLinear, count_gates, gate
from mlepi.models.radial import RadialMLP
from mlepi.models.so2 import (
    EdgeFeatures,
    SO2Product,
    join_orders,
    multiply_orders,
    rotate_to_edges,
    rotate_to_global,
    to_degrees,
)

EDGES_PER_CHUNK = {"cpu": 8192, "cuda": 262144}
"""Edges that are handled at once; at the published size each takes about 15 kB (float32) while it
is."""


def split_edges(edges: Edges) -> Iterator[Edges]:
    """Split edges into chunks of about equal size, in order; at least one, which may be empty."""
    n_edges = edges.source.shape[0]
    n_chunks = max(1, -(-n_edges // EDGES_PER_CHUNK.get(edges.source.device.type, n_edges)))
    columns = (edges.source, edges.target, edges.vectors, edges.lengths, edges.relation)
    weights = [None] * n_chunks if edges.weight is None else edges.weight.tensor_split(n_chunks)
    for *parts, weight in zip(*(x.tensor_split(n_chunks) for x in columns), weights, strict=True):
        source, target, vectors, lengths, relation = parts
        yield Edges(source, target, vectors, lengths, relation, edges.structure, weight)


def self_loops(edges: Edges, n_atoms: int) -> Edges:
    """Return an edge of zero length from every atom to itself, counted to the first relation."""
    atoms = torch.arange(n_atoms, device=edges.source.device)
    zero = edges.vectors.new_zeros(n_atoms, 3)
    return Edges(atoms, atoms, zero, zero[:, 0], torch.zeros_like(atoms), edges.structure)


class Layout(NamedTuple):
    """What a kernel must know to tell its tensors apart.

    Attributes:
        node_degrees: number of l of the nodes.
        edge_degrees: number of l of the edge features.
        outputs: natural-parity output channels.
        pseudo_outputs: unnatural-parity output channels.
    """

    node_degrees: int
    edge_degrees: int
    outputs: tuple[int, ...]
    pseudo_outputs: tuple[int, ...]

    @property
    def degrees(self) -> int:
        """Number of l whose Wigner matrices the kernel gets."""
        return max(self.node_degrees, len(self.outputs), len(self.pseudo_outputs))


def edge_features(layout: Layout, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the gated product of every edge, natural orders, then unnatural ones.

    For the tensors see ``convolve``.
    """
    natural, pseudo, _ = convolve(layout, tensors)
    return (*natural, *pseudo)


def edge_messages(layout: Layout, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the gated product of every edge in the global frame, per l.

    Natural parity, then unnatural.
    """
    natural, pseudo, rotations = convolve(layout, tensors)
    parts = rotate_to_global(to_degrees(natural, layout.outputs), rotations)
    if pseudo:
        parts += rotate_to_global(to_degrees(pseudo, layout.pseudo_outputs), rotations)
    return tuple(parts)


def convolve(
    layout: Layout, tensors: Sequence[Tensor]
) -> tuple[EdgeFeatures, EdgeFeatures, Sequence[Tensor]]:
    """Turn the nodes at both ends into the edge frame, multiply with the harmonics, and gate.

    Args:
        layout: sizes.
        tensors: factor per channel (n_edges, Σ channels); target and source (n_edges,) int; node
            features of every l; Wigner matrices of every l of nodes and outputs; bias and matrices
            of ``ConvolutionMatrices``; edge features.

    Returns:
        Natural and unnatural edge features, and the Wigner matrices.
    """
    scale, target, source = tensors[:3]
    nodes, rest = tensors[3 : 3 + layout.node_degrees], tensors[3 + layout.node_degrees :]
    rotations, bias, rest = (
        rest[: layout.degrees],
        rest[layout.degrees],
        rest[layout.degrees + 1 :],
    )
    product, features = rest[: -layout.edge_degrees], rest[-layout.edge_degrees :]
    ends = [
        rotate_to_edges([part.index_select(0, end) for part in nodes], rotations)
        for end in (target, source)
    ]
    inputs = join_orders(list(zip(*ends, strict=True)), list(features))
    outputs = (
        layout.outputs[0] + count_gates(layout.outputs, layout.pseudo_outputs),
        *layout.outputs[1:],
    )
    natural, pseudo = multiply_orders(inputs, product, outputs, bias)
    return *gate(natural, pseudo, scale, layout.outputs, layout.pseudo_outputs), rotations


@functools.cache
def compile_functions(layout: Layout, backend: Backend = "inductor") -> tuple[Kernel, Kernel]:
    """Return ``edge_features`` and ``edge_messages`` of a layout as compiled kernels."""
    features, messages = (
        functools.partial(function, layout) for function in (edge_features, edge_messages)
    )
    return (
        compile_kernel(features, "edge features", backend=backend),
        compile_kernel(messages, "edge messages", backend=backend),
    )


class ConvolutionSizes(TypedDict):
    """Sizes that all convolutions of a sub-network share: see ``EdgeConvolution``."""

    l_max: int
    num_radial: int
    radial_hidden: Sequence[int]


@dataclass(frozen=True)
class ConvolutionMatrices:
    """The tensor product of one convolution, assembled once for all chunks.

    Attributes:
        product: one matrix per |m|, (node_i and node_j by l, then edge; natural, then unnatural
            outputs).
        bias: (outputs of m = 0,).
    """

    product: list[Tensor]
    bias: Tensor


class EdgeConvolution(nn.Module):
    """concat(node_i, node_j, edge_ij) ⊗ Y(edge), gate, one radial factor per channel.

    Result in the edge frame.

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
        pairs = [2 * count for count in node_channels]
        wanted = (outputs[0] + count_gates(outputs, pseudo_outputs), *outputs[1:])
        self.node_product = SO2Product(
            inputs=pairs, outputs=wanted, pseudo_outputs=pseudo_outputs, l_max=l_max
        )
        self.edge_product = SO2Product(
            inputs=edge_channels, outputs=wanted, pseudo_outputs=pseudo_outputs, l_max=l_max
        )
        self.radial_network = RadialMLP(
            [num_radial, *radial_hidden, sum(outputs) + sum(pseudo_outputs)]
        )
        self.layout = Layout(
            len(node_channels), len(edge_channels), tuple(outputs), tuple(pseudo_outputs)
        )
        self.features_kernel: Callable[..., tuple[Tensor, ...]] = functools.partial(
            edge_features, self.layout
        )
        self.messages_kernel: Callable[..., tuple[Tensor, ...]] = functools.partial(
            edge_messages, self.layout
        )

    def matrices(
        self, before: DegreeLinear | None = None, zero_vector: bool = False
    ) -> ConvolutionMatrices:
        """Assemble the tensor product.

        Args:
            before: a linear map of the edge features to apply first.
            zero_vector: for self-loops.
        """
        nodes, edges = (
            self.node_product.matrices(zero_vector),
            self.edge_product.matrices(zero_vector),
        )
        bias = edges[0].new_zeros(edges[0].shape[1])
        if before is not None:
            if before.bias is not None:
                bias = before.bias[0] @ edges[0][: before.bias.shape[1]] * math.sqrt(0.5)
            edges = [
                first[0] @ second for first, second in zip(before.matrices(), edges, strict=True)
            ]
        product = []
        for m in range(max(len(nodes), len(edges))):
            product.append(torch.cat([*nodes[m : m + 1], *edges[m : m + 1]]) * math.sqrt(0.5))
        return ConvolutionMatrices(product, bias)

    def features(
        self, nodes: Sequence[Tensor], state: EdgeState, matrices: ConvolutionMatrices
    ) -> tuple[EdgeFeatures, EdgeFeatures]:
        """Return natural and unnatural edge-frame features of every edge.

        Args:
            nodes: per-l node features (n_atoms, 2l+1, node_channels[l]).
            state: edges and their features.
            matrices: those of ``matrices()``.
        """
        results = self.features_kernel(
            *self._arguments(nodes, state, matrices, self.radial_network(state.radial))
        )
        n_orders = len(matrices.product)
        return list(results[:n_orders]), list(results[n_orders:])

    def messages(
        self,
        nodes: Sequence[Tensor],
        state: EdgeState,
        matrices: ConvolutionMatrices,
        weight: Tensor,
    ) -> Sequence[Tensor]:
        """Return messages times a weight (n_edges,) in the global frame.

        (n_edges, 2l+1, channels) per l and parity.
        """
        scale = self.radial_network(state.radial) * weight.unsqueeze(1)
        return self.messages_kernel(*self._arguments(nodes, state, matrices, scale))

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Replace the two functions by compiled ones.

        All convolutions of the same layout share them.
        """
        self.features_kernel, self.messages_kernel = compile_functions(self.layout, backend)

    def _arguments(
        self,
        nodes: Sequence[Tensor],
        state: EdgeState,
        matrices: ConvolutionMatrices,
        scale: Tensor,
    ) -> list[Tensor]:
        edges, product = state.edges, matrices.product
        return [
            scale,
            edges.target,
            edges.source,
            *nodes,
            *state.rotations[: self.layout.degrees],
            matrices.bias,
            *product,
            *state.features,
        ]
