"""Clean stops: what SIGTERM, SIGUSR1 and Ctrl-C ask for, and the safe points at which a run obeys.

A signal is noted, and the run stops at its next safe point: between two samples, or two steps of a
training. Where none comes within the grace, the run is left wherever it is, once the library call
in progress has returned; nothing is lost by that either, since files appear complete or not at all.
A second signal does so at once. SIGUSR1 is the word of a scheduler that the time of a job is
nearly over: it asks for the same, and for another turn.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

GRACE = 8.0
"""Seconds that a run is given to reach its next safe point."""
AGAIN = 3.0
"""Seconds after which a run that did not notice is stopped again."""
REQUEUE = signal.SIGUSR1
"""What asks for another turn as well."""
SIGNALS = (signal.SIGTERM, REQUEUE, signal.SIGINT)
INTERRUPTED, TERMINATED = 130, 143
"""Exit statuses after Ctrl-C, and after the others: 128 and the number of the signal, as shells
have it. SIGUSR1 ends as SIGTERM does, the signal that would have followed."""


class Stopped(BaseException):
    """A signal has asked this run to stop.

    No error: nothing that catches those may keep a run from stopping.

    Attributes:
        signal: that asked for it.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")

    def __reduce__(self) -> tuple[type[Stopped], tuple[int]]:
        """Travel to other processes."""
        return type(self), (int(self.signal),)

    @property
    def status(self) -> int:
        """Exit status of the process."""
        return INTERRUPTED if self.signal == signal.SIGINT else TERMINATED

    @property
    def wants_requeue(self) -> bool:
        """Whether a scheduler is to start the job again."""
        return self.signal == REQUEUE


class _State:
    """What this process was asked for."""

    requested: int | None = None
    grace: float = GRACE


_state = _State()


def requested() -> bool:
    """Tell whether a signal has asked this process to stop."""
    return _state.requested is not None


def stop_if_requested() -> None:
    """Stop here, at a safe point, if a signal has asked for it.

    Raises:
        Stopped: one has.
    """
    if _state.requested is not None:
        raise Stopped(_state.requested)


def stop() -> Stopped:
    """Return what to raise where processes have agreed to stop, whichever of them was asked."""
    return Stopped(signal.SIGTERM if _state.requested is None else _state.requested)


def give_time(seconds: float) -> None:
    """Set how long a run may take to its next safe point, from the signal on."""
    _state.grace = seconds


@contextmanager
def listen() -> Iterator[None]:
    """Note the signals inside a ``with`` block; in other threads than the main one, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    _state.requested, _state.grace = None, GRACE
    install()
    signal.signal(signal.SIGALRM, _give_up)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _state.requested, _state.grace = None, GRACE


def install() -> None:
    """Take the signals back from a library that has taken them, inside ``listen``."""
    if signal.getsignal(signal.SIGALRM) in (_give_up, signal.SIG_DFL):
        for number in SIGNALS:
            signal.signal(number, _note)


def is_listening() -> bool:
    """Tell whether this process notes the signals."""
    return signal.getsignal(signal.SIGALRM) is _give_up


def _note(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    if _state.requested is not None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        raise Stopped(_state.requested)
    _state.requested = number
    signal.setitimer(signal.ITIMER_REAL, max(_state.grace, 0.01), AGAIN)
    text = f"{name}: stopping at the next safe point, within {_state.grace:g} s if it can be\n"
    os.write(2, text.encode())  # a signal may come in the middle of a print


def _give_up(number: int, frame: FrameType | None) -> None:
    if _state.requested is not None:
        raise Stopped(_state.requested)


def request_requeue(environment: Mapping[str, str] = os.environ) -> str:
    """Ask SLURM for another turn of this job; return what the user should know.

    Args:
        environment: of the process.
    """
    job = environment.get("SLURM_JOB_ID", "")
    if array := environment.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{environment.get('SLURM_ARRAY_TASK_ID', '')}"
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return "No SLURM job to put back into its queue: submit it again."
    program = shutil.which("scontrol")
    if program is None:
        return f"scontrol is missing here: scontrol requeue {job} starts the job again."
    run = subprocess.run(  # noqa: S603 - fixed arguments
        [program, "requeue", job], capture_output=True, text=True, check=False
    )
    if run.returncode:
        print(run.stderr, file=sys.stderr)
        return f"scontrol requeue {job} failed: submit it again."
    return f"SLURM job {job} is in its queue again."
