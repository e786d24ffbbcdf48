"""Train a phonon or an electron network: ``mlepi train model=hedgenet_electron``.

All keys: ``conf/train.yaml`` and ``docs/config.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.command_line import run_script
from mlepi.run_lock import is_first_process

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(arguments: Sequence[str]) -> int:
    """Train, or do what else Hydra is asked for; errors end the process."""
    run_script(_run, config_name="train", arguments=arguments)
    return 0


def _run(config: DictConfig, folder: Path) -> dict[str, float]:
    """Import the training only when there is something to train, so that ``--help`` is quick."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from mlepi.training.jobs import run_job
    from mlepi.training.run import train

    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        return run_job(config, folder, list(hydra.overrides.task))
    metrics = train(config, folder)
    if is_first_process():
        print(f"checkpoint       {folder / 'checkpoints' / 'best.ckpt'}")
    return metrics
