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
from mlepi.models.compilation import (
    Backend,
    are_first_derivatives_enough,
    are_operations_plain,
)
from mlepi.models.interaction import Interaction
from mlepi.models.message_paths import message_paths
from mlepi.models.native.network import NativeLayers
from mlepi.models.native.sums import SortedEdges
from mlepi.models.neighbourhoods import (
    Neighbourhoods,
    NeighbourTable,
    coupling_table,
    neighbour_table,
)
from mlepi.models.radial import BesselBasis, polynomial_cutoff
from mlepi.models.radial_table import RadialFunction, RadialTables, TablePlaces
from mlepi.models.symmetric_contraction import SymmetricContraction
from mlepi.models.wigner import AXES


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
        self.radial_tables: RadialTables | None = None
        self.native = NativeLayers()
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

    def embed(
        self, species: Tensor, edges: Edges
    ) -> tuple[Tensor, Neighbourhoods] | tuple[Tensor, SortedEdges]:
        """Return the elements' embedding and the geometry of the neighbourhoods.

        (n_atoms, 1, num_features).
        """
        sorted_edges = self._sort_natively(species, edges)
        if sorted_edges is not None:
            return self.embed_elements(species), sorted_edges
        table = neighbour_table(edges.target, species.shape[0])
        slots = table.edge_of_slot
        lengths = edges.lengths.index_select(0, slots)
        relation = edges.relation.index_select(0, slots)
        places = self._find_places(edges, lengths, relation, table)
        if places is None:
            factors = [table.filled]
            if edges.weight is not None:
                factors.append(edges.weight.index_select(0, slots))
            radial = self._expand(lengths, relation, factors)
        else:
            radial = lengths.new_empty(lengths.shape[0], 0)
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
            places=places,
        )
        return self.embed_elements(species), state

    def _expand(self, lengths: Tensor, relation: Tensor, factors: Sequence[Tensor]) -> Tensor:
        """Return what the radial networks see of lengths (n,), (n, num_radial), with an envelope.

        Args:
            lengths: Å.
            relation: (n,) int.
            factors: (n,) each, of the envelope.
        """
        all_cutoffs = torch.tensor(self.cutoffs, dtype=lengths.dtype, device=lengths.device)
        cutoffs = all_cutoffs[relation]
        envelope = polynomial_cutoff(lengths, cutoffs, self.cutoff_power)
        for factor in factors:
            envelope = envelope * factor
        radial = self.radial_basis(lengths, cutoffs) * envelope.unsqueeze(1)
        if self.relation_feature:
            told = nn.functional.one_hot(relation, len(self.cutoffs))
            radial = torch.cat([radial, told.to(radial) * envelope.unsqueeze(1)], dim=1)
        return radial

    def _find_places(
        self, edges: Edges, lengths: Tensor, relation: Tensor, table: NeighbourTable
    ) -> TablePlaces | None:
        """Find the slots in the tables; None where the radial networks are to be evaluated.

        That is in training, in forward mode, for edges with weights of their own, and where an edge
        is shorter than the tables.
        """
        tables = self.radial_tables
        if tables is None or not self._takes_tables(edges):
            return None
        return tables.find(lengths, relation, table.filled)

    def _takes_tables(self, edges: Edges) -> bool:
        """Tell whether radial functions may come from tables, see ``_find_places``."""
        return not self.training and edges.weight is None and not are_operations_plain()

    def _sort_natively(self, species: Tensor, edges: Edges) -> SortedEdges | None:
        """Sort the edges for the kernels in C++; None where these are not wanted or possible."""
        if not are_first_derivatives_enough() or not self._takes_tables(edges):
            return None
        return self.native.sort_edges(self, species, edges)

    def tabulate_radial(self) -> None:
        """Make tables of the radial functions, in float64; see ``radial_table``.

        Parameters and their names stay. Where tables cannot be used, radial networks are, which
        follow their parameters while tables do not.
        """
        alike = len(set(self.cutoffs)) == 1 and not self.relation_feature
        curves = range(1 if alike else len(self.cutoffs))
        layers = [cast(Interaction, part).radial_network for part in self.interactions]

        def function(layer: int, curve: int) -> RadialFunction:
            hidden = layers[layer].hidden
            return lambda lengths: hidden(
                self._expand(lengths, torch.full_like(lengths, curve, dtype=torch.long), ())
            )

        tables = RadialTables(
            [[function(layer, curve) for layer in range(self.num_layers)] for curve in curves],
            [self.cutoffs[curve] for curve in curves],
            [0] * len(self.cutoffs) if alike else list(curves),
            "MACE.radial_widths",
        )
        for layer in range(1, self.num_layers):
            tables.multiply(layer, layers[layer].last_weight().detach())
        self.radial_tables = tables

    def embed_elements(self, species: Tensor) -> Tensor:
        """Return the embedding of some species, (n, 1, num_features)."""
        return (
            (self.embedding / math.sqrt(self.embedding.shape[0]))
            .index_select(0, species)
            .unsqueeze(1)
        )

    def update_nodes(
        self, layer: int, nodes: Tensor, species: Tensor, state: Neighbourhoods | SortedEdges
    ) -> Tensor:
        """Return the features after one layer, (n_atoms, (l+1)², num_features).

        l is ``l_max_out`` after the last layer, ``l_max_hidden`` before.
        """
        if isinstance(state, SortedEdges):
            return self.native.update_nodes(self, layer, nodes, species, state)
        interaction = cast(Interaction, self.interactions[layer])
        tables = self.radial_tables
        rows = None if tables is None or state.places is None else tables.rows_of(layer)
        contract, linear = self.contractions[layer], self.linears[layer]
        if layer > 0:
            messages = interaction(nodes, state, rows)
        else:
            messages = interaction.from_elements(self.embed_elements(state.kinds), state, rows)
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

        See ``compilation``. On processors these and the contractions are kernels in C++.

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
        self.native = NativeLayers(asked=backend == "inductor")
        for interaction in list(self.interactions)[1:]:
            cast(Interaction, interaction).compile_kernels(backend)
        if backend == "inductor":
            for contraction in self.contractions:
                cast(SymmetricContraction, contraction).compile_kernels()

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
