"""Cutoffs as a user gives them, and what of the data they must cover."""

import dataclasses

import numpy as np
import pytest

from mlepi.errors import ConfigError, DataError
from mlepi.graphs.build import build_graph, find_closest, measure_reach, round_up
from mlepi.graphs.partitions import Partition, resolve_partition
from mlepi.reference_systems import TightBinding
from mlepi.reference_systems.generate import label_structure
from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.structures import LabelledStructure, build_graphene
from mlepi.training.cutoffs import (
    check_edges,
    cover_labels,
    end_shells,
    reach_neighbours,
    read_cutoffs,
)

BOND = 2.46 / 3**0.5
NULL = {"intra": None, "inter": None}


def label(stacking="AB", name="toy"):
    return label_structure(name, build_graphene(stacking), TightBinding(), HoneycombSprings())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (9, {"intra": 9.0, "inter": 9.0}),
        (None, NULL),
        ({"inter": None, "intra": 3}, {"intra": 3.0, "inter": None}),
    ],
)
def test_one_number_stands_for_all_relations(given, expected):
    assert read_cutoffs(given) == expected


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("element_pairs", 9, {"default": 9.0}),
        ("triplets", None, {"default": None}),
        ("vertices", {"B": 4, "default": None}, {"B": 4.0, "default": None}),
        ("distance_shells", 6, {"shell1": None, "shell2": 6.0}),
        ("distance_shells", {"shell1": 2}, {"shell1": 2.0}),
    ],
)
def test_one_number_stands_for_all_relations_of_other_partitions(kind, given, expected):
    assert read_cutoffs(given, kind) == expected
    with pytest.raises(ConfigError, match=r"graph\.cutoffs: got .*; expected a positive length"):
        read_cutoffs({**expected, "B": -1}, kind)


@pytest.mark.parametrize(
    "given", [-1, 0.0, "9", True, [4, 6], {"intra": 4.0}, {"intra": 4.0, "inter": -1.0}, 1e9]
)
def test_what_is_no_positive_length_is_refused(given):
    with pytest.raises(ConfigError, match=r"graph\.cutoffs: got .*; expected a positive length"):
        read_cutoffs(given)


def test_a_cutoff_below_the_shortest_distance_is_refused_with_the_numbers():
    structure = label()
    for relation, cutoffs, closest in (
        ("intra", {"intra": 0.5, "inter": 4.0}, BOND),
        ("inter", {"intra": 2.0, "inter": 3.0}, 3.35),
    ):
        graph = build_graph(structure.atoms, cutoffs)
        with pytest.raises(ConfigError) as caught:
            check_edges([structure], [graph], cutoffs)
        text = str(caught.value)
        assert text.startswith(f"graph.cutoffs.{relation}: got {cutoffs[relation]:g} Å")
        assert f"shortest distance, {closest:.2f} Å" in text
        assert find_closest(structure.atoms)[relation] == pytest.approx(closest)


def test_a_single_layer_needs_no_interlayer_edges():
    structure = label("monolayer")
    cutoffs = {"intra": 2.0, "inter": 1.0}
    check_edges([structure], [build_graph(structure.atoms, cutoffs)], cutoffs)


def nitride():
    """Monolayer of boron nitride: bonds of 1.446 Å, the same elements 2.504 Å apart."""
    atoms = build_graphene("monolayer", lattice_constant=2.504)
    atoms.numbers[:] = [5, 7]
    return LabelledStructure("nitride", atoms)


def open_cutoffs(kind, structure, given=None, overlap=None):
    """Return partition and cutoffs as a training of forces finds them."""
    requested = read_cutoffs(given, kind)
    if kind == "distance_shells":
        requested = end_shells(requested, [structure])
    elements = sorted({int(z) for z in structure.atoms.numbers})
    partition, requested = resolve_partition(kind, requested, elements, overlap)
    return partition, reach_neighbours(requested, [structure], partition)


@pytest.mark.parametrize("kind", ["layers", "element_pairs", "vertices", "triplets"])
def test_forces_reach_five_angstrom_where_nothing_is_given(kind):
    partition, cutoffs = open_cutoffs(kind, nitride())
    assert cutoffs == dict.fromkeys(partition.relations, 5.0)


def test_or_farther_where_atoms_are_farther_apart():
    argon = LabelledStructure("argon", build_graphene("AA", spacing=4.0))
    assert open_cutoffs("layers", argon)[1] == {"intra": 5.0, "inter": 6.01}
    assert open_cutoffs("layers", argon, {"intra": 4, "inter": None})[1]["intra"] == 4.0


def test_the_first_shell_holds_the_bonds_alone():
    partition, cutoffs = open_cutoffs("distance_shells", nitride(), overlap=0.5)
    assert cutoffs == {"shell1": round_up(1.4 * 2.504 / 3**0.5), "shell2": 5.0}
    graph = build_graph(nitride().atoms, cutoffs, partition=partition)
    assert graph["atom", "shell1", "atom"].edge_index.shape[1] == 6
    assert open_cutoffs("distance_shells", nitride(), 4, 0.5)[1]["shell2"] == 4.0


@pytest.mark.parametrize(
    ("kind", "given", "text"),
    [
        ("element_pairs", {"default": 5.0, "B-N": 0.5}, r"cutoffs\.B-N: got 0\.5 Å.* 1\.45 Å"),
        ("vertices", 1.0, r"graph\.cutoffs\.B: got 1 Å"),
        ("distance_shells", {"shell1": 2.0, "shell2": 2.2}, r"cutoffs\.shell2: .* 2\.50 Å"),
    ],
)
def test_cutoffs_below_the_shortest_distance_of_a_relation_are_refused(kind, given, text):
    structure = nitride()
    partition, cutoffs = open_cutoffs(kind, structure, given, 0.1)
    graph = build_graph(structure.atoms, cutoffs, partition=partition)
    with pytest.raises(ConfigError, match=text):
        check_edges([structure], [graph], cutoffs, partition)


def test_pairs_of_elements_may_be_out_of_reach():
    """As bonds alone are between boron and nitrogen, and as dopants are far from each other."""
    structure = nitride()
    cutoffs = {"B-B": 2.0, "B-N": 2.0, "N-N": 2.0}
    partition = Partition("element_pairs", (5, 7))
    graph = build_graph(structure.atoms, cutoffs, partition=partition)
    check_edges([structure], [graph], cutoffs, partition)


def test_the_range_of_the_basis_is_taken_where_nothing_is_given():
    assert cover_labels(NULL, 6.0, [label()]) == {"intra": 6.0, "inter": 6.0}
    assert cover_labels({"intra": 5.0, "inter": None}, 6.0, [label()])["intra"] == 5.0


def test_labels_beyond_the_range_name_the_cutoff_that_is_needed():
    """And with that cutoff the graph holds all of them."""
    structures = [label(), label("AA", "far")]
    reach = [measure_reach(structure) for structure in structures]
    largest = {name: max(one[name] for one in reach) for name in NULL}
    assert largest["inter"] > 3.35
    with pytest.raises(ConfigError) as caught:
        cover_labels(NULL, 1.0, structures)
    text = str(caught.value)
    assert "(range of the basis: 1.00 Å)" in text
    words = dict(word.rstrip(".").split("=") for word in text.split() if "=" in word)
    assert words == {f"graph.cutoffs.{n}": f"{round_up(r):g}" for n, r in largest.items()}
    needed = {name.split(".")[-1]: float(length) for name, length in words.items()}
    for structure in structures:
        build_graph(structure.atoms, cover_labels(needed, 1.0, structures), structure)


def test_a_single_structure_names_the_number_as_well():
    structure = label()
    needed = round_up(max(measure_reach(structure).values()))
    with pytest.raises(DataError, match=rf"reach as far as graph\.cutoffs={needed:g}"):
        build_graph(structure.atoms, {"intra": 2.0, "inter": 2.0}, structure)


def test_a_radius_inferred_from_the_longest_pair_covers_that_pair():
    structure = label()
    reach = max(measure_reach(structure).values())
    cutoffs = cover_labels(NULL, reach, [structure])
    assert reach < cutoffs["inter"] < reach * (1.0 + 2e-6)
    build_graph(structure.atoms, cutoffs, structure)


def test_negligible_elements_need_no_cutoff():
    structure = label()
    small = dataclasses.replace(structure, hamiltonian_blocks=1e-5 * structure.hamiltonian_blocks)
    assert measure_reach(small) == {"intra": 0.0, "inter": 0.0}
    assert measure_reach(structure, beyond=50.0) == {"intra": 0.0, "inter": 0.0}
    assert np.isclose(round_up(6.0), 6.01)
