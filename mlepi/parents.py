"""Children that do not outlive their parents: processes of a run end when the one before them does.

Linux kills a child when its parent is gone; elsewhere, and where that came too late, a thread looks
every second. On other machines the lock of the run folder says whether the first process lives.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

PARENT = "MLEPI_PARENT"
"""Environment variable with the process whose children follow it."""
LAUNCHED = ("TORCHELASTIC_RUN_ID",)
"""Environment variables of launchers whose processes all follow them."""
SET_PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of prctl(2)."""
POLL = 1.0
"""Seconds between two looks at the parent."""
LOST = 1
"""Exit status of a process whose run is gone."""


def is_follower(environment: Mapping[str, str], parent: int) -> bool:
    """Tell whether a process belongs to the one that started it.

    Processes that a launcher has numbered do, and those that a run has marked as its own. A run
    that a user or a scheduler has started does not: its shell may go.

    Args:
        environment: of the process.
        parent: the process that started it.
    """
    if environment.get(PARENT) == str(parent) or any(name in environment for name in LAUNCHED):
        return True
    return environment.get("LOCAL_RANK", "0") != "0" and "SLURM_PROCID" not in environment


def follow_parent(parent: int | None = None) -> None:
    """End this process when its parent ends, however that happens.

    Args:
        parent: the process to follow; the present parent by default.
    """
    expected = os.getppid() if parent is None else parent
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    _watch(lambda: os.getppid() == expected, "parent watch", POLL)


def follow_file(path: Path, patience: float, poll: float) -> None:
    """End this process when a file has not been renewed for some time, or is gone.

    Its times are only compared with each other: clocks of machines may differ.

    Args:
        path: the file.
        patience: seconds.
        poll: seconds between two looks.
    """
    seen: list[float] = [time.monotonic(), 0.0]

    def lives() -> bool:
        try:
            changed = path.stat().st_mtime
        except OSError:  # released, or a server that is away for a while
            changed = seen[1]
        if changed != seen[1]:
            seen[:] = [time.monotonic(), changed]
        return time.monotonic() - seen[0] < patience

    _watch(lives, "lock watch", poll)


def _watch(lives: Callable[[], bool], name: str, poll: float) -> None:
    def look() -> None:
        while lives():
            time.sleep(poll)
        os.write(2, b"error: the process that started this one is gone; it ends as well.\n")
        os._exit(LOST)

    threading.Thread(target=look, name=name, daemon=True).start()
