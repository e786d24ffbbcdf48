"""The interface between backbones and read-outs: what a sub-network gets, keeps, and declares.

A backbone passes messages on one set of edges. What its features are, its ``node_channels`` say;
read-outs ask for nothing else, so that any backbone can carry any read-out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.models.compilation import Backend
from mlepi.models.so2 import EdgeFeatures


@dataclass(frozen=True)
class Edges:
    """Edges that one sub-network sees.

    Attributes:
        source: (n_edges,) int, sender j.
        target: (n_edges,) int, receiver i, where messages are summed.
        vectors: (n_edges, 3), r_j + shift·cell − r_i, Å.
        lengths: (n_edges,), Å.
        relation: (n_edges,) int, position of the edge's relation among those of the partition.
        structure: (n_atoms,) int, graph of the batch that each atom belongs to.
        weight: (n_edges,), factor of messages beside the backbone's own envelope; None for 1.
    """

    source: Tensor
    target: Tensor
    vectors: Tensor
    lengths: Tensor
    relation: Tensor
    structure: Tensor
    weight: Tensor | None = None


@dataclass(frozen=True)
class EdgeState:
    """What is known about a chunk of edges.

    Attributes:
        edges: the edges.
        rotations: ``wigner.edge_rotations`` from the edge frame to the global frame, one (n_edges,
            2l+1, 2l+1) per l.
        radial: (n_edges, num_radial), expansion of the length.
        weight: (n_edges,), of messages: decays with the length and is smoothly 0 at the cutoff.
        pair: (n_edges,) int, element pair, target·n_elements + source.
        features: edge features in the edge frame.
        loops: the chunk holds self-loops, one per atom: zero vectors, with the global frame for
            their own unless the source of the features has other frames.
    """

    edges: Edges
    rotations: list[Tensor]
    radial: Tensor
    weight: Tensor
    pair: Tensor
    features: EdgeFeatures
    loops: bool = False


@dataclass(frozen=True)
class Channels:
    """Copies of every degree l that features have.

    Attributes:
        natural: of parity (−1)^l, for l = 0, 1, …
        pseudo: of parity −(−1)^l, likewise; empty where there are none.
    """

    natural: tuple[int, ...]
    pseudo: tuple[int, ...] = ()


class EdgeFeatureSource(nn.Module, ABC):
    """Makes the features of edges from which blocks are read, after the last layer.

    Attributes:
        channels: of the features.
    """

    channels: Channels

    @abstractmethod
    def edge_features(
        self, nodes: Tensor, species: Tensor, edges: Edges, state: Any
    ) -> Iterable[tuple[EdgeState, EdgeFeatures, EdgeFeatures]]:
        """Return chunks of edges with their features of natural and unnatural parity.

        In order; self-loops come last.

        Args:
            nodes: fused node features after the last layer, flat (layout in ``so2``).
            species: (n_atoms,) int.
            edges: edges of the sub-network.
            state: what its backbone keeps about them.
        """

    @abstractmethod
    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile inner functions with torch.compile."""


class Backbone(nn.Module, ABC):
    """One sub-network: message passing on one set of edges.

    The layout of node features between layers is the backbone's own; all sub-networks of one
    combination share it, so that features can be summed. ``state`` is whatever the backbone keeps
    per edge (geometry, radial basis, edge features).

    Attributes:
        num_layers: message-passing layers.
        self_loops: every atom has an edge to itself, from whose features its on-site block is read.
    """

    num_layers: int
    self_loops: bool = False

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

    @property
    @abstractmethod
    def node_channels(self) -> Channels:
        """Channels of the node features after the last layer."""

    @abstractmethod
    def flat_nodes(self, nodes: Tensor) -> Tensor:
        """Return the node features after the last layer, flat, (n_atoms, n).

        Natural parity first, then unnatural, each in the layout of ``so2``.
        """

    @abstractmethod
    def scalars(self, layer: int, nodes: Tensor) -> Tensor:
        """Return the invariant part of the node features after ``layer``.

        (n_atoms, num_scalars(layer)).
        """

    @abstractmethod
    def num_scalars(self, layer: int) -> int:
        """Count the invariant node features after ``layer``."""

    def share_radial(self, other: Backbone) -> None:
        """Take the radial functions of another sub-network for one's own; parameters then are one.

        Args:
            other: of the same class and sizes.

        Raises:
            ConfigError: the backbone has no radial functions to share.
        """
        raise ConfigError(
            message(
                "model.network.shared_radial",
                f"true for the backbone {type(self).__name__}",
                "a backbone with radial networks",
                "Set model.network.shared_radial=false.",
            )
        )

    def build_edge_source(self) -> EdgeFeatureSource | None:
        """Build what makes the features of edges for a read-out; None without edge features."""
        return None

    def tabulate_radial(self) -> None:
        """Make tables of radial functions for inference; where there are none, do nothing."""

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Compile inner functions with torch.compile.

        Parameters and their names stay. Raise where there is nothing to compile.

        Args:
            backend: compiler of torch.compile.

        Raises:
            ConfigError: the backbone has no compiled kernels.
        """
        raise ConfigError(
            message(
                "compile",
                f"true for the backbone {type(self).__name__}",
                "a backbone with compiled kernels",
                "Set compile=false.",
            )
        )


def sum_of_neighbours(name: str, mean_neighbours: Mapping[str, float]) -> float:
    """Return by how many neighbours a sub-network divides.

    Args:
        name: of the sub-network: that of its relation, or any other if it sees all of them.
        mean_neighbours: relation → mean number of its edges per atom that can have them.

    Returns:
        The number of its relation, or the sum of all.
    """
    found = mean_neighbours.get(name)
    return float(sum(mean_neighbours.values()) if found is None else found)


def check_relations(
    where: str, cutoffs: Mapping[str, float], mean_neighbours: Mapping[str, float]
) -> None:
    """Raise ``ConfigError`` unless both name the same relations, those of layers all together."""
    expected = set(cutoffs) or set(fields.RELATIONS)
    if expected & set(fields.RELATIONS):
        expected = set(fields.RELATIONS)
    for key, values in (("cutoffs", cutoffs), ("mean_neighbours", mean_neighbours)):
        if set(values) != expected:
            raise ConfigError(
                message(
                    f"{where}.{key}",
                    f"{sorted(values)}",
                    f"{list(fields.order_relations(expected))}",
                    "Give one value per relation.",
                )
            )
