"""A training as long as its processor time, with the schedule that follows it."""

import json
import math

import pytest
import torch
from small_run import TINY_PHONON, run_training

from mlepi.errors import ConfigError
from mlepi.training import callbacks
from mlepi.training.callbacks import ProcessorClock


@pytest.fixture
def ticking(monkeypatch):
    """A processor that takes a second from one look at its clock to the next."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(callbacks.time, "process_time", lambda: float(next(ticks)))


def test_seconds_are_those_of_all_parts(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(callbacks.time, "process_time", lambda: now[0])
    clock = ProcessorClock(limit="00:01:00")
    clock.load_state_dict({"seconds": 20.0, "longest": 5.0})
    assert clock.seconds == 20.0
    clock.on_train_start(None, None)
    now[0] = 110.0
    assert clock.seconds == 30.0
    assert clock.fraction == 0.5
    assert clock.state_dict() == {"seconds": 30.0, "longest": 5.0}
    clock.on_train_end(None, None)
    now[0] = 500.0
    assert clock.seconds == 30.0
    assert ProcessorClock(limit=None).fraction == 0.0


@pytest.mark.usefixtures("ticking")
def test_schedule_and_end_follow_the_processor_time(tmp_path):
    threads = torch.get_num_threads()
    options = [
        "callbacks.clock.limit='00:02:00'",
        "data.batch_size=2",
        "trainer.log_every_n_steps=1",
    ]
    run_training(tmp_path, [*TINY_PHONON, *options])
    table = json.loads((tmp_path / "test_metrics.json").read_text())
    assert 100.0 < table["processor_seconds"] <= 120.0 + 5.0  # looks of the last epoch
    assert table["complete"]
    assert torch.get_num_threads() == threads
    rows = (tmp_path / "csv/metrics.csv").read_text().splitlines()
    place = rows[0].split(",").index("lr")
    rates = [float(row.split(",")[place]) for row in rows[1:] if row.split(",")[place]]
    assert len(rates) > 3
    assert rates[-1] < 0.1 * max(rates)
    last = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    state = last["callbacks"]["ProcessorClock"]
    tick = last["schedule"]["last_epoch"]
    part = (tick - 2000) / 98000
    rate = 2e-2 * 0.5 * (1.0 + math.cos(math.pi * part))
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(rate, rel=1e-6)
    assert tick / 100_000 <= state["seconds"] / 120.0
    # nothing is left to do
    run_training(tmp_path, [*TINY_PHONON, *options, "ckpt_path=own"])
    again = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert again["global_step"] == last["global_step"]


def test_limit_must_be_a_duration(tmp_path):
    with pytest.raises(ConfigError, match=r"callbacks\.clock\.limit: got '90 min'"):
        run_training(tmp_path, [*TINY_PHONON, "callbacks.clock.limit='90 min'"])


def test_checkpoints_of_rare_validations(tmp_path):
    options = ["trainer.max_epochs=5", "trainer.check_val_every_n_epoch=2", "test=false"]
    run_training(tmp_path, [*TINY_PHONON, *options])
    best, last = (
        torch.load(tmp_path / f"checkpoints/{name}.ckpt", weights_only=True)
        for name in ("best", "last")
    )
    assert best["epoch"] in (1, 3)
    assert last["epoch"] == 4
