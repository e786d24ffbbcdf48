"""Structure → graph whose relations have their own edges and cutoffs, and labels.

Relations are intralayer and interlayer edges unless another ``Partition`` divides them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from mlepi.errors import ConfigError, DataError, message
from mlepi.graphs import fields
from mlepi.graphs.neighbours import find_edges
from mlepi.graphs.partitions import LAYERS, Partition, refuse_blocks
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges
from mlepi.structures.layers import get_layers, select_intralayer


class AtomGraph(HeteroData):
    """``HeteroData`` whose reverse-edge positions stay right when graphs are batched."""

    def __inc__(self, key: str, value: Any, store: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Shift reverse-edge positions by the number of edges of the relation."""
        if key == fields.REVERSE_EDGE:
            return store[fields.EDGE_INDEX].shape[1]
        return super().__inc__(key, value, store, *args, **kwargs)

    def __cat_dim__(
        self, key: str, value: Any, store: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Concatenate reverse-edge positions along their only axis."""
        if key == fields.REVERSE_EDGE:
            return 0
        return super().__cat_dim__(key, value, store, *args, **kwargs)


def build_graph(
    atoms: Atoms,
    cutoffs: Mapping[str, float],
    labels: LabelledStructure | None = None,
    dtype: torch.dtype = torch.float32,
    partition: Partition = LAYERS,
) -> AtomGraph:
    """Build the heterogeneous graph of a structure.

    Args:
        atoms: structure; the layer of each atom is taken from ``atoms.arrays["layer"]`` or found.
        cutoffs: relation → cutoff, Å, for every relation of the partition.
        labels: energies, forces and blocks to store with it; its edge list may be shorter than the
            graph's (missing blocks are zero) but not longer by a block above
            ``LOST_BLOCK_TOLERANCE``.
        dtype: floating-point type of the graph's tensors.
        partition: how edges are divided into relations.

    Returns:
        Graph with the fields of ``mlepi.graphs.fields``.

    Raises:
        ConfigError: a relation has no cutoff, or blocks are given for a partition without them.
        StructureError: the structure cannot be used.
        DataError: a labelled block lies outside the graph.
    """
    if set(cutoffs) != set(partition.relations):
        raise ConfigError(
            message(
                "graph.cutoffs",
                f"{sorted(cutoffs)}",
                f"{list(partition.relations)}",
                "Give one cutoff per relation.",
            )
        )
    layer = get_layers(atoms)
    edge_index, shift = find_edges(atoms, max(cutoffs.values()))
    vectors = (
        atoms.positions[edge_index[0]] + shift @ atoms.cell.array - atoms.positions[edge_index[1]]
    )
    length = np.linalg.norm(vectors, axis=1)
    same_layer = _select_intralayer(atoms, layer, edge_index, shift)
    graph = AtomGraph()
    graph[fields.CELL] = torch.as_tensor(atoms.cell.array[None], dtype=dtype)
    graph[fields.PERIODIC] = torch.as_tensor(np.asarray(atoms.pbc, dtype=bool)[None])
    graph[fields.ATOM][fields.POSITIONS] = torch.as_tensor(atoms.positions, dtype=dtype)
    graph[fields.ATOM][fields.NUMBERS] = torch.as_tensor(atoms.numbers, dtype=torch.long)
    graph[fields.ATOM][fields.LAYER] = torch.as_tensor(layer, dtype=torch.long)
    graph[fields.ATOM].num_nodes = len(atoms)
    for relation, mask in partition.select(atoms.numbers, edge_index, length, same_layer).items():
        chosen = mask & (length < cutoffs[relation])
        store = graph[fields.edge_type(relation)]
        store[fields.EDGE_INDEX] = torch.as_tensor(edge_index[:, chosen])
        store[fields.EDGE_CELL_SHIFT] = torch.as_tensor(shift[chosen])
        if relation in fields.RELATIONS:
            store[fields.REVERSE_EDGE] = torch.as_tensor(
                reverse_edges(edge_index[:, chosen], shift[chosen])
            )
    if labels is not None:
        if labels.hamiltonian_blocks is not None:
            refuse_blocks(partition.kind)
        _add_labels(graph, labels, dtype)
    return graph


def _select_intralayer(
    atoms: Atoms, layer: NDArray[np.int64], edge_index: NDArray[np.int64], shift: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Mark the edges within one layer.

    Bonds are followed only where an image of a layer may be within reach. Where no edge between
    equal layer numbers crosses one of the faces of the cell (vacuum), images along it are out of
    reach.
    """
    same = np.asarray(layer[edge_index[0]] == layer[edge_index[1]])
    if np.any(shift[same], axis=0).all():
        return select_intralayer(atoms, edge_index, shift)
    return same


def number_structures(graph: Any) -> torch.Tensor:
    """Return the structure of every atom, (n_atoms,) int, of a batch or of a single graph."""
    atoms = graph[fields.ATOM]
    return atoms.batch if "batch" in atoms else torch.zeros_like(atoms[fields.NUMBERS])


def _add_labels(graph: AtomGraph, labels: LabelledStructure, dtype: torch.dtype) -> None:
    if labels.energy is not None:
        graph[fields.ENERGY] = torch.tensor([labels.energy], dtype=torch.float64)
    if labels.forces is not None:
        graph[fields.ATOM][fields.FORCES] = torch.as_tensor(labels.forces, dtype=dtype)
    if (
        labels.hamiltonian_blocks is None
        or labels.edge_index is None
        or labels.edge_cell_shift is None
    ):
        return
    fermi = float("nan") if labels.fermi_energy is None else labels.fermi_energy
    graph[fields.FERMI_ENERGY] = torch.tensor([fermi], dtype=torch.float64)
    n_atoms = graph[fields.ATOM].num_nodes
    on_site = np.arange(n_atoms)
    stores = [
        graph[fields.ATOM],
        *(graph[fields.edge_type(relation)] for relation in fields.RELATIONS),
    ]
    keys = [np.column_stack([on_site, on_site, np.zeros((n_atoms, 3), dtype=np.int64)])]
    keys += [
        np.column_stack([store[fields.EDGE_INDEX].numpy().T, store[fields.EDGE_CELL_SHIFT].numpy()])
        for store in stores[1:]
    ]
    found, used = _find_rows(
        np.concatenate(keys), np.column_stack([labels.edge_index.T, labels.edge_cell_shift])
    )
    for store, rows in zip(
        stores, np.split(found, np.cumsum([len(part) for part in keys])[:-1]), strict=True
    ):
        for name, blocks in (
            (fields.HAMILTONIAN_BLOCKS, labels.hamiltonian_blocks),
            (fields.OVERLAP_BLOCKS, labels.overlap_blocks),
        ):
            if blocks is not None:
                chosen = np.where((rows >= 0)[:, None, None], blocks[rows], 0.0)
                store[name] = torch.as_tensor(chosen, dtype=dtype)
    lost = np.abs(labels.hamiltonian_blocks[~used]).max(initial=0.0)
    if lost > LOST_BLOCK_TOLERANCE:
        needed = round_up(max(measure_reach(labels).values()))
        raise DataError(
            message(
                f"structure {labels.name!r}",
                f"a Hamiltonian element of {lost:.2e} eV outside the graph's cutoffs",
                f"at most {LOST_BLOCK_TOLERANCE} eV",
                f"Raise graph.cutoffs; its labels reach as far as graph.cutoffs={needed} (Å).",
            )
        )


LOST_BLOCK_TOLERANCE = 1e-3
"""Largest Hamiltonian element (eV) that a graph may leave out because its pair is beyond the
cutoff."""


def measure_reach(labels: LabelledStructure, beyond: float = 0.0) -> dict[str, float]:
    """Measure how far apart two atoms can be whose Hamiltonian block is more than negligible.

    Args:
        labels: of one structure.
        beyond: Å; pairs that are closer are not looked at.

    Returns:
        Relation → largest distance, Å, of a pair with an element above ``LOST_BLOCK_TOLERANCE``;
        0 without one.
    """
    reach = dict.fromkeys(fields.RELATIONS, 0.0)
    edges, shift, blocks = labels.edge_index, labels.edge_cell_shift, labels.hamiltonian_blocks
    if edges is None or shift is None or blocks is None:
        return reach
    atoms = labels.atoms
    vectors = atoms.positions[edges[0]] + shift @ atoms.cell.array - atoms.positions[edges[1]]
    length = np.linalg.norm(vectors, axis=1)
    far = np.flatnonzero(length > beyond)
    far = far[np.abs(blocks[far]).max(axis=(1, 2), initial=0.0) > LOST_BLOCK_TOLERANCE]
    if not len(far):
        return reach
    same = _select_intralayer(atoms, get_layers(atoms), edges, shift)[far]
    reach[fields.INTRA] = float(length[far[same]].max(initial=0.0))
    reach[fields.INTER] = float(length[far[~same]].max(initial=0.0))
    return reach


def round_up(length: float) -> float:
    """Return a length of whole hundredths (Å) that is larger: a cutoff that reaches it."""
    return math.floor(100.0 * length + 1.0) / 100.0


def find_closest(atoms: Atoms, partition: Partition = LAYERS) -> dict[str, float]:
    """Find the shortest distance of two atoms in every relation, Å; infinite beyond 12 Å."""
    layer = get_layers(atoms)
    closest = dict.fromkeys(partition.relations, math.inf)
    for cutoff in (3.0, 6.0, 12.0):
        edges, shift = find_edges(atoms, cutoff)
        vectors = atoms.positions[edges[0]] + shift @ atoms.cell.array - atoms.positions[edges[1]]
        length = np.linalg.norm(vectors, axis=1)
        same = _select_intralayer(atoms, layer, edges, shift)
        for relation, mask in partition.select(atoms.numbers, edges, length, same).items():
            closest[relation] = min(closest[relation], length[mask].min(initial=math.inf))
        if all(map(math.isfinite, closest.values())):
            break
    return closest


def _find_rows(
    wanted: NDArray[np.int64], given: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Find each wanted row among the given ones.

    Args:
        wanted: (n_wanted, n) int, each row once.
        given: (n_given, n) int, each row once.

    Returns:
        (n_wanted,) int, position in ``given`` or −1, and (n_given,) bool, whether a row was wanted.
    """
    rows = np.concatenate([given, wanted])
    order = np.lexsort(rows.T)
    starts = np.any(np.diff(rows[order], axis=0) != 0, axis=1)
    group = np.empty(len(rows), dtype=np.int64)
    group[order] = np.concatenate([[0], np.cumsum(starts)])
    place = np.full(len(rows), -1, dtype=np.int64)
    place[group[: len(given)]] = np.arange(len(given))
    found = place[group[len(given) :]]
    used = np.zeros(len(given), dtype=bool)
    used[found[found >= 0]] = True
    return found, used
