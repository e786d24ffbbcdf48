"""The heterogeneous combination.

Sub-networks of one backbone, one per relation, with summed node features.

Any class that follows ``backbone.Backbone`` can enter. A homogeneous network is the same code with
a single sub-network that sees the edges of all relations, so that "MACE vs HedgeNet" is a
difference of configuration and nothing else; so is HermNet, whose relations are those of elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.graphs.build import number_structures
from mlepi.graphs.partitions import Partition
from mlepi.models.backbone import Backbone, Edges
from mlepi.models.compilation import Backend
from mlepi.models.radial import smooth_step_envelope

Fusion = Literal["late", "per_layer"]


@dataclass(frozen=True)
class HeteroFeatures:
    """Result of the combination.

    Attributes:
        species: (n_atoms,) int.
        nodes: one tensor per layer, summed over sub-networks.
        edges: sub-network name → its edges.
        states: sub-network name → its final edge state.
    """

    species: Tensor
    nodes: list[Tensor]
    edges: dict[str, Edges]
    states: dict[str, Any]


class HeteroNetwork(nn.Module):
    """HedgeNet and HermNet: one backbone per relation, node features summed.

    Wang et al. 2026, arXiv:2602.23084, sec. II.2 (relations of layers); Wang et al. 2022, npj
    Comput. Mater. 8, 53 (of elements). Where a relation has only some elements at its centre, its
    sub-network enters the sum of atoms of these elements alone.

    Args:
        elements: atomic numbers the network knows.
        relations: sub-network name → relations whose edges it sees. ``{"intra": ["intra"], "inter":
            ["inter"]}`` is HedgeNet; ``{"all": ["intra", "inter"]}`` is the homogeneous backbone.
            None: one sub-network for each relation of the partition.
        backbone: makes one sub-network from its name; called once per sub-network, so each has its
            own parameters.
        fusion: "late" sums at the end (the text of the paper; the sub-networks exchange nothing in
            between), and the sum of each layer's features is what per-layer read-outs see;
            "per_layer" feeds the sum into the next layer of every sub-network (the paper's Eq. 4).
        partition: how the graph divides edges, as plain data (``Partition.to_dict``); None: by
            layers.
        shared_radial: all sub-networks use the radial networks of the first.
    """

    species_of_number: (
        Tensor  # (largest atomic number + 1,) int, −1 where the network does not know the element
    )
    centres: Tensor  # (n_sub_networks, n_elements), 1 where its output enters the sum, else 0
    starts: Tensor  # (n_relations,), where the weight of edges has risen to 1, Å

    def __init__(
        self,
        *,
        elements: Sequence[int],
        relations: Mapping[str, Sequence[str]] | None,
        backbone: Callable[[str], Backbone],
        fusion: Fusion = "late",
        partition: Mapping[str, Any] | None = None,
        shared_radial: bool = False,
    ) -> None:
        super().__init__()
        self.partition = Partition.from_dict(partition)
        known = self.partition.relations
        seen_by = {name: (name,) for name in known} if relations is None else relations
        _check_relations(seen_by, self.partition)
        if fusion not in ("late", "per_layer"):
            raise ConfigError(
                message(
                    "model.network.fusion",
                    repr(fusion),
                    "'late' or 'per_layer'",
                    "Edit the config.",
                )
            )
        self.elements = tuple(int(z) for z in elements)
        self.relations = {name: tuple(seen) for name, seen in seen_by.items()}
        self.fusion = fusion
        self.backbones = nn.ModuleDict({name: backbone(name) for name in self.relations})
        first, *others = self.sub_networks.values()
        for other in others if shared_radial else ():
            other.share_radial(first)
        table = torch.full((max(self.elements) + 1,), -1, dtype=torch.long)
        table[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("species_of_number", table, persistent=False)
        centres = self.partition.centres
        entering = [
            [float(any(z in centres.get(r, (z,)) for r in seen)) for z in self.elements]
            for seen in self.relations.values()
        ]
        self.register_buffer("centres", torch.tensor(entering), persistent=False)
        starts = [self.partition.starts.get(name, 0.0) for name in known]
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.float64), persistent=False)

    @property
    def num_layers(self) -> int:
        """Number of message-passing layers of every sub-network."""
        return next(iter(self.sub_networks.values())).num_layers

    @property
    def sub_networks(self) -> dict[str, Backbone]:
        """Sub-networks by name."""
        return cast("dict[str, Backbone]", dict(self.backbones.items()))

    def forward(self, graph: Any, positions: Tensor | None = None) -> HeteroFeatures:
        """Run all sub-networks on a (batched) ``HeteroData`` graph.

        Args:
            graph: fields as in ``mlepi.graphs.fields``.
            positions: (n_atoms, 3) Å, used instead of the graph's own when forces are wanted.
        """
        atoms = graph[fields.ATOM]
        species = self.species_of_number[atoms[fields.NUMBERS]]
        edges = {
            name: self._weighted(
                self.collect_edges(graph, seen, positions, self.partition.relations)
            )
            for name, seen in self.relations.items()
        }
        backbones = self.sub_networks
        nodes: dict[str, Tensor] = {}
        states: dict[str, Any] = {}
        for name, backbone in backbones.items():
            nodes[name], states[name] = backbone.embed(species, edges[name])
        fused_layers: list[Tensor] = []
        for layer in range(self.num_layers):
            for name, backbone in backbones.items():
                nodes[name] = backbone.update_nodes(layer, nodes[name], species, states[name])
            fused = self._sum(list(nodes.values()), species)
            fused_layers.append(fused)
            if self.fusion == "per_layer":
                nodes = dict.fromkeys(nodes, fused)
            if layer + 1 < self.num_layers:
                for name, backbone in backbones.items():
                    states[name] = backbone.update_edges(layer, nodes[name], species, states[name])
        return HeteroFeatures(species=species, nodes=fused_layers, edges=edges, states=states)

    def _sum(self, nodes: Sequence[Tensor], species: Tensor) -> Tensor:
        """Sum the node features of all sub-networks, each over the atoms that it is for."""
        if len(nodes) == 1:
            return nodes[0]
        if not self.partition.centres:
            return torch.stack(list(nodes)).sum(0)
        factors = self.centres.to(nodes[0])[:, species]
        return torch.stack(
            [
                part * factor.view(-1, *[1] * (part.dim() - 1))
                for part, factor in zip(nodes, factors, strict=True)
            ]
        ).sum(0)

    def _weighted(self, edges: Edges) -> Edges:
        """Give edges of relations that do not begin at zero distance a weight that rises there."""
        if not self.partition.starts:
            return edges
        starts = self.starts.to(edges.lengths)[edges.relation]
        rest = smooth_step_envelope(edges.lengths, starts, self.partition.overlap)
        return replace(edges, weight=1.0 - rest)

    def tabulate_radial(self) -> None:
        """Make tables of the radial functions of all sub-networks, for inference.

        Edges of relations that do not begin at zero distance have a weight of their own, for which
        there are no tables.
        """
        for backbone in self.sub_networks.values() if not self.partition.starts else ():
            backbone.tabulate_radial()

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile the inner functions of all sub-networks.

        Raises:
            ConfigError: the backbone has no compiled kernels.
        """
        for backbone in self.sub_networks.values():
            backbone.compile_kernels(backend)

    @staticmethod
    def collect_edges(
        graph: Any,
        relations: Sequence[str],
        positions: Tensor | None = None,
        order: Sequence[str] = fields.RELATIONS,
    ) -> Edges:
        """Concatenate the edges of some relations and compute their vectors.

        Args:
            graph: (batched) ``HeteroData``.
            relations: names of the partition's relations.
            positions: (n_atoms, 3) Å, used instead of the graph's own.
            order: all relations of the partition, by whose places ``relation`` counts.
        """
        atoms = graph[fields.ATOM]
        r = atoms[fields.POSITIONS] if positions is None else positions
        stores = [graph[fields.edge_type(relation)] for relation in relations]
        edge_index = torch.cat([store[fields.EDGE_INDEX] for store in stores], dim=1)
        shift = torch.cat([store[fields.EDGE_CELL_SHIFT] for store in stores]).to(r.dtype)
        relation = torch.cat(
            [
                torch.full_like(store[fields.EDGE_INDEX][0], order.index(name))
                for name, store in zip(relations, stores, strict=True)
            ]
        )
        source, target = edge_index[0], edge_index[1]
        cell = graph[fields.CELL].to(r.dtype).reshape(-1, 3, 3)
        structure = number_structures(graph)
        vectors = r[source] - r[target] + torch.einsum("ei,eij->ej", shift, cell[structure[target]])
        return Edges(
            source, target, vectors, torch.linalg.norm(vectors, dim=1), relation, structure
        )


def _check_relations(relations: Mapping[str, Sequence[str]], partition: Partition) -> None:
    """Refuse sub-networks that leave out a relation, see one twice or count a neighbour twice."""
    covered = sorted(relation for seen in relations.values() for relation in seen)
    if covered != sorted(partition.relations):
        raise ConfigError(
            message(
                "model.network.relations",
                f"{dict(relations)}",
                f"each of {partition.relations} exactly once",
                "Edit the config; null makes one sub-network per relation of the graph.",
            )
        )
    if not partition.disjoint and any(len(seen) > 1 for seen in relations.values()):
        raise ConfigError(
            message(
                "model.network.relations",
                f"{dict(relations)}",
                "one relation per sub-network: those of triplets share edges",
                "Set it to null.",
            )
        )
