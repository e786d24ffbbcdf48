"""The shipped networks of boron nitride, and the experiment that uses them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mlepi import load_model
from mlepi.command_line import register_stages
from mlepi.graphs.block_matrix import compute_bands
from mlepi.structures import HamiltonianDataset, read_forces_dataset

ROOT = Path(__file__).parents[2]
CONF, DATA, SHIPPED = (ROOT / name for name in ("conf", "data/hbn_openmx", "data/checkpoints"))
K = [[1 / 3, 2 / 3, 0.0]]
GAP, GAP_ERROR = 4.643, 0.1  # eV, of the label, and what the network may be off


def test_the_gap_experiment_is_about_the_labelled_crystal():
    register_stages(CONF)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("infer", overrides=["experiment=hbn_gap"])
    assert [Path(config[kind]).stem for kind in ("phonon", "electron")] == [
        "hbn_phonon",
        "hbn_electron",
    ]
    assert OmegaConf.to_container(config.temperature) == [0, 300]
    assert list(config.stage.run) == [config.stage.sampling.target] == ["gap"]
    atoms = instantiate(config.structure)
    labelled = HamiltonianDataset(DATA / "hamiltonians.h5")["hbn1_ideal"].atoms
    assert (atoms.numbers == labelled.numbers).all()
    np.testing.assert_allclose(atoms.cell.array, labelled.cell.array, atol=1e-6)
    distances = atoms.get_all_distances(mic=True)
    np.testing.assert_allclose(distances, labelled.get_all_distances(mic=True), atol=1e-6)


def test_the_shipped_network_has_the_gap_of_the_label():
    label = HamiltonianDataset(DATA / "hamiltonians.h5")["hbn1_ideal"]
    predictor = load_model(SHIPPED / "hbn_electron.ckpt", kind="electron")
    matrices = predictor.hamiltonian(label.atoms), predictor.overlap(label.atoms)
    levels = compute_bands(*matrices, K)[0]
    assert levels[8] - levels[7] == pytest.approx(GAP, abs=GAP_ERROR)


def test_the_shipped_forces_err_as_their_card_says():
    told = json.loads((SHIPPED / "hbn_phonon.json").read_text("utf-8"))["accuracy"]["metrics"]
    split = json.loads((DATA / "splits/forces_81_09_10.json").read_text("utf-8"))["split"]
    calculator = load_model(SHIPPED / "hbn_phonon.ckpt", kind="phonon").calculator()
    errors = []
    for label in read_forces_dataset(DATA / "forces.extxyz"):
        if label.name in split["test"]:
            atoms = label.atoms.copy()
            atoms.calc = calculator
            errors.append(atoms.get_forces() - label.forces)
    found = 1e3 * np.sqrt(np.mean(np.square(errors)))
    assert found == pytest.approx(told["forces_rmse_mev_per_angstrom"], rel=1e-3)
