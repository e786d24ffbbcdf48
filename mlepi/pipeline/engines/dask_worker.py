"""What happens in a worker of dask.distributed: it gets the work once, then does tasks of it.

The work travels as a plugin, which the scheduler keeps and hands to every worker that joins,
instead of with each block or as data that would be lost with the worker that holds it. It is packed
as all messages of dask are, between processes of one user.
"""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from distributed import WorkerPlugin, get_worker
from distributed.protocol.pickle import loads

from mlepi.errors import DataError, MlepiError, message
from mlepi.pipeline.engines.engine import Found, Task, Work
from mlepi.pipeline.fingerprints import fingerprint_modules
from mlepi.results.provenance import list_packages

if TYPE_CHECKING:
    from distributed import Worker

TOPIC = "mlepi-tasks"
"""Topic of the events by which workers say that they have begun a task."""

_ONE_AT_A_TIME = threading.Lock()
"""Networks, and the number of threads, belong to the whole process."""


@dataclass(frozen=True)
class Software:
    """What must be the same in every process that computes samples.

    Attributes:
        packages: name → version, Python among them.
        code: digest of the source that decides the results.
    """

    packages: Mapping[str, str]
    code: str

    def list_differences(self, other: Software) -> list[str]:
        """Say what is not the same, this one's first."""
        names = sorted({*self.packages, *other.packages})
        found = [
            f"{name} {self.packages.get(name)} instead of {other.packages.get(name)}"
            for name in names
            if self.packages.get(name) != other.packages.get(name)
        ]
        return found + (["other source code of mlepi or of a plugin"] * (self.code != other.code))


def describe_software(modules: Sequence[str]) -> Software:
    """Describe this process.

    Args:
        modules: names of those that decide the results.
    """
    python = ".".join(str(number) for number in sys.version_info[:3])
    return Software({"python": python, **list_packages()}, fingerprint_modules(modules))


@dataclass(frozen=True)
class Answer:
    """What came of a task.

    Attributes:
        worker: address.
        found: what it has found, of the samples that were evaluated, or the result of a call.
        seconds: that it took.
        error: what stopped it.
        refused: why this worker must not compute for this run; empty where it may.
        missing: whether the work has not arrived there.
        left: whether the worker has left it, since it must close.
    """

    worker: str
    found: list[Any] = field(default_factory=list)
    seconds: float = 0.0
    error: MlepiError | None = None
    refused: str = ""
    missing: bool = False
    left: bool = False


class Sent(WorkerPlugin, ABC):
    """What a worker needs for all tasks of one kind.

    Args:
        name: tells it from that of other passes.
        content: pickled.
        modules: names of the modules that decide the results.
        software: of the process that sends it.
        threads: of a worker.
    """

    def __init__(
        self, name: str, content: bytes, modules: Sequence[str], software: Software, threads: int
    ) -> None:
        self.name = name
        self._content = content
        self._modules = modules
        self._software = software
        self._threads = threads
        self._loaded: Any = None
        self._refused: str | None = None

    def setup(self, worker: Worker) -> None:
        """Do nothing yet: a worker shall join quickly."""

    def refuse(self) -> str:
        """Say how this worker differs from the process that sent the work; empty if not at all."""
        if self._refused is None:
            try:
                own = describe_software(self._modules)
                self._refused = "; ".join(own.list_differences(self._software))
            except (DataError, ImportError) as error:
                self._refused = str(error)
        return self._refused

    def load(self) -> Any:
        """Return the content, unpacked once."""
        torch.set_num_threads(self._threads)
        if self._loaded is None:
            self._loaded = loads(self._content)
        return self._loaded

    @abstractmethod
    def do(self, task: Any) -> Iterator[Any]:
        """Yield what a task finds.

        Raises:
            MlepiError: it cannot be done.
        """

    @property
    def is_leaving(self) -> bool:
        """Whether what the last task has found is worth nothing, since the worker must close."""
        return False


class SentWork(Sent):
    """The work of a pass over samples, ``Work``."""

    def load(self) -> Work:
        """Return the work, unpacked once."""
        work: Work = super().load()
        folder = work.ensemble.folder
        if work.files is not None and not folder.is_dir():
            raise DataError(
                message(
                    str(folder),
                    "a run folder that a worker does not see",
                    "one on a shared file system, where workers keep H and S",
                    "Choose another folder=…, or set stage.hamiltonian.store=false.",
                )
            )
        return work

    def do(self, task: Sequence[Task]) -> Iterator[Found]:
        """Evaluate samples."""
        return self.load().evaluate(task)


class SentFunction(Sent):
    """A function that is called with arguments; a worker that closes ends the call."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent: events stay where they are."""
        return {key: value for key, value in self.__dict__.items() if key != "_stop"}

    def setup(self, worker: Worker) -> None:
        """Be ready to stop."""
        self._stop = threading.Event()

    def teardown(self, worker: Worker) -> None:
        """End what runs: the worker closes, or the run does."""
        self._stop.set()

    @property
    def is_leaving(self) -> bool:
        """Whether the worker must close."""
        return self._stop.is_set()

    def do(self, task: tuple[Any, ...]) -> Iterator[Any]:
        """Call the function."""
        yield self.load()(self._stop, *task)


def do_task(name: str, number: int, content: Any) -> Answer:
    """Do a task in a worker.

    Args:
        name: of what was sent.
        number: of the task.
        content: of the task.
    """
    worker: Any = get_worker()
    address = str(worker.address)
    with _ONE_AT_A_TIME:
        sent: Sent | None = worker.plugins.get(name)
        if sent is None:
            return Answer(address, missing=True)
        start = {"handed": number, "worker": address, "nanny": worker.nanny}
        worker.loop.add_callback(worker.log_event, TOPIC, start)
        if refused := sent.refuse():
            return Answer(address, refused=refused)
        begin = time.monotonic()
        found: list[Any] = []
        error: MlepiError | None = None
        try:
            found.extend(sent.do(content))
        except MlepiError as failure:
            error = failure
        except Exception:
            if not sent.is_leaving:
                raise
        if sent.is_leaving:
            return Answer(address, left=True)
        return Answer(address, found, time.monotonic() - begin, error)
