"""MACE as a backbone.

Equivariant messages, many-body node features by symmetric contraction (arXiv:2206.07697).

Node features are channel-last, (n_atoms, (l_max+1)², num_features), natural parity, axes (y, z, x)
as everywhere. Clebsch– Gordan coefficients meet the harmonics once per structure, before any
channel is touched; what follows is in ``messages``. In the first layer a neighbour is known by its
element alone, so there harmonics and radial features are summed over the neighbours of every
element first and meet the channels afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from e3nn import o3
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.models.backbone import (
    Backbone,
    Channels,
    Edges,
    check_relations,
    sum_of_neighbours,
)
from mlepi.models.channel_linear import ChannelLinear, ElementLinear
from mlepi.models.compilation import Backend, compile_kernel
from mlepi.models.message_paths import message_paths
from mlepi.models.messages import PieceFunctions, build_piece_functions, sum_messages
from mlepi.models.neighbourhoods import Neighbourhoods, coupling_table, neighbour_table
from mlepi.models.radial import BesselBasis, RadialMLP, polynomial_cutoff
from mlepi.models.symmetric_contraction import SymmetricContraction
from mlepi.models.wigner import AXES


class Interaction(nn.Module):
    """Messages of one layer.

    Radial weights × neighbour features ⊗ harmonics, summed over neighbours, mixed.

    Args:
        l_max_in: largest l of the neighbours' features.
        l_max: largest l of harmonics and messages.
        num_features: channels.
        radial_widths: input and hidden sizes of the radial network.
        mean_neighbours: the sum over neighbours is divided by it.
    """

    def __init__(
        self,
        *,
        l_max_in: int,
        l_max: int,
        num_features: int,
        radial_widths: Sequence[int],
        mean_neighbours: float,
    ) -> None:
        super().__init__()
        self.paths = tuple(message_paths(l_max_in, l_max))
        self.l_max, self.num_features = l_max, num_features
        self.mean_neighbours = float(mean_neighbours)
        self.linear_up = ChannelLinear(l_max_in, num_features, num_features)
        self.radial_network = RadialMLP([*radial_widths, len(self.paths) * num_features])
        self.counts = [sum(path[2] == l for path in self.paths) for l in range(l_max + 1)]
        # drawn so that messages have unit variance although the sum of random signs is divided by
        # the number of terms
        spread = math.sqrt(self.mean_neighbours)
        self.mixing = nn.ParameterList(
            [
                nn.Parameter(spread * torch.randn(count * num_features, num_features))
                for count in self.counts
            ]
        )
        self.functions = build_piece_functions(self.paths)

    def compile_kernels(self, backend: Backend) -> None:
        """Compile the sum over neighbours."""
        plain = build_piece_functions(self.paths)
        self.functions = PieceFunctions(
            value=compile_kernel(plain.value, "messages", backend=backend),
            gradients=compile_kernel(
                plain.gradients, "first derivatives of messages", backend=backend
            ),
            second=compile_kernel(plain.second, "second derivatives of messages", backend=backend),
        )

    def forward(self, nodes: Tensor, neighbourhoods: Neighbourhoods) -> Tensor:
        """Return the mixed messages.

        Args:
            nodes: (n_atoms, (l_max_in+1)², num_features).
            neighbourhoods: edge state.

        Returns:
            (n_atoms, (l_max+1)², num_features).
        """
        table = neighbourhoods.table
        senders, weight = self.linear_up(nodes), self.radial_network.last_weight()
        hidden = self.radial_network.hidden(neighbourhoods.radial)
        parts = (
            table.split(values)
            for values in (hidden, neighbourhoods.couplings, neighbourhoods.source)
        )
        sums = [
            sum_messages(self.functions, senders, z, weight, couplings, source)
            for z, couplings, source in zip(*parts, strict=True)
        ]
        sizes = [count * (2 * l + 1) for l, count in enumerate(self.counts)]
        messages = table.to_rows(sums, (sum(sizes), self.num_features), nodes).split(sizes, dim=1)
        mixed = [
            part.unflatten(1, (2 * l + 1, self.counts[l])).flatten(2) @ self.normalised_mixing(l)
            for l, part in enumerate(messages)
        ]
        return table.to_atoms(torch.cat(mixed, dim=1))

    def from_elements(self, embedding: Tensor, neighbourhoods: Neighbourhoods) -> Tensor:
        """Return the mixed messages of neighbours that are known by their element.

        Args:
            embedding: (n_kinds, 1, num_features), features of the species ``neighbourhoods.kinds``.
            neighbourhoods: edge state.

        Returns:
            (n_atoms, (l_max+1)², num_features).
        """
        table, n_kinds = neighbourhoods.table, neighbourhoods.kinds.shape[0]
        hidden = self.radial_network.hidden(neighbourhoods.radial)
        width = n_kinds * hidden.shape[1]
        if n_kinds > 1:
            hidden = (
                nn.functional.one_hot(neighbourhoods.kind, n_kinds).to(hidden).unsqueeze(2)
                * hidden.unsqueeze(1)
            ).flatten(1)
        pairs = zip(table.split(neighbourhoods.harmonics), table.split(hidden), strict=True)
        sums = [harmonics.transpose(1, 2) @ part for harmonics, part in pairs]
        sizes = [2 * l + 1 for l in range(self.l_max + 1)]
        moments = table.to_atoms(table.to_rows(sums, (sum(sizes), width), hidden)).split(
            sizes, dim=1
        )
        features = self.linear_up(embedding)  # (n_kinds, 1, channels)
        weights = (
            self.radial_network.last_weight()
            .view(len(self.paths), self.num_features, -1)
            .transpose(1, 2)
        )
        mixed = [
            part @ (((weights[l] * features) @ self.normalised_mixing(l)).flatten(0, 1))
            for l, part in enumerate(moments)
        ]
        return torch.cat(mixed, dim=1)

    def normalised_mixing(self, l: int) -> Tensor:
        """Return the matrix that mixes paths and channels of the messages of one l."""
        return self.mixing[l] / (math.sqrt(self.mixing[l].shape[0]) * self.mean_neighbours)


class MACE(Backbone):
    """One MACE network on one set of edges.

    Layer: messages → symmetric contraction → linear, + element-dependent self-connection of the
    layer's input. The last layer keeps l ≤ ``l_max_out``: scalars for energies. With
    ``first_self_connection="residual"`` all layers are mace-torch's
    ``RealAgnosticResidualInteractionBlock`` (its standard ScaleShiftMACE); with "message" the first
    layer is its ``RealAgnosticInteractionBlock``, which has no residual and applies the
    element-dependent map to the messages.

    Args:
        name: name of the sub-network: that of its relation, or any other if it sees all relations.
        elements: atomic numbers the network knows.
        cutoffs: relation → cutoff, Å; basis and envelope of an edge end at the cutoff of its
            relation.
        mean_neighbours: relation → mean number of its edges per atom in the training set; a
            sub-network that sees all relations divides by their sum.
        num_layers: message-passing layers.
        num_features: channels of every l.
        l_max: largest l of harmonics and messages.
        l_max_hidden: largest l of node features between layers.
        l_max_out: largest l of the node features after the last layer. Energies need 0.
        correlation: largest degree of the symmetric contraction.
        num_bessel: radial basis functions.
        cutoff_power: p of the polynomial envelope.
        radial_widths: hidden sizes of the radial network.
        first_self_connection: see above.
        relation_feature: the radial network is told the relation of an edge, as a one-hot vector
            beside the radial basis that fades out with it.
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
        l_max_out: int,
        correlation: int,
        num_bessel: int,
        cutoff_power: int,
        radial_widths: Sequence[int],
        first_self_connection: str = "residual",
        relation_feature: bool = False,
    ) -> None:
        super().__init__()
        self._check(cutoffs, mean_neighbours, l_max, (l_max_hidden, l_max_out), num_layers)
        if first_self_connection not in ("residual", "message"):
            raise ConfigError(
                message(
                    "MACE.first_self_connection",
                    repr(first_self_connection),
                    "'residual' or 'message'",
                    "Set model.network.backbone.first_self_connection to one of them.",
                )
            )
        neighbours = sum_of_neighbours(name, mean_neighbours)
        self.num_layers, self.num_features, self.l_max = num_layers, num_features, l_max
        self.first_self_connection = first_self_connection
        self.cutoff_power, self.l_max_out = cutoff_power, l_max_out
        self.cutoffs = tuple(float(cutoffs[name]) for name in fields.order_relations(cutoffs))
        self.relation_feature = relation_feature
        num_radial = num_bessel + (len(self.cutoffs) if relation_feature else 0)
        self.radial_basis = BesselBasis(max(self.cutoffs), num_bessel)
        degrees_in = [0] + [l_max_hidden] * (num_layers - 1)
        degrees_out = [l_max_hidden] * (num_layers - 1) + [l_max_out]
        self.paths = tuple(message_paths(l_max_hidden, l_max)) if num_layers > 1 else ()
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
                    radial_widths=[num_radial, *radial_widths],
                    # a training set of monolayers has no inter edges
                    mean_neighbours=max(neighbours, 1.0),
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
        l_max_nodes: tuple[int, int],
        num_layers: int,
    ) -> None:
        check_relations("MACE", cutoffs, mean_neighbours)
        for key, l in zip(("l_max_hidden", "l_max_out"), l_max_nodes, strict=True):
            if not 0 <= l <= l_max:
                raise ConfigError(
                    message(
                        f"MACE.{key}",
                        f"{l}",
                        f"0 … l_max = {l_max}",
                        f"Lower {key} or raise l_max.",
                    )
                )
        if num_layers < 1:
            raise ConfigError(
                message("MACE.num_layers", f"{num_layers}", "at least 1", "Raise num_layers.")
            )

    def embed(self, species: Tensor, edges: Edges) -> tuple[Tensor, Neighbourhoods]:
        """Return the elements' embedding and the geometry of the neighbourhoods.

        (n_atoms, 1, num_features).
        """
        table = neighbour_table(edges.target, species.shape[0])
        slots = table.edge_of_slot
        lengths = edges.lengths.index_select(0, slots)
        cutoffs = lengths.new_tensor(self.cutoffs)[edges.relation.index_select(0, slots)]
        envelope = polynomial_cutoff(lengths, cutoffs, self.cutoff_power) * table.filled
        if edges.weight is not None:
            envelope = envelope * edges.weight.index_select(0, slots)
        radial = self.radial_basis(lengths, cutoffs) * envelope.unsqueeze(1)
        if self.relation_feature:
            told = nn.functional.one_hot(edges.relation.index_select(0, slots), len(self.cutoffs))
            radial = torch.cat([radial, told.to(radial) * envelope.unsqueeze(1)], dim=1)
        harmonics = o3.spherical_harmonics(
            list(range(self.l_max + 1)),
            edges.vectors[:, AXES].index_select(0, slots),
            normalize=True,
            normalization="component",
        )
        source = edges.source.index_select(0, slots)
        kinds, kind = torch.unique(species[source], return_inverse=True)
        state = Neighbourhoods(
            table=table,
            source=source,
            kinds=kinds,
            kind=kind,
            radial=radial,
            harmonics=harmonics,
            couplings=harmonics @ coupling_table(self.paths, self.l_max).to(harmonics)
            if self.paths
            else harmonics,
        )
        return self.embed_elements(species), state

    def embed_elements(self, species: Tensor) -> Tensor:
        """Return the embedding of some species, (n, 1, num_features)."""
        return (
            (self.embedding / math.sqrt(self.embedding.shape[0]))
            .index_select(0, species)
            .unsqueeze(1)
        )

    def update_nodes(
        self, layer: int, nodes: Tensor, species: Tensor, state: Neighbourhoods
    ) -> Tensor:
        """Return the features after one layer, (n_atoms, (l+1)², num_features).

        l is ``l_max_out`` after the last layer, ``l_max_hidden`` before.
        """
        interaction = cast(Interaction, self.interactions[layer])
        contract, linear = self.contractions[layer], self.linears[layer]
        if layer > 0:
            messages = interaction(nodes, state)
        else:
            messages = interaction.from_elements(self.embed_elements(state.kinds), state)
            if self.first_self_connection == "message":
                return cast(
                    Tensor,
                    linear(contract(self.self_connections[layer](messages, species), species)),
                )
        return cast(
            Tensor,
            linear(contract(messages, species)) + self.self_connections[layer](nodes, species),
        )

    def share_radial(self, other: Backbone) -> None:
        """Take the radial networks of another sub-network, layer by layer."""
        for own, theirs in zip(self.interactions, cast(MACE, other).interactions, strict=True):
            cast(Interaction, own).radial_network = cast(Interaction, theirs).radial_network

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile the sums over neighbours of all layers but the first, where other work is small.

        See ``compilation``.

        Raises:
            ConfigError: there is no other layer.
        """
        if self.num_layers == 1:
            raise ConfigError(
                message(
                    "compile",
                    "true for MACE with one layer, which has no compiled kernels",
                    "at least two layers",
                    "Set compile=false.",
                )
            )
        for interaction in list(self.interactions)[1:]:
            cast(Interaction, interaction).compile_kernels(backend)

    @property
    def node_channels(self) -> Channels:
        """Channels of the node features after the last layer: as many of every l."""
        return Channels((self.num_features,) * (self.l_max_out + 1))

    def flat_nodes(self, nodes: Tensor) -> Tensor:
        """Return the node features with components and channels in one axis."""
        return nodes.flatten(1)

    def scalars(self, layer: int, nodes: Tensor) -> Tensor:
        """Return the l = 0 channels, (n_atoms, num_features)."""
        return nodes[:, 0]

    def num_scalars(self, layer: int) -> int:
        """Count the l = 0 channels."""
        return self.num_features
