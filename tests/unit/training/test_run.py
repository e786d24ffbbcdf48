import pytest
import torch
from omegaconf import OmegaConf
from small_run import TINY_PHONON, run_training

from mlepi.errors import ConfigError
from mlepi.models import PhononNetwork
from mlepi.training import run
from mlepi.training.run import check_config


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("dtype=float16", r"dtype: got 'float16'; expected one of \['float32', 'float64'\]"),
        ("seed=null", "seed: got None; expected an integer"),
        ("tf32=high", "tf32: got 'high'; expected true or false"),
        ("compile=1", "compile: got 1; expected true or false"),
        ("grace=nan", "grace: got nan; expected a number of seconds"),
        ("freeze=all", "freeze: got 'all'; expected a list of a text"),
        ("+logger.wwandb=null", "logger.wwandb: got an unknown key; .* Did you mean 'wandb'"),
        ("trainer.max_epochs=ten", "trainer.max_epochs: got 'ten'; expected an integer or null"),
        ("data.batch_size=1.5", "data.batch_size: got 1.5; expected an integer"),
        (
            "model.network.fusion=early",
            r"model\.network\.fusion: got 'early'; expected 'late' or 'per_layer'",
        ),
        (
            "trainer.accelerator=abacus",
            "trainer: got .*accelerator.*; expected a config that its class accepts",
        ),
    ],
)
def test_values_that_cannot_be_used(tmp_path, override, text):
    with pytest.raises(ConfigError, match=text):
        run_training(tmp_path, [*TINY_PHONON, "trainer.max_epochs=1", override])


def test_all_problems_of_a_config_are_reported_at_once():
    config = OmegaConf.create({"sede": 1, "model": "???", "extra": 2})
    with pytest.raises(
        ConfigError, match=r"(?s)sede: .*Did you mean 'seed'\?.*extra: .*model: got no value"
    ):
        check_config(config, ["seed", "model"], {})


def test_class_that_does_not_exist():
    config = OmegaConf.create({"model": {"inner": {"_target_": "mlepi.models.Nothing"}}})
    with pytest.raises(ConfigError, match=r"model\.inner\._target_: got 'mlepi\.models\.Nothing'"):
        check_config(config, ["model"], {})


def test_metric_that_does_not_exist(tmp_path):
    with pytest.raises(
        ConfigError,
        match=(
            r"task\.monitor: got 'val/los'; expected a validation metric\. Did you mean "
            r"'val/loss'\?"
        ),
    ):
        run_training(tmp_path, [*TINY_PHONON, "trainer.max_epochs=1", "task.monitor=val/los"])


@pytest.mark.filterwarnings("ignore:.*could not find the monitored key")
def test_training_without_an_epoch(tmp_path):
    with pytest.raises(ConfigError, match="trainer: got no validated epoch; expected at least one"):
        run_training(
            tmp_path, [*TINY_PHONON, "trainer.max_epochs=1", "trainer.limit_val_batches=0"]
        )


@pytest.mark.parametrize(("tf32", "inside"), [("true", "high"), ("false", "highest")])
def test_tf32_is_on_only_if_asked_for_and_only_during_the_run(tmp_path, monkeypatch, tf32, inside):
    monkeypatch.setattr(
        run, "run_trainer", lambda *_: {"precision": torch.get_float32_matmul_precision()}
    )
    before = torch.get_float32_matmul_precision()
    assert run_training(tmp_path, [*TINY_PHONON, f"tf32={tf32}"]) == {"precision": inside}
    assert torch.get_float32_matmul_precision() == before


def test_checkpoints_do_not_know_whether_kernels_were_compiled(tmp_path, monkeypatch):
    """A training that changes its mind in the middle, both ways, is the uninterrupted one."""
    compiled = []
    monkeypatch.setattr(
        PhononNetwork, "compile_kernels", lambda network: compiled.append(network), raising=False
    )
    overrides = [*TINY_PHONON, "trainer.max_epochs=3", "test=false"]
    weights = {}
    for first, then in (("false", "true"), ("true", "false")):
        folder = tmp_path / first
        run_training(
            folder / "first", [*overrides, f"compile={first}", "trainer.max_time='00:00:00'"]
        )
        last = folder / "first/checkpoints/last.ckpt"
        run_training(folder / "then", [*overrides, f"compile={then}", f"ckpt_path={last}"])
        weights[first] = torch.load(folder / "then/checkpoints/last.ckpt", weights_only=True)[
            "training_weights"
        ]
    assert len(compiled) == 2
    assert all(isinstance(network, PhononNetwork) for network in compiled)
    assert weights["true"].keys() == weights["false"].keys()
    assert all(
        torch.equal(value, weights["false"][name]) for name, value in weights["true"].items()
    )
