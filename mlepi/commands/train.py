"""Train a phonon or an electron network: ``mlepi train model=hedgenet_electron``.

All keys: ``conf/train.yaml`` and ``docs/config.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.command_line import run_script
from mlepi.errors import ConfigError, message
from mlepi.run_lock import is_first_process

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(arguments: Sequence[str]) -> int:
    """Train, or do what else Hydra is asked for; errors end the process."""
    run_script(_run, config_name="train", arguments=arguments)
    return 0


def _run(config: DictConfig, folder: Path) -> dict[str, float] | float:
    """Import the training only when there is something to train, so that ``--help`` is quick.

    A sweeper that searches gets one number, the metric that the best checkpoint is chosen by.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from mlepi.training.jobs import run_job
    from mlepi.training.run import train

    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        metrics = run_job(config, folder, list(hydra.overrides.task))
        return pick_objective(config, metrics) if "direction" in hydra.sweeper else metrics
    metrics = train(config, folder)
    if is_first_process():
        print(f"checkpoint       {folder / 'checkpoints' / 'best.ckpt'}")
    return metrics


def pick_objective(config: DictConfig, metrics: Mapping[str, float]) -> float:
    """Return what a search makes small or large.

    Args:
        config: of the training.
        metrics: that it has returned.

    Raises:
        ConfigError: the training was tested, and its metrics are those of the test subset.
    """
    monitor = config.task.monitor
    if monitor not in metrics:
        got = f"no {monitor} among the metrics of the training"
        fix = "Set test=false in a search: the test subset must not choose a network."
        raise ConfigError(message("hydra.sweeper", got, "the metric of the best checkpoint", fix))
    return metrics[monitor]
