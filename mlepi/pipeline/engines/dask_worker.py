"""What happens in a worker of dask.distributed: it gets the work once, then evaluates blocks.

The work travels as a plugin, which the scheduler keeps and hands to every worker that joins,
instead of with each block or as data that would be lost with the worker that holds it. It is packed
as all messages of dask are, between processes of one user.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
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

TOPIC = "mlepi-blocks"
"""Topic of the events by which workers say that they have begun a block."""

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
    """What came of a block.

    Attributes:
        worker: address.
        found: of the samples that were evaluated.
        seconds: that it took.
        error: what stopped it.
        refused: why this worker must not compute for this run; empty where it may.
        missing: whether the work has not arrived there.
    """

    worker: str
    found: list[Found] = field(default_factory=list)
    seconds: float = 0.0
    error: MlepiError | None = None
    refused: str = ""
    missing: bool = False


class SentWork(WorkerPlugin):
    """The work of a pass, in every worker.

    Args:
        name: tells it from that of other passes.
        content: ``Work``, pickled.
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
        self._work: Work | None = None
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

    def load(self) -> Work:
        """Return the work, unpacked once."""
        torch.set_num_threads(self._threads)
        if self._work is None:
            self._work = loads(self._content)
        self._check_folder(self._work)
        return self._work

    def _check_folder(self, work: Work) -> None:
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


def evaluate_block(name: str, number: int, tasks: Sequence[Task]) -> Answer:
    """Evaluate a block of samples in a worker.

    Args:
        name: of the work.
        number: of the block.
        tasks: its samples.
    """
    worker: Any = get_worker()
    address = str(worker.address)
    with _ONE_AT_A_TIME:
        sent: SentWork | None = worker.plugins.get(name)
        if sent is None:
            return Answer(address, missing=True)
        start = {"block": number, "worker": address, "nanny": worker.nanny}
        worker.loop.add_callback(worker.log_event, TOPIC, start)
        if refused := sent.refuse():
            return Answer(address, refused=refused)
        begin = time.monotonic()
        found: list[Found] = []
        error: MlepiError | None = None
        try:
            found.extend(sent.load().evaluate(tasks))
        except MlepiError as failure:
            error = failure
        return Answer(address, found, time.monotonic() - begin, error)
