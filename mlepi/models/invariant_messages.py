"""Invariant messages between nodes and edges that are plain numbers, as in DeepH.

Li et al. 2022, doi:10.1038/s43588-022-00265-6. Layers take concat(node_i, node_j, edge_ij) of every
edge from j to i.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlepi.models.backbone import Edges
from mlepi.models.equivariant_layers import EquivariantNorm, NormKind


@dataclass(frozen=True)
class InvariantEdges:
    """Edge state: the edges of the sub-network and, after them, one self-loop per atom.

    Attributes:
        edges: both.
        radial: (n, edge_features), expansion of the length.
        envelope: (n,), smoothly 0 at the cutoff.
        weight: (n,), of messages.
        pair: (n,) int, element pair, target·n_elements + source.
        features: (n, edge_features).
        first_nodes: nodes before the present two layers, around which there is a skip connection.
        first_features: edge features there.
    """

    edges: Edges
    radial: Tensor
    envelope: Tensor
    weight: Tensor
    pair: Tensor
    features: Tensor
    first_nodes: Tensor
    first_features: Tensor


def mix_ends(linear: nn.Linear, nodes: Tensor, features: Tensor, edges: Edges) -> Tensor:
    """Apply a linear layer to concat(node_i, node_j, edge_ij), nodes first and once.

    Args:
        linear: its columns beyond these three are left out.
        nodes: (n_atoms, width).
        features: (n_edges, edge width).
        edges: n_edges of them, from j to i.

    Returns:
        (n_edges, outputs).
    """
    width = nodes.shape[1]
    parts = linear.weight[:, : 2 * width + features.shape[1]]
    target, source, own = parts.split([width, width, features.shape[1]], dim=1)
    mixed = nn.functional.linear(features, own, linear.bias)
    mixed = mixed + nn.functional.linear(nodes, target)[edges.target]
    return mixed + nn.functional.linear(nodes, source)[edges.source]


class GatedUpdate(nn.Module):
    """Node ← node + norm(Σ_j σ(f) · softplus(s) · weight).

    Both f and s are linear in the features of both ends and of the edge: the convolution of Xie &
    Grossman 2018, doi:10.1103/PhysRevLett.120.145301.

    Args:
        node_features: width of the nodes.
        edge_features: width of the edges.
        norm: of the sum.
    """

    def __init__(self, *, node_features: int, edge_features: int, norm: NormKind) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * node_features + edge_features, 2 * node_features)
        self.norm = EquivariantNorm((node_features,), norm)

    def forward(self, nodes: Tensor, state: InvariantEdges) -> Tensor:
        """Return (n_atoms, node_features)."""
        gate, value = mix_ends(self.linear, nodes, state.features, state.edges).chunk(2, dim=1)
        messages = gate.sigmoid() * nn.functional.softplus(value) * state.weight.unsqueeze(1)
        total = torch.zeros_like(nodes).index_add(0, state.edges.target, messages)
        return nodes + self.norm.nodes(total, state.edges.structure)


class EdgePerceptron(nn.Module):
    """Edge ← two linear layers of both ends and the edge, SiLU after each.

    Args:
        node_features: width of the nodes.
        edge_features: width of the edges.
        hidden: width between the layers.
        outputs: width of the result.
    """

    def __init__(
        self, *, node_features: int, edge_features: int, hidden: int, outputs: int
    ) -> None:
        super().__init__()
        self.first = nn.Linear(2 * node_features + edge_features, hidden)
        self.second = nn.Linear(hidden, outputs)

    def forward(self, nodes: Tensor, state: InvariantEdges) -> Tensor:
        """Return (n_edges, outputs)."""
        hidden = nn.functional.silu(mix_ends(self.first, nodes, state.features, state.edges))
        return nn.functional.silu(self.second(hidden))
