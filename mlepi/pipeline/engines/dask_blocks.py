"""Blocks of samples as tasks of dask."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from distributed import Client

from mlepi.errors import DataError
from mlepi.pipeline.engines.dask_tasks import DaskTasks, Handed
from mlepi.pipeline.engines.dask_worker import Answer, SentWork
from mlepi.pipeline.engines.engine import Found, Task
from mlepi.stopping import stop_if_requested

if TYPE_CHECKING:
    from mlepi.pipeline.engines.dask_engine import Dask

SECONDS = 2.0
"""Duration of a block that is aimed at: what is lost with a worker, and how often it is heard."""
LARGEST = 256
"""Samples of a block at most."""
AHEAD = 3
"""Blocks per worker that are handed out at a time."""


class Blocks(DaskTasks):
    """The blocks of one pass; leaving the context takes them and the work back.

    Args:
        client: connection to the scheduler.
        sent: the work.
        tasks: the samples.
        batch_size: fewest samples of a block.
        engine: its limits.
        say: what the user should know goes here.
    """

    def __init__(
        self,
        client: Client,
        sent: SentWork,
        tasks: Sequence[Task],
        batch_size: int,
        engine: Dask,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(client, sent, engine, say)
        self._waiting, self._again = deque(tasks), deque[Handed]()
        self._n_blocks, self._smallest = 0, batch_size
        self._n_done, self._seconds = 0, 0.0

    def run(self) -> Generator[Found]:
        """Yield what is found, in the order in which blocks end.

        Raises:
            DataError: workers die of a block, or all have other software.
            MlepiError: a sample cannot be evaluated.
            Stopped: a signal has asked for it.
        """
        while self._waiting or self._again or self._flying:
            stop_if_requested()
            yield from self.step()

    def _limit(self, n_workers: int) -> int:
        return AHEAD * n_workers

    def _next_task(self, n_workers: int) -> Handed | None:
        """Take samples for some seconds of work, fewer towards the end."""
        if self._again:
            return self._again.popleft()
        if not self._waiting:
            return None
        size = self._smallest
        if self._n_done and self._seconds > 0:
            size = round(SECONDS * self._n_done / self._seconds)
        size = min(size, LARGEST, len(self._waiting) // (2 * n_workers))
        size = min(max(size, self._smallest), len(self._waiting))
        self._n_blocks += 1
        tasks = [self._waiting.popleft() for _ in range(size)]
        first, last = tasks[0].key, tasks[-1].key
        samples = f"samples {first.sample} at {first.temperature:g} K to {last.sample}"
        title = f"block {self._n_blocks} ({samples})"
        return Handed(self._n_blocks, tasks, title, str(self._n_blocks))

    def _receive(self, task: Handed, answer: Answer) -> Generator[Found]:
        self._n_done += len(answer.found)
        self._seconds += answer.seconds
        yield from answer.found
        if answer.error is not None:
            raise answer.error

    def _return(self, task: Handed) -> Generator[Found]:
        self._again.append(task)
        yield from ()

    def _give_up(self, task: Handed, error: DataError) -> Generator[Found]:
        yield from ()
        raise error
