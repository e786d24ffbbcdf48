"""Calls that take minutes to hours, such as DFT runs: handed out one by one, on any engine.

Whoever hands them out takes what comes back and decides what is next. A call that is lost with the
worker that had it comes back as lost: it is to be handed out again, by whom it was.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from mlepi.errors import MlepiError

Function = Callable[..., Any]
"""What is called: its first argument is a ``threading.Event``, set when it must end at once."""

SomeCalls = TypeVar("SomeCalls", bound="Calls")


@dataclass(frozen=True)
class Ended:
    """What became of a call.

    Attributes:
        name: of the call.
        result: what the function has returned.
        error: what it has raised, or that too many workers have died of it.
        seconds: that it took.
        lost: it went with its worker, through no fault of its own: to be handed out again.
    """

    name: str
    result: Any = None
    error: MlepiError | None = None
    seconds: float = 0.0
    lost: bool = False


class Calls(ABC):
    """Calls of one function; leaving the context ends those that run.

    Attributes:
        threads: that each call may use.
    """

    threads: int

    @property
    @abstractmethod
    def room(self) -> int:
        """How many more calls can be handed out now."""

    @abstractmethod
    def submit(self, name: str, *arguments: Any) -> None:
        """Hand out a call.

        Args:
            name: unique among those that are out.
            arguments: of the function, after the first.
        """

    @abstractmethod
    def take(self, seconds: float) -> list[Ended]:
        """Return the calls that have ended, after waiting for the next one.

        Args:
            seconds: that it waits at most.
        """

    @abstractmethod
    def close(self) -> None:
        """End what runs."""

    def __enter__(self: SomeCalls) -> SomeCalls:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what runs."""
        self.close()


class LocalCalls(Calls):
    """Calls in threads of this process, which mostly wait for programs.

    Args:
        function: to be called.
        jobs: calls at once.
        threads: of each.
    """

    def __init__(self, function: Function, jobs: int, threads: int) -> None:
        self.threads = threads
        self._function, self._jobs = function, jobs
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(jobs, "call")
        self._running: dict[Future[Ended], str] = {}

    @property
    def room(self) -> int:
        """How many more calls can be handed out now."""
        return self._jobs - len(self._running)

    def submit(self, name: str, *arguments: Any) -> None:
        """Hand out a call."""
        self._running[self._pool.submit(self._call, name, arguments)] = name

    def take(self, seconds: float) -> list[Ended]:
        """Return the calls that have ended; what is no ``MlepiError`` is raised here."""
        ended, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        for future in ended:
            del self._running[future]
        return [future.result() for future in ended]

    def close(self) -> None:
        """End what runs, and wait for it."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Ended:
        begin = time.monotonic()
        try:
            result = self._function(self._stop, *arguments)
        except MlepiError as error:
            return Ended(name, error=error, seconds=time.monotonic() - begin)
        return Ended(name, result, seconds=time.monotonic() - begin)
