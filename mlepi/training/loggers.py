"""Where curves and tables go: CSV always, wandb if it can; nothing that wandb does stops a run."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

log = logging.getLogger(__name__)

CURVES = "csv"
"""Folder of ``metrics.csv`` in a run folder."""


class CurveWriter(ExperimentWriter):
    """Writes ``metrics.csv``, going on with the rows of the epochs that a resumed training keeps.

    Args:
        log_dir: folder of the file.
        earlier: rows that it begins with, as they were written.
    """

    def __init__(self, log_dir: str, earlier: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(log_dir)
        self.metrics_keys = sorted(set().union(*earlier))
        if earlier:
            self._replace(self.metrics_keys, earlier)
        else:
            Path(self.metrics_file_path).unlink(missing_ok=True)

    def _check_log_dir_exists(self) -> None:
        """Delete nothing: a kill before the first new row would cost all old ones."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self._replace(fieldnames, read_curves(Path(self.metrics_file_path)))

    def _replace(self, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
        """Write the file anew, complete or not at all."""
        path = Path(self.metrics_file_path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        with unfinished.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=names)
            writer.writeheader()
            writer.writerows(rows)
        unfinished.replace(path)


class CurveLogger(CSVLogger):
    """Logs to ``csv/metrics.csv`` of a run folder.

    Args:
        folder: of the run.
        earlier: rows of the epochs that a resumed training does not repeat.
    """

    def __init__(self, folder: Path, earlier: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(save_dir=folder, name="", version=CURVES)
        self.earlier = earlier

    @property
    def experiment(self) -> Any:
        """The writer; nothing is written before it is first asked for."""
        if self._experiment is None and getattr(rank_zero_only, "rank", 0) == 0:
            self._experiment = CurveWriter(self.log_dir, self.earlier)
        return super().experiment if self._experiment is None else self._experiment


def read_curves(path: Path) -> list[dict[str, str]]:
    """Return the rows of a ``metrics.csv``, as they were written; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if None not in row.values()]


def read_earlier(folder: Path, epoch: int) -> list[dict[str, str]]:
    """Return the rows of the epochs that a checkpoint holds.

    Args:
        folder: of the run that wrote it.
        epoch: of the checkpoint, the last one that is kept.
    """
    rows = read_curves(folder / CURVES / "metrics.csv")
    return [
        row
        for row in rows
        if row.get("epoch", "").isdigit()
        and int(row["epoch"]) <= epoch
        and not any(value and name.startswith("test/") for name, value in row.items())
    ]


def build_loggers(
    folder: Path,
    config: Mapping[str, Any],
    run_config: Mapping[str, Any],
    earlier: Sequence[Mapping[str, str]] = (),
) -> list[Logger]:
    """Return the loggers of a run, CSV first.

    Args:
        folder: run folder.
        config: "wandb": None or the arguments of ``wandb.init`` (project, mode, name, …).
        run_config: resolved configuration to log.
        earlier: rows of the curves that a resumed training goes on with.
    """
    loggers: list[Logger] = [CurveLogger(folder, earlier)]
    if config.get("wandb") is not None:
        wandb_logger = attempt("wandb", lambda: _start_wandb(folder, config["wandb"], run_config))
        loggers += [wandb_logger] if wandb_logger is not None else []
    return loggers


def attempt(what: str, action: Callable[[], Any]) -> Any:
    """Return the result of a service that the run can do without; None when it fails."""
    try:
        return action()
    except Exception as error:
        log.warning(
            "%s failed (%s: %s); the run continues, with CSV only",
            what,
            type(error).__name__,
            error,
        )
        return None


class OptionalWandbLogger(WandbLogger):
    """wandb that reports its first failure and is silent from then on."""

    failed = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log values, if wandb still works."""
        self.try_wandb(lambda: super(OptionalWandbLogger, self).log_metrics(metrics, step))

    def finalize(self, status: str) -> None:
        """Finish the run, if wandb still works."""
        self.try_wandb(lambda: super(OptionalWandbLogger, self).finalize(status))

    def try_wandb(self, action: Callable[[], Any]) -> None:
        """Do something with wandb unless it has failed before."""

        def guarded() -> bool:
            action()
            return True

        if not self.failed:
            self.failed = attempt("wandb", guarded) is None


def _start_wandb(
    folder: Path, options: Mapping[str, Any], run_config: Mapping[str, Any]
) -> OptionalWandbLogger:
    logger = OptionalWandbLogger(save_dir=folder, **options)
    logger.experiment.config.update(dict(run_config), allow_val_change=True)
    return logger


def log_results(
    loggers: list[Logger], metrics: Mapping[str, float], figures: Mapping[str, Path]
) -> None:
    """Send the table of test metrics and the parity plots to wandb, if it takes part.

    Args:
        loggers: of the run.
        metrics: name → value.
        figures: name → PNG file.
    """
    rows = [[name, value] for name, value in metrics.items()]
    for logger in loggers:
        if isinstance(logger, OptionalWandbLogger):
            logger.try_wandb(
                partial(logger.log_table, "test/table", columns=["metric", "value"], data=rows)
            )
            for name, path in figures.items():
                logger.try_wandb(partial(logger.log_image, f"parity/{name}", [str(path)]))


def log_comparison(
    folder: Path,
    config: Mapping[str, Any],
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    figure: Path,
) -> None:
    """Send the table of a sweep to wandb, as a run of its own, if its trainings went there.

    Args:
        folder: of the sweep.
        config: of the loggers of a training.
        header: of the table.
        rows: as many cells each.
        figure: PNG file.
    """
    options = config.get("wandb")
    if options is None:
        return
    named = {**options, "name": f"{folder.name}_comparison"}
    logger = attempt("wandb", lambda: _start_wandb(folder, named, {}))
    if logger is not None:
        table = {"columns": list(header), "data": [list(row) for row in rows]}
        logger.try_wandb(partial(logger.log_table, "comparison/table", **table))
        logger.try_wandb(partial(logger.log_image, "comparison/bars", [str(figure)]))
        finish([logger])


def finish(loggers: list[Logger]) -> None:
    """Close wandb, so that the next run of a sweep starts its own."""
    for logger in loggers:
        if isinstance(logger, OptionalWandbLogger):
            logger.try_wandb(logger.experiment.finish)
