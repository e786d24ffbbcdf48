"""Phonon networks with tabulated radial functions: the same energies, forces, force constants."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from ase import Atoms
from hydra.utils import instantiate
from tiny_networks import CUTOFFS, build_config, build_network, corrugated_bilayer

from mlepi.checkpoint import load_model, save_checkpoint, stamp
from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.graphs.neighbours import MINIMUM_DISTANCE
from mlepi.graphs.partitions import Partition
from mlepi.models import MACE
from mlepi.models.compilation import plain_operations
from mlepi.models.radial_table import RadialTables, look_up
from mlepi.physics.vibrations.force_constants import compute_force_constants
from mlepi.pipeline.sources import Source, load_calculator
from mlepi.predictors import PhononPredictor
from mlepi.predictors.committee import PhononCommittee, digest_weights
from mlepi.structures import build_graphene


@cache
def phonon_network():
    return build_network("phonon").double()


def predictor(tabulated):
    found = PhononPredictor(copy.deepcopy(phonon_network()), elements=[6, 7], cutoffs=CUTOFFS)
    if tabulated:
        found.tabulate_radial()
    return found


def largest_change(found, exact):
    return float(np.abs(np.subtract(found, exact)).max() / np.abs(exact).max())


def uses_tables(network):
    backbones = network.network.backbones.values()
    return all(backbone.radial_tables is not None for backbone in backbones)


@pytest.fixture
def look_ups(monkeypatch):
    """Whether each search for edges in a table found them."""
    calls = []
    find = RadialTables.find

    def recorded(self, *arguments):
        found = find(self, *arguments)
        calls.append(found is not None)
        return found

    monkeypatch.setattr(RadialTables, "find", recorded)
    return calls


def test_energies_forces_and_stress(look_ups):
    atoms = corrugated_bilayer()
    exact, tabulated = (predictor(flag).calculator() for flag in (False, True))
    for name in ("energy", "forces", "stress"):
        found, expected = (c.get_property(name, atoms) for c in (tabulated, exact))
        assert largest_change(found, expected) < 1e-6
        assert not np.array_equal(found, expected)
    assert look_ups == [True] * 4  # two sub-networks, energy and forces, then the stress


def test_float32_is_as_exact_as_the_network():
    structures = [corrugated_bilayer()]
    _, (exact,) = predictor(False).energy_and_forces(structures)
    _, (rounded,) = predictor(False).energy_and_forces(structures, dtype="float32")
    tables = predictor(True)
    _, (found,) = tables.energy_and_forces(structures, dtype="float32")
    assert largest_change(found, exact) < max(4 * largest_change(rounded, exact), 2e-6)
    network = tables.network("cpu", "float32")
    assert uses_tables(network)
    backbone = network.network.backbones["intra"]
    assert backbone.radial_tables.rows_of(1).dtype == torch.float32
    # rounded once, from tables in double precision
    double = tables.network("cpu", "float64").network.backbones["intra"].radial_tables.rows_of(1)
    assert torch.equal(backbone.radial_tables.rows_of(1), double.float())


def test_second_derivatives_of_the_energy():
    atoms = corrugated_bilayer()
    exact, found = (predictor(flag).hessian_rows(atoms, [0, 7]) for flag in (False, True))
    assert largest_change(found, exact) < 1e-5
    calculator = predictor(True).calculator()
    moved = []
    for sign in (1, -1):
        displaced = atoms.copy()
        displaced.positions[7, 1] += sign * 1e-4
        moved.append(calculator.get_property("forces", displaced))
    by_forces = (moved[1] - moved[0]) / 2e-4
    np.testing.assert_allclose(found[1, 1], by_forces, atol=1e-6 * np.abs(found).max())


def test_force_constants_by_displacements():
    atoms = build_graphene("AB")
    exact, found = (
        compute_force_constants(atoms, predictor(flag).calculator(), (2, 2, 1)).values
        for flag in (False, True)
    )
    assert largest_change(found, exact) < 1e-5


@pytest.mark.parametrize("factor", [1.01, 0.99])
def test_shorter_distances_ask_the_network(look_ups, factor):
    atoms = Atoms("C3", [[0, 0, 0], [0.9, 0, 0], [2.0, 0, 0]], cell=[20.0] * 3, pbc=True)
    atoms.arrays["layer"] = np.zeros(3, dtype=int)
    graph = build_graph(atoms, CUTOFFS, dtype=torch.float64)
    graph[fields.ATOM][fields.POSITIONS][1, 0] = factor * MINIMUM_DISTANCE  # no structure has that
    exact, found = (predictor(flag).network()(graph)["forces"].numpy() for flag in (False, True))
    assert look_ups == [factor > 1.0, False]  # there are no edges between layers
    assert np.array_equal(found, exact) is (factor < 1.0)
    assert largest_change(found, exact) < 1e-6


def test_functions_are_continuous_where_the_tables_begin_and_end():
    backbone = predictor(True).network().network.backbones["intra"]
    relation = torch.zeros(1, dtype=torch.long)
    values = []
    for length in (MINIMUM_DISTANCE, MINIMUM_DISTANCE - 1e-9, CUTOFFS["intra"] - 1e-9):
        lengths = torch.tensor([length], dtype=torch.float64)
        places = backbone.radial_tables.find(lengths, relation, relation == 0)
        hidden = backbone.interactions[0].radial_network.hidden
        if places is None:
            values.append(hidden(backbone._expand(lengths, relation, ())))
        else:
            values.append(look_up(backbone.radial_tables.rows_of(0), places))
    torch.testing.assert_close(values[0], values[1], rtol=0, atol=1e-7)
    assert float(values[2].abs().max()) < 1e-12


def test_an_atom_alone_keeps_its_reference_energy():
    atoms = Atoms("C", cell=[20.0] * 3, pbc=True)
    atoms.arrays["layer"] = np.zeros(1, dtype=int)
    exact, found = (predictor(flag).energy_and_forces([atoms])[0] for flag in (False, True))
    assert found == exact == -150.0


def test_training_and_forward_mode_do_not_see_tables():
    graph = build_graph(corrugated_bilayer(), CUTOFFS, dtype=torch.float64)
    plain, tabulated = (copy.deepcopy(phonon_network()) for _ in range(2))
    tabulated.tabulate_radial()
    for mode in (True, False):
        for network in (plain, tabulated):
            network.train(mode)
        if mode:
            energies = [network(graph)["energy"] for network in (plain, tabulated)]
        else:
            with plain_operations():
                energies = [
                    network(graph, compute_forces=False)["energy"] for network in (plain, tabulated)
                ]
        assert torch.equal(*energies)
    assert not torch.equal(*[network.eval()(graph)["energy"] for network in (plain, tabulated)])
    assert plain.state_dict().keys() == tabulated.state_dict().keys()


def test_one_curve_serves_relations_that_are_alike():
    def tables(**settings):
        torch.manual_seed(0)
        network = MACE(
            "all",
            elements=[6],
            mean_neighbours={"intra": 3.0, "inter": 5.0},
            num_layers=2,
            num_features=2,
            l_max=1,
            l_max_hidden=1,
            l_max_out=0,
            correlation=1,
            num_bessel=4,
            cutoff_power=5,
            radial_widths=[4],
            **settings,
        ).double()
        network.tabulate_radial()
        return network.radial_tables

    alike = {"intra": 4.0, "inter": 4.0}
    assert tables(cutoffs=alike).curve_of_relation.tolist() == [0, 0]
    assert tables(cutoffs=CUTOFFS).curve_of_relation.tolist() == [0, 1]
    assert tables(cutoffs=alike, relation_feature=True).curve_of_relation.tolist() == [0, 1]


def test_checkpoints_and_committees(tmp_path):
    atoms, members = corrugated_bilayer(), []
    for factor in (1.0, 1.1):
        path = tmp_path / f"{factor}.ckpt"
        described = stamp("phonon", build_config("phonon"), CUTOFFS)
        weights = build_network("phonon").state_dict()
        weights = {n: factor * v if v.is_floating_point() else v for n, v in weights.items()}
        save_checkpoint(path, described, weights)
        members.append(str(path))
    source = Source("phonon", members)
    exact, found = (load_calculator(source, "cpu", tabulated=flag) for flag in (False, True))
    assert isinstance(found, PhononCommittee)
    for name in ("energy", "forces"):
        values = [c.get_property(name, atoms) for c in (found, exact)]
        assert largest_change(*values) < 1e-6
    for one, other in zip(found.members, exact.members, strict=True):
        assert uses_tables(one.predictor.network())
        assert not uses_tables(other.predictor.network())
        assert digest_weights(one.predictor) == digest_weights(other.predictor)
    rows = [c.hessian_rows(atoms, [3]) for c in (found, exact)]
    assert largest_change(*rows) < 1e-5


def test_the_shipped_network():
    atoms = build_graphene("AB", spacing=3.4).repeat((3, 3, 1))
    atoms.rattle(0.05, seed=3)
    exact, tabulated = (load_model("data/checkpoints/hedgenet_phonon.ckpt") for _ in range(2))
    tabulated.tabulate_radial()
    energies, forces = zip(*(p.energy_and_forces([atoms]) for p in (tabulated, exact)), strict=True)
    assert largest_change(*energies) < 1e-9
    assert largest_change(forces[0][0], forces[1][0]) < 1e-6
    rows = [p.hessian_rows(atoms, [0]) for p in (tabulated, exact)]
    assert largest_change(*rows) < 1e-5


def test_weighted_edges_have_no_tables():
    config = build_config("phonon")["network"]
    shells = Partition("distance_shells", shells=(2.0, 4.0), overlap=0.5)
    config |= {"partition": shells.to_dict(), "relations": None}
    assert shells.starts
    names = dict.fromkeys(shells.relations, 3.0)
    config["backbone"] |= {"cutoffs": names, "mean_neighbours": names}
    network = instantiate(config, _convert_="all").double()
    network.tabulate_radial()
    assert all(backbone.radial_tables is None for backbone in network.sub_networks.values())
