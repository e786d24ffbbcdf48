"""Long calls as tasks of dask: one at a time in every worker.

A call that is lost is not repeated by the scheduler but returned: what it has written must get out
of the way first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from distributed import Client

from mlepi.errors import DataError
from mlepi.pipeline.engines.calls import Calls, Ended
from mlepi.pipeline.engines.dask_tasks import DaskTasks, Handed
from mlepi.pipeline.engines.dask_worker import Answer, SentFunction

if TYPE_CHECKING:
    from mlepi.pipeline.engines.dask_engine import Dask


class CallTasks(DaskTasks):
    """Calls as tasks."""

    def __init__(
        self, client: Client, sent: SentFunction, engine: Dask, say: Callable[[str], None]
    ) -> None:
        super().__init__(client, sent, engine, say)
        self._waiting = deque[Handed]()
        self._n_calls = 0

    @property
    def room(self) -> int:
        """How many more calls can be handed out now."""
        most = self._limit(max(self._n_workers, self._engine.workers))
        return most - len(self._flying) - len(self._waiting)

    def add(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Hand out a call."""
        self._n_calls += 1
        self._waiting.append(Handed(self._n_calls, arguments, f"call {name}", name))

    def _limit(self, n_workers: int) -> int:
        return n_workers

    def _next_task(self, n_workers: int) -> Handed | None:
        return self._waiting.popleft() if self._waiting else None

    def _receive(self, task: Handed, answer: Answer) -> Generator[Ended]:
        result = answer.found[0] if answer.found else None
        yield Ended(task.key, result, answer.error, answer.seconds)

    def _return(self, task: Handed) -> Generator[Ended]:
        yield Ended(task.key, lost=True)

    def _leave(self, task: Handed) -> Generator[Ended]:
        self._withdraw(task)
        yield Ended(task.key, lost=True)

    def _give_up(self, task: Handed, error: DataError) -> Generator[Ended]:
        self._withdraw(task)
        yield Ended(task.key, error=error)

    def _withdraw(self, task: Handed) -> None:
        """Forget a call that the scheduler would repeat."""
        del self._flying[task.number]
        if task.future is not None:
            task.future.cancel(force=True)
            task.future = None


class DaskCalls(Calls):
    """Calls in the workers of dask.

    Args:
        client: connection to the scheduler.
        sent: the function.
        engine: its limits.
        say: what the user should know goes here.
    """

    def __init__(
        self, client: Client, sent: SentFunction, engine: Dask, say: Callable[[str], None]
    ) -> None:
        self.threads = engine.options.threads
        self._tasks = CallTasks(client, sent, engine, say)
        self._tasks.__enter__()

    @property
    def room(self) -> int:
        """How many more calls can be handed out now."""
        return self._tasks.room

    def submit(self, name: str, *arguments: Any) -> None:
        """Hand out a call."""
        self._tasks.add(name, arguments)

    def take(self, seconds: float) -> list[Ended]:
        """Return the calls that have ended."""
        return list(self._tasks.step(seconds))

    def close(self) -> None:
        """End what runs: what was sent is taken back, and stops its calls."""
        self._tasks.__exit__(None, None, None)
