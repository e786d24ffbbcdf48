"""The inference script: config and run folder in, records in the store out."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from mlepi.arithmetic import float32_precision
from mlepi.errors import MlepiError
from mlepi.pipeline.configuration import check_config
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.processes import launch_processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.run import Run
from mlepi.pipeline.runner import run_stages


def infer(config: DictConfig, folder: Path, stages: Stages) -> Run | None:
    """Run the stages that the config asks for.

    Args:
        config: composed from ``conf/infer.yaml``.
        folder: run folder.
        stages: all that there are.

    Returns:
        The run; ``run.read(stage)`` gives its records. None in all processes but the first.

    Raises:
        ConfigError: the config has mistakes.
        MlepiError: a stage failed. The first process says so; the others end in silence.
    """
    plan = check_config(config, stages)
    trainer = plan.plain["trainer"]
    processes = launch_processes(trainer["devices"], trainer["num_nodes"])
    try:
        run = plan.build_run(folder, processes.local_rank)
        processes.on_first(lambda: _load_networks(run.networks, plan.needed_sources()))
        with float32_precision(run.settings.tf32 and run.settings.on_gpu):
            report = ProgressReport(quiet=not processes.is_first)
            run_stages(run, plan.names, processes, report)
    except MlepiError:
        if processes.is_first:
            raise
        sys.exit(1)
    finally:
        processes.close()
    return run if processes.is_first else None


def _load_networks(networks: Networks, needed: set[str]) -> None:
    """Load what the stages will need.

    An unusable device or checkpoint then stops the run before its first stage.
    """
    if needed & {"phonon", "electron"}:
        from mlepi.predictors.predictor import check_device

        check_device(networks.settings.device)
    if "phonon" in needed:
        _ = networks.calculator
    if "electron" in needed:
        _ = networks.electron
