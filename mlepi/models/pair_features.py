"""Features of edges for backbones that have none: products of both ends with the edge's harmonics.

Such products reach both parities although the nodes have natural parity alone: l1 ⊗ Y_L → l3 is
natural for even l1 + L + l3 and unnatural for odd (MACE-H, arXiv:2508.15108, builds its Hamiltonian
blocks from the like). On-site blocks need irreps that the nodes may lack: every unnatural one, and
l beyond the nodes' own. Sums of the pair features over an atom's edges supply them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.models.backbone import (
    Channels,
    EdgeFeatureSource,
    Edges,
    EdgeState,
    sum_of_neighbours,
)
from mlepi.models.block_targets import BlockTargets
from mlepi.models.compilation import Backend
from mlepi.models.edge_convolution import split_edges
from mlepi.models.edge_embedding import EdgeEmbedding
from mlepi.models.equivariant_layers import DegreeLinear, NormKind
from mlepi.models.so2 import EdgeFeatures, join_degrees, rotate, to_degrees
from mlepi.models.updates import EdgeUpdate


class PairFeatures(EdgeFeatureSource):
    """Embed the length, and update it once with the nodes at both ends.

    Args:
        name: of the sub-network: a relation, or any other name for all of them.
        node_channels: natural-parity channels of the nodes.
        elements: atomic numbers.
        cutoffs: relation → Å.
        mean_neighbours: relation → average number of its edges per atom in the training set; sums
            over an atom's edges are divided by its square root.
        channels: copies of every degree l, natural parity; l = 0 is also the length's embedding.
        pseudo_channels: of unnatural parity.
        l_max: largest degree of the edge harmonics.
        num_radial: Gaussians over [0, cutoff].
        radial_hidden: hidden widths of the radial network.
        envelope_width: Å over which sums fade out before the cutoff; None switches it off.
        message_decay: Å over which terms of sums fall by 1/e; None for no decay.
        norm: "local", "structure" or "none".
    """

    def __init__(
        self,
        name: str,
        *,
        node_channels: Sequence[int],
        elements: Sequence[int],
        cutoffs: Mapping[str, float],
        mean_neighbours: Mapping[str, float],
        channels: Sequence[int],
        pseudo_channels: Sequence[int],
        l_max: int,
        num_radial: int,
        radial_hidden: Sequence[int],
        envelope_width: float | None,
        message_decay: float | None,
        norm: NormKind,
    ) -> None:
        super().__init__()
        if any(pseudo_channels) and not any(node_channels[1:]):
            raise ConfigError(
                message(
                    "model.pair_features.pseudo_channels",
                    f"{list(pseudo_channels)} for nodes that are scalars",
                    "nodes with directions: products of scalars have natural parity alone",
                    "Raise model.network.backbone.l_max_out to 1 at least.",
                )
            )
        self.channels = Channels(tuple(channels), tuple(pseudo_channels))
        neighbours = sum_of_neighbours(name, mean_neighbours)
        # a training set of monolayers has no inter edges
        self.factor = 1.0 / math.sqrt(neighbours or 1.0)
        self.embedding = EdgeEmbedding(
            num_scalars=channels[0],
            num_degrees=max(len(node_channels), len(channels)),
            n_elements=len(elements),
            cutoffs=cutoffs,
            num_radial=num_radial,
            envelope_width=envelope_width,
            message_decay=message_decay,
        )
        self.update = EdgeUpdate(
            node_channels=node_channels,
            edge_channels=channels[:1],
            outputs=channels,
            pseudo_outputs=pseudo_channels,
            n_elements=len(elements),
            norm=norm,
            l_max=l_max,
            num_radial=num_radial,
            radial_hidden=radial_hidden,
        )

    def edge_features(
        self, nodes: Tensor, species: Tensor, edges: Edges, state: object
    ) -> list[tuple[EdgeState, EdgeFeatures, EdgeFeatures]]:
        """Return the features of all edges; what the backbone keeps about them is not needed."""
        chunks = [self.embedding(species, chunk) for chunk in split_edges(edges)]
        chunks = [replace(chunk, weight=chunk.weight * self.factor) for chunk in chunks]
        return self.update.edge_features(nodes, species, edges, chunks)

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile the convolution."""
        self.update.compile_kernels(backend)


class PairSums(nn.Module):
    """What sums of pair features add to on-site blocks: irreps that the nodes lack.

    Args:
        nodes: channels of the nodes.
        pairs: channels of the pair features.
        targets: irreps that a block needs.
        n_elements: number of elements.
    """

    def __init__(
        self, *, nodes: Channels, pairs: Channels, targets: BlockTargets, n_elements: int
    ) -> None:
        super().__init__()
        self.pairs = pairs
        needed = (targets.natural, targets.pseudo)
        self.inputs = [
            [
                here[l] if l < len(here) and count and not (l < len(there) and there[l]) else 0
                for l, count in enumerate(counts)
            ]
            for counts, there, here in zip(
                needed, (nodes.natural, nodes.pseudo), (pairs.natural, pairs.pseudo), strict=True
            )
        ]
        self.linears = nn.ModuleList(
            DegreeLinear(inputs=inputs, outputs=outputs, num_types=n_elements)
            for inputs, outputs in zip(self.inputs, needed, strict=True)
        )

    def start(self, nodes: Tensor) -> list[Tensor]:
        """Return sums over no edges, (n_atoms, 2l+1, channels) per parity and l."""
        return [
            nodes.new_zeros(nodes.shape[0], 2 * l + 1, count)
            for inputs in self.inputs
            for l, count in enumerate(inputs)
        ]

    def add(
        self, sums: Sequence[Tensor], chunk: EdgeState, features: Sequence[EdgeFeatures]
    ) -> list[Tensor]:
        """Return the sums with the edges of a chunk added to their targets.

        Args:
            sums: those so far.
            chunk: the edges.
            features: of natural and of unnatural parity.
        """
        weight = chunk.weight[:, None, None]
        totals = iter(sums)
        result = []
        for inputs, orders, counts in zip(
            self.inputs, features, (self.pairs.natural, self.pairs.pseudo), strict=True
        ):
            parts = to_degrees(orders, counts) if any(inputs) else []
            for l, count in enumerate(inputs):
                total = next(totals)
                if count:
                    rotation = chunk.rotations[l][:, :, : parts[l].shape[1]]
                    terms = rotate(rotation, parts[l] * weight)
                    total = total.index_add(0, chunk.edges.target, terms)
                result.append(total)
        return result

    def forward(self, sums: Sequence[Tensor], species: Tensor) -> Tensor:
        """Return the irreps of the blocks, flat, natural parity then unnatural.

        (n_atoms, n_targets).

        Args:
            sums: over all edges.
            species: (n_atoms,) int.
        """
        natural, pseudo = (cast(DegreeLinear, linear) for linear in self.linears)
        count = len(natural.inputs)
        parts = natural.nodes(sums[:count], species)
        if pseudo.outputs:
            parts += pseudo.nodes(sums[count:], species)
        return join_degrees(parts)
