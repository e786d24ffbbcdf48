"""The heterogeneous combination.

Dual sub-networks of one backbone, one per relation, with summed node features.

Any class that follows :class:`Backbone` can enter. A homogeneous network is the same code with a
single sub-network that sees the edges of all relations, so that "MACE vs HedgeNet" is a difference
of configuration and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.models.compilation import Backend

Fusion = Literal["late", "per_layer"]


@dataclass(frozen=True)
class Edges:
    """Edges that one sub-network sees.

    Attributes:
        source: (n_edges,) int, sender j.
        target: (n_edges,) int, receiver i, where messages are summed.
        vectors: (n_edges, 3), r_j + shift·cell − r_i, Å.
        lengths: (n_edges,), Å.
        relation: (n_edges,) int, position of the edge's relation in ``fields.RELATIONS``.
        structure: (n_atoms,) int, graph of the batch that each atom belongs to.
    """

    source: Tensor
    target: Tensor
    vectors: Tensor
    lengths: Tensor
    relation: Tensor
    structure: Tensor


class Backbone(nn.Module, ABC):
    """One sub-network: message passing on one set of edges.

    The layout of node features is the backbone's own; all sub-networks of one combination share it,
    so that features can be summed. ``state`` is whatever the backbone keeps per edge (geometry,
    radial basis, edge features).
    """

    num_layers: int

    @abstractmethod
    def embed(self, species: Tensor, edges: Edges) -> tuple[Tensor, Any]:
        """Return the initial node features and the edge state.

        Args:
            species: (n_atoms,) int, position of each atom's element in the model's list of
                elements.
            edges: edges of this sub-network.
        """

    @abstractmethod
    def update_nodes(self, layer: int, nodes: Tensor, species: Tensor, state: Any) -> Tensor:
        """Return the node features after the message passing of one layer."""

    def update_edges(self, layer: int, nodes: Tensor, species: Tensor, state: Any) -> Any:
        """Return the edge state after one layer.

        Backbones without edge features return it unchanged.
        """
        return state

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile inner functions with torch.compile; a backbone without any stays as it is."""

    @abstractmethod
    def scalars(self, layer: int, nodes: Tensor) -> Tensor:
        """Return the invariant part of the node features after ``layer``.

        (n_atoms, num_scalars(layer)).
        """

    @abstractmethod
    def num_scalars(self, layer: int) -> int:
        """Count the invariant node features after ``layer``."""


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
    """HedgeNet: one backbone per relation, node features summed (Wang et al. 2026, arXiv:2602.23084, sec. II.2).

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
        structure = atoms.batch if "batch" in atoms else torch.zeros_like(atoms[fields.NUMBERS])
        vectors = r[source] - r[target] + torch.einsum("ei,eij->ej", shift, cell[structure[target]])
        return Edges(
            source, target, vectors, torch.linalg.norm(vectors, dim=1), relation, structure
        )
