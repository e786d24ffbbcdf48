"""Training on data of one's own, the way a new user walks: no split, no cutoffs, no graphene."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from omegaconf import OmegaConf

from mlepi.checkpoint import load_checkpoint, load_model
from mlepi.command_line import compose_config
from mlepi.errors import MlepiError
from mlepi.reference_systems import HoneycombSprings, TightBinding
from mlepi.reference_systems.generate import label_structure
from mlepi.structures import build_graphene, read_split, write_extxyz
from mlepi.training.run import build_data, train

ROOT = Path(__file__).parents[2]
SMALL = [
    "name=own",
    "logger=csv",
    "trainer.accelerator=cpu",
    "optimizer.max_epochs=1",
    "size.phonon.num_features=4",
    "size.phonon.l_max=1",
    "size.phonon.radial_widths=[8]",
    "size.electron.channels=[4,4,4]",
    "size.electron.pseudo_channels=[0,2]",
    "size.electron.l_max=2",
    "size.electron.num_radial=8",
    "size.electron.radial_hidden=[8]",
    "size.electron.num_layers=1",
]


def run_train(folder, *arguments):
    return train(compose_config(ROOT / "conf", "train", [*SMALL, *arguments]), folder)


@pytest.fixture
def copper(tmp_path):
    """Ten rattled copper cells with forces of effective-medium theory."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(10):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(tmp_path / "copper.extxyz", frames)
    return tmp_path / "copper.extxyz"


@pytest.fixture
def alloys(tmp_path):
    """Six rattled cells each of an alloy of copper and silver, one with gold, and of nickel."""
    rng = np.random.default_rng(1)
    files = {}
    for name, numbers in (("CuAg", [29, 47]), ("CuAgAu", [29, 47, 79]), ("Ni", [28])):
        frames = []
        for _ in range(6):
            atoms = bulk("Ag", cubic=True, a=4.0)
            atoms.numbers = (numbers * 4)[:4]
            atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
            atoms.calc = EMT()
            atoms.get_forces()
            frames.append(atoms)
        write(tmp_path / f"{name}.extxyz", frames)
        files[name] = tmp_path / f"{name}.extxyz"
    return files


@pytest.mark.parametrize(("split", "sizes"), [("null", [8, 1, 1]), ("[0.5,0.3,0.2]", [5, 3, 2])])
def test_a_split_is_made_where_none_is_given(tmp_path, copper, split, sizes, caplog):
    caplog.set_level("INFO")
    arguments = ["model=hedgenet_phonon", f"data.path={copper}", "graph.cutoffs=3"]
    run_train(tmp_path / "run", *arguments, f"data.split={split}")
    stored = read_split(tmp_path / "run/split.json", [f"copper_{i:05d}" for i in range(10)])
    assert [len(stored[subset]) for subset in ("train", "val", "test")] == sizes
    assert "no split given: made one of" in caplog.text
    stamp, _ = load_checkpoint(tmp_path / "run/checkpoints/best.ckpt")
    described = stamp["metadata"]["data"]
    assert described["split"] == "split.json"
    assert described["made_split"]["strata"]["Cu, 1 layer"]["train"] == sizes[0]
    assert stamp["cutoffs"] == {"intra": 3.0, "inter": 3.0}
    assert json.loads((tmp_path / "run/test_metrics.json").read_text())["data"] == described


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["graph.cutoffs=-1"], r"graph\.cutoffs: got -1; expected a positive length"),
        (["graph.cutoffs=0.5"], r"graph\.cutoffs\.intra: got 0\.5 Å.*distance, 2\.\d\d Å"),
        (["data.split=[0.8,0.3]"], r"data\.split: got \[0\.8, 0\.3\]; expected a JSON file, null"),
        ([], r"Use the split made for this data set, or data\.split=null, which makes one"),
    ],
)
def test_mistakes_on_the_way_say_how_to_go_on(tmp_path, copper, arguments, text):
    known = ["model=hedgenet_phonon", f"data.path={copper}"]
    known += ["data.split=null"] if any("cutoffs" in word for word in arguments) else []
    with pytest.raises(MlepiError, match=text):
        run_train(tmp_path / "run", *known, *arguments)


PHONON = "data/checkpoints/hedgenet_phonon.ckpt"
ELECTRON = "data/checkpoints/hedgenet_electron.ckpt"


@pytest.fixture
def graphite(tmp_path):
    """Ten rattled bilayers with forces of the springs."""
    rng = np.random.default_rng(0)
    structures = []
    for number in range(10):
        atoms = build_graphene("AB").repeat((2, 2, 1))
        atoms.positions += rng.normal(scale=0.03, size=atoms.positions.shape)
        structures.append(label_structure(f"g{number}", atoms, TightBinding(), HoneycombSprings()))
    write_extxyz(tmp_path / "graphite.extxyz", structures)
    return tmp_path / "graphite.extxyz"


def test_fine_tuning_starts_at_the_predictions_of_the_checkpoint(tmp_path, graphite):
    """With a learning rate of zero the network stays what it was."""
    arguments = ["model=hedgenet_phonon", f"data.path={graphite}", "data.split=null"]
    arguments += [f"init_from={PHONON}", "optimizer.optimizer.lr=0.0", "dtype=float64"]
    run_train(tmp_path / "run", *arguments, "freeze=[network.backbones.inter]", "callbacks=no_ema")
    atoms = build_graphene("AB")
    atoms.positions[0] += [0.02, 0.03, 0.01]
    found = []
    for path in (ROOT / PHONON, tmp_path / "run/checkpoints/best.ckpt"):
        atoms.calc = load_model(path, kind="phonon").calculator(device="cpu", dtype="float64")
        found.append(atoms.get_forces())
    np.testing.assert_allclose(*found, rtol=0, atol=1e-10)


def test_frozen_parts_stay_and_others_move(tmp_path, graphite):
    arguments = ["model=hedgenet_phonon", f"data.path={graphite}", "data.split=null"]
    arguments += [f"init_from={PHONON}", "freeze=[network.backbones.intra]"]
    run_train(tmp_path / "run", *arguments, "callbacks=no_ema")
    _, before = load_checkpoint(ROOT / PHONON)
    _, after = load_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    moved = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-7)}
    assert moved
    assert not any(name.startswith("network.backbones.intra") for name in moved)


def test_a_carbon_network_is_extended_to_copper(tmp_path, copper, caplog):
    arguments = ["model=hedgenet_phonon", f"data.path={copper}", "data.split=null"]
    found = run_train(tmp_path / "run", *arguments, f"init_from={PHONON}")
    assert np.isfinite(found["forces_mae_mev_per_angstrom"])
    assert "elements [29] are new" in caplog.text
    stamp, _ = load_checkpoint(tmp_path / "run/checkpoints/best.ckpt")
    assert stamp["model"]["network"]["elements"] == [29]
    assert stamp["cutoffs"] == load_checkpoint(ROOT / PHONON)[0]["cutoffs"]


def build_graphs(*arguments):
    config = compose_config(ROOT / "conf", "train", [*SMALL, *arguments])
    return build_data(OmegaConf.to_container(config, resolve=True))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("graph.cutoffs.Cu-Ag=3.2", [5.0, 3.2, 5.0]),
        ("graph.cutoffs={Cu-Cu:3,Cu-Ag:3.2,Ag-Ag:3.1,Ag-Au:9}", [3.0, 3.2, 3.1]),
        ("graph.cutoffs=3.3", [3.3] * 3),
        ("graph.cutoffs=null", [5.0] * 3),
    ],
)
def test_cutoffs_of_elements_by_name_by_number_or_found(alloys, given, expected):
    known = ["model=hermnet_pair", f"data.path={alloys['CuAg']}", "data.split=null"]
    found = build_graphs(*known, given).cutoffs
    assert found == dict(zip(["Cu-Cu", "Cu-Ag", "Ag-Ag"], expected, strict=True))


def test_a_hermnet_is_extended_to_a_third_element(tmp_path, alloys, caplog):
    """Its sub-networks of known pairs go on, those of new ones begin."""
    chosen = ["model=hermnet_pair", "data.split=null", "callbacks=no_ema"]
    known = [*chosen, f"data.path={alloys['CuAg']}"]
    run_train(tmp_path / "first", *known, "graph.cutoffs.default=3.2", "graph.cutoffs.Cu-Ag=3.3")
    first = f"init_from={tmp_path / 'first/checkpoints/best.ckpt'}"
    still = [*chosen, first, "optimizer.optimizer.lr=0.0"]
    run_train(tmp_path / "second", *still, f"data.path={alloys['CuAgAu']}")
    assert "relations ['Ag-Au', 'Au-Au', 'Cu-Au'] are new" in caplog.text
    old, before = load_checkpoint(tmp_path / "first/checkpoints/best.ckpt")
    stamp, after = load_checkpoint(tmp_path / "second/checkpoints/best.ckpt")
    assert stamp["cutoffs"] == {
        **{"Cu-Cu": 3.2, "Cu-Ag": 3.3, "Ag-Ag": 3.2},
        **dict.fromkeys(("Cu-Au", "Ag-Au", "Au-Au"), 3.3),
    }
    backbone = stamp["model"]["network"]["backbone"]
    for name, number in old["model"]["network"]["backbone"]["mean_neighbours"].items():
        assert backbone["mean_neighbours"][name] == number
    bodies = [name for name in before if name.startswith("network.backbones.Cu-Ag.")]
    assert bodies
    for name in bodies:  # where an axis counts elements, the first two
        kept = after[name][tuple(slice(length) for length in before[name].shape)]
        torch.testing.assert_close(kept, before[name], rtol=0, atol=1e-7)
    with pytest.raises(MlepiError, match=r"init_from: .*'Ag-Ag'.*one of \['Ni-Ni'\]"):
        run_train(tmp_path / "third", *still, f"data.path={alloys['Ni']}")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([f"ckpt_path={PHONON}"], r"weights and no state of an optimizer.*init_from="),
        ([f"ckpt_path={ELECTRON}"], r"ckpt_path: got .*, a checkpoint of kind 'electron'"),
        ([f"init_from={ELECTRON}"], r"init_from: got .*, a checkpoint of kind 'electron'"),
        (["init_from=nowhere.ckpt"], r"init_from: got 'nowhere\.ckpt', which does not exist"),
        (["freeze=[netwrk]"], r"freeze: got 'netwrk'; expected a part.*'network'"),
        (["freeze=['*']"], r"freeze: got \['\*'\], which is everything"),
    ],
)
def test_checkpoints_that_cannot_be_continued(tmp_path, copper, arguments, text):
    known = ["model=hedgenet_phonon", f"data.path={copper}", "data.split=null"]
    with pytest.raises(MlepiError, match=text):
        run_train(tmp_path / "run", *known, *arguments)


def test_a_training_of_other_elements_is_not_resumed(tmp_path, copper, graphite):
    """Nor one of another network; both name the way to start from its weights."""
    arguments = ["model=hedgenet_phonon", "data.split=null", "graph.cutoffs=3.4"]
    run_train(tmp_path / "run", *arguments, f"data.path={graphite}", "test=false")
    resumed = f"ckpt_path={tmp_path / 'run/checkpoints/last.ckpt'}"
    with pytest.raises(MlepiError, match=r"with the elements \[6\]; expected \[29\].*init_from="):
        run_train(tmp_path / "other", *arguments, f"data.path={copper}", resumed)
    wider = [f"data.path={graphite}", "size.phonon.num_features=8"]
    with pytest.raises(MlepiError, match=r"another network: \d+ tensors differ.*init_from="):
        run_train(tmp_path / "wider", *arguments, *wider, resumed)
