"""From a structure to bands at temperature: ``python infer.py temperature=[0,100,300]``.

All keys: ``conf/infer.yaml`` and ``docs/config.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.command_line import run_script

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(config: DictConfig, folder: Path) -> None:
    """Import the pipeline only when there is something to run, so that ``--help`` is quick."""
    from mlepi.observables import all_stages
    from mlepi.pipeline import infer

    stages = all_stages()
    if infer(config, folder, stages) is not None and config.report:
        from mlepi.report import print_tables, write_report

        print_tables(folder, stages)
        print(f"report           {write_report(folder, stages)}")


if __name__ == "__main__":
    run_script(run, config_folder=Path(__file__).parent / "conf", config_name="infer")
