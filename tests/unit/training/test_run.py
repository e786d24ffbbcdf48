import pytest
from omegaconf import OmegaConf
from small_run import TINY_PHONON, run_training

from mlepi.errors import ConfigError
from mlepi.training.run import check_config


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("dtype=float16", r"dtype: got 'float16'; expected one of \['float32', 'float64'\]"),
        ("seed=null", "seed: got None; expected an integer"),
        ("model.network.fusion=early", r"model\.network\.fusion: got 'early'; expected 'late' or 'per_layer'"),
        ("trainer.accelerator=abacus", "trainer: got .*accelerator.*; expected a config that its class accepts"),
    ],
)
def test_values_that_cannot_be_used(tmp_path, override, text):
    with pytest.raises(ConfigError, match=text):
        run_training(tmp_path, [*TINY_PHONON, "trainer.max_epochs=1", override])


def test_all_problems_of_a_config_are_reported_at_once():
    config = OmegaConf.create({"sede": 1, "model": "???", "extra": 2})
    with pytest.raises(ConfigError, match=r"(?s)sede: .*Did you mean 'seed'\?.*extra: .*model: got no value"):
        check_config(config, ["seed", "model"], {})


def test_class_that_does_not_exist():
    config = OmegaConf.create({"model": {"inner": {"_target_": "mlepi.models.Nothing"}}})
    with pytest.raises(ConfigError, match=r"model\.inner\._target_: got 'mlepi\.models\.Nothing'"):
        check_config(config, ["model"], {})


def test_metric_that_does_not_exist(tmp_path):
    with pytest.raises(
        ConfigError, match=r"task\.monitor: got 'val/los'; expected a validation metric\. Did you mean 'val/loss'\?"
    ):
        run_training(tmp_path, [*TINY_PHONON, "trainer.max_epochs=1", "task.monitor=val/los"])


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_training_without_an_epoch(tmp_path):
    with pytest.raises(ConfigError, match="trainer: got no validated epoch; expected at least one"):
        run_training(tmp_path, [*TINY_PHONON, "trainer.max_epochs=1", "trainer.limit_val_batches=0"])
