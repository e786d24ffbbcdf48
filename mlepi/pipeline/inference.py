"""The inference script: config and run folder in, records in the store out."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from mlepi.arithmetic import float32_precision
from mlepi.errors import MlepiError
from mlepi.pipeline.configuration import build_run, check_config, needed_sources
from mlepi.pipeline.processes import launch_processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.run import Run
from mlepi.pipeline.runner import run_stages


def infer(config: DictConfig, folder: Path) -> Run | None:
    """Run the stages that the config asks for.

    Args:
        config: composed from ``conf/infer.yaml``.
        folder: run folder.

    Returns:
        The run; ``run.read(stage)`` gives its records. None in all processes but the first.

    Raises:
        ConfigError: the config has mistakes.
        MlepiError: a stage failed. The first process says so; the others end in silence.
    """
    plain = check_config(config)
    processes = launch_processes(plain["trainer"]["devices"], plain["trainer"]["num_nodes"])
    try:
        run = build_run(config, folder, processes.local_rank)
        processes.on_first(lambda: _load_networks(run, needed_sources(plain["stage"])))
        with float32_precision(run.tf32 and run.on_gpu):
            run_stages(
                run, plain["stage"]["run"], processes, ProgressReport(quiet=not processes.is_first)
            )
    except MlepiError:
        if processes.is_first:
            raise
        sys.exit(1)
    finally:
        processes.close()
    return run if processes.is_first else None


def _load_networks(run: Run, needed: set[str]) -> None:
    """Load what the stages will need, so that an unusable device or checkpoint stops the run before its first stage."""
    if needed & {"phonon", "electron"}:
        from mlepi.predictors.predictor import check_device

        check_device(run.device)
    if "phonon" in needed:
        _ = run.calculator
    if "electron" in needed:
        _ = run.electron_model
