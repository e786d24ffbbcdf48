"""Jobs of a sweep that a launcher sends to another process."""

import copy

import pytest
from omegaconf import OmegaConf

from mlepi.command_line.sweep_job import SweepJob
from mlepi.commands.train import pick_objective
from mlepi.errors import ConfigError, MlepiError

registered = []
failed = {}


def register():
    registered.append(True)


def action(config):
    if config == "bad":
        failed["job"] = "error: bad"
        return None
    return config


def test_a_job_that_was_sent_registers_and_raises_what_failed():
    job = SweepJob(action, register, failed)
    assert job("good") == "good"
    assert job("bad") is None  # the process that started the sweep tells of it at the end
    failed.clear()
    assert not registered
    sent = copy.copy(job)  # goes through the state, as pickles do
    assert registered == [True]
    assert sent("good") == "good"
    sent._failed = failed
    with pytest.raises(MlepiError, match="error: bad"):
        sent("bad")
    failed.clear()


def test_a_search_gets_the_metric_of_the_best_checkpoint():
    config = OmegaConf.create({"task": {"monitor": "val/mae"}})
    assert pick_objective(config, {"val/mae": 2.0, "train/loss": 1.0}) == 2.0
    with pytest.raises(ConfigError, match=r"Set test=false"):
        pick_objective(config, {"mae": 2.0})
