"""Tasks on their way through workers that come, leave and die.

``DaskTasks`` hands them out, hears what became of them, and counts deaths; what a task is, and what
follows from its loss, says who inherits from it: blocks of samples, or single long calls.
"""

from __future__ import annotations

import queue
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import Client, Future, KilledWorker

from mlepi.errors import DataError, message
from mlepi.pipeline.engines.clusters import replace_lost_workers
from mlepi.pipeline.engines.dask_worker import TOPIC, Answer, Sent, do_task

if TYPE_CHECKING:
    from mlepi.pipeline.engines.dask_engine import Dask

LOOK = 1.0
"""s between two looks at the number of workers."""
ASK = 20.0
"""s within which a nanny must answer."""
SILENCE = 60.0
"""s without a connection to the scheduler after which it counts as gone."""
REPLACE = 30.0
"""s with too few workers after which those that are lost are started again."""
LEAVING = 2.0
"""s after which a nanny whose job ends as well is gone."""
LINES = 12
"""Lines of the log of a worker that are shown."""

SomeTasks = TypeVar("SomeTasks", bound="DaskTasks")


@dataclass
class Handed:
    """A task.

    Attributes:
        number: of the task, unique.
        content: what the worker is given.
        title: what it is, for the user.
        key: of what its deaths are counted for.
        attempt: how often it has been handed out.
        future: what dask knows of it.
    """

    number: int
    content: Any
    title: str
    key: str
    attempt: int = 0
    future: Future | None = None


class DaskTasks(ABC):
    """Tasks of one kind; leaving the context takes them and what was sent back.

    Args:
        client: connection to the scheduler.
        sent: what every worker is given.
        engine: its limits.
        say: what the user should know goes here.
    """

    def __init__(
        self, client: Client, sent: Sent, engine: Dask, say: Callable[[str], None]
    ) -> None:
        self._client, self._sent, self._engine, self._say = client, sent, engine, say
        self._flying: dict[int, Handed] = {}
        self._n_workers, self._looked, self._heard = 0, 0.0, time.monotonic()
        self._alone_since, self._patience = time.monotonic(), engine.patience
        self._enough = time.monotonic()
        self._running: dict[str, tuple[int, str | None]] = {}
        self._deaths: Counter[str] = Counter()
        self._strangers: set[str] = set()
        self._said: set[str] = set()
        self._mail: queue.SimpleQueue[int | dict[str, Any]] = queue.SimpleQueue()

    def __enter__(self: SomeTasks) -> SomeTasks:
        """Send what all workers need, also to those that join later.

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
            futures = [task.future for task in self._flying.values() if task.future]
            self._client.cancel(futures, force=True)
            for topic in (TOPIC, "all"):
                self._client.unsubscribe_topic(topic)
            self._client.unregister_worker_plugin(self._sent.name)

    @abstractmethod
    def _next_task(self, n_workers: int) -> Handed | None:
        """Return what is to be handed out next; None where nothing is.

        Args:
            n_workers: that there are, or may be.
        """

    @abstractmethod
    def _receive(self, task: Handed, answer: Answer) -> Generator[Any]:
        """Yield what a task has found."""

    @abstractmethod
    def _return(self, task: Handed) -> Generator[Any]:
        """Take back a task that is no longer out and has no answer; yield what follows from it."""

    def _leave(self, task: Handed) -> Generator[Any]:
        """Yield what follows from the loss of a worker; the scheduler repeats the task itself."""
        yield from ()

    @abstractmethod
    def _give_up(self, task: Handed, error: DataError) -> Generator[Any]:
        """Yield what follows from too many deaths.

        Args:
            task: it is still out.
            error: what to tell.
        """

    @abstractmethod
    def _limit(self, n_workers: int) -> int:
        """Return how many tasks may be out."""

    def step(self, seconds: float = LOOK) -> Generator[Any]:
        """Hand out what there is, wait for news once, and yield what came back.

        Args:
            seconds: that it waits at most.

        Raises:
            DataError: the scheduler is gone, or all workers have other software.
        """
        self._look()
        self._hand_out()
        try:
            mail = self._mail.get(timeout=seconds)
        except queue.Empty:
            return
        if isinstance(mail, int):
            yield from self._take(mail)
        elif "handed" in mail:
            self._running[mail["worker"]] = (mail["handed"], mail["nanny"])
        elif mail.get("action") == "remove-worker":
            yield from self._count_death(mail)

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
        if self._n_workers >= max(1, self._engine.least_workers):
            self._enough = now
        elif now - self._enough >= REPLACE:
            self._enough = now
            replace_lost_workers(self._client)

    def _hand_out(self) -> None:
        """Give enough tasks to the scheduler that no worker waits."""
        n_workers = max(self._n_workers, self._engine.workers)
        if self._client.status != "running":
            return
        while len(self._flying) < self._limit(n_workers) and (task := self._next_task(n_workers)):
            task.attempt += 1
            self._flying[task.number] = task
            task.future = self._client.submit(
                do_task,
                self._sent.name,
                task.number,
                task.content,
                key=f"{self._sent.name}-{task.number}-{task.attempt}",
                pure=False,
            )
            task.future.add_done_callback(partial(self._report, task.number))

    def _report(self, number: int, future: Future) -> None:
        self._mail.put(number)

    def _take(self, number: int) -> Generator[Any]:
        """Yield what a task that has ended has found, or hand it out again."""
        task = self._flying.get(number)
        if task is None or task.future is None or task.future.status == "pending":
            return  # word of an earlier attempt
        del self._flying[number]
        answer = self._get_answer(task.future)
        task.future = None  # a worker that holds a result cannot be sent away
        if answer is not None and self._running.get(answer.worker, (0, None))[0] == number:
            del self._running[answer.worker]
        if answer is None or answer.missing or answer.refused or answer.left:
            yield from self._return(task)
        if answer is None or answer.left:
            return
        if answer.missing:
            self._send()
        elif answer.refused:
            self._dismiss(answer)
        else:
            yield from self._receive(task, answer)

    def _get_answer(self, future: Future) -> Answer | None:
        """Return the answer of a task; None where it was lost and must be computed again."""
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

    def _count_death(self, event: dict[str, Any]) -> Generator[Any]:
        """Count the death of a worker for the task that it was at.

        It is no fault of the task where the worker left by itself or was sent away, or went with
        its job: the nanny that watches it is then gone as well.
        """
        number, nanny = self._running.pop(event["worker"], (0, None))
        task = self._flying.get(number)
        if task is None:
            return
        if event["expected"]:
            yield from self._leave(task)
            return
        log = self._ask(nanny)
        where = f"worker {event['worker']}"
        if log is None:
            self._say(f"WARNING: {where} is gone with its job; {task.title} goes elsewhere")
            yield from self._leave(task)
            return
        self._deaths[task.key] += 1
        n_deaths = self._deaths[task.key]
        if n_deaths < self._engine.deaths:
            deaths = f"death {n_deaths} of {self._engine.deaths}"
            self._say(f"WARNING: {where} died in {task.title}, {deaths}")
            yield from self._leave(task)
            return
        text = message(
            f"engine, {task.title}",
            f"{n_deaths} workers that died while they computed it",
            "workers that survive it",
            "Give them more memory (engine.memory) or look at these lines of the log of the "
            f"last one:\n{log}",
        )
        yield from self._give_up(task, DataError(text))

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
