"""The first features of edges: their length in Gaussians, mixed to scalars, and their geometry."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mlepi.graphs import fields
from mlepi.models.backbone import Edges, EdgeState
from mlepi.models.radial import GaussianBasis, smooth_step_envelope
from mlepi.models.wigner import columns_by_order, edge_rotations

GAUSSIAN_POWER = math.sqrt(math.pi)
"""Σ_k exp(−(r − μ_k)²/Δ²) of Gaussians as wide as their spacing: the squared norm of the expansion.
"""


class EdgeEmbedding(nn.Module):
    """Embed lengths, and compute the geometry that all convolutions share.

    Args:
        num_scalars: channels of the embedding.
        num_degrees: number of l that features have, l = 0, 1, …
        n_elements: number of elements.
        cutoffs: relation → Å.
        num_radial: Gaussians over [0, the largest cutoff].
        envelope_width: Å over which messages fade out before the cutoff; None switches it off.
        message_decay: Å over which messages fall by 1/e, on top of the envelope; None for no decay.
        relation_feature: add the relation to the expansion of the length, as a one-hot vector.

    Attributes:
        num_radial: size of the expansion.
    """

    cutoffs: Tensor  # (n_relations,), Å

    def __init__(
        self,
        *,
        num_scalars: int,
        num_degrees: int,
        n_elements: int,
        cutoffs: Mapping[str, float],
        num_radial: int,
        envelope_width: float | None,
        message_decay: float | None,
        relation_feature: bool = False,
    ) -> None:
        super().__init__()
        self.relation_feature = relation_feature
        self.num_radial = num_radial + (len(cutoffs) if relation_feature else 0)
        linear = nn.Linear(self.num_radial, num_scalars)
        self.weight, self.bias = linear.weight, linear.bias
        self.num_degrees, self.n_elements = num_degrees, n_elements
        self.envelope_width, self.message_decay = envelope_width, message_decay
        self.radial_basis = GaussianBasis(max(cutoffs.values()), num_radial)
        self.radial_scale = math.sqrt(num_radial / GAUSSIAN_POWER)
        self.register_buffer(
            "cutoffs",
            torch.tensor(
                [cutoffs[r] for r in fields.order_relations(cutoffs)], dtype=torch.float64
            ),
            persistent=False,
        )

    def forward(self, species: Tensor, edges: Edges, loops: bool = False) -> EdgeState:
        """Return the state of a chunk of edges, with scalar features.

        Args:
            species: (n_atoms,) int.
            edges: the chunk.
            loops: its edges are the self-loops of all atoms, whose frame is the global one.
        """
        if loops:
            unit = [
                torch.eye(2 * l + 1, dtype=edges.vectors.dtype, device=edges.vectors.device)
                for l in range(self.num_degrees)
            ]
            rotations = columns_by_order([matrix.expand(len(species), -1, -1) for matrix in unit])
        else:
            rotations = edge_rotations(edges.vectors, self.num_degrees - 1)
        radial = self.radial_basis(edges.lengths) * self.radial_scale
        if self.relation_feature:
            told = nn.functional.one_hot(edges.relation, self.cutoffs.shape[0])
            radial = torch.cat([radial, told.to(radial)], dim=1)
        envelope = smooth_step_envelope(
            edges.lengths, self.cutoffs.to(edges.lengths)[edges.relation], self.envelope_width
        )
        if edges.weight is not None:
            envelope = envelope * edges.weight
        weight = (
            envelope
            if self.message_decay is None
            else envelope * torch.exp(-edges.lengths / self.message_decay)
        )
        pair = species[edges.target] * self.n_elements + species[edges.source]
        scalars = nn.functional.linear(radial, self.weight, self.bias)
        return EdgeState(edges, rotations, radial, weight, pair, [scalars], loops)
