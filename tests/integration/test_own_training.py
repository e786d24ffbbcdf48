"""Training on data of one's own, the way a new user walks: no split, no cutoffs, no graphene."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from mlepi.checkpoint import load_checkpoint
from mlepi.command_line import compose_config
from mlepi.errors import MlepiError
from mlepi.structures import read_split
from mlepi.training.run import train

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
