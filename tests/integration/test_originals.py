"""Trainings of the originals: curves, clocks, options, the table; and one, if it is there."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import ase.io
import numpy as np
import originals
import originals_deeptb
import originals_parts
import originals_table
import paper
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from originals_trainings import BLOCKS, FORCES, Plan, TrainingError, curve_callback, follow_training
from workers import curves, deeptb_training, path_training
from workers.curves import CurveClock, Point, append_point, read_curve, seconds_to_error
from workers.epoch_curve import EpochCurve
from workers.path_peer import PathJob

from mlepi.graphs import fields
from mlepi.graphs.build import build_graph
from mlepi.graphs.overlap_labels import complete_overlaps
from mlepi.physics.overlaps import read_overlap_table
from mlepi.structures.dataset import HamiltonianDataset
from mlepi.structures.dftio import read_dftio
from mlepi.training.callbacks import ProcessorClock
from mlepi.training.facts import fill_facts
from mlepi.training.losses import BlockErrors
from mlepi.training.metrics import least_absolute_shift

PEERS = "MLEPI_PEERS_PYTHON"
"""Environment variable: the interpreter of the environment of mace-torch."""

CURVE = [Point(1, 9.0, 10.0), Point(2, 4.0, 20.0), Point(3, 5.0, 30.0), Point(4, 3.0, 40.0)]
TINY = {
    "channels": [4, 3, 2],
    "l_max": 2,
    "num_layers": 1,
    "num_radial": 4,
    "radial_hidden": [4],
}


def make_part(**changes):
    ours = [Point(1, 8.0, 2.0), Point(2, 3.0, 5.0), Point(3, 1.5, 7.0), Point(4, 1.0, 10.0)]
    sides = {
        "original": {"name": "theirs", "parameters": 1000, "test_error": 4.0, "curve": CURVE},
        "ours": {"name": "mace", "parameters": 900, "test_error": 1.0, "curve": ours},
    }
    part = {"title": "recipe", "unit": "meV", "metric": "a", "sides": sides, **changes}
    return json.loads(json.dumps(part))


def test_seconds_to_an_error_are_those_of_the_first_epoch_as_good():
    assert seconds_to_error(CURVE, 4.0) == 20.0
    assert seconds_to_error(CURVE, 3.9) == 40.0
    assert seconds_to_error(CURVE, 2.9) is None
    assert curves.lowest_error(CURVE) == CURVE[3]


def test_curves_survive_kills_and_repeated_epochs(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    for point in (CURVE[0], CURVE[1], CURVE[1]._replace(error=4.5)):
        append_point(folder, point)
    with (folder / curves.FILE).open("a") as stream:
        stream.write('{"epoch": 3, "err')
    assert read_curve(tmp_path) == [CURVE[0], CURVE[1]._replace(error=4.5)]
    assert read_curve(tmp_path / "nothing") == []


def test_the_clock_goes_on_from_what_was_done(tmp_path, monkeypatch):
    now = iter([100.0, 103.0, 200.0, 204.0])
    monkeypatch.setattr(curves, "time", SimpleNamespace(process_time=lambda: next(now)))
    for point in CURVE:
        append_point(tmp_path, point)
    clock = CurveClock(tmp_path)
    clock.go_on_from(0)
    clock.start()
    assert clock.stop() == 3.0
    clock.go_on_from(2)
    clock.start()
    assert clock.stop() == 27.0


def test_our_curve_has_error_and_seconds_and_ends_with_the_time(tmp_path):
    clock = ProcessorClock(limit=None)
    clock.load_state_dict({"seconds": 30.0, "longest": 0.0})
    trainer = SimpleNamespace(
        callbacks=[clock],
        current_epoch=2,
        callback_metrics={"val/a": torch.tensor(7.0)},
        default_root_dir=str(tmp_path),
        should_stop=False,
    )
    EpochCurve(metric="val/a", limit=40.0).on_train_epoch_end(trainer, None)
    assert read_curve(tmp_path) == [Point(3, 7.0, 30.0)]
    assert not trainer.should_stop
    EpochCurve(metric="val/a", limit=39.0).on_train_epoch_end(trainer, None)
    assert trainer.should_stop


def test_both_sides_are_compared():
    found = originals_table.summarise(make_part())
    assert found["error_ratio"] == 0.25
    assert found["seconds"] == {"original": 40.0, "ours": 5.0}
    assert found["seconds_ratio"] == 8.0
    row = originals_table.format_row(make_part())
    assert row[0] == "theirs (recipe)"
    assert row[2:6] == ["1,000, 900", "4", "4, 1 meV", "0.25"]
    assert row[6:] == ["10, 2.5", "3, 1", "40, 5", "8.0"]


def test_what_was_not_reached_or_failed_is_told():
    part = make_part()
    part["sides"]["ours"]["curve"] = [[1, 8.0, 2.0], [2, 3.5, 5.0]]
    row = originals_table.format_row(part)
    assert row[3] == "4, 2"
    assert row[8:] == ["40, not reached", "–"]
    failed = {"title": "recipe", "error": "KeyError: lost"}
    assert originals_table.format_row(failed)[:2] == ["recipe", "failed: KeyError: lost"]


def test_a_part_that_fails_lets_the_others_go_on(tmp_path, monkeypatch, capsys):
    side = make_part()["sides"]["ours"] | {"curve": CURVE}

    def fail(plan):
        raise TrainingError("no memory")

    asked = []
    monkeypatch.setattr(originals, "train_ours", lambda *given: asked.append(given) or side)
    plan = Plan(tmp_path)
    parts = {"mace-torch": (FORCES, fail), "path-by-path": (BLOCKS, lambda plan: side)}
    assert not originals.run_parts(parts, plan, tmp_path)
    assert asked == [(plan, BLOCKS, 4)]
    content = json.loads((tmp_path / "originals.json").read_text())
    assert content["parts"]["mace-torch"]["error"] == "TrainingError: no memory"
    assert content["parts"]["path-by-path"]["sides"]["ours"]["curve"][0] == [1, 9.0, 10.0]
    text = (tmp_path / "originals.md").read_text()
    assert "failed: TrainingError: no memory" in text
    assert "| 1.00 |" in text
    assert originals.run_parts({"mace-torch": (FORCES, lambda plan: side)}, plan, tmp_path)
    assert "failed" not in (tmp_path / "originals.md").read_text()
    assert "mace-torch: failed: no memory" in capsys.readouterr().err


def test_the_table_stands_in_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(paper, "PARTS", ())
    monkeypatch.setattr(paper, "FIGURES", ())
    page = "a\n<!-- begin originals -->\nold\n<!-- end originals -->\nb\n"
    assert paper.fill_page(page, tmp_path / "kept") == page.replace("old", paper.NOT_RUN)
    content = {"parts": {"mace-torch": make_part()}}
    (tmp_path / "originals.json").write_text(json.dumps(content))
    text = originals_table.format_originals(content)
    assert paper.fill_page(page, tmp_path / "kept") == page.replace("old", text)


def test_parts_of_deeptb_need_its_environment(capsys):
    assert originals.choose_parts(None) == ["mace-torch", "path-by-path"]
    assert "left out without --deeptb: deeptb-lem, deeptb-slem" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        originals.main(["--parts", "deeptb-lem"])
    assert "the parts of DeePTB need --deeptb" in capsys.readouterr().err
    with pytest.raises(TrainingError, match="no interpreter"):
        originals_parts.train_mace(Plan(Path("nowhere")), Path("nowhere/python"))
    with pytest.raises(TrainingError, match="no interpreter"):
        originals_deeptb.train_deeptb(Plan(Path("nowhere")), Path("nowhere/python"), "lem")


def test_trainings_are_followed(tmp_path, capsys):
    text = "from workers.curves import *; append_point(Path(r'{}'), Point(1, 2.5, 3.0)); exit({})"
    line = [sys.executable, "-c", text.format(tmp_path, 0)]
    assert follow_training("it", line, tmp_path, "meV", poll=0.02) == [Point(1, 2.5, 3.0)]
    assert "it: epoch 1, 2.5 meV, 3 s" in capsys.readouterr().out
    line[-1] = text.format(tmp_path, "'lost'")
    with pytest.raises(TrainingError, match="exit status 1, lost"):
        follow_training("it", line, tmp_path, "meV", poll=0.02)


def test_mace_torch_gets_our_structures_and_sizes(tmp_path):
    plan = Plan(tmp_path, seed=3, quick=True)
    config = plan.compose(FORCES)
    options = originals_parts.mace_options(config, 3, tmp_path)
    for wanted in ("num_channels=32", "max_L=1", "max_ell=3", "radial_MLP=[64, 64]", "seed=3"):
        assert f"--{wanted}" in options
    assert {"--max_num_epochs=2", "--batch_size=2", "--swa", "--ema"} <= set(options)
    originals_parts.write_subsets(config, tmp_path)
    images = ase.io.read(tmp_path / "test.xyz", ":", format="extxyz")
    split = json.loads(Path(config.data.split).read_text())["split"]
    assert [atoms.info["name"] for atoms in images] == split["test"]
    for atoms in images:
        atoms.arrays["MACE_forces"] = atoms.arrays["REF_forces"] + np.array([0.003, 0.0, 0.0])
    ase.io.write(tmp_path / "predicted.xyz", images, format="extxyz")
    assert originals_parts.force_error(tmp_path / "predicted.xyz") == pytest.approx(1.0)
    assert originals_parts.read_parameters("a\nparameters of the network: 12\nb") == 12
    with pytest.raises(TrainingError, match="no number of parameters"):
        originals_parts.read_parameters("")


def test_folders_are_named_by_what_decides(tmp_path):
    plan = Plan(tmp_path, seed=2, epochs=7, hours=0.5)
    assert plan.training_folder("a", 7) == tmp_path / "a_small_7epochs_seed2"
    assert "optimizer.max_epochs=7" in plan.arguments(BLOCKS)
    assert "optimizer.max_epochs=5" in plan.arguments(BLOCKS, 5)
    assert curve_callback(BLOCKS, plan.seconds)[-1] == "+callbacks.curve.limit=1800.0"


@pytest.fixture(scope="module")
def labelled():
    config = Plan(Path("unused")).compose(BLOCKS)
    structure = HamiltonianDataset(originals.ROOT / config.data.path)["random3_0001"]
    table = read_overlap_table(originals.ROOT / config.data.overlap_table)
    return config, complete_overlaps(structure, table)


def test_the_path_network_sees_our_graphs(labelled, monkeypatch):
    path = originals.ROOT / "benchmarks/path_network.py"  # tests/references has one too
    spec = importlib.util.spec_from_file_location("benchmarks_path_network", path)
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    monkeypatch.setattr(path_training, "PathNetwork", peer.PathNetwork)
    config, structure = labelled
    cutoff = 3.0
    config = config.copy()
    config.size.electron = TINY
    path_training.replace_network(config)
    cutoffs = dict.fromkeys(fields.RELATIONS, cutoff)
    facts = {"elements": [6], "shells": {6: [0, 0, 1, 1]}, "cutoffs": cutoffs}
    torch.manual_seed(0)
    model = instantiate(fill_facts(OmegaConf.to_container(config.model), facts), _convert_="all")
    graph = build_graph(structure.atoms, cutoffs)
    found = model(graph)
    expected = model.network(*PathJob._edges(structure.atoms, [6], cutoff, torch.float32))
    parts = [*found["edge_blocks"].values(), found["onsite_blocks"]]
    assert torch.equal(torch.cat(parts), expected)


def test_deeptb_gets_our_structures_and_sizes(labelled, tmp_path):
    config, structure = labelled
    originals_deeptb.write_structure(structure, tmp_path / "set.0")
    (tmp_path / "set.0/basis.dat").write_text("{'C': '2s2p'}")
    read = read_dftio(tmp_path / "set.0")
    order = [
        np.lexsort(np.concatenate([each.edge_index, each.edge_cell_shift.T]))
        for each in (structure, read)
    ]
    for name in ("edge_index", "hamiltonian_blocks", "overlap_blocks"):
        first, second = getattr(structure, name), getattr(read, name)
        axis = 1 if name == "edge_index" else 0
        first, second = first.take(order[0], axis), second.take(order[1], axis)
        np.testing.assert_allclose(first, second, atol=1e-5)
    (tmp_path / originals_deeptb.SUMMARY).write_text('{"avg_num_neighbors": 80.0}')
    options = originals_deeptb.deeptb_options(config, 3, tmp_path, "slem")
    embedding = options["model_options"]["embedding"]
    assert embedding["irreps_hidden"] == "48x0e+32x1o+16x2e+8x3o"
    assert embedding["r_max"]["C"] == pytest.approx(6.35, abs=0.01)
    assert options["common_options"]["basis"] == {"C": "2s2p"}
    assert options["train_options"]["batch_size"] == config.data.batch_size


def test_the_error_of_deeptb_is_ours():
    generator = torch.Generator().manual_seed(1)
    values = {name: torch.randn(5, 3, 3, generator=generator, dtype=torch.float64) for name in "ds"}
    on_site = {name: value + value.transpose(1, 2) for name, value in values.items()}
    parts = {"difference": {"a": on_site["d"]}, "overlap": {"a": on_site["s"]}}
    errors = BlockErrors(
        **parts,
        mask={"a": torch.ones(5, 3, 3, dtype=torch.bool)},
        graph={"a": torch.zeros(5, dtype=torch.long)},
        n_graphs=1,
    )
    shifted = errors.shifted(least_absolute_shift(errors)).difference["a"]
    maps = {"1s-1s": slice(0, 1), "1s-1p": slice(1, 3), "1p-1p": slice(3, 7)}  # p of two functions
    mapper = SimpleNamespace(
        reduced_matrix_element=7, orbpair_maps=maps, get_orbpair_maps=lambda: None
    )
    weight = deeptb_training.feature_weights(mapper)
    features = {
        name: torch.cat(
            [value[:, :1, 0], value[:, 0, 1:], value[:, 1:, 1:].flatten(1)], dim=1
        ).flatten()
        for name, value in on_site.items()
    }
    total, count = deeptb_training.gauge_free_sums(features["d"], features["s"], weight.repeat(5))
    assert count == 45
    assert total == pytest.approx(float(shifted.abs().sum()))


@pytest.mark.slow
@pytest.mark.skipif(PEERS not in os.environ, reason=f"{PEERS} names no interpreter")
def test_mace_torch_trains(tmp_path):
    given = ["--quick", "--parts", "mace-torch", "--peers", os.environ[PEERS]]
    assert originals.main([*given, "--folder", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "quick/originals.json").read_text())
    sides = content["parts"]["mace-torch"]["sides"]
    assert [len(side["curve"]) for side in sides.values()] == [2, 2]
