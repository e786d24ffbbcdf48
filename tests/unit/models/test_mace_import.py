"""With equal weights our MACE reproduces mace-torch.

Reference numbers by tests/references/make_mace_reference.py.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from mlepi.errors import CheckpointError, ConfigError
from mlepi.graphs.build import build_graph
from mlepi.models import MACE, HeteroNetwork, PhononNetwork
from mlepi.models.mace_import import load_mace_weights

REFERENCE = Path(__file__).parents[2] / "references" / "mace_reference.npz"


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE, allow_pickle=False) as file:
        return dict(file)


def build_model(config: dict, relations=None, **changes) -> PhononNetwork:
    backbone = partial(
        MACE,
        elements=config["atomic_numbers"],
        cutoffs={"intra": config["r_max"], "inter": config["r_max"]},
        mean_neighbours={"intra": 1.0, "inter": config["avg_num_neighbors"] - 1.0},
        num_layers=config["num_interactions"],
        num_features=int(config["hidden_irreps"].split("x")[0]),
        l_max=config["max_ell"],
        l_max_hidden=1,
        l_max_out=0,
        correlation=config["correlation"],
        num_bessel=config["num_bessel"],
        cutoff_power=config["num_polynomial_cutoff"],
        radial_widths=config["radial_MLP"],
        first_self_connection="residual"
        if "Residual" in config["interaction_cls_first"]
        else "message",
    )
    network = HeteroNetwork(
        elements=config["atomic_numbers"],
        relations=relations or {"all": ["intra", "inter"]},
        backbone=partial(backbone, **changes),
    )
    width = int(config["MLP_irreps"].split("x")[0])
    return (
        PhononNetwork(
            network=network, atomic_energies=[0.0, 0.0], energy_scale=1.0, readout_width=width
        )
        .double()
        .eval()
    )


def weights_of(reference: dict, case: str) -> dict[str, torch.Tensor]:
    prefix = f"{case}/weights/"
    return {
        name[len(prefix) :]: torch.as_tensor(value)
        for name, value in reference.items()
        if name.startswith(prefix)
    }


def structures_of(reference: dict) -> list[Atoms]:
    structures = []
    for i in range(3):
        numbers, positions, cell = (
            reference[f"structures/{i}/{key}"] for key in ("numbers", "positions", "cell")
        )
        atoms = Atoms(numbers=numbers, positions=positions, cell=cell, pbc=True)
        atoms.arrays["layer"] = (
            np.arange(len(atoms)) % 2
        )  # the homogeneous network does not look at it
        structures.append(atoms)
    return structures


@pytest.mark.parametrize("case", ["residual", "message"])
def test_energies_and_forces_equal_mace_torch(reference, case):
    config = json.loads(str(reference[f"{case}/config"]))
    model = build_model(config)
    load_mace_weights(model, weights_of(reference, case))
    cutoffs = {"intra": config["r_max"], "inter": config["r_max"]}
    for i, atoms in enumerate(structures_of(reference)):
        result = model(build_graph(atoms, cutoffs, dtype=torch.float64))
        interaction = reference[f"{case}/energy"][i] - sum(
            config["atomic_energies"][config["atomic_numbers"].index(z)] for z in atoms.numbers
        )
        forces = reference[f"{case}/forces/{i}"]
        error = abs(float(result["energy"]) - reference[f"{case}/energy"][i])
        assert error < 1e-10 * abs(interaction)
        np.testing.assert_allclose(
            result["forces"].numpy(), forces, rtol=0, atol=1e-10 * np.abs(forces).max()
        )


def test_first_layer_mode_matters(reference):
    """The check above can fail: the other first layer gives other numbers."""
    config = json.loads(str(reference["residual/config"]))
    model = build_model(config, first_self_connection="message")
    with pytest.raises(CheckpointError, match=r"interactions\.0\.skip_tp\.weight: got 72 values"):
        load_mace_weights(model, weights_of(reference, "residual"))


def test_missing_weights_are_named(reference):
    config = json.loads(str(reference["residual/config"]))
    weights = weights_of(reference, "residual")
    for name, text in (
        ("node_embedding.linear.weight", r"no 'node_embedding\.linear\.weight'"),
        (
            "products.0.symmetric_contractions.contractions.0.U_matrix_2",
            r"U_matrix_2; expected its coupling tensors",
        ),
    ):
        with pytest.raises(CheckpointError, match=text):
            load_mace_weights(
                build_model(config), {key: value for key, value in weights.items() if key != name}
            )


def test_other_backbones_are_refused(reference):
    config = json.loads(str(reference["residual/config"]))
    model = build_model(config)
    model.network.backbones["all"] = torch.nn.Identity()
    with pytest.raises(ConfigError, match="Identity; expected MACE"):
        load_mace_weights(model, weights_of(reference, "residual"))
