"""Edges are divided as partitions say, none is lost, and wrong settings are told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from torch_geometric.data import Batch

from mlepi.errors import ConfigError, StructureError
from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.graphs.partitions import KINDS, LAYERS, Partition, resolve_partition
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure

SHELLS = Partition("distance_shells", shells=(2.0, 4.0), overlap=0.5)


def boron_nitride() -> Atoms:
    """Rattled AA′ bilayer, 2×2."""
    a = 2.504
    cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 18.0]])
    positions = np.array([[0, 0, 0], [1, 2, 0], [0, 0, 0], [1, 2, 0]]) / 3 @ cell
    positions[2:, 2] += 3.3
    atoms = Atoms([5, 7, 7, 5], positions=positions, cell=cell, pbc=True)
    atoms.arrays["layer"] = np.array([0, 0, 1, 1])
    atoms = atoms.repeat((2, 2, 1))
    atoms.positions += np.random.default_rng(3).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def rows(graph, relation):
    """List edges as (source, target, shift …)."""
    store = graph[fields.edge_type(relation)]
    both = [store[fields.EDGE_INDEX].T, store[fields.EDGE_CELL_SHIFT]]
    return [tuple(row) for row in torch.cat(both, dim=1).tolist()]


def build(partition, cutoff=4.0, atoms=None):
    cutoffs = dict(zip(partition.relations, partition.shells, strict=False))
    cutoffs = cutoffs or dict.fromkeys(partition.relations, cutoff)
    graph = build_graph(atoms or boron_nitride(), cutoffs, dtype=torch.float64, partition=partition)
    return graph, {relation: rows(graph, relation) for relation in partition.relations}


ALL = build(LAYERS)[1]


def of(kind):
    return Partition(kind, (5, 7))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("element_pairs", ("B-B", "B-N", "N-N")),
        ("vertices", ("B", "N")),
        ("triplets", ("B_B-B", "B_B-N", "B_N-N", "N_B-B", "N_B-N", "N_N-N")),
    ],
)
def test_names_follow_from_the_elements(kind, names):
    assert of(kind).relations == names
    assert set(of(kind).centres) == set(names)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_numbers_of_relations(n):
    """HVNet n, HPNet n(n+1)/2, HTNet n²(n+1)/2."""
    elements = (1, 5, 6, 7)[:n]
    counts = [len(Partition(kind, elements).relations) for kind in KINDS[1:4]]
    assert counts == [n * (n + 1) // 2, n, n * n * (n + 1) // 2]


@pytest.mark.parametrize("kind", ["element_pairs", "vertices"])
def test_every_edge_is_in_one_relation(kind):
    _, parts = build(of(kind))
    found = sorted(row for part in parts.values() for row in part)
    assert found == sorted(row for part in ALL.values() for row in part)


def test_edges_have_the_elements_of_their_relation():
    atoms = boron_nitride()
    symbols = np.array(atoms.get_chemical_symbols())
    for name, part in build(of("element_pairs"))[1].items():
        assert {"-".join(sorted(symbols[[s, t]])) for s, t, *_ in part} == {name}
    for name, part in build(of("vertices"))[1].items():
        assert {symbols[t] for _, t, *_ in part} == {name}
    for name, part in build(of("triplets"))[1].items():
        centre, neighbours = name.split("_")
        assert {symbols[t] for _, t, *_ in part} == {centre}
        assert {symbols[s] for s, *_ in part} == set(neighbours.split("-"))


def test_an_edge_of_a_triplet_is_in_one_relation_per_element():
    """(A; B, C) for every C: n times each."""
    _, parts = build(of("triplets"))
    found = sorted(row for part in parts.values() for row in part)
    assert found == sorted(2 * [row for part in ALL.values() for row in part])


def test_one_element_has_one_relation_with_every_edge():
    atoms = boron_nitride()
    atoms.numbers[:] = 6
    for kind, name in zip(KINDS[1:4], ("C-C", "C", "C_C-C"), strict=True):
        _, parts = build(Partition(kind, (6,)), atoms=atoms)
        assert list(parts) == [name]
        assert sorted(parts[name]) == sorted(row for part in ALL.values() for row in part)


def test_shells_overlap_and_cover():
    graph, parts = build(SHELLS)
    together = set(parts["shell1"]) | set(parts["shell2"])
    assert together == {row for part in ALL.values() for row in part}
    lengths = {}
    for name in parts:
        store = graph[fields.edge_type(name)]
        source, target = store[fields.EDGE_INDEX]
        r = graph[fields.ATOM][fields.POSITIONS]
        shift = store[fields.EDGE_CELL_SHIFT].double() @ graph[fields.CELL][0]
        lengths[name] = torch.linalg.norm(r[source] + shift - r[target], dim=1)
    assert lengths["shell1"].max() < 2.0
    assert 1.5 < lengths["shell2"].min() < 2.0 + 0.7


def test_relations_survive_batches():
    graph, parts = build(of("triplets"))
    batch = Batch.from_data_list([graph, graph])
    n_atoms = len(boron_nitride())
    for name, part in parts.items():
        moved = [(s + n_atoms, t + n_atoms, *shift) for s, t, *shift in part]
        assert rows(batch, name) == part + moved


@pytest.mark.parametrize("partition", [LAYERS, SHELLS, *map(of, KINDS[1:4])])
def test_plain_data_and_back(partition):
    assert Partition.from_dict(partition.to_dict()) == partition


def test_networks_that_say_nothing_are_divided_by_layers():
    assert Partition.from_dict(None) is LAYERS
    assert LAYERS.relations == fields.RELATIONS
    assert LAYERS.to_dict() == {"kind": "layers"}


def test_cutoffs_of_relations():
    given = {"default": 5.0, "B-N": 3.0}
    partition, cutoffs = resolve_partition("element_pairs", given, [7, 5])
    assert partition == of("element_pairs")
    assert cutoffs == {"B-B": 5.0, "B-N": 3.0, "N-N": 5.0}
    graph = build_graph(boron_nitride(), cutoffs, partition=partition)
    full = build(partition, 5.0)[1]
    assert rows(graph, "N-N") == full["N-N"]
    assert len(rows(graph, "B-N")) < len(full["B-N"])
    more = {**given, "B-C": 2.0, "C-C": 3.0}  # one table for several data sets
    assert resolve_partition("element_pairs", more, [7, 5])[1] == cutoffs
    layers = {"intra": None, "inter": 4.0}
    assert resolve_partition("layers", layers, [6]) == (LAYERS, layers)
    shells = resolve_partition("distance_shells", {"shell2": 4.0, "shell1": 2.0}, [6], 0.5)
    assert shells[0] == SHELLS


@pytest.mark.parametrize(
    ("kind", "cutoffs", "text"),
    [
        ("pairs", {}, r"graph\.partition: got 'pairs'; expected one of \['layers', "),
        ("layers", {"default": 4.0}, r"graph\.cutoffs: got \['default'\]; .*'intra', 'inter'"),
        ("vertices", {"B": 4.0}, r"graph\.cutoffs: got \['B'\]; .*'B', 'N'.*'default'"),
        ("element_pairs", {"default": 4.0, "N-B": 3.0}, r"got \['N-B', 'default'\]; .*'B-N'"),
        ("vertices", {"default": 4.0, "Bx": 3.0}, r"graph\.cutoffs: got \['Bx', 'default'\]"),
        ("vertices", {"intra": 4.0, "inter": 4.0}, r"Choose the graph with its own cutoffs"),
        ("distance_shells", {"shell2": 4.0}, r"expected shell1, shell2"),
        ("distance_shells", {"shell1": 4.0, "shell2": 2.0}, r"expected ascending ends"),
        ("distance_shells", {"shell1": 0.3}, r"the first beyond a positive overlap"),
    ],
)
def test_cutoffs_that_do_not_fit_are_refused(kind, cutoffs, text):
    with pytest.raises(ConfigError, match=text):
        resolve_partition(kind, cutoffs, [5, 7], 0.5)


def test_damaged_descriptions_are_refused():
    with pytest.raises(ConfigError, match=r"model\.network\.partition: got \{'sort': 1\}"):
        Partition.from_dict({"sort": 1})
    with pytest.raises(ConfigError, match=r"partition 'vertices': got the elements \[\]"):
        Partition.from_dict({"kind": "vertices"})


def test_elements_beyond_the_training_are_refused():
    atoms = boron_nitride()
    atoms.numbers[0] = 6
    with pytest.raises(StructureError, match=r"the elements \['C'\]; expected .*\['B', 'N'\]"):
        build(of("vertices"), atoms=atoms)


def test_blocks_of_the_hamiltonian_know_layers_alone():
    atoms = boron_nitride()
    n_atoms = len(atoms)
    labels = LabelledStructure(
        name="x",
        atoms=atoms,
        basis=OrbitalBasis({5: (0,), 7: (0,)}, {5: 2.0, 7: 2.0}, {5: "B-s1", 7: "N-s1"}),
        edge_index=np.tile(np.arange(n_atoms), (2, 1)),
        edge_cell_shift=np.zeros((n_atoms, 3), dtype=np.int64),
        hamiltonian_blocks=np.ones((n_atoms, 1, 1)),
    )
    with pytest.raises(ConfigError, match=r"graph\.partition: got 'vertices' with blocks"):
        build_graph(atoms, {"B": 4.0, "N": 4.0}, labels, partition=of("vertices"))
