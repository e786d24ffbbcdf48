"""The heterogeneous combination.

Dual sub-networks of one backbone, one per relation, with summed node features.

Any class that follows ``backbone.Backbone`` can enter. A homogeneous network is the same code with
a single sub-network that sees the edges of all relations, so that "MACE vs HedgeNet" is a
difference of configuration and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.graphs.build import number_structures
from mlepi.models.backbone import Backbone, Edges
from mlepi.models.compilation import Backend

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
    """HedgeNet: one backbone per relation, node features summed.

    Wang et al. 2026, arXiv:2602.23084, sec. II.2.

    Args:
        elements: atomic numbers the network knows.
        relations: sub-network name → relations whose edges it sees. ``{"intra": ["intra"], "inter":
            ["inter"]}`` is HedgeNet; ``{"all": ["intra", "inter"]}`` is the homogeneous backbone.
        backbone: makes one sub-network from its name; called once per sub-network, so each has its
            own parameters.
        fusion: "late" sums at the end (the text of the paper; the sub-networks exchange nothing in
            between), and the sum of each layer's features is what per-layer read-outs see;
            "per_layer" feeds the sum into the next layer of every sub-network (the paper's Eq. 4).
    """

    species_of_number: (
        Tensor  # (largest atomic number + 1,) int, −1 where the network does not know the element
    )

    def __init__(
        self,
        *,
        elements: Sequence[int],
        relations: Mapping[str, Sequence[str]],
        backbone: Callable[[str], Backbone],
        fusion: Fusion = "late",
    ) -> None:
        super().__init__()
        covered = sorted(relation for seen in relations.values() for relation in seen)
        if covered != sorted(fields.RELATIONS):
            raise ConfigError(
                message(
                    "model.network.relations",
                    f"{dict(relations)}",
                    f"each of {fields.RELATIONS} exactly once",
                    "Edit the config.",
                )
            )
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
        self.relations = {name: tuple(seen) for name, seen in relations.items()}
        self.fusion = fusion
        self.backbones = nn.ModuleDict({name: backbone(name) for name in relations})
        table = torch.full((max(self.elements) + 1,), -1, dtype=torch.long)
        table[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("species_of_number", table, persistent=False)

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
            name: self.collect_edges(graph, seen, positions)
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
            fused = (
                torch.stack(list(nodes.values())).sum(0)
                if len(nodes) > 1
                else next(iter(nodes.values()))
            )
            fused_layers.append(fused)
            if self.fusion == "per_layer":
                nodes = dict.fromkeys(nodes, fused)
            if layer + 1 < self.num_layers:
                for name, backbone in backbones.items():
                    states[name] = backbone.update_edges(layer, nodes[name], species, states[name])
        return HeteroFeatures(species=species, nodes=fused_layers, edges=edges, states=states)

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile the inner functions of all sub-networks.

        Raises:
            ConfigError: the backbone has no compiled kernels.
        """
        for backbone in self.sub_networks.values():
            backbone.compile_kernels(backend)

    @staticmethod
    def collect_edges(
        graph: Any, relations: Sequence[str], positions: Tensor | None = None
    ) -> Edges:
        """Concatenate the edges of some relations and compute their vectors.

        Args:
            graph: (batched) ``HeteroData``.
            relations: names from ``fields.RELATIONS``.
            positions: (n_atoms, 3) Å, used instead of the graph's own.
        """
        atoms = graph[fields.ATOM]
        r = atoms[fields.POSITIONS] if positions is None else positions
        stores = [graph[fields.edge_type(relation)] for relation in relations]
        edge_index = torch.cat([store[fields.EDGE_INDEX] for store in stores], dim=1)
        shift = torch.cat([store[fields.EDGE_CELL_SHIFT] for store in stores]).to(r.dtype)
        relation = torch.cat(
            [
                torch.full_like(store[fields.EDGE_INDEX][0], fields.RELATIONS.index(name))
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
