"""Jobs of a sweep: finished ones are skipped, half-done ones go on, others are refused."""

import json
import subprocess
import sys

import pytest
import torch
import warm_python
from small_run import TINY_PHONON, compose

from mlepi.errors import ConfigError
from mlepi.training import jobs
from mlepi.training.jobs import list_differences, lock, read_job, run_job

LENGTH = ["trainer.max_epochs=2", "data.batch_size=2"]


@pytest.fixture
def trained(monkeypatch):
    """Trainings that take no time; the configurations that were trained."""
    found = []

    def train(config, folder, sweep):
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints/last.ckpt").touch()
        if config.seed < 0:
            raise ConfigError("seed: no")
        found.append(config.copy())
        table = {"complete": config.trainer.max_time is None}
        (folder / "test_metrics.json").write_text(json.dumps(table))
        return {"loss": 0.5, "nothing": float("nan")}

    monkeypatch.setattr(jobs, "train", train)
    return found


def test_a_finished_job_is_not_repeated(tmp_path, trained):
    first = run_job(compose(TINY_PHONON), tmp_path, ["seed=1"])
    assert read_job(tmp_path)["overrides"] == ["seed=1"]
    again = run_job(compose(TINY_PHONON), tmp_path, ["seed=1"])
    assert again["loss"] == first["loss"] == 0.5
    assert again["nothing"] != again["nothing"]
    assert len(trained) == 1
    assert trained[0].ckpt_path == "own"


def test_what_does_not_decide_the_result_may_change(tmp_path, trained):
    run_job(compose([*TINY_PHONON, "trainer.max_time='00:00:01'"]), tmp_path, [])
    assert read_job(tmp_path)["state"] == "stopped"
    run_job(compose([*TINY_PHONON, "trainer.max_time='00:00:02'", "name=x"]), tmp_path, [])
    run_job(compose(TINY_PHONON), tmp_path, [])
    assert read_job(tmp_path)["state"] == "finished"
    assert len(trained) == 3


@pytest.mark.parametrize("file", ["job.json", "config.yaml"])
def test_another_configuration_is_refused_with_its_difference(tmp_path, trained, file):
    run_job(compose(TINY_PHONON), tmp_path, [])
    if file == "config.yaml":  # a folder of the time before jobs, and of fewer keys
        config = compose(TINY_PHONON)
        del config.callbacks.clock
        (tmp_path / file).write_text(json.dumps(jobs.OmegaConf.to_container(config, resolve=True)))
        (tmp_path / "job.json").unlink()
    changed = compose([*TINY_PHONON, "data.batch_size=3", "optimizer.max_epochs=7"])
    text = r"got another configuration, data\.batch_size: 4 → 3; optimizer\.max_epochs: 300 → 7;"
    with pytest.raises(ConfigError, match=text):
        run_job(changed, tmp_path, [])
    run_job(compose(TINY_PHONON), tmp_path, [])


def test_a_failed_job_is_tried_again_and_its_cause_may_be_removed(tmp_path, trained):
    with pytest.raises(ConfigError):
        run_job(compose([*TINY_PHONON, "seed=-1"]), tmp_path, [])
    assert read_job(tmp_path)["state"] == "failed"
    assert read_job(tmp_path)["error"] == "seed: no"
    with pytest.raises(ConfigError, match="seed: -1 → 1"):  # but not mixed with what was trained
        run_job(compose(TINY_PHONON), tmp_path, [])
    (tmp_path / "checkpoints/last.ckpt").unlink()
    run_job(compose(TINY_PHONON), tmp_path, [])
    assert read_job(tmp_path)["state"] == "finished"


def test_a_job_is_trained_by_one_process(tmp_path, trained):
    code = (
        "import sys, pathlib; from mlepi.training.jobs import lock\n"
        "with lock(pathlib.Path(sys.argv[1])) as mine: print(mine, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with warm_python.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "True\n"
        assert run_job(compose(TINY_PHONON), tmp_path, []) == {}
        assert not trained
        other.kill()  # whatever ends the process, the folder is free again
    with lock(tmp_path) as mine:
        assert mine


def test_a_killed_job_goes_on_to_the_same_network(tmp_path, monkeypatch):
    overrides = [*TINY_PHONON, *LENGTH]
    run_job(compose(overrides), tmp_path / "whole", [])

    def die(*_):
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr("mlepi.training.callbacks.EpochLines.on_train_epoch_end", die)
        with pytest.raises(SystemExit):  # in the first epoch: nothing is left of it
            run_job(compose(overrides), tmp_path / "parts", [])
    assert read_job(tmp_path / "parts")["state"] == "running"
    run_job(compose([*overrides, "trainer.max_time='00:00:00'"]), tmp_path / "parts", [])
    assert read_job(tmp_path / "parts")["state"] == "stopped"
    run_job(compose(overrides), tmp_path / "parts", [])
    whole, parts = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)
        for name in ("whole", "parts")
    )
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][key])
    tables = [
        json.loads((tmp_path / name / "test_structures.json").read_text())
        for name in ("whole", "parts")
    ]
    assert tables[0] == tables[1]
    found = json.loads((tmp_path / "parts/test_metrics.json").read_text())
    assert found["steps"] == 6
    assert found["complete"]
    assert found["processor_seconds"] > 0.0
    forces = [each["forces_mae_mev_per_angstrom"] for each in tables[0]["structures"].values()]
    assert len(forces) == 5
    assert min(forces) < found["metrics"]["forces_mae_mev_per_angstrom"] < max(forces)


def test_differences_name_leaves():
    first = {"a": {"b": 1, "c": [1, 2]}, "name": "x", "logger": {"wandb": None}}
    second = {"a": {"b": 1, "c": [1, 3]}, "name": "y", "logger": {}, "d": {}}
    assert list_differences(first, second) == [("a.c", "[1, 2]", "[1, 3]"), ("d", "absent", "{}")]
