"""Train a phonon or an electron network.

``python train.py model=hedgenet_electron`` (see ``conf/train.yaml``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.command_line import run_script

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(config: DictConfig, folder: Path) -> dict[str, float]:
    """Import the training only when there is something to train, so that ``--help`` is quick."""
    from mlepi.training.run import train

    return train(config, folder)


if __name__ == "__main__":
    run_script(run, config_folder=Path(__file__).parent / "conf", config_name="train")
