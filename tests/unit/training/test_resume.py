"""A resumed training is the uninterrupted one.

Weights, averages, optimizer, schedule, order and random states.
"""

import random

import numpy as np
import pytest
import torch
from small_run import TINY_PHONON, run_training

from mlepi.errors import ConfigError
from mlepi.training.callbacks import RandomState

LENGTH = ["trainer.max_epochs=4", "test=false", "data.batch_size=2", "callbacks.ema.decay=0.7"]
PLATEAU = [
    "optimizer=phonon_published",
    "optimizer.schedule.patience=0",
    "optimizer.schedule.factor=0.5",
]


def load(path):
    return torch.load(path, weights_only=True)


def assert_equal(first, second):
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for left, right in zip(first, second, strict=True):
            assert_equal(left, right)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


@pytest.mark.parametrize("schedule", [[], PLATEAU])
def test_resumed_training_equals_uninterrupted(tmp_path, schedule):
    overrides = [*TINY_PHONON, *LENGTH, *schedule]
    run_training(tmp_path / "whole", overrides)
    run_training(tmp_path / "first", [*overrides, "trainer.max_time='00:00:00'"])
    first = load(tmp_path / "first/checkpoints/last.ckpt")
    assert first["epoch"] == 0
    last = tmp_path / "first/checkpoints/last.ckpt"
    run_training(tmp_path / "second", [*overrides, f"ckpt_path={last}"])
    whole, resumed = (
        load(tmp_path / name / "checkpoints/last.ckpt") for name in ("whole", "second")
    )
    assert whole["global_step"] == resumed["global_step"] == 4 * 3
    for key in ("state_dict", "training_weights", "optimizer_states", "schedule"):
        assert_equal(whole[key], resumed[key])
    for key in ("EMA", "RandomState"):
        assert_equal(whole["callbacks"][key], resumed["callbacks"][key])


def test_the_same_command_goes_on_in_its_own_folder(tmp_path):
    overrides = [*TINY_PHONON, *LENGTH, "ckpt_path=own"]
    run_training(tmp_path / "whole", overrides)
    for _ in range(4):
        run_training(tmp_path / "parts", [*overrides, "trainer.max_time='00:00:00'"])
    whole, parts = (load(tmp_path / name / "checkpoints/last.ckpt") for name in ("whole", "parts"))
    assert parts["global_step"] == whole["global_step"]
    for key in ("state_dict", "training_weights", "optimizer_states", "schedule"):
        assert_equal(whole[key], parts[key])
    # and does nothing more once it is done
    run_training(tmp_path / "parts", overrides)
    again = load(tmp_path / "parts/checkpoints/last.ckpt")
    assert_equal(again["state_dict"], parts["state_dict"])


def test_last_checkpoint_is_of_the_last_epoch_also_when_an_earlier_one_was_best(tmp_path):
    # no epoch is better than the first
    overrides = ["trainer.max_epochs=3", "test=false", "optimizer.optimizer.lr=0.0"]
    run_training(tmp_path, [*TINY_PHONON, *overrides])
    best, last = (load(tmp_path / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    assert (best["epoch"], last["epoch"]) == (0, 2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]


def test_optimizer_state_is_that_of_every_parameter(tmp_path):
    """Whether a parameter is used does not change the list that a checkpoint numbers."""
    run_training(tmp_path, [*TINY_PHONON, "trainer.max_epochs=1", "test=false"])
    content = load(tmp_path / "checkpoints/last.ckpt")
    numbered = content["optimizer_states"][0]["param_groups"][0]["params"]
    assert len(numbered) == len(content["training_weights"])


def test_time_limit_must_be_a_duration(tmp_path):
    with pytest.raises(ConfigError, match=r"trainer\.max_time: got '90 min'; expected 'HH:MM:SS'"):
        run_training(tmp_path, [*TINY_PHONON, "trainer.max_time='90 min'"])


def test_random_states_survive():
    saved = RandomState()
    state = saved.state_dict()
    expected = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    restored = RandomState()
    restored.load_state_dict(state)
    restored.on_train_start(None, None)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002


def test_resuming_without_the_averages_is_refused(tmp_path):
    run_training(
        tmp_path / "first", [*TINY_PHONON, "trainer.max_epochs=1", "test=false", "callbacks=no_ema"]
    )
    last = tmp_path / "first/checkpoints/last.ckpt"
    with pytest.raises(ConfigError, match="got a checkpoint of a training without EMA"):
        run_training(
            tmp_path / "second", [*TINY_PHONON, "trainer.max_epochs=2", f"ckpt_path={last}"]
        )
    run_training(tmp_path / "averaged", [*TINY_PHONON, "trainer.max_epochs=1", "test=false"])
    last = tmp_path / "averaged/checkpoints/last.ckpt"
    with pytest.raises(ConfigError, match="got a checkpoint of a training with EMA"):
        run_training(
            tmp_path / "third",
            [*TINY_PHONON, "callbacks=no_ema", "trainer.max_epochs=2", f"ckpt_path={last}"],
        )
