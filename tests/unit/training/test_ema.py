import pytest
import torch
from small_run import TINY_PHONON, run_training

from mlepi.errors import ConfigError
from mlepi.training.callbacks import format_duration, parse_duration
from mlepi.training.ema import EMA


def test_decay_must_be_a_fraction():
    with pytest.raises(
        ConfigError, match=r"callbacks\.ema\.decay: got 1\.5; expected a number between 0 and 1"
    ):
        EMA(decay=1.5)


def test_average_follows_its_formula():
    module = torch.nn.Linear(1, 1)
    ema = EMA(decay=0.5)
    trainer = type("Trainer", (), {"global_step": 0})()
    ema.on_fit_start(trainer, module)
    expected = module.weight.item()
    for step in range(1, 20):
        with torch.no_grad():
            module.weight.fill_(float(step))
        trainer.global_step = step
        ema.on_train_batch_end(trainer, module, None, None, 0)
        # accumulated batches without an optimizer step do not count
        ema.on_train_batch_end(trainer, module, None, None, 0)
        decay = min(0.5, step / (9.0 + step))
        expected = decay * expected + (1.0 - decay) * step
    content = {"state_dict": dict(module.state_dict())}
    ema.on_save_checkpoint(trainer, module, content)
    assert content["state_dict"]["weight"].item() == pytest.approx(expected)
    assert content["training_weights"]["weight"].item() == 19.0


def test_validation_sees_the_average_and_training_goes_on_without_it(tmp_path):
    overrides = ["trainer.max_epochs=2", "test=false", "trainer.check_val_every_n_epoch=1"]
    run_training(tmp_path / "with", [*TINY_PHONON, *overrides])
    run_training(tmp_path / "without", [*TINY_PHONON, *overrides, "callbacks=no_ema"])
    averaged, plain = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)
        for name in ("with", "without")
    )
    for name, value in averaged["training_weights"].items():
        assert torch.equal(value, plain["state_dict"][name])
    assert any(
        not torch.equal(value, averaged["state_dict"][name])
        for name, value in averaged["training_weights"].items()
    )


def test_durations():
    assert parse_duration("01:02:03:04") == 86400 + 2 * 3600 + 3 * 60 + 4
    assert parse_duration("00:30:00") == 1800
    assert [format_duration(s) for s in (0.24, 75, 7260)] == ["0.2 s", "1 min 15 s", "2 h 01 min"]
