"""Heterogeneous graphs.

Relations, labels in the order of the edges, batches, and what is refused.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hamiltonian_samples import slater_koster_sample
from torch_geometric.data import Batch

from mlepi.errors import ConfigError, DataError, StructureError
from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.builders import build_graphene
from mlepi.structures.labelled_structure import LabelledStructure

CUTOFFS = {"intra": 3.0, "inter": 4.2}


def rows_of(store) -> list[tuple[int, ...]]:
    source, target = store[fields.EDGE_INDEX].tolist()
    return [
        (j, i, *r)
        for j, i, r in zip(source, target, store[fields.EDGE_CELL_SHIFT].tolist(), strict=True)
    ]


def labelled() -> LabelledStructure:
    """Random blocks with ⟨i|·|j⟩ = ⟨j|·|i⟩ᵀ of all pairs up to 4.2 Å, both ways, shuffled."""
    sample = slater_koster_sample()
    basis = OrbitalBasis(
        {z: tuple(ls) for z, ls in sample.shells.items()}, sample.radii, sample.pao
    )
    atoms = Atoms(numbers=sample.numbers, positions=sample.positions, cell=sample.cell, pbc=True)
    atoms.arrays["layer"] = np.array([0, 0, 1])
    blocks = np.zeros((2, len(sample.pairs), basis.max_orbitals, basis.max_orbitals))
    for k, (h, s) in enumerate(zip(sample.hamiltonian, sample.overlap, strict=True)):
        blocks[:, k, : h.shape[0], : h.shape[1]] = h, s
    order = np.random.default_rng(0).permutation(len(sample.pairs))
    pairs = sample.pairs[order]
    return LabelledStructure(
        name="sample",
        atoms=atoms,
        basis=basis,
        edge_index=pairs[:, [4, 3]].T.copy(),
        edge_cell_shift=pairs[:, :3].copy(),
        hamiltonian_blocks=blocks[0, order],
        overlap_blocks=blocks[1, order],
        energy=-321.5,
        forces=sample.forces,
    )


FULL = {"intra": 4.3, "inter": 4.3}


def test_relations_follow_layers_and_their_own_cutoffs():
    atoms = build_graphene("AB")
    graph = build_graph(atoms, CUTOFFS)
    layer = atoms.arrays["layer"]
    for relation in fields.RELATIONS:
        store = graph[fields.edge_type(relation)]
        source, target = store[fields.EDGE_INDEX].numpy()
        vectors = (
            atoms.positions[source]
            + store[fields.EDGE_CELL_SHIFT].numpy() @ atoms.cell.array
            - atoms.positions[target]
        )
        assert np.all((layer[source] == layer[target]) == (relation == "intra"))
        assert np.linalg.norm(vectors, axis=1).max() < CUTOFFS[relation]
    counts = [
        graph[fields.edge_type(relation)][fields.EDGE_INDEX].shape[1]
        for relation in fields.RELATIONS
    ]
    # shells of each atom; dimers, then hollow sites
    assert counts == [4 * (3 + 6 + 3), 2 * (1 + 3 + 6) + 2 * (3 + 3)]


def test_fields_shapes_and_types():
    atoms = build_graphene("AB")
    graph = build_graph(atoms, CUTOFFS, dtype=torch.float64)
    store = graph[fields.ATOM]
    assert graph[fields.CELL].shape == (1, 3, 3)
    assert store[fields.POSITIONS].dtype == graph[fields.CELL].dtype == torch.float64
    assert store[fields.NUMBERS].tolist() == [6] * 4
    assert store[fields.LAYER].tolist() == atoms.arrays["layer"].tolist()
    assert store.num_nodes == 4
    assert build_graph(atoms, CUTOFFS)[fields.ATOM][fields.POSITIONS].dtype == torch.float32


def test_reverse_edges_also_in_batches():
    structures = [build_graphene("AB"), build_graphene("monolayer"), build_graphene("ABA")]
    batch = Batch.from_data_list([build_graph(atoms, CUTOFFS) for atoms in structures])
    for relation in fields.RELATIONS:
        store = batch[fields.edge_type(relation)]
        rows, reverse = rows_of(store), store[fields.REVERSE_EDGE].tolist()
        for (j, i, *r), back in zip(rows, reverse, strict=True):
            assert rows[back] == (i, j, *(-x for x in r))
    assert batch[fields.CELL].shape == (3, 3, 3)


def test_a_monolayer_has_no_inter_edges():
    graph = build_graph(build_graphene("monolayer"), CUTOFFS)
    assert graph[fields.edge_type("inter")][fields.EDGE_INDEX].shape == (2, 0)
    assert graph[fields.edge_type("inter")][fields.EDGE_CELL_SHIFT].shape == (0, 3)


def test_the_next_layer_may_be_an_image_with_the_same_number():
    """AA graphite with one layer per cell: straight up is interlayer.

    Diamond has no layers and no interlayer edges.
    """
    graphite = build_graphene("monolayer")
    graphite.set_cell([*graphite.cell.array[:2], [0, 0, 3.35]])
    graph = build_graph(graphite, CUTOFFS)
    intra, inter = (
        graph[fields.edge_type(relation)][fields.EDGE_CELL_SHIFT] for relation in fields.RELATIONS
    )
    assert intra.shape[0] == 2 * 12
    assert not intra[:, 2].any()
    # both atoms, both sides: straight, 3 at 1.42, 6 at 2.46 Å
    assert inter.shape[0] == 2 * 2 * (1 + 3 + 6)
    assert inter[:, 2].abs().min() == 1
    diamond = build_graph(bulk("C", "diamond", a=3.57), CUTOFFS)
    assert diamond[fields.edge_type("intra")][fields.EDGE_INDEX].shape[1] > 0
    assert diamond[fields.edge_type("inter")][fields.EDGE_INDEX].shape[1] == 0


def test_tilted_cells_do_not_change_the_relations():
    atoms = build_graphene("AB")
    tilted = atoms.copy()
    tilted.set_cell(np.array([[1, 0, 0], [2, 1, 0], [3, -1, 1]]) @ atoms.cell.array)
    counts = [
        [
            build_graph(a, CUTOFFS)[fields.edge_type(relation)][fields.EDGE_INDEX].shape[1]
            for relation in fields.RELATIONS
        ]
        for a in (atoms, tilted)
    ]
    assert counts[0] == counts[1]


def test_labels_arrive_at_their_edges():
    labels = labelled()
    graph = build_graph(labels.atoms, FULL, labels, dtype=torch.float64)
    given = zip(*labels.edge_index.tolist(), labels.edge_cell_shift.tolist(), strict=True)
    position = {(j, i, *r): k for k, (j, i, r) in enumerate(given)}
    found = [(graph[fields.ATOM], [(a, a, 0, 0, 0) for a in range(3)])]
    found += [
        (graph[fields.edge_type(r)], rows_of(graph[fields.edge_type(r)])) for r in fields.RELATIONS
    ]
    n_found = 0
    for store, rows in found:
        for name, blocks in (
            (fields.HAMILTONIAN_BLOCKS, labels.hamiltonian_blocks),
            (fields.OVERLAP_BLOCKS, labels.overlap_blocks),
        ):
            for row, block in zip(rows, store[name].numpy(), strict=True):
                expected = blocks[position[row]] if row in position else np.zeros_like(block)
                assert np.array_equal(block, expected)
                n_found += row in position
    assert n_found == 2 * labels.edge_index.shape[1]
    assert graph[fields.ENERGY].tolist() == [-321.5]
    np.testing.assert_array_equal(graph[fields.ATOM][fields.FORCES].numpy(), labels.forces)


def test_a_missing_label_is_a_zero_block():
    labels = labelled()
    keep = np.any(labels.edge_cell_shift != 0, axis=1) | (
        labels.edge_index[0] == labels.edge_index[1]
    )
    fewer = dataclasses.replace(
        labels,
        edge_index=labels.edge_index[:, keep],
        edge_cell_shift=labels.edge_cell_shift[keep],
        hamiltonian_blocks=labels.hamiltonian_blocks[keep],
        overlap_blocks=None,
    )
    graph = build_graph(labels.atoms, FULL, fewer, dtype=torch.float64)
    for relation in fields.RELATIONS:
        store = graph[fields.edge_type(relation)]
        inside = (store[fields.EDGE_CELL_SHIFT] == 0).all(1)
        assert inside.any()
        assert not store[fields.HAMILTONIAN_BLOCKS][inside].any()
        assert store[fields.HAMILTONIAN_BLOCKS][~inside].any()
        assert fields.OVERLAP_BLOCKS not in store


def test_energies_and_forces_alone():
    labels = dataclasses.replace(labelled(), hamiltonian_blocks=None, overlap_blocks=None)
    graph = build_graph(labels.atoms, FULL, labels)
    assert graph[fields.ENERGY].dtype == torch.float64
    assert fields.HAMILTONIAN_BLOCKS not in graph[fields.ATOM]


def test_labels_beyond_the_cutoffs_are_refused_unless_they_are_small():
    labels = labelled()
    with pytest.raises(
        DataError,
        match=r"structure 'sample': got a Hamiltonian element of .* eV outside the graph's cutoffs",
    ):
        build_graph(labels.atoms, {"intra": 2.0, "inter": 2.0}, labels)
    small = dataclasses.replace(labels, hamiltonian_blocks=1e-4 * labels.hamiltonian_blocks)
    build_graph(labels.atoms, {"intra": 2.0, "inter": 2.0}, small)


@pytest.mark.parametrize("cutoffs", [{"intra": 3.0}, {"intra": 3.0, "inter": 3.0, "other": 3.0}])
def test_one_cutoff_per_relation(cutoffs):
    with pytest.raises(ConfigError, match=r"graph\.cutoffs: got .*; expected .*'intra', 'inter'"):
        build_graph(build_graphene("AB"), cutoffs)


def test_impossible_structures_are_refused():
    atoms = build_graphene("AB")
    atoms.positions[1] = atoms.positions[0] + [0, 0, 0.2]
    with pytest.raises(StructureError, match=r"0\.200 Å apart"):
        build_graph(atoms, CUTOFFS)


def test_the_structure_is_not_changed():
    labels = labelled()
    before = labels.atoms.copy()
    build_graph(labels.atoms, FULL, labels)
    assert before == labels.atoms
