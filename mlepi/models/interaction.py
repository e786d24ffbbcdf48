"""One layer of messages of MACE: neighbours' features × harmonics × radial weights, mixed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlepi.models.channel_linear import ChannelLinear
from mlepi.models.compilation import Backend
from mlepi.models.message_paths import message_paths
from mlepi.models.message_pieces import build_piece_functions, take_factors
from mlepi.models.messages import sum_messages
from mlepi.models.native.pieces import NativePieces
from mlepi.models.neighbourhoods import Neighbourhoods
from mlepi.models.radial import RadialMLP
from mlepi.models.radial_table import TablePlaces, look_up
from mlepi.models.tabulated_messages import (
    build_weighted_functions,
    compile_weighted_functions,
    sum_tabulated,
)


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
        self.weighted_functions = build_weighted_functions(self.paths)

    def compile_kernels(self, backend: Backend) -> None:
        """Compile the sum over neighbours: in C++ on processors, by torch elsewhere."""
        weighted = compile_weighted_functions(self.paths, backend)
        if backend == "inductor":
            weighted = NativePieces(self.paths, weighted).functions
        self.weighted_functions = weighted
        self.functions = take_factors(weighted, len(self.paths))

    def forward(
        self, nodes: Tensor, neighbourhoods: Neighbourhoods, radial_table: Tensor | None = None
    ) -> Tensor:
        """Return the mixed messages.

        Args:
            nodes: (n_atoms, (l_max_in+1)², num_features).
            neighbourhoods: edge state.
            radial_table: of this layer, (n_rows, n_paths·num_features); its radial network if
                absent.

        Returns:
            (n_atoms, (l_max+1)², num_features).
        """
        table, senders = neighbourhoods.table, self.linear_up(nodes)
        if radial_table is None:
            sums = self._sum_exactly(senders, neighbourhoods)
        else:
            sums = self._sum_tabulated(senders, neighbourhoods, radial_table)
        sizes = [count * (2 * l + 1) for l, count in enumerate(self.counts)]
        messages = table.to_rows(sums, (sum(sizes), self.num_features), nodes).split(sizes, dim=1)
        mixed = [
            part.unflatten(1, (2 * l + 1, self.counts[l])).flatten(2) @ self.normalised_mixing(l)
            for l, part in enumerate(messages)
        ]
        return table.to_atoms(torch.cat(mixed, dim=1))

    def _sum_exactly(self, senders: Tensor, neighbourhoods: Neighbourhoods) -> list[Tensor]:
        """Return the sums over neighbours of every group, by the radial network."""
        table, weight = neighbourhoods.table, self.radial_network.last_weight()
        hidden = self.radial_network.hidden(neighbourhoods.radial)
        parts = (
            table.split(values)
            for values in (hidden, neighbourhoods.couplings, neighbourhoods.source)
        )
        return [
            sum_messages(self.functions, senders, z, weight, couplings, source)
            for z, couplings, source in zip(*parts, strict=True)
        ]

    def _sum_tabulated(
        self, senders: Tensor, neighbourhoods: Neighbourhoods, radial_table: Tensor
    ) -> list[Tensor]:
        """Return the same sums by a table."""
        places = neighbourhoods.known_places
        parts = (
            neighbourhoods.table.split(values)
            for values in (
                places.weights,
                places.rows,
                neighbourhoods.couplings,
                neighbourhoods.source,
            )
        )
        return [
            sum_tabulated(
                self.weighted_functions,
                senders,
                TablePlaces(rows, weights),
                radial_table,
                couplings,
                source,
            )
            for weights, rows, couplings, source in zip(*parts, strict=True)
        ]

    def from_elements(
        self,
        embedding: Tensor,
        neighbourhoods: Neighbourhoods,
        radial_table: Tensor | None = None,
    ) -> Tensor:
        """Return the mixed messages of neighbours that are known by their element.

        Args:
            embedding: (n_kinds, 1, num_features), features of the species ``neighbourhoods.kinds``.
            neighbourhoods: edge state.
            radial_table: of this layer's hidden features, (n_rows, width); its radial network if
                absent.

        Returns:
            (n_atoms, (l_max+1)², num_features).
        """
        table, n_kinds = neighbourhoods.table, neighbourhoods.kinds.shape[0]
        if radial_table is None:
            hidden = self.radial_network.hidden(neighbourhoods.radial)
        else:
            hidden = look_up(radial_table, neighbourhoods.known_places)
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
        matrices = self.moment_matrices(embedding)
        return torch.cat([part @ matrices[l] for l, part in enumerate(moments)], dim=1)

    def moment_matrices(self, embedding: Tensor) -> list[Tensor]:
        """Return what turns sums of harmonics × hidden radial features into mixed messages.

        Args:
            embedding: as in ``from_elements``.

        Returns:
            For every l, (n_kinds·width, num_features).
        """
        features = self.linear_up(embedding)  # (n_kinds, 1, channels)
        weights = (
            self.radial_network.last_weight()
            .view(len(self.paths), self.num_features, -1)
            .transpose(1, 2)
        )
        return [
            ((weights[l] * features) @ self.normalised_mixing(l)).flatten(0, 1)
            for l in range(self.l_max + 1)
        ]

    def normalised_mixing(self, l: int) -> Tensor:
        """Return the matrix that mixes paths and channels of the messages of one l."""
        return self.mixing[l] / (math.sqrt(self.mixing[l].shape[0]) * self.mean_neighbours)
