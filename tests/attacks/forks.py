"""Functions called in a process of their own, and how that process ended."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from mlepi.errors import MlepiError

HANG = -signal.SIGALRM
"""Status of a process that was ended because it took too long."""
RAW = 3
"""Exit status of a function that raised what is no error of this package."""
POLL = 0.005


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        status: of its exit, or −N after signal N; ``HANG`` when it took too long.
        text: what it wrote.
        peak: kB of memory that it took at most.
    """

    status: int
    text: str
    peak: int

    @property
    def has_traceback(self) -> bool:
        """Whether the user would have seen one."""
        return "Traceback (most recent call last)" in self.text


class Child:
    """A function in a forked process; to be used where this process has one thread.

    Args:
        function: its return value is not looked at.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(function, self._output.fileno())

    def wait(self, patience: float) -> Ended:
        """Wait for its end; after some seconds it is killed.

        Args:
            patience: s.
        """
        deadline = time.monotonic() + patience
        hangs = False
        while True:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline and not hangs:
                hangs = True
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(POLL)
        with self._output as stream:
            stream.seek(0)
            text = stream.read().decode(errors="replace")
        return Ended(HANG if hangs else os.waitstatus_to_exitcode(status), text, usage.ru_maxrss)


def call(function: Callable[[], object], patience: float = 60.0) -> Ended:
    """Call a function in a forked process.

    Args:
        function: without arguments.
        patience: s after which it is killed.
    """
    return Child(function).wait(patience)


def _become(function: Callable[[], object], output: int) -> None:
    """Run the function and end as a command would."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    status = RAW
    try:
        function()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except MlepiError as error:
        os.write(2, f"error: {error}\n".encode())
        status = 1
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = status or RAW
        os._exit(status)
