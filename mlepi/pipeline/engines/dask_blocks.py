"""Blocks of samples on their way through workers that come, leave and die."""

from __future__ import annotations

import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distributed import Client, Future, KilledWorker

from mlepi.errors import DataError, message
from mlepi.pipeline.engines.dask_worker import TOPIC, Answer, SentWork, evaluate_block
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
LOOK = 1.0
"""s between two looks at the number of workers."""
ASK = 20.0
"""s within which a nanny must answer."""
SILENCE = 60.0
"""s without a connection to the scheduler after which it counts as gone."""
LEAVING = 2.0
"""s after which a nanny whose job ends as well is gone."""
LINES = 12
"""Lines of the log of a worker that are shown."""


@dataclass
class Block:
    """Samples that one worker evaluates one after the other.

    Attributes:
        number: of the block.
        tasks: its samples.
        attempt: how often it has been handed out.
        future: what dask knows of it.
    """

    number: int
    tasks: Sequence[Task]
    attempt: int = 0
    future: Future | None = None


class Blocks:
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
        self._client, self._sent, self._engine, self._say = client, sent, engine, say
        self._waiting, self._again = deque(tasks), deque[Block]()
        self._flying: dict[int, Block] = {}
        self._n_blocks, self._smallest = 0, batch_size
        self._n_done, self._seconds = 0, 0.0
        self._n_workers, self._looked, self._heard = 0, 0.0, time.monotonic()
        self._alone_since, self._patience = time.monotonic(), engine.patience
        self._running: dict[str, tuple[int, str | None]] = {}
        self._deaths: Counter[int] = Counter()
        self._strangers: set[str] = set()
        self._said: set[str] = set()
        self._mail: queue.SimpleQueue[int | dict[str, Any]] = queue.SimpleQueue()

    def __enter__(self) -> Blocks:
        """Send the work to all workers, also to those that join later.

        Raises:
            DataError: a worker cannot take it.
        """
        for topic in (TOPIC, "all"):
            self._client.subscribe_topic(topic, lambda event: self._mail.put(event[1]))
        self._send()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take everything back."""
        with suppress(Exception):  # the scheduler may be gone
            futures = [block.future for block in self._flying.values() if block.future]
            self._client.cancel(futures, force=True)
            for topic in (TOPIC, "all"):
                self._client.unsubscribe_topic(topic)
            self._client.unregister_worker_plugin(self._sent.name)

    def run(self) -> Generator[Found]:
        """Yield what is found, in the order in which blocks end.

        Raises:
            DataError: workers die of a block, or all have other software.
            MlepiError: a sample cannot be evaluated.
            Stopped: a signal has asked for it.
        """
        while self._waiting or self._again or self._flying:
            stop_if_requested()
            self._look()
            self._hand_out()
            try:
                mail = self._mail.get(timeout=LOOK)
            except queue.Empty:
                continue
            if isinstance(mail, int):
                yield from self._take(mail)
            elif "block" in mail:
                self._running[mail["worker"]] = (mail["block"], mail["nanny"])
            elif mail.get("action") == "remove-worker":
                self._count_death(mail)

    def _send(self) -> None:
        try:
            self._client.register_plugin(self._sent)
        except (ImportError, AttributeError) as error:
            fix = "Install the same version of mlepi in the environment of the workers."
            expected = "workers that know this version of mlepi"
            raise DataError(message("engine", str(error), expected, fix)) from error

    def _look(self) -> None:
        """Count the workers once in a while; say so when there have been none for long.

        Raises:
            DataError: the scheduler is gone.
        """
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        if self._client.status == "running":
            self._heard = now
        elif now - self._heard < SILENCE:
            return
        else:
            fix = "What was finished is kept: start the same command again."
            got = "a scheduler of dask that does not answer any more"
            raise DataError(message("engine", got, "one that runs", fix))
        self._n_workers = len(self._client.nthreads())
        if self._n_workers:
            self._alone_since, self._patience = now, self._engine.patience
        elif now - self._alone_since >= self._patience:
            self._say(
                f"WARNING: no worker for {now - self._alone_since:.0f} s. Jobs may still wait in "
                "the queue; workers that fail say why in their own log (folder workers of the run)."
            )
            self._patience *= 2.0

    def _hand_out(self) -> None:
        """Give enough blocks to the scheduler that no worker waits."""
        n_workers = max(self._n_workers, self._engine.workers)
        if self._client.status != "running":
            return
        while len(self._flying) < AHEAD * n_workers and (self._again or self._waiting):
            block = self._again.popleft() if self._again else self._next_block(n_workers)
            block.attempt += 1
            self._flying[block.number] = block
            block.future = self._client.submit(
                evaluate_block,
                self._sent.name,
                block.number,
                block.tasks,
                key=f"{self._sent.name}-{block.number}-{block.attempt}",
                pure=False,
            )
            block.future.add_done_callback(partial(self._report, block.number))

    def _report(self, number: int, future: Future) -> None:
        self._mail.put(number)

    def _next_block(self, n_workers: int) -> Block:
        """Take samples for some seconds of work, fewer towards the end."""
        size = self._smallest
        if self._n_done and self._seconds > 0:
            size = round(SECONDS * self._n_done / self._seconds)
        size = min(size, LARGEST, len(self._waiting) // (2 * n_workers))
        size = min(max(size, self._smallest), len(self._waiting))
        self._n_blocks += 1
        return Block(self._n_blocks, [self._waiting.popleft() for _ in range(size)])

    def _take(self, number: int) -> Generator[Found]:
        """Yield what a block that has ended has found, or hand it out again."""
        block = self._flying.get(number)
        if block is None or block.future is None or block.future.status == "pending":
            return  # word of an earlier attempt
        del self._flying[number]
        answer = self._get_answer(block.future)
        block.future = None  # a worker that holds a result cannot be sent away
        if answer is None or answer.missing or answer.refused:
            self._again.append(block)
        if answer is None:
            return
        if self._running.get(answer.worker, (0, None))[0] == number:
            del self._running[answer.worker]
        if answer.missing:
            self._send()
        if answer.refused:
            self._dismiss(answer)
        self._n_done, self._seconds = (
            self._n_done + len(answer.found),
            self._seconds + answer.seconds,
        )
        yield from answer.found
        if answer.error is not None:
            raise answer.error

    def _get_answer(self, future: Future) -> Answer | None:
        """Return the answer of a block; None where it was lost and must be computed again."""
        if future.status == "finished":
            try:
                answer: Answer = future.result(timeout=3 * ASK)
            except (TimeoutError, OSError, KilledWorker):  # it went with the worker that held it
                return None
            return answer
        if future.status == "error":
            error = future.exception()
            if error is not None and not isinstance(error, KilledWorker):
                raise error
        return None

    def _dismiss(self, answer: Answer) -> None:
        """Let a worker with other software go.

        Raises:
            DataError: there is no other one.
        """
        self._strangers.add(answer.worker)
        self._client.retire_workers([answer.worker], close_workers=True, remove=True)
        text = f"worker {answer.worker}: {answer.refused}"
        if set(self._client.nthreads()) <= self._strangers:
            fix = "Install the same versions in the environment of the workers."
            raise DataError(message("engine", text, "the software of this process", fix))
        if answer.refused not in self._said:
            self._said.add(answer.refused)
            self._say(f"WARNING: {text}; it computes nothing for this run")

    def _count_death(self, event: dict[str, Any]) -> None:
        """Count the death of a worker for the block that it was computing.

        It is no fault of the block where the worker left by itself or was sent away, or went with
        its job: the nanny that watches it is then gone as well.

        Raises:
            DataError: too many workers have died of it.
        """
        number, nanny = self._running.pop(event["worker"], (0, None))
        if event["expected"] or number not in self._flying:
            return
        log = self._ask(nanny)
        where = f"worker {event['worker']}"
        if log is None:
            self._say(f"WARNING: {where} is gone with its job; block {number} goes elsewhere")
            return
        self._deaths[number] += 1
        deaths = f"{self._deaths[number]} of {self._engine.deaths}"
        first, last = self._flying[number].tasks[0].key, self._flying[number].tasks[-1].key
        samples = f"samples {first.sample} at {first.temperature:g} K to {last.sample}"
        if self._deaths[number] < self._engine.deaths:
            self._say(f"WARNING: {where} died in block {number} ({samples}), death {deaths}")
            return
        raise DataError(
            message(
                f"engine, block {number} ({samples})",
                f"{self._deaths[number]} workers that died while they computed it",
                "workers that survive it",
                "Give them more memory (engine.memory) or look at these lines of the log of the "
                f"last one:\n{log}",
            )
        )

    def _ask(self, nanny: str | None) -> str | None:
        """Return the last lines of the log of a nanny; None where it does not answer."""
        if nanny is None:
            return None

        async def get_logs() -> Any:
            return await self._client.rpc(nanny).get_logs(n=LINES)

        time.sleep(LEAVING)
        try:
            lines = self._client.sync(get_logs, callback_timeout=ASK)
        except (OSError, TimeoutError):
            return None
        return "\n".join(text for _, text in reversed(lines)) or "(it says nothing)"
