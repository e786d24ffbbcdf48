"""Checkpoints that appear complete or not at all, whatever TMPDIR is and however full the disk."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mlepi.errors import message
from mlepi.faults import GIGABYTE, MachineError, free_disk

NUMBERS = 5
"""Numbers that a checkpoint holds of every parameter, at most: the value, its average, and what an
optimizer knows of it."""
FILES = 3
"""``best.ckpt``, ``last.ckpt``, and the one that is being written."""


def check_disk(parameter_bytes: int, folder: Path) -> None:
    """Refuse a disk that cannot hold the checkpoints of a training.

    Args:
        parameter_bytes: of all parameters.
        folder: of the run.

    Raises:
        MachineError: it is too small.
    """
    need, free = FILES * NUMBERS * parameter_bytes, free_disk(folder)
    if free is not None and need > free:
        raise MachineError(
            message(
                str(folder),
                f"{free / GIGABYTE:.3g} GB of free disk",
                f"{need / GIGABYTE:.3g} GB for checkpoints",
                "Free some, or choose another folder, hydra.run.dir=….",
            )
        )


class WholeCheckpoints(TorchCheckpointIO):
    """Write a checkpoint beside its place and rename it, on one file system.

    Lightning's own way goes through the folder for temporary files, which may be missing, full or
    on another file system, where a kill leaves half a file.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: plain data and tensors.
            path: file.
            storage_options: not used.

        Raises:
            OSError: the disk does not take it; the file that was there is what it was.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # so that a full disk is an error of the system, not of a zip file
        torch.save(checkpoint, content)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
        try:
            with unfinished.open("wb") as stream:
                stream.write(content.getbuffer())
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
