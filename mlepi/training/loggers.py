"""Where curves and tables go: CSV always, and to the services of ``mlepi.tracking``."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from mlepi.results.provenance import hide_secrets
from mlepi.tracking import Job, Trackers, start_trackers
from mlepi.tracking.service import Cell

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


class TrackedCurves(Logger):
    """Hands the curves of a training on to the services of its run.

    Args:
        trackers: of the run; empty in all processes but the first.
        folder: of the run.
    """

    def __init__(self, trackers: Trackers, folder: Path) -> None:
        super().__init__()
        self.trackers = trackers
        self._folder = folder

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "services"

    @property
    def version(self) -> str:
        """None that would tell runs apart; their folders do."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the run."""
        return str(self._folder)

    def log_hyperparams(self, *arguments: Any, **options: Any) -> None:
        """Do nothing: services have had the whole configuration."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add one point to every curve."""
        self.trackers.log_values(metrics, step)


def build_loggers(
    folder: Path,
    config: Mapping[str, Any],
    run_config: Mapping[str, Any],
    earlier: Sequence[Mapping[str, str]] = (),
    sweep: str = "",
) -> list[Logger]:
    """Return the loggers of a run, CSV first.

    Args:
        folder: run folder.
        config: service → its settings, None for those that are not wanted (``conf/logger``).
        run_config: resolved configuration to log.
        earlier: rows of the curves that a resumed training goes on with.
        sweep: name of the sweep that the run belongs to; empty for none.
    """
    loggers: list[Logger] = [CurveLogger(folder, earlier)]
    first = getattr(rank_zero_only, "rank", 0) in (0, None)
    if first and any(options is not None for options in config.values()):
        name = folder.name if sweep else str(run_config.get("name") or folder.name)
        job = Job(folder, name, "train", sweep, hide_secrets(run_config))
        loggers.append(TrackedCurves(start_trackers(config, job), folder))
    return loggers


def find_trackers(loggers: Iterable[Logger]) -> Trackers:
    """Return the services of a run, as its loggers know them; none where it has none."""
    found = [each.trackers for each in loggers if isinstance(each, TrackedCurves)]
    return found[0] if found else Trackers({})


def log_results(
    loggers: Iterable[Logger],
    metrics: Mapping[str, float],
    figures: Mapping[str, Path],
    checkpoint: Path,
) -> None:
    """Send what a test has found to the services of a run.

    Args:
        loggers: of the run.
        metrics: name → value, of the table and of the summary by which runs are compared.
        figures: name, such as "parity/forces" → PNG file.
        checkpoint: the best one.
    """
    trackers = find_trackers(loggers)
    trackers.log_summary({f"test/{name}": value for name, value in metrics.items()})
    rows: list[list[Cell]] = [[name, float(value)] for name, value in metrics.items()]
    trackers.log_table("test/table", ("metric", "value"), rows)
    for name, path in figures.items():
        trackers.log_image(name, path)
    trackers.log_file("checkpoint", checkpoint, "model")


def finish(loggers: Iterable[Logger]) -> None:
    """Close the services of a run, so that the next run of a sweep starts its own."""
    find_trackers(loggers).close()
