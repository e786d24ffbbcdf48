"""HermNet and the controls of HedgeNet.

One element gives the plain backbone, every atom gets the sub-networks of its element, networks
that are told the relation use it, shared radial networks are one, wide ones are as large as
HedgeNet.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tiny_networks import FACTS, build_config, corrugated_bilayer

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.graphs.partitions import LAYERS, Partition
from mlepi.training.facts import count_neighbours, fill_facts

CONF = Path(__file__).parents[3] / "conf"
ELEMENTS = {"element_pairs": "C-C", "vertices": "C", "triplets": "C_C-C"}
"""Partition by elements → its relation in carbon."""
DEEPH_E3 = {
    **build_config("electron")["network"]["backbone"],
    "pseudo_channels": [],
    "l_max_out": 0,
}


def build(partition=LAYERS, elements=(6, 7), relations=None, fusion="late", cutoff=4.0, **options):
    """Build a tiny phonon network in float64; further options are those of its backbone."""
    config = build_config("phonon")
    config["atomic_energies"] = [-150.0, -270.0][: len(elements)]
    backbone = options.pop("backbone", config["network"]["backbone"])
    names = partition.relations
    config["network"] |= {
        "elements": list(elements),
        "relations": relations,
        "fusion": fusion,
        "partition": partition.to_dict(),
        "shared_radial": options.pop("shared_radial", False),
        "backbone": {
            **backbone,
            "elements": list(elements),
            "cutoffs": dict(zip(names, partition.shells, strict=False))
            or dict.fromkeys(names, cutoff),
            "mean_neighbours": dict.fromkeys(names, 12.0 / len(names)),
            **options,
        },
    }
    torch.manual_seed(2)
    return instantiate(config, _convert_="all").double().eval()


def evaluate(model, atoms):
    partition = model.network.partition
    cutoffs = dict(zip(partition.relations, partition.shells, strict=False))
    cutoffs = cutoffs or dict.fromkeys(partition.relations, 4.0)
    graph = build_graph(atoms, cutoffs, dtype=torch.float64, partition=partition)
    return model(graph)


def carbon():
    atoms = corrugated_bilayer()
    atoms.numbers[:] = 6
    return atoms


def copy_weights(plain, model):
    """Give the only sub-network of a model, whatever its name, the weights of a plain backbone."""
    (name,) = model.network.sub_networks
    weights = plain.state_dict()
    model.load_state_dict(
        {
            key: weights[key.replace(f"backbones.{name}.", "backbones.all.")]
            for key in model.state_dict()
        }
    )


@pytest.mark.parametrize("backbone", ["mace", "deeph_e3"])
@pytest.mark.parametrize("fusion", ["late", "per_layer"])
@pytest.mark.parametrize("kind", ELEMENTS)
def test_with_one_element_everything_is_the_plain_backbone(kind, fusion, backbone):
    options = {"backbone": DEEPH_E3} if backbone == "deeph_e3" else {}
    plain = build(elements=(6,), relations={"all": ["intra", "inter"]}, **options)
    model = build(Partition(kind, (6,)), elements=(6,), fusion=fusion, **options)
    assert list(model.network.sub_networks) == [ELEMENTS[kind]]
    copy_weights(plain, model)
    expected, found = evaluate(plain, carbon()), evaluate(model, carbon())
    assert expected["forces"].abs().max() > 1e-3
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-11)


@pytest.mark.parametrize("fusion", ["late", "per_layer"])
def test_atoms_get_the_sub_networks_of_their_element(fusion):
    """The sub-network of carbon at the centre says nothing of a nitrogen without carbon around."""
    model = build(Partition("vertices", (6, 7)), fusion=fusion)
    nitrogen, carbons = carbon(), carbon()
    nitrogen.numbers[:] = 7
    before = [evaluate(model, atoms)["energy"] for atoms in (nitrogen, carbons)]
    with torch.no_grad():
        for weight in model.network.sub_networks["C"].parameters():
            weight.mul_(1.3)
    after = [evaluate(model, atoms)["energy"] for atoms in (nitrogen, carbons)]
    assert torch.equal(after[0], before[0])
    assert not torch.allclose(after[1], before[1], rtol=0, atol=1e-6)


def test_triplets_count_every_neighbour_once_per_pair_that_it_is_in():
    """(A; B, C) for all pairs {B, C}: with two elements every edge is seen twice."""
    graph = build_graph(
        corrugated_bilayer(),
        dict.fromkeys(Partition("triplets", (6, 7)).relations, 4.0),
        partition=Partition("triplets", (6, 7)),
    )
    counts = count_neighbours([graph], Partition("triplets", (6, 7)))
    vertices = Partition("vertices", (6, 7))
    single = build_graph(
        corrugated_bilayer(), dict.fromkeys(vertices.relations, 4.0), partition=vertices
    )
    per_centre = count_neighbours([single], vertices)
    for centre, symbol in ((6, "C"), (7, "N")):
        of_centre = [value for name, value in counts.items() if name.startswith(f"{symbol}_")]
        assert sum(of_centre) == pytest.approx(2 * per_centre[symbol])
        assert counts[f"{symbol}_C-N"] == pytest.approx(per_centre[symbol]), centre


def test_energies_are_smooth_where_shells_meet():
    """An edge that passes the ends of shells changes energy and forces without a step."""
    model = build(Partition("distance_shells", shells=(2.0, 4.0), overlap=0.5))
    atoms = corrugated_bilayer()[:2]
    atoms.set_cell([20.0, 20.0, 20.0])

    def pair(distance):
        atoms.positions[:] = [[0, 0, 0], [0, 0, distance]]
        result = evaluate(model, atoms)
        return float(result["energy"][0]), float(result["forces"][1, 2])

    for end in (1.5, 2.0):
        (below, force_below), (above, force_above) = pair(end - 1e-6), pair(end + 1e-6)
        assert abs(below - above) < 1e-4
        assert force_below == pytest.approx(force_above, abs=1e-4)
        step = 1e-4
        slope = (pair(end + step)[0] - pair(end - step)[0]) / (2 * step)
        assert force_below == pytest.approx(-slope, abs=1e-5)
    assert abs(pair(1.4)[0] - pair(1.9)[0]) > 1e-3


@pytest.mark.parametrize("backbone", ["mace", "deeph_e3"])
def test_networks_that_are_told_the_relation_tell_layers_apart(backbone):
    """A plain network gives a pair within a layer and between layers one energy; this one two."""
    options = {"backbone": DEEPH_E3} if backbone == "deeph_e3" else {}
    relations = {"all": ["intra", "inter"]}
    atoms = carbon()
    one_layer = atoms.copy()
    one_layer.arrays["layer"][:] = 0
    turned = atoms.copy()
    turned.rotate(40.0, (1.0, 2.0, 0.5), rotate_cell=True)
    for told in (False, True):
        model = build(elements=(6,), relations=relations, relation_feature=told, **options)
        result, same, rotated = (evaluate(model, x) for x in (atoms, one_layer, turned))
        apart = float((result["energy"] - same["energy"]).abs())
        assert apart > 1e-3 if told else apart < 1e-9
        assert float((rotated["energy"] - result["energy"]).abs()) < 1e-9
        # the same rotation takes forces along
        matrix = np.linalg.solve(atoms.cell.array, turned.cell.array)
        torch.testing.assert_close(
            rotated["forces"], result["forces"] @ torch.as_tensor(matrix), rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("backbone", ["mace", "deeph_e3"])
def test_shared_radial_networks_are_one(backbone):
    options = {"backbone": DEEPH_E3} if backbone == "deeph_e3" else {}
    apart, shared = build(**options), build(shared_radial=True, **options)
    names = [name for name, _ in shared.named_parameters()]
    assert any(".intra." in name and "radial_network" in name for name in names)
    assert not any(".inter." in name and "radial_network" in name for name in names)
    assert len(names) < len(list(apart.named_parameters()))
    other = build(shared_radial=True, **options)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    atoms = corrugated_bilayer()
    assert not torch.equal(evaluate(other, atoms)["energy"], evaluate(shared, atoms)["energy"])
    other.load_state_dict(shared.state_dict())
    assert torch.equal(evaluate(other, atoms)["energy"], evaluate(shared, atoms)["energy"])
    twin = copy.deepcopy(shared)
    radial = [
        next(m for n, m in sub.named_modules() if n.endswith("radial_network"))
        for sub in twin.network.sub_networks.values()
    ]
    assert radial[0] is radial[1]


def test_wrong_relations_are_refused():
    partition = Partition("triplets", (6, 7))
    with pytest.raises(
        InstantiationException, match=r"each of \('C_C-C', [\s\S]*null makes one sub-network"
    ):
        build(partition, relations={"all": ["intra", "inter"]})
    with pytest.raises(InstantiationException, match=r"those of triplets share edges"):
        build(partition, relations={"all": list(partition.relations)})


def test_hamiltonian_networks_know_layers_alone():
    config = build_config("electron")
    config["network"] |= {
        "relations": None,
        "partition": {"kind": "element_pairs", "elements": [6, 7]},
    }
    names = Partition("element_pairs", (6, 7)).relations
    config["network"]["backbone"] |= {
        "cutoffs": dict.fromkeys(names, 4.0),
        "mean_neighbours": dict.fromkeys(names, 4.0),
    }
    with pytest.raises(
        InstantiationException, match=r"'element_pairs' with blocks of the Hamiltonian"
    ):
        instantiate(config, _convert_="all")


def test_neighbours_are_counted_per_atom_that_can_have_them():
    atoms = corrugated_bilayer()
    partition = Partition("element_pairs", (6, 7))
    cutoffs = dict.fromkeys(partition.relations, 1.6)
    counts = count_neighbours([build_graph(atoms, cutoffs, partition=partition)], partition)
    bonds = build_graph(atoms, {"intra": 1.6, "inter": 1.6})[fields.edge_type("intra")]
    source, target = atoms.numbers[bonds[fields.EDGE_INDEX].numpy()]
    n_carbon = int((atoms.numbers == 6).sum())
    assert counts["C-C"] == pytest.approx(np.sum((source == 6) & (target == 6)) / n_carbon)
    assert counts["C-N"] == pytest.approx(np.sum(source != target) / len(atoms))


def count_parameters(model: str, size: str) -> int:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["name=test", f"model={model}", f"size={size}"])
    plain = OmegaConf.to_container(
        OmegaConf.masked_copy(config, ["model", "size", "graph"]), resolve=True
    )
    network = instantiate(
        fill_facts(plain["model"], {**FACTS, "partition": LAYERS.to_dict()}), _convert_="all"
    )
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("size", ["small", "published"])
@pytest.mark.parametrize(
    ("wide", "pair"), [("mace_wide", "hedgenet_phonon"), ("deeph_e3_wide", "hedgenet_electron")]
)
def test_wide_networks_have_the_parameters_of_hedgenet(wide, pair, size):
    assert count_parameters(wide, size) == pytest.approx(count_parameters(pair, size), rel=0.03)
