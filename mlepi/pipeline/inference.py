"""The inference script: config and run folder in, records in the store out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from mlepi.arithmetic import float32_precision
from mlepi.errors import DataError, message
from mlepi.pipeline.configuration import check_config
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.processes import ENDS_ALL, Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.run import Run
from mlepi.pipeline.runner import run_stages
from mlepi.stopping import Stopped


def infer(
    config: DictConfig,
    folder: Path,
    stages: Stages,
    finish: Callable[[Run, ProgressReport], object] | None = None,
    between: Callable[[Run, Sequence[str]], object] | None = None,
) -> Run | None:
    """Run the stages that the config asks for.

    Args:
        config: composed from ``conf/infer.yaml``.
        folder: run folder.
        stages: all that there are.
        finish: called in the first process at the end, while the folder is still locked; what
            makes the numbers doubtful is said after it, unless it has.
        between: called in the first process before every group of stages, with their names.

    Returns:
        The run; ``run.read(stage)`` gives its records. None in all processes but the first.

    Raises:
        ConfigError: the config has mistakes.
        DataError: another run is at work in the folder.
        MlepiError: a stage failed. The first process says so; the others end in silence.
    """
    plan = check_config(config, stages)
    trainer = plan.plain["trainer"]
    processes = plan.engine.launch(trainer["devices"], trainer["num_nodes"])
    report = ProgressReport(quiet=not processes.is_first)
    try:
        word = processes.hold_folder(folder)
        run = plan.build_run(folder, processes.local_rank)
        processes.on_first(lambda: _load_networks(run.networks, plan.needed_sources()))
        _check_same_networks(run, plan.needed_sources(), processes)
        with float32_precision(run.settings.tf32 and run.settings.on_gpu):
            if word:
                report.tell("run folder", word)
            run_stages(run, plan.names, processes, report, plan.engine, between)
        if finish is not None:
            processes.on_first(lambda: finish(run, report))
    except ENDS_ALL:
        if processes.is_first:
            raise
        sys.exit(1)
    except Stopped as stopped:
        kept = "Finished samples and records are kept in"
        stopped.add_note(f"{kept} {folder}; the same command goes on from there.")
        raise
    finally:
        report.tell_doubts()
        plan.engine.close()
        processes.close()
    return run if processes.is_first else None


def _check_same_networks(run: Run, needed: set[str], processes: Processes) -> None:
    """Make sure that all processes have read the same networks.

    Raises:
        DataError: a file was replaced meanwhile, as the best checkpoint of a training is.
    """
    own = processes.on_each(lambda: run.settings.digest_networks(needed))
    if any(other != own for other in processes.gather(own)):
        raise DataError(
            message(
                "phonon, electron",
                "files of networks that changed while the processes read them",
                "the same networks in all processes",
                "Run again once the training is over, or copy its checkpoint first.",
            )
        )


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
