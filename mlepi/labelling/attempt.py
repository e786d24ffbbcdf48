"""One attempt at a structure, wherever an engine lets it run."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms

from mlepi.errors import ConfigError, message
from mlepi.labelling.code import Calculation, Code, InterruptedCalculationError
from mlepi.run_lock import FolderLostError
from mlepi.structures import LabelledStructure

PATIENCE, LOOK = 60.0, 0.5
"""s that the folder of an attempt may take to be seen by another machine, and between two looks."""


@dataclass(frozen=True)
class Order:
    """What is to be computed: the attributes of ``Calculation`` that can be sent.

    Attributes:
        name: of the structure.
        atoms: periodic, Å.
        folder: with the input alone.
        text: input.
        attempt: 1, or 2 after a failure.
        threads: of the program.
    """

    name: str
    atoms: Atoms
    folder: Path
    text: str
    attempt: int
    threads: int


class FolderWatch(threading.Event):
    """Set when the run stops, or when the folder of the attempt is another one by now.

    Whoever hands out an attempt again puts its folder out of the way first: a worker that was
    thought lost and still computes ends its program then.

    Args:
        stop: set when the run stops.
        folder: of the attempt.
    """

    def __init__(self, stop: threading.Event, folder: Path) -> None:
        super().__init__()
        self._stop, self._folder = stop, folder
        self._identity = _identify(folder)

    def is_set(self) -> bool:
        """Say whether the program must end."""
        return self._stop.is_set() or _identify(self._folder) != self._identity

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it must end, or for a time, s."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = LOOK if end is None else min(LOOK, end - time.monotonic())
            if left <= 0.0:
                return False
            self._stop.wait(left)
        return True


def compute_labels(code: Code, stop: threading.Event, order: Order) -> LabelledStructure:
    """Make one attempt.

    Args:
        code: that computes.
        stop: set when the run stops.
        order: what is to be computed.

    Raises:
        ConfigError: the folder of the set is not seen here, or the program cannot be started.
        DataError: the attempt has failed.
        FolderLostError: the attempt was handed out again, or its folder removed.
        InterruptedCalculationError: the run stops.
    """
    end = time.monotonic() + PATIENCE
    while not order.folder.is_dir():
        if time.monotonic() > end:
            got, fix = "a folder that a worker does not see", "Choose another folder=…."
            raise ConfigError(message(str(order.folder), got, "one on a shared file system", fix))
        if stop.wait(LOOK):
            raise InterruptedCalculationError(order.name)
    given = order.name, order.atoms, order.folder, order.text, order.attempt, order.threads
    try:
        return code.compute(Calculation(*given, FolderWatch(stop, order.folder)))
    except InterruptedCalculationError as error:
        if stop.is_set():
            raise
        got, fix = "another folder, or none", "Start the command again: it goes on."
        expected = "that of this attempt until it ends"
        raise FolderLostError(message(str(order.folder), got, expected, fix)) from error


def _identify(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from a later one of its name; None where there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
