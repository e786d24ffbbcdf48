"""One training from a composed configuration: data, network, trainer, test table."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from mlepi.arithmetic import float32_precision
from mlepi.checkpoint import stamp
from mlepi.errors import ConfigError, message
from mlepi.models.compilation import compile_method
from mlepi.project_files import (
    PROJECT_FOLDER,
    find_commit,
    find_file,
    write_json,
    write_whole,
)
from mlepi.run_lock import RunLock, hold
from mlepi.stopping import Stopped, stop
from mlepi.training.band_overlay import plot_band_overlay
from mlepi.training.callbacks import (
    BestAndLast,
    EpochLines,
    HeldFolder,
    ProcessorClock,
    TimeLimit,
    find_clock,
    parse_duration,
)
from mlepi.training.checkpoint_files import WholeCheckpoints, check_disk
from mlepi.training.configuration import KNOWN_KEYS, SUPPLIED, check_config, check_values
from mlepi.training.facts import complete_model
from mlepi.training.graph_data import GraphDataModule
from mlepi.training.initial_weights import (
    InitialWeights,
    check_resumed,
    freeze_parts,
    read_initial_weights,
)
from mlepi.training.loggers import (
    build_loggers,
    find_trackers,
    finish,
    log_results,
    read_earlier,
)
from mlepi.training.parity import plot_parity
from mlepi.training.reference_energies import align_energies
from mlepi.training.stop_at_signal import StopAtSignal, describe_kept
from mlepi.training.task import Task, build_part
from mlepi.training.test_files import Effort, write_test

log = logging.getLogger(__name__)

OWN = "own"
"""Value of ``ckpt_path`` for the last checkpoint of the run folder."""

TOLERATED_WARNINGS = (
    ".*does not have many workers.*",  # graphs are in memory: workers would only copy them
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",  # Lightning's own use of torch
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*GPU available but not used.*",
    # column vectors in DistributedDataParallel
    ".*Grad strides do not match bucket view strides.*",
    # the user chose the folder of an earlier run
    ".*Experiment logs directory .* exists and is not empty.*",
    ".*Checkpoint directory .* exists and is not empty.*",
)


def train(config: DictConfig, folder: Path, sweep: str = "") -> dict[str, float]:
    """Train and test one network.

    Args:
        config: composed from ``conf/train.yaml``.
        folder: run folder, which gets checkpoints/, csv/, config.yaml, run.json, test_metrics.json,
            test_structures.json and parity plots.
        sweep: name of the sweep that the training belongs to; empty for none.

    Returns:
        Metrics of the best checkpoint on the test subset; of the validation subset when ``test`` is
        false.

    Raises:
        DataError: another run is at work in the folder.
    """
    check_config(config, KNOWN_KEYS, SUPPLIED)
    check_values(config)
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    with (
        hold(folder) as lock,
        warnings.catch_warnings(),
        float32_precision(plain["tf32"]),
    ):
        if lock is not None and lock.word:
            log.warning(lock.word)
        wanted = plain["ckpt_path"] or (OWN if plain["auto_resume"] else None)
        resume = find_resumed(wanted, folder)
        for text in TOLERATED_WARNINGS:
            warnings.filterwarnings("ignore", message=text)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        seed_everything(plain["seed"], workers=True, verbose=False)
        kind = str(vars(get_class(str(plain["task"]["_target_"])))["kind"])
        initial = read_initial_weights(plain["init_from"], kind)
        if initial is not None:  # the network is that of the checkpoint, and so is its reach
            plain["model"] = initial.model()
            plain["graph"] = initial.graph()
        data = build_data(plain)
        task = build_task(plain, data, initial)
        if resume is not None:
            check_resumed(resume, task.stamp, task.model)
        try:
            return run_trainer(plain, data, task, folder, resume, lock, sweep)
        except Stopped as stopped:
            stopped.add_note(describe_kept(folder))
            raise


def find_resumed(ckpt_path: str | None, folder: Path) -> str | None:
    """Find the checkpoint with which a training goes on; None for a new training.

    Args:
        ckpt_path: a file, "own" for last.ckpt of the run folder where there is one, or None.
        folder: run folder.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == OWN:
        own = folder / "checkpoints" / "last.ckpt"
        return str(own) if own.is_file() else None
    return str(find_file("ckpt_path", ckpt_path))


def build_data(plain: Mapping[str, Any]) -> GraphDataModule:
    """Build the data module and all its graphs."""
    kinds = {
        name: str(vars(get_class(str(plain[name]["_target_"])))["kind"])
        for name in ("task", "data")
    }
    if kinds["task"] != kinds["data"]:
        raise ConfigError(
            message(
                "data",
                f"{kinds['data']} data",
                f"data for the {kinds['task']} task of this model",
                "Leave out task=…; forces (.extxyz) are for models of forces, Hamiltonians (.h5) "
                "for model=hedgenet_electron and other models of H.",
            )
        )
    shared = {
        **plain["graph"],
        **{key: plain[key] for key in ("dtype", "seed", "check_units")},
    }
    data: GraphDataModule = build_part("data", plain["data"], **shared)
    data.prepare()
    return data


def build_task(
    plain: Mapping[str, Any], data: GraphDataModule, initial: InitialWeights | None = None
) -> Task:
    """Build the task with its network, after filling in what the training subset knows.

    Args:
        plain: config of the training.
        data: with its graphs.
        initial: weights with which the network starts.
    """
    task_config = dict(plain["task"])
    kind = data.kind
    model = complete_model(
        kind,
        plain["model"],
        data.sample_structures(),
        data.sample_graphs(),
        data.cutoffs,
        data.partition,
    )
    if initial is not None:
        model = initial.complete(model)
    task_class: type[Task] = get_class(str(task_config["_target_"]))
    learned, described_data = task_class.learn(task_config, data.sample_structures())
    metadata = {**describe_run(plain), "data": data.describe(), **described_data}
    described = stamp(kind, model, data.cutoffs, **data.stamp_parts(), metadata=metadata)
    extra = {"basis": described["basis"], **learned} if "basis" in described else learned
    task: Task = build_part(
        "task",
        task_config,
        model=model,
        optimizer=plain["optimizer"],
        dtype=plain["dtype"],
        stamp=described,
        n_structures=data.n_structures,
        subsets=data.number_subsets(),
        **extra,
    )
    prepare = getattr(task.model, "prepare", None)
    if callable(prepare):
        prepare(data.sample_graphs())
    if initial is not None:
        initial.load_into(task.model, model)
        align_energies(task.model, data.graphs["train"], task.stamp["model"])
    freeze_parts(task.model, plain["freeze"])
    if plain["compile"]:
        compile_method(task.model)()
    return task


def describe_run(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return configuration, commit, package versions and seed of this run: plain Python data."""
    packages = ("mlepi", "torch", "lightning", "e3nn", "torch-geometric", "numpy", "ase")
    return {
        "config": dict(plain),
        "commit": find_commit(PROJECT_FOLDER),
        "versions": {
            **{name: version(name) for name in packages},
            "python": sys.version.split()[0],
        },
        "seed": plain["seed"],
    }


def build_trainer(
    plain: Mapping[str, Any],
    loggers: list[Logger],
    monitor: str,
    folder: Path,
    resume: str | None,
    lock: RunLock | None = None,
) -> Trainer:
    """Build the trainer with callbacks for checkpoints, progress and the time limit."""
    options = dict(plain["trainer"])
    limit = options.pop("max_time")
    previous = None if resume is None else Path(resume).resolve().parent
    callbacks: list[Callback] = [
        build_part(f"callbacks.{name}", part) for name, part in plain["callbacks"].items() if part
    ]
    interactive = sys.stderr.isatty()
    callbacks += [TQDMProgressBar()] if interactive else []
    callbacks += [
        EpochLines(),
        BestAndLast(folder=folder / "checkpoints", monitor=monitor, previous=previous),
        StopAtSignal(grace=float(plain["grace"])),
    ]
    if lock is not None:
        callbacks.append(HeldFolder(lock))
    if limit is not None:
        callbacks.append(TimeLimit(limit=parse_duration(str(limit))))
    if (
        find_clock(callbacks) is not None
    ):  # which ends the training, not a number of epochs or steps
        options |= {"max_epochs": -1, "max_steps": -1}
    fixed = {
        "logger": loggers,
        "callbacks": callbacks,
        "default_root_dir": folder,
        "enable_progress_bar": interactive,
        "use_distributed_sampler": False,
        "inference_mode": False,
        "enable_model_summary": False,
        "plugins": [WholeCheckpoints()],
    }
    return build_part("trainer", options, **fixed)


def read_kept_curves(resume: str | None) -> list[dict[str, str]]:
    """Return the rows of the curves with which a resumed training goes on.

    Args:
        resume: checkpoint in the folder ``checkpoints`` of the run that wrote it; None for none.
    """
    if resume is None:
        return []
    epoch = torch.load(resume, weights_only=True, map_location="cpu", mmap=True)["epoch"]
    return read_earlier(Path(resume).resolve().parent.parent, int(epoch))


def describe_effort(trainer: Trainer, task: Task) -> Effort:
    """Return what a training took."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return Effort(
        parameters=sum(parameter.numel() for parameter in task.model.parameters()),
        steps=trainer.global_step,
        processor_seconds=sum(c.seconds for c in callbacks if isinstance(c, ProcessorClock)),
        complete=not any(c.reached for c in callbacks if isinstance(c, TimeLimit)),
    )


def run_trainer(
    plain: Mapping[str, Any],
    data: GraphDataModule,
    task: Task,
    folder: Path,
    resume: str | None,
    lock: RunLock | None = None,
    sweep: str = "",
) -> dict[str, float]:
    """Fit, test the best checkpoint and write the table."""
    n_parameters = sum(parameter.numel() for parameter in task.model.parameters())
    check_disk(sum(p.numel() * p.element_size() for p in task.model.parameters()), folder)
    sizes = ", ".join(f"{len(graphs)} {subset}" for subset, graphs in data.graphs.items())
    log.info(
        "%s | %d parameters | structures: %s | run folder %s",
        plain["name"],
        n_parameters,
        sizes,
        folder,
    )
    loggers = build_loggers(folder, plain["logger"], plain, read_kept_curves(resume), sweep)
    trainer = build_trainer(plain, loggers, task.monitor, folder, resume, lock)
    if trainer.is_global_zero:
        write_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(plain))))
        write_json(folder / "run.json", task.stamp["metadata"])
        if data.made_split is not None:
            data.made_split.write(folder)
    trainer.fit(task, datamodule=data, ckpt_path=resume)
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if any(c.reached for c in callbacks if isinstance(c, StopAtSignal)):
        finish(loggers)
        raise stop()
    effort = describe_effort(trainer, task)
    best = str(getattr(trainer.checkpoint_callback, "best_model_path", ""))
    if not best:
        raise ConfigError(
            message(
                "trainer",
                "no validated epoch",
                "at least one",
                "Raise max_epochs and limit_val_batches.",
            )
        )
    if not plain["test"]:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        finish(loggers)
        return metrics
    trainer.test(task, datamodule=data, ckpt_path=best, verbose=False)
    metrics = {
        name.removeprefix("test/"): float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("test/") and name.count("/") == 1
    }
    if trainer.is_global_zero:
        figures = plot_parity(task, data.batches("test"), folder)
        shown = {f"parity/{name}": path for name, path in figures.items()}
        if find_trackers(loggers):
            tested = [labelled for labelled, _ in data.evaluated().values()]
            shown |= plot_band_overlay(tested, Path(best), folder)
        graphs = {name: graph for name, (_, graph) in data.evaluated().items()}
        metrics |= task.compare_structures(graphs)
        write_test(plain["name"], data, task, metrics, effort, best, folder)
        log_results(loggers, metrics, shown, Path(best))
    finish(loggers)
    return metrics
