"""What every phonon model must satisfy, whatever its backbone and its combination."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from model_contract import ModelContract
from omegaconf import OmegaConf

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.graphs.partitions import LAYERS, Partition

CONF = Path(__file__).parents[2] / "conf"
CUTOFFS = {"intra": 3.0, "inter": 4.2}
REFERENCES = {6: -155.25, 7: -270.5}
MODELS = {
    "mace": ["+model=mace"],
    "mace_4layer": ["+model=mace_4layer"],
    "hedgenet_late": ["+model=hedgenet_phonon", "model.network.fusion=late"],
    "hedgenet_per_layer": ["+model=hedgenet_phonon", "model.network.fusion=per_layer"],
    "deeph_e3": ["+model=deeph_e3_phonon"],
    "hedgenet_deeph_e3": [
        "+model=deeph_e3_phonon",
        "model.network.backbone.norm=local",
        "model.network.backbone.message_decay=null",
        "~model.network.relations.all",
        "+model.network.relations.intra=[intra]",
        "+model.network.relations.inter=[inter]",
    ],
    "hedgenet_d2": [
        "+model=hedgenet_phonon",
        "model.dispersion=d2",
        "model.dispersion_cutoff=3.0",
    ],
    "mace_message": ["+model=mace", "model.network.backbone.first_self_connection=message"],
    "mace_wide": ["+model=mace_wide"],
    "mace_told": ["+model=mace_told"],
    "deeph_e3_told": ["+model=deeph_e3_phonon", "model.network.backbone.relation_feature=true"],
    "hedgenet_shared": ["+model=hedgenet_phonon_shared"],
    "hermnet_pair": ["+model=hermnet_pair"],
    "hermnet_vertex": ["+model=hermnet_vertex"],
    "hermnet_triplet": ["+model=hermnet_triplet"],
    "hermnet_late": ["+model=hermnet_triplet", "model.network.fusion=late"],
    "hermnet_deeph_e3": ["+model=deeph_e3_phonon", "model.network.relations=null"],
    "shells": ["+model=hermnet_pair"],
}
PARTITIONS = {
    "hermnet_pair": Partition("element_pairs", (6, 7)),
    "hermnet_vertex": Partition("vertices", (6, 7)),
    "hermnet_triplet": Partition("triplets", (6, 7)),
    "hermnet_late": Partition("triplets", (6, 7)),
    "hermnet_deeph_e3": Partition("element_pairs", (6, 7)),
    "shells": Partition("distance_shells", shells=(2.5, 4.0), overlap=0.5),
}
"""Model → how its graph is divided, where not by layers."""
SHELLS = {"shell1": 2.5, "shell2": 4.0}


def partition_of(name: str, elements=(6, 7)) -> Partition:
    partition = PARTITIONS.get(name, LAYERS)
    return dataclasses.replace(partition, elements=elements) if partition.elements else partition


def cutoffs_of(partition: Partition) -> dict[str, float]:
    if partition == LAYERS:
        return CUTOFFS
    return SHELLS if partition.shells else dict.fromkeys(partition.relations, 3.6)


def build_config(name: str, elements: list[int]) -> dict:
    """Compose a model's own YAML at a small width and fill in what training would."""
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(
            overrides=[
                *MODELS[name],
                "+size=small",
                "size.phonon.num_features=4",
                "size.phonon.wide_features=6",
                "size.phonon.radial_widths=[8]",
                "size.electron.channels=[4,3,2]",
                "size.electron.l_max=3",
                "size.electron.num_radial=8",
                "size.electron.radial_hidden=[8]",
            ]
        )
    model = OmegaConf.to_container(config, resolve=True)["model"]
    model["atomic_energies"] = [REFERENCES[z] for z in elements]
    model["energy_scale"] = 2.0
    model["network"]["elements"] = model["network"]["backbone"]["elements"] = elements
    partition = partition_of(name, tuple(elements))
    model["network"]["partition"] = partition.to_dict()
    model["network"]["backbone"]["cutoffs"] = cutoffs_of(partition)
    model["network"]["backbone"]["mean_neighbours"] = (
        {"intra": 3.0, "inter": 5.0}
        if partition == LAYERS
        else dict.fromkeys(partition.relations, 4.0)
    )
    return model


def build_model(name: str, elements=(6, 7), dtype=torch.float64, seed=1):
    torch.manual_seed(seed)
    return instantiate(build_config(name, list(elements)), _convert_="all").to(dtype).eval()


def bilayer(elements=(6, 7), seed=0) -> Atoms:
    """Rattled AB-like bilayer in a slightly sheared cell, layer of each atom given."""
    cell = np.array([[2.5, 0.1, 0.0], [-1.2, 2.2, 0.05], [0.1, 0.0, 14.0]])
    fractional = np.array(
        [[0, 0, 0.3], [1 / 3, 2 / 3, 0.3], [1 / 3, 2 / 3, 0.53], [2 / 3, 1 / 3, 0.53]]
    )
    atoms = Atoms(
        numbers=[elements[0], elements[-1]] * 2, cell=cell, scaled_positions=fractional, pbc=True
    )
    atoms.positions += 0.05 * np.random.default_rng(seed).normal(size=(4, 3))
    atoms.arrays["layer"] = np.array([0, 0, 1, 1])
    return atoms


def predict(model, atoms: Atoms, dtype=torch.float64, cutoffs=None, **options):
    partition = model.network.partition
    graph = build_graph(atoms, cutoffs or cutoffs_of(partition), None, dtype, partition)
    out = model(graph, **options)
    return {name: value.detach().double().numpy() for name, value in out.items()}


class PhononModelContract(ModelContract):
    """Subclass and set ``name``; every test is inherited. A prediction is name → array."""

    build = staticmethod(build_model)

    def __init_subclass__(cls) -> None:
        cls.partition = partition_of(cls.name)
        cls.cutoffs = cutoffs_of(cls.partition)

    bilayer = staticmethod(bilayer)
    visible = 1e-4

    def outputs(self, model, graph):
        return model(graph, compute_stress=True)

    def predict(self, model, atoms):
        return predict(model, atoms, compute_stress=True)

    def turned(self, prediction, atoms, matrix):
        return {
            "energy": prediction["energy"],
            "forces": prediction["forces"] @ matrix.T,
            "stress": matrix @ prediction["stress"] @ matrix.T,
        }

    def permuted(self, prediction, order):
        return {**prediction, "forces": prediction["forces"][order]}

    def renamed(self, prediction, atom, move):
        return prediction

    def repeated(self, prediction, n_atoms, repeats):
        n_cells = int(np.prod(repeats))
        return {
            "energy": n_cells * prediction["energy"],
            "forces": np.tile(prediction["forces"], (n_cells, 1)),
            "stress": prediction["stress"],
        }

    def joined(self, lower, upper, n_lower):
        return {
            "energy": lower["energy"] + upper["energy"],
            "forces": np.concatenate([lower["forces"], upper["forces"]]),
            "stress": lower["stress"] + upper["stress"],
        }

    def single_tolerance(self, name, double):
        return {"energy": 2e-5, "forces": 2e-4, "stress": 2e-5}[name]

    def loss(self, outputs):
        return outputs["energy"].sum() + outputs["forces"].square().sum()

    def test_no_net_force(self, model):
        forces = predict(model, bilayer())["forces"]
        np.testing.assert_allclose(forces.sum(0), 0.0, atol=1e-10)
        assert np.abs(forces).max() > 1e-3

    def test_forces_are_the_gradient(self, model):
        atoms, step = bilayer(), 2e-5
        forces = predict(model, atoms)["forces"]
        for atom, axis in ((0, 0), (1, 2), (2, 1), (3, 0)):
            energies = []
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[atom, axis] += sign * step
                energies.append(predict(model, moved, compute_forces=False)["energy"][0])
            assert forces[atom, axis] == pytest.approx(
                -(energies[0] - energies[1]) / (2 * step), abs=1e-6
            )

    def test_stress_is_the_strain_gradient(self, model):
        atoms, step = bilayer(), 1e-5
        stress = predict(model, atoms, compute_stress=True)["stress"][0]
        np.testing.assert_allclose(stress, stress.T, atol=1e-12)
        for a, b in ((0, 0), (1, 2), (0, 1)):
            energies = []
            for sign in (1, -1):
                strain = np.zeros((3, 3))
                strain[a, b] += 0.5 * sign * step
                strain[b, a] += 0.5 * sign * step
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
                energies.append(predict(model, strained, compute_forces=False)["energy"][0])
            gradient = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
            assert stress[a, b] == pytest.approx(gradient, abs=1e-7)

    @pytest.mark.parametrize("relation", fields.RELATIONS)
    def test_smooth_at_the_cutoff(self, model, relation):
        """Energy and force vanish continuously when a pair crosses the cutoff of its relation."""
        free = sum(REFERENCES[z] for z in (6, 7))

        def pair(distance):
            atoms = Atoms(
                "CN", positions=[[0, 0, 0], [0, 0, distance]], cell=[20, 20, 20], pbc=True
            )
            atoms.arrays["layer"] = np.array([0, 0 if relation == "intra" else 1])
            return predict(model, atoms)

        cutoff = self.cutoffs.get(relation, max(self.cutoffs.values()))
        inside = [pair(cutoff - depth) for depth in (0.5, 0.75, 1.0)]  # a force may pass zero
        at, beyond = pair(cutoff - 1e-3), pair(cutoff + 1e-3)
        assert max(abs(one["energy"][0] - free) for one in inside) > 1e-6
        assert abs(at["energy"][0] - free) < 1e-7
        usual = max(np.abs(one["forces"]).max() for one in inside)
        assert np.abs(at["forces"]).max() < 1e-4 * usual + 1e-9
        assert beyond["energy"][0] == pytest.approx(free, abs=1e-12)
        assert np.abs(beyond["forces"]).max() == 0.0

    def test_longer_edge_list_changes_nothing(self, model):
        """Edges beyond the model's own cutoffs, as in a list with a skin, carry nothing."""
        atoms = bilayer()
        short, long = (
            predict(model, atoms),
            predict(model, atoms, cutoffs={name: c + 1.2 for name, c in self.cutoffs.items()}),
        )
        np.testing.assert_allclose(long["energy"], short["energy"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(long["forces"], short["forces"], rtol=0, atol=1e-9)

    def test_isolated_atoms_have_their_reference_energy(self, model):
        for number, energy in REFERENCES.items():
            atoms = Atoms(
                numbers=[number], positions=[[1.0, 2.0, 3.0]], cell=[20, 20, 20], pbc=True
            )
            result = predict(model, atoms)
            assert result["energy"][0] == energy
            assert np.all(result["forces"] == 0.0)

    def test_one_element_model(self):
        model = build_model(self.name, elements=(6,))
        result = predict(model, bilayer(elements=(6,)))
        assert np.isfinite(result["forces"]).all()
        assert np.abs(result["forces"]).max() > 1e-3

    def test_energies_keep_double_precision(self, model):
        """Thousands of eV do not fit in single precision."""
        graph = self.graph(bilayer(), torch.float32)
        single = copy.deepcopy(model).to(torch.float32)(graph)
        assert single["forces"].dtype == torch.float32
        assert single["energy"].dtype == torch.float64

    def test_works_without_gradient_mode(self, model):
        with torch.no_grad():
            result = predict(model, bilayer())
        np.testing.assert_allclose(
            result["forces"], predict(model, bilayer())["forces"], rtol=0, atol=1e-12
        )


class TestMACE(PhononModelContract):
    name = "mace"


class TestMACE4Layer(PhononModelContract):
    name = "mace_4layer"


class TestMACEMessage(PhononModelContract):
    name = "mace_message"


class TestDeepHE3(PhononModelContract):
    name = "deeph_e3"


class TestHedgeNetDeepHE3(PhononModelContract):
    name = "hedgenet_deeph_e3"


class TestHedgeNetLate(PhononModelContract):
    name = "hedgenet_late"


class TestHedgeNetD2(PhononModelContract):
    name = "hedgenet_d2"


class TestHedgeNetPerLayer(PhononModelContract):
    name = "hedgenet_per_layer"


class TestMACEWide(PhononModelContract):
    name = "mace_wide"


class TestMACETold(PhononModelContract):
    name = "mace_told"


class TestDeepHE3Told(PhononModelContract):
    name = "deeph_e3_told"


class TestHedgeNetShared(PhononModelContract):
    name = "hedgenet_shared"


class TestHermNetPair(PhononModelContract):
    name = "hermnet_pair"


class TestHermNetVertex(PhononModelContract):
    name = "hermnet_vertex"


class TestHermNetTriplet(PhononModelContract):
    name = "hermnet_triplet"


class TestHermNetLate(PhononModelContract):
    name = "hermnet_late"
    learns = False  # a neighbour that is never at the centre has nothing but scalars to send


class TestHermNetDeepHE3(PhononModelContract):
    name = "hermnet_deeph_e3"


class TestShells(PhononModelContract):
    name = "shells"


def test_homogeneous_model_ignores_the_layer_and_hedgenet_does_not():
    atoms = bilayer()
    one_layer = atoms.copy()
    one_layer.arrays["layer"] = np.zeros(4, dtype=int)
    cutoffs = {"intra": 3.0, "inter": 3.0}

    def energies(name):
        config = build_config(name, [6, 7])
        config["network"]["backbone"]["cutoffs"] = cutoffs
        torch.manual_seed(1)
        model = instantiate(config, _convert_="all").double()
        return [predict(model, a, cutoffs=cutoffs)["energy"][0] for a in (atoms, one_layer)]

    atoms.positions[2:, 2] -= 0.6
    one_layer.positions[2:, 2] -= 0.6
    together, apart = energies("mace"), energies("hedgenet_late")
    assert together[0] == pytest.approx(together[1], abs=1e-10)
    assert abs(apart[0] - apart[1]) > 1e-6
