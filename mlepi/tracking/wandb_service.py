"""Runs in Weights & Biases, offline unless asked otherwise.

An offline run is a folder below that of the run, ``wandb/offline-run-*``; ``wandb sync`` sends it.
``WANDB_MODE=disabled``, wandb's own switch, is obeyed before anything is imported.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlepi.tracking.service import Cell, Job, Service

log = logging.getLogger(__name__)

STEP = "trainer/global_step"
"""Horizontal axis of all curves."""
LONGEST = 128
"""Characters of a name that wandb takes."""
KEPT = "artifacts"
"""Folder of files beside those of an offline run, as they were when they were logged."""


def start(options: Mapping[str, Any], job: Job) -> WandbService | None:
    """Start a run, None where the environment switches wandb off.

    Args:
        options: of ``conf/logger/wandb.yaml``.
        job: what the run is.

    Raises:
        ModuleNotFoundError: wandb is not installed.
    """
    if os.environ.get("WANDB_MODE") == "disabled":
        return None
    return WandbService(options, job)


class WandbService(Service):
    """One run of wandb.

    Args:
        options: of ``conf/logger/wandb.yaml``.
        job: what the run is.
    """

    def __init__(self, options: Mapping[str, Any], job: Job) -> None:
        import wandb

        self._wandb = wandb
        self._keeps_files = bool(options.get("files", True))
        offline = bool(options.get("offline", True))
        job.folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            dir=str(job.folder),
            project=options.get("project", "mlepi"),
            entity=options.get("entity"),
            name=(options.get("name") or job.name)[:LONGEST],
            group=(options.get("group") or job.sweep)[:LONGEST] or None,
            job_type=job.kind,
            tags=list(options.get("tags", ())),
            config=dict(job.config),
            mode="offline" if offline else "online",
            settings=wandb.Settings(
                console="off", silent=True, x_disable_stats=job.kind != "train"
            ),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        if offline:
            place = Path(self._run.dir).parent
            log.info("wandb: offline run in %s; `wandb sync` of this folder sends it", place)

    def log_values(self, values: Mapping[str, float], step: int | None) -> None:
        """Add one point to every curve."""
        self._run.log({**values, **({} if step is None else {STEP: step})})

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Write the numbers into the columns of the table of runs."""
        self._run.summary.update(dict(values))

    def log_table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Show a table."""
        self._run.log({name: self._table(header, rows)})

    def log_curve(
        self, name: str, labels: tuple[str, str], x: Sequence[float], y: Sequence[float]
    ) -> None:
        """Draw a line that the page of the run can be asked about."""
        table = self._table(labels, list(zip(x, y, strict=True)))
        title = name.rpartition("/")[2]
        self._run.log({name: self._wandb.plot.line(table, labels[0], labels[1], title=title)})

    def log_image(self, name: str, path: Path) -> None:
        """Show a PNG file."""
        self._run.log({name: self._wandb.Image(str(path))})

    def log_file(self, name: str, path: Path, kind: str) -> None:
        """Keep a file as an artifact, unless ``files`` is false.

        It is sent as it is now, however late: a link beside the offline run holds its content, and
        no copy is made where the file system knows links.
        """
        if not self._keeps_files:
            return
        kept = Path(self._run.dir).parent / KEPT / path.name
        kept.parent.mkdir(exist_ok=True)
        kept.unlink(missing_ok=True)
        try:
            os.link(path, kept)
        except OSError:
            shutil.copyfile(path, kept)
        artifact = self._wandb.Artifact(f"{name}-{self._run.id}", type=kind)
        artifact.add_file(str(kept), name=path.name, policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact)

    def close(self) -> None:
        """End the run."""
        self._run.finish()

    def _table(self, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Any:
        return self._wandb.Table(
            columns=list(header), data=[list(row) for row in rows], allow_mixed_types=True
        )
