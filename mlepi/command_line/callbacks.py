"""What Hydra calls before a run and after a sweep."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mlepi.command_line.mistakes import fail
from mlepi.errors import MlepiError
from mlepi.faults import explain_fault
from mlepi.run_lock import is_first_process, refuse_held


class FreeFolder(Callback):
    """Refuse a run folder that is in use, or cannot be written to, before Hydra writes into it."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Look at the lock; the run itself takes it later."""
        if not is_first_process():
            return
        folder = Path(config.hydra.run.dir)
        try:
            refuse_held(folder)
            _refuse_unwritable(folder)
        except MlepiError as error:  # Hydra would only warn of it
            fail(error)


def _refuse_unwritable(folder: Path) -> None:
    """Refuse what is no folder, or one that no file can be written into.

    Raises:
        MachineError: with the reason.
    """
    probe = folder / f".probe.{os.getpid()}.unfinished"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b" ")
    except OSError as error:
        error.filename = str(folder)
        raise explain_fault(error, folder) or error from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


class SweepEnd(Callback, ABC):
    """Compare the runs of a sweep when all have ended, and print what was found."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the comparison into the folder of the sweep, and print it."""
        # Hydra has set all loggers to tell everything by now
        logging.getLogger("fontTools").setLevel(logging.WARNING)
        try:
            print(self.compare(Path(config.hydra.sweep.dir)))
        except MlepiError as error:  # no run has come so far
            print(f"no comparison: {error}", file=sys.stderr)

    @abstractmethod
    def compare(self, folder: Path) -> str:
        """Compare the runs below a folder; return what is printed."""


class CellSizes(SweepEnd):
    """Compare the runs of a sweep over the size of the cell (``experiment=headline``)."""

    def compare(self, folder: Path) -> str:
        """Write tables, records and figures; return the tables."""
        from mlepi.observables import all_stages
        from mlepi.report.series import finish_series

        everything, _ = finish_series(folder, all_stages())
        return everything


class Inferences(SweepEnd):
    """Compare the runs of a sweep, ``python infer.py -m``, whatever was swept."""

    def compare(self, folder: Path) -> str:
        """Write tables, numbers, figure and page; return the tables."""
        from mlepi.observables import all_stages
        from mlepi.report.inferences import finish_inferences

        return finish_inferences(folder, all_stages())


class Trainings(SweepEnd):
    """Compare the trainings of a sweep, ``python train.py -m``."""

    def compare(self, folder: Path) -> str:
        """Write table, numbers and figure; return the table."""
        from mlepi.report.trainings import finish_sweep

        return finish_sweep(folder)
