"""Runs in tensorboard: event files below the run folder, shown by ``tensorboard --logdir``.

Sweeps are folders of runs, so that their folder is what tensorboard is pointed at; the numbers by
which runs are compared, and their settings, stand under HPARAMS. Files stay where they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.tracking.service import Cell, Job, Service


class TensorboardService(Service):
    """One folder of event files.

    Args:
        options: of ``conf/logger/tensorboard.yaml``.
        job: what the run is.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, options: Mapping[str, Any], job: Job) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._job = job
        self._last = 0
        folder = job.folder / str(options.get("folder", "tensorboard"))
        self._writer = SummaryWriter(str(folder))
        told = [[key, str(value)] for key, value in list_leaves(job.config)]
        self.log_table("config", ("key", "value"), told)

    def log_values(self, values: Mapping[str, float], step: int | None) -> None:
        """Add one point to every curve."""
        self._last = self._last if step is None else step
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._last)

    def log_summary(self, values: Mapping[str, float]) -> None:
        """Write settings and numbers for the tab HPARAMS."""
        settings = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in list_leaves(self._job.config)
        }
        known = {name: value for name, value in values.items() if math.isfinite(value)}
        self._writer.add_hparams(settings, known, run_name=".")

    def log_table(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Show a table as text."""
        lines = [header, ["---"] * len(header), *rows]
        self._writer.add_text(name, "\n".join(f"| {' | '.join(map(_write, x))} |" for x in lines))

    def log_curve(
        self, name: str, labels: tuple[str, str], x: Sequence[float], y: Sequence[float]
    ) -> None:
        """Draw a curve over whole numbers, which is all that tensorboard's axis knows."""
        for place, value in zip(x, y, strict=True):
            self._writer.add_scalar(name, value, round(place))

    def log_image(self, name: str, path: Path) -> None:
        """Show a PNG file."""
        from matplotlib.image import imread

        pixels = np.asarray(imread(path))[..., :3]
        self._writer.add_image(name, pixels, self._last, dataformats="HWC")

    def log_file(self, name: str, path: Path, kind: str) -> None:
        """Say where the file is."""
        self._writer.add_text(f"files/{name}", f"{kind}: `{path}`")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def list_leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of everything in nested settings; lists stay whole."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            yield from list_leaves(value, f"{prefix}.{key}".lstrip("."))
    elif prefix:
        yield prefix, config


def _write(cell: Cell) -> str:
    if cell is None:
        return "–"
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell).replace("|", "\\|")
