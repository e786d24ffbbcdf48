"""From a structure to bands at temperature.

``python infer.py temperature=[0,100,300]`` (see ``conf/infer.yaml``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.command_line import run_script

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(config: DictConfig, folder: Path) -> None:
    """Import the pipeline only when there is something to run, so that ``--help`` is quick."""
    from mlepi.pipeline import infer

    if infer(config, folder) is not None and config.report:
        from mlepi.plots import print_velocities, write_report

        print_velocities(folder)
        print(f"report       {write_report(folder)}")


if __name__ == "__main__":
    run_script(run, config_folder=Path(__file__).parent / "conf", config_name="infer")
