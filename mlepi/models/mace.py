"""MACE as a backbone: equivariant messages, many-body node features by symmetric contraction (arXiv:2206.07697).

Node features are channel-last, (n_atoms, (l_max+1)², num_features), natural parity, axes (y, z, x) as everywhere.
Neighbours are stored as a padded table, (n_atoms, n_neighbours), so that the product with the harmonics and the sum over
neighbours are one batched matrix product per path: A_i = Σ_{j,m1} (C·Y)_{i,(j,m1),m3} · R_{ij} h_{j,m1}; the Clebsch–Gordan
coefficients meet the harmonics once per structure, before any channel is touched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from e3nn import o3
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.models.channel_linear import ChannelLinear, ElementLinear, degree_slice
from mlepi.models.hedgenet import Backbone, Edges
from mlepi.models.radial import BesselBasis, RadialMLP, polynomial_cutoff
from mlepi.models.symmetric_contraction import SymmetricContraction
from mlepi.models.wigner import AXES, wigner_3j

Path = tuple[int, int, int]
"""(l1, l2, l3): neighbour feature ⊗ harmonic → message."""


def message_paths(l_max_in: int, l_max: int) -> list[Path]:
    """List the natural-parity paths l1 ⊗ Y_l2 → l3 with l2, l3 ≤ l_max, ordered by (l3, l1, l2).

    Args:
        l_max_in: largest l1.
        l_max: largest l of harmonics and messages.
    """
    return [
        (l1, l2, l3)
        for l3 in range(l_max + 1)
        for l1 in range(l_max_in + 1)
        for l2 in range(abs(l1 - l3), min(l1 + l3, l_max) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]


@dataclass(frozen=True)
class Neighbourhoods:
    """Edge state: what all layers need to know about the edges, one row of ``n_neighbours`` slots per atom.

    Attributes:
        source: (n_atoms, n_neighbours) int, sender of each slot; empty slots point to some atom and carry zeros.
        radial: (n_atoms, n_neighbours, num_bessel), Bessel functions × cutoff envelope, zero in empty slots.
        couplings: path → (n_atoms, n_neighbours·(2·l1+1), 2·l3+1), Clebsch–Gordan coefficients contracted with Y_l2.
    """

    source: Tensor
    radial: Tensor
    couplings: dict[Path, Tensor]


class Interaction(nn.Module):
    """Messages of one layer: radial weights × neighbour features ⊗ harmonics, summed over neighbours, mixed.

    Args:
        l_max_in: largest l of the neighbours' features.
        l_max: largest l of harmonics and messages.
        num_features: channels.
        radial_widths: input and hidden sizes of the radial network.
        mean_neighbours: the sum over neighbours is divided by it.
    """

    def __init__(
        self, *, l_max_in: int, l_max: int, num_features: int, radial_widths: Sequence[int], mean_neighbours: float
    ) -> None:
        super().__init__()
        self.paths = message_paths(l_max_in, l_max)
        self.l_max, self.num_features = l_max, num_features
        self.mean_neighbours = float(mean_neighbours)
        self.linear_up = ChannelLinear(l_max_in, num_features, num_features)
        self.radial_network = RadialMLP([*radial_widths, len(self.paths) * num_features])
        counts = [sum(path[2] == l for path in self.paths) for l in range(l_max + 1)]
        # drawn so that messages have unit variance although the sum of random signs is divided by the number of terms
        spread = math.sqrt(self.mean_neighbours)
        self.mixing = nn.ParameterList(
            [nn.Parameter(spread * torch.randn(count * num_features, num_features)) for count in counts]
        )

    def forward(self, nodes: Tensor, neighbourhoods: Neighbourhoods) -> Tensor:
        """Return the mixed messages.

        Args:
            nodes: (n_atoms, (l_max_in+1)², num_features).
            neighbourhoods: edge state.

        Returns:
            (n_atoms, (l_max+1)², num_features).
        """
        n_atoms, n_neighbours = neighbourhoods.source.shape
        senders = self.linear_up(nodes).index_select(0, neighbourhoods.source.flatten())
        senders = senders.view(n_atoms, n_neighbours, nodes.shape[1], self.num_features)
        weights = self.radial_network(neighbourhoods.radial).chunk(len(self.paths), dim=2)
        messages: list[list[Tensor]] = [[] for _ in range(self.l_max + 1)]
        for path, weight in zip(self.paths, weights, strict=True):
            weighted = (weight.unsqueeze(2) * senders[:, :, degree_slice(path[0])]).flatten(1, 2)
            messages[path[2]].append(neighbourhoods.couplings[path].transpose(1, 2) @ weighted)
        mixed = [
            torch.cat(parts, dim=2) @ (mixing / (math.sqrt(mixing.shape[0]) * self.mean_neighbours))
            for parts, mixing in zip(messages, self.mixing, strict=True)
        ]
        return torch.cat(mixed, dim=1)


class MACE(Backbone):
    """One MACE network on one set of edges.

    Layer: messages → symmetric contraction → linear, + element-dependent self-connection of the layer's input. The last
    layer keeps scalars only. With ``first_self_connection="residual"`` all layers are mace-torch's
    ``RealAgnosticResidualInteractionBlock`` (its standard ScaleShiftMACE); with "message" the first layer is its
    ``RealAgnosticInteractionBlock``, which has no residual and applies the element-dependent map to the messages.

    Args:
        name: name of the sub-network: that of its relation, or any other if it sees all relations.
        elements: atomic numbers the network knows.
        cutoffs: relation → cutoff, Å; basis and envelope of an edge end at the cutoff of its relation.
        mean_neighbours: relation → mean number of its edges per atom in the training set; a sub-network that sees all
            relations divides by their sum.
        num_layers: message-passing layers.
        num_features: channels of every l.
        l_max: largest l of harmonics and messages.
        l_max_hidden: largest l of node features between layers.
        correlation: largest degree of the symmetric contraction.
        num_bessel: radial basis functions.
        cutoff_power: p of the polynomial envelope.
        radial_widths: hidden sizes of the radial network.
        first_self_connection: see above.
    """

    def __init__(
        self,
        name: str,
        *,
        elements: Sequence[int],
        cutoffs: Mapping[str, float],
        mean_neighbours: Mapping[str, float],
        num_layers: int,
        num_features: int,
        l_max: int,
        l_max_hidden: int,
        correlation: int,
        num_bessel: int,
        cutoff_power: int,
        radial_widths: Sequence[int],
        first_self_connection: str = "residual",
    ) -> None:
        super().__init__()
        self._check(cutoffs, mean_neighbours, l_max, l_max_hidden, num_layers, first_self_connection)
        neighbours = mean_neighbours[name] if name in fields.RELATIONS else sum(mean_neighbours.values())
        self.num_layers, self.num_features, self.l_max = num_layers, num_features, l_max
        self.first_self_connection = first_self_connection
        self.cutoff_power = cutoff_power
        self.cutoffs = tuple(float(cutoffs[relation]) for relation in fields.RELATIONS)
        self.radial_basis = BesselBasis(max(self.cutoffs), num_bessel)
        degrees_in = [0] + [l_max_hidden] * (num_layers - 1)
        degrees_out = [l_max_hidden] * (num_layers - 1) + [0]
        self.paths = message_paths(max(degrees_in), l_max)
        self.embedding = nn.Parameter(torch.randn(len(elements), num_features))
        self.interactions = nn.ModuleList()
        self.self_connections = nn.ModuleList()
        self.contractions = nn.ModuleList()
        self.linears = nn.ModuleList()
        for layer, (l_in, l_out) in enumerate(zip(degrees_in, degrees_out, strict=True)):
            self.interactions.append(
                Interaction(
                    l_max_in=l_in,
                    l_max=l_max,
                    num_features=num_features,
                    radial_widths=[num_bessel, *radial_widths],
                    mean_neighbours=max(float(neighbours), 1.0),  # a training set of monolayers has no inter edges
                )
            )
            on_messages = layer == 0 and first_self_connection == "message"
            connection = (l_max, l_max) if on_messages else (l_in, l_out)
            self.self_connections.append(ElementLinear(*connection, num_features, len(elements)))
            self.contractions.append(
                SymmetricContraction(
                    l_max_in=l_max,
                    l_max_out=l_out,
                    correlation=correlation,
                    num_features=num_features,
                    num_elements=len(elements),
                )
            )
            self.linears.append(ChannelLinear(l_out, num_features, num_features))

    @staticmethod
    def _check(
        cutoffs: Mapping[str, float],
        mean_neighbours: Mapping[str, float],
        l_max: int,
        l_max_hidden: int,
        num_layers: int,
        first_self_connection: str,
    ) -> None:
        for key, values in (("cutoffs", cutoffs), ("mean_neighbours", mean_neighbours)):
            if set(values) != set(fields.RELATIONS):
                raise ConfigError(
                    message(f"MACE.{key}", f"{sorted(values)}", f"{list(fields.RELATIONS)}", "Give one value per relation.")
                )
        if not 0 <= l_max_hidden <= l_max:
            raise ConfigError(message("MACE.l_max_hidden", f"{l_max_hidden}", f"0 … l_max = {l_max}", "Edit the config."))
        if num_layers < 1:
            raise ConfigError(message("MACE.num_layers", f"{num_layers}", "at least 1", "Edit the config."))
        if first_self_connection not in ("residual", "message"):
            raise ConfigError(
                message("MACE.first_self_connection", repr(first_self_connection), "'residual' or 'message'", "Edit the config.")
            )

    def embed(self, species: Tensor, edges: Edges) -> tuple[Tensor, Neighbourhoods]:
        """Return the elements' embedding, (n_atoms, 1, num_features), and the geometry of the neighbourhoods."""
        nodes = (self.embedding / math.sqrt(self.embedding.shape[0])).index_select(0, species).unsqueeze(1)
        edge_of_slot, filled = neighbour_table(edges.target, species.shape[0])
        shape = edge_of_slot.shape
        slots = edge_of_slot.flatten()
        lengths = edges.lengths.index_select(0, slots)
        cutoffs = lengths.new_tensor(self.cutoffs)[edges.relation.index_select(0, slots)]
        envelope = polynomial_cutoff(lengths, cutoffs, self.cutoff_power) * filled.flatten()
        radial = self.radial_basis(lengths, cutoffs) * envelope.unsqueeze(1)
        harmonics = o3.spherical_harmonics(
            list(range(self.l_max + 1)),
            edges.vectors[:, AXES].index_select(0, slots),
            normalize=True,
            normalization="component",
        )
        couplings = {}
        for l1, l2, l3 in self.paths:
            table = (wigner_3j(l1, l2, l3) * math.sqrt(2 * l3 + 1)).transpose(0, 1).reshape(2 * l2 + 1, -1)
            coupled = harmonics[:, degree_slice(l2)] @ table.to(harmonics)
            couplings[l1, l2, l3] = coupled.reshape(shape[0], shape[1] * (2 * l1 + 1), 2 * l3 + 1)
        source = edges.source.index_select(0, slots).view(shape)
        return nodes, Neighbourhoods(source, radial.view(*shape, radial.shape[1]), couplings)

    def update_nodes(self, layer: int, nodes: Tensor, species: Tensor, state: Neighbourhoods) -> Tensor:
        """Return the features after one layer: (n_atoms, (l_max_hidden+1)² or 1, num_features)."""
        messages = self.interactions[layer](nodes, state)
        if layer == 0 and self.first_self_connection == "message":
            return self.linears[layer](self.contractions[layer](self.self_connections[layer](messages, species), species))
        contracted = self.linears[layer](self.contractions[layer](messages, species))
        return contracted + self.self_connections[layer](nodes, species)

    def scalars(self, layer: int, nodes: Tensor) -> Tensor:
        """Return the l = 0 channels, (n_atoms, num_features)."""
        return nodes[:, 0]

    def num_scalars(self, layer: int) -> int:
        """Count the l = 0 channels."""
        return self.num_features


def neighbour_table(target: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Sort edges into a table with one row per atom, as wide as the largest number of neighbours.

    Args:
        target: (n_edges,) int, receiver of every edge.
        n_atoms: number of rows.

    Returns:
        ``edge_of_slot`` (n_atoms, n_neighbours) int, where empty slots hold edge 0, and ``filled``, the same shape, bool.
    """
    counts = torch.bincount(target, minlength=n_atoms)
    width = int(counts.max()) if target.shape[0] > 0 else 0
    order = torch.argsort(target, stable=True)
    first = torch.cumsum(counts, 0) - counts
    column = torch.arange(target.shape[0], device=target.device) - first[target[order]]
    edge_of_slot = target.new_zeros(n_atoms, width)
    edge_of_slot[target[order], column] = order
    filled = torch.arange(width, device=target.device).unsqueeze(0) < counts.unsqueeze(1)
    return edge_of_slot, filled
