"""Features of edges seen from their local frames: the last layer of DeepH, which knows directions.

Li et al. 2022, doi:10.1038/s43588-022-00265-6 ("local coordinate message passing"). For the edge
between atoms i and j, the neighbours of either send a message that depends on the features of both
ends and on the harmonics of their direction in the frame of the edge. What comes out are numbers
that do not change when the structure turns: components of the block's irreps in that frame.

Where the frame is not fixed, nothing may depend on it. Components that a rotation about the edge
would mix, and the harmonics from which they come, fade out with the envelope of the neighbour that
fixes the angle; those of an on-site block with l > 0 fade out with that of the nearest neighbour.
The published network has no such case, because it refuses structures without enough neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from e3nn import o3
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.models.backbone import Channels, EdgeFeatureSource, Edges, EdgeState
from mlepi.models.compilation import Backend
from mlepi.models.invariant_messages import EdgePerceptron, InvariantEdges, mix_ends
from mlepi.models.local_frames import FrameNeighbours, tabulate_edges
from mlepi.models.so2 import EdgeFeatures, flat_size
from mlepi.models.wigner import AXES, columns_by_order, wigner_3j, wigner_matrices

PAIRS_PER_CHUNK = {"cpu": 1 << 17, "cuda": 1 << 22}
"""Pairs of an edge and a neighbour of one of its ends handled at once; at the published size each
takes about 2 kB (float32) while it is."""


def harmonics(vectors: Tensor, l_max: int) -> Tensor:
    """Evaluate the real harmonics Y_lm of directions, ∫ Y² dΩ = 1.

    Args:
        vectors: (n, 3), Å, Cartesian; for zero ones all but l = 0 are zero.
        l_max: largest l.

    Returns:
        (n, (l_max+1)²), m = −l … l for every l, global frame.
    """
    lengths = torch.linalg.norm(vectors.detach(), dim=1, keepdim=True)
    zero = lengths == 0.0
    safe = torch.where(zero, torch.ones_like(vectors), vectors)
    unit = safe / torch.linalg.norm(safe, dim=1, keepdim=True)
    unit = torch.where(zero, torch.zeros_like(unit), unit)
    values: Tensor = o3.spherical_harmonics(
        list(range(l_max + 1)), unit[:, AXES], normalize=False, normalization="integral"
    )
    return values


@dataclass(frozen=True)
class Surroundings:
    """What the messages to an atom are made of, one row per edge and an empty one at the end.

    Attributes:
        slots: (n_atoms, width) int, edges of every atom, the empty row in empty slots.
        mixed: (n_edges + 1, 2·node_features), both ends and the edge.
        harmonics: (n_edges + 1, (l_max+1)²), global frame.
        weight: (n_edges + 1,), of messages.
        envelope: (n_edges + 1,).
        neighbours: which of them fix frames.
    """

    slots: Tensor
    mixed: Tensor
    harmonics: Tensor
    weight: Tensor
    envelope: Tensor
    neighbours: FrameNeighbours

    def sum_messages(self, atoms: Tensor, turned: Tensor) -> Tensor:
        """Sum the messages of the neighbours of some atoms, each seen from a frame.

        Args:
            atoms: (n,) int.
            turned: (n, 2·node_features, (l_max+1)²), weights of the harmonics in the frame, turned
                to the global one.

        Returns:
            (n, node_features).
        """
        chosen = self.slots[atoms]
        mixed = self.mixed[chosen] + torch.bmm(self.harmonics[chosen], turned.transpose(1, 2))
        gate, value = mixed.chunk(2, dim=2)
        messages = gate.sigmoid() * nn.functional.softplus(value)
        return torch.bmm(self.weight[chosen].unsqueeze(1), messages).squeeze(1)


class LocalFrameSource(EdgeFeatureSource):
    """Update edges once more, and look at the neighbours of both ends from the local frame.

    Args:
        node_features: width of the nodes.
        edge_features: width of the edges before the update; the harmonics take the place of as many
            after it.
        hidden: width inside both perceptrons.
        l_max: largest degree of the harmonics.
        channels: of the result.
        min_sine: see ``FrameNeighbours``.
    """

    def __init__(
        self,
        *,
        node_features: int,
        edge_features: int,
        hidden: int,
        l_max: int,
        channels: Channels,
        min_sine: float,
    ) -> None:
        super().__init__()
        self.l_max, self.channels, self.min_sine = l_max, channels, min_sine
        self.top = max(l_max, len(channels.natural) - 1, len(channels.pseudo) - 1)
        for l in range(2, self.top + 1):  # cached at the first use, which must be a plain one
            wigner_3j(1, l - 1, l)
        count = (l_max + 1) ** 2
        kept = edge_features - count
        self.edge_update = EdgePerceptron(
            node_features=node_features, edge_features=edge_features, hidden=hidden, outputs=kept
        )
        self.linear = nn.Linear(2 * node_features + kept + count, 2 * node_features)
        self.first = nn.Linear(2 * node_features + kept, hidden)
        self.second = nn.Linear(hidden, flat_size(channels.natural) + flat_size(channels.pseudo))

    def edge_features(
        self, nodes: Tensor, species: Tensor, edges: Edges, state: InvariantEdges
    ) -> Iterator[tuple[EdgeState, EdgeFeatures, EdgeFeatures]]:
        """Yield chunks of edges with their features, then chunks of self-loops."""
        state = replace(state, features=self.edge_update(nodes, state))
        around = self._surroundings(nodes, state)
        n_edges, n_all = edges.source.shape[0], state.edges.source.shape[0]
        pairs = PAIRS_PER_CHUNK.get(nodes.device.type, 1 << 22)
        step = max(1, pairs // (2 * around.slots.shape[1]))
        for begin, end, loops in ((0, n_edges, False), (n_edges, n_all, True)):
            # without edges one chunk all the same, which is empty
            for start in range(begin, max(end, begin + 1), step):
                yield self._view(slice(start, min(start + step, end)), loops, state, around)

    def _surroundings(self, nodes: Tensor, state: InvariantEdges) -> Surroundings:
        slots = tabulate_edges(state.edges.target, nodes.shape[0])

        def pad(values: Tensor) -> Tensor:
            return torch.cat([values, values.new_zeros(1, *values.shape[1:])])

        return Surroundings(
            slots=slots,
            mixed=pad(mix_ends(self.linear, nodes, state.features, state.edges)),
            harmonics=pad(harmonics(state.edges.vectors, self.l_max)),
            weight=pad(state.weight),
            envelope=pad(state.envelope),
            neighbours=FrameNeighbours.of(state.edges.vectors, slots, self.min_sine),
        )

    def _view(
        self, rows: slice, loops: bool, state: InvariantEdges, around: Surroundings
    ) -> tuple[EdgeState, EdgeFeatures, EdgeFeatures]:
        """Return one chunk of edges, or of self-loops, and its features."""
        every, neighbours = state.edges, around.neighbours
        edges = Edges(
            every.source[rows],
            every.target[rows],
            every.vectors[rows],
            every.lengths[rows],
            every.relation[rows],
            every.structure,
        )
        directions, axial = edges.vectors, torch.ones_like(edges.lengths)
        if loops:
            nearest = neighbours.nearest(edges.target)
            directions, axial = neighbours.vectors[nearest], around.envelope[nearest]
        frames, second = neighbours.frames(edges.target, directions)
        planar = axial * around.envelope[second]
        rotations = columns_by_order(wigner_matrices(frames, self.top))
        turned = self._turn(rotations, planar)
        sums = [around.sum_messages(edges.target, turned)]
        sums.append(sums[0] if loops else around.sum_messages(edges.source, turned))
        own = state.features[rows]
        flat = self.second(nn.functional.silu(self.first(torch.cat([*sums, own], dim=1))))
        size = flat_size(self.channels.natural)
        natural = split_orders(flat[:, :size], self.channels.natural)
        pseudo = split_orders(flat[:, size:], self.channels.pseudo)
        chunk = EdgeState(
            edges=edges,
            rotations=rotations,
            radial=state.radial[rows],
            weight=state.weight[rows],
            pair=state.pair[rows],
            features=[own],
            loops=loops,
        )
        return chunk, *fade(natural, pseudo, self.channels.natural[0], axial, planar)

    def _turn(self, rotations: list[Tensor], planar: Tensor) -> Tensor:
        """Turn the weights of the harmonics from the frames to the global one.

        Those of m ≠ 0 fade out where the angle around the edge is not fixed.

        Args:
            rotations: of every l, (n, 2l+1, 2l+1).
            planar: (n,).

        Returns:
            (n, 2·node_features, (l_max+1)²).
        """
        weights = self.linear.weight[:, -((self.l_max + 1) ** 2) :]
        parts = weights.split([2 * l + 1 for l in range(self.l_max + 1)], dim=1)
        turned = []
        for part, rotation in zip(parts, rotations, strict=False):
            along, around = rotation[:, :, :1], rotation[:, :, 1:] * planar[:, None, None]
            turned.append(torch.cat([along, around], dim=2) @ part.T)
        return torch.cat(turned, dim=1).transpose(1, 2)

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Refuse: there are no compiled kernels.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            message("compile", "true for local frames", "false for them", "Set compile=false.")
        )


def split_orders(flat: Tensor, channels: tuple[int, ...]) -> EdgeFeatures:
    """Lay out numbers as features in the edge frame, by |m| (layout in ``so2``).

    Args:
        flat: (n, Σ_l (2l+1)·channels[l]).
        channels: of every l.
    """
    counts = [sum(channels[m:]) for m in range(len(channels))]
    parts = flat.split([count * (1 if m == 0 else 2) for m, count in enumerate(counts)], dim=1)
    return [part if m == 0 else part.unflatten(1, (2, counts[m])) for m, part in enumerate(parts)]


def fade(
    natural: EdgeFeatures, pseudo: EdgeFeatures, scalars: int, axial: Tensor, planar: Tensor
) -> tuple[EdgeFeatures, EdgeFeatures]:
    """Take away what needs directions that are not fixed.

    Args:
        natural: features by |m|, natural parity.
        pseudo: of unnatural parity, which no axis alone can have.
        scalars: channels of l = 0.
        axial: (n,), 1 where the axis is fixed, else 0.
        planar: (n,), 1 where the angle around it is fixed too.
    """
    if not natural:
        return natural, pseudo
    isotropic, rest = natural[0][:, :scalars], natural[0][:, scalars:]
    first = torch.cat([isotropic, rest * axial[:, None]], dim=1)
    others = [order * planar[:, None, None] for order in natural[1:]]
    faded = [
        order * (planar[:, None] if order.dim() == 2 else planar[:, None, None]) for order in pseudo
    ]
    return [first, *others], faded
