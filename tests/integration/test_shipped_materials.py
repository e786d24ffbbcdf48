"""The shipped networks of boron nitride and of MoS2, and the experiments that use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

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
CONF, DATA, SHIPPED = (ROOT / name for name in ("conf", "data", "data/checkpoints"))
GAMMA, K = [0.0, 0.0, 0.0], [1 / 3, 2 / 3, 0.0]


class Crystal(NamedTuple):
    """An undisplaced crystal that was labelled, and what the shipped network may be off."""

    material: str  # before _phonon, _electron, _gap and _openmx
    label: str
    overrides: tuple[str, ...]  # of the experiment, that build it
    n_occupied: int
    gaps: tuple[float, ...]  # eV, of the label: direct at K, and from Γ to K where it is smaller
    gap_error: float  # eV


CRYSTALS = (
    Crystal("hbn", "hbn1_ideal", (), 8, (4.643,), 0.1),
    Crystal("mos2", "mos2b1_ideal", (), 26, (1.739, 1.302), 0.03),
    Crystal("mos2", "mos2m1_ideal", ("structure.stacking=A",), 13, (1.770,), 0.03),
)


@pytest.fixture(params=CRYSTALS, ids=lambda crystal: crystal.label)
def crystal(request):
    return request.param


def read_label(crystal):
    return HamiltonianDataset(DATA / f"{crystal.material}_openmx" / "hamiltonians.h5")[
        crystal.label
    ]


def test_the_gap_experiment_is_about_the_labelled_crystal(crystal):
    register_stages(CONF)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(
            "infer", overrides=[f"experiment={crystal.material}_gap", *crystal.overrides]
        )
    assert [Path(config[kind]).stem for kind in ("phonon", "electron")] == [
        f"{crystal.material}_phonon",
        f"{crystal.material}_electron",
    ]
    assert OmegaConf.to_container(config.temperature) == [0, 300]
    assert list(config.stage.run) == [config.stage.sampling.target] == ["gap"]
    atoms, labelled = instantiate(config.structure), read_label(crystal).atoms
    assert (atoms.numbers == labelled.numbers).all()
    np.testing.assert_allclose(atoms.cell.array[:2], labelled.cell.array[:2], atol=1e-6)
    distances = atoms.get_all_distances(mic=True)
    np.testing.assert_allclose(distances, labelled.get_all_distances(mic=True), atol=1e-6)


def test_the_shipped_network_has_the_gap_of_the_label(crystal):
    label = read_label(crystal)
    predictor = load_model(SHIPPED / f"{crystal.material}_electron.ckpt", kind="electron")
    matrices = predictor.hamiltonian(label.atoms), predictor.overlap(label.atoms)
    at_gamma, at_k = compute_bands(*matrices, [GAMMA, K])
    top, n = at_k[crystal.n_occupied - 1], crystal.n_occupied
    found = [at_k[n] - top, at_k[n] - at_gamma[n - 1]][: len(crystal.gaps)]
    assert found == pytest.approx(crystal.gaps, abs=crystal.gap_error)


@pytest.mark.parametrize("material", ["hbn", "mos2"])
def test_the_shipped_forces_err_as_their_card_says(material):
    card = json.loads((SHIPPED / f"{material}_phonon.json").read_text("utf-8"))["accuracy"]
    calculator = load_model(SHIPPED / f"{material}_phonon.ckpt", kind="phonon").calculator()
    folder, split = DATA / f"{material}_openmx", card["data"]["split"]
    tested = json.loads((folder / "splits" / Path(split).name).read_text("utf-8"))["split"]["test"]
    errors = []
    for label in read_forces_dataset(folder / "forces.extxyz"):
        if label.name in tested:
            atoms = label.atoms.copy()
            atoms.calc = calculator
            errors.append((atoms.get_forces() - label.forces).ravel())
    found = 1e3 * np.sqrt(np.mean(np.square(np.concatenate(errors))))
    assert found == pytest.approx(card["metrics"]["forces_rmse_mev_per_angstrom"], rel=1e-3)
