"""From a structure to bands at temperature: ``mlepi infer temperature=[0,100,300]``.

All keys: ``conf/infer.yaml`` and ``docs/config.md``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlepi.command_line import run_script
from mlepi.run_lock import is_first_process

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlepi.pipeline import Run
    from mlepi.pipeline.progress import ProgressReport


log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Run the stages, or do what else Hydra is asked for; errors end the process."""
    run_script(_run, config_name="infer", arguments=arguments, announce=_announce)
    return 0


def _run(config: DictConfig, folder: Path) -> None:
    """Import the pipeline only when there is something to run, so that ``--help`` is quick."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from mlepi.observables import all_stages
    from mlepi.pipeline import infer

    stages = all_stages()
    _announce(f"run folder       {folder}")
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else ""

    def conclude(run: Run, progress: ProgressReport) -> None:
        from mlepi.report.conclusion import conclude_run

        conclude_run(run, stages, progress, sweep)

    def show(run: Run, names: Sequence[str]) -> None:
        if config.report:
            from mlepi.report.running import show_progress

            show_progress(run, names, stages)

    infer(config, folder, stages, finish=conclude, between=show)


def _announce(line: str) -> None:
    """Write one line on the screen and in the log, once for all processes of the run."""
    if is_first_process():
        print(line, flush=True)
        log.info(line)
