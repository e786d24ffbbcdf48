"""The processes that share the samples of a run.

One, several on this machine, or those of torchrun or SLURM.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed

from mlepi.errors import MlepiError, message
from mlepi.faults import MachineError, explain_fault, explain_lost
from mlepi.litter import remove_litter
from mlepi.parents import PARENT, follow_file
from mlepi.run_lock import HEARTBEAT, Holder, RunLock, acquire, join
from mlepi.run_lock import PATIENCE as LOCK_PATIENCE
from mlepi.stopping import WAITING, Stopped

Result = TypeVar("Result")

ENDS_ALL = (MlepiError, OSError, MemoryError)
"""Errors that end all processes when they happen in one, which says so for all."""

PATIENCE = timedelta(days=7)
"""How long processes wait for each other: the first one may relax a structure or write a long
record meanwhile. One that dies ends the others much sooner."""
MEETING = timedelta(minutes=10)
"""How long processes wait for each other at the start of a run, when queues may be long."""
POLL = 0.2
"""Seconds between two looks for a signal while a process waits for the others."""
OBSERVER = "lightning.fabric.strategies.launchers.subprocess_script"
"""Logger of Lightning's thread that ends a run in which a process has died."""


class Processes:
    """The group of processes of a run.

    Small Python objects travel between them, arrays go through files.

    Args:
        rank: number of this process.
        n_processes: size of the group.
        local_rank: number of this process on its machine.
        group: of torch; None for the one of all processes.
    """

    def __init__(
        self,
        rank: int = 0,
        n_processes: int = 1,
        local_rank: int = 0,
        group: Any = None,
    ) -> None:
        self.rank = rank
        self.group = group
        self.n_processes = n_processes
        self.local_rank = local_rank
        self.lock: RunLock | None = None
        self._waiting: threading.Thread | None = None

    def hold_folder(self, folder: Path) -> str:
        """Take the lock of a run folder for the whole group, until ``close``.

        Args:
            folder: run folder.

        Returns:
            What the user should know of it; empty when nothing.

        Raises:
            DataError: another run holds it.
        """

        def take() -> Holder:
            self.lock = acquire(folder)
            remove_litter(folder)
            return self.lock.holder

        holder = self.on_first(take)
        if self.lock is None:
            self.lock = join(folder, holder)
            follow_file(self.lock.path, LOCK_PATIENCE, HEARTBEAT)
        return self.lock.word

    def check_folder(self) -> None:
        """Make sure that the run folder still belongs to this group.

        Raises:
            DataError: another run has taken it over.
        """
        if self.lock is not None:
            self.lock.check()

    @property
    def n_local(self) -> int:
        """Number of processes on this machine, as far as it is known."""
        return min(self.n_processes, int(os.environ.get("LOCAL_WORLD_SIZE", self.n_processes)))

    @property
    def is_first(self) -> bool:
        """Whether this process writes records and speaks."""
        return self.rank == 0

    def gather(self, value: Result) -> list[Result]:
        """Collect one value from every process, in the order of ranks.

        All processes wait for each other.
        """
        if self.n_processes == 1:
            return [value]
        values: list[Any] = [None] * self.n_processes
        failures: list[RuntimeError] = []

        def wait() -> None:
            try:
                torch.distributed.all_gather_object(values, value, group=self.group)
            except RuntimeError as error:
                failures.append(error)

        # In a thread of its own: Python attends to signals between calls of the main thread only.
        self._waiting = threading.Thread(target=wait, name=WAITING, daemon=True)
        self._waiting.start()
        while self._waiting.is_alive():
            self._waiting.join(POLL)
        if failures:
            raise explain_lost(failures[0])
        return values

    def on_first(self, action: Callable[[], Result]) -> Result:
        """Run an action in the first process and hand its (small) result, or its error, to all.

        Raises:
            MlepiError: whatever the action raised, in every process.
        """
        result: Any = None
        error: BaseException | None = None
        if self.is_first:
            try:
                self.check_folder()
                result = action()
            except BaseException as failure:
                error = _share(failure)
        result, error = self.gather((result, error))[0]
        if error is not None:
            raise error
        return result

    def on_each(self, action: Callable[[], Result]) -> Result:
        """Run an action in every process and return this one's result.

        Raises:
            MlepiError: the first error of any process, in every process.
        """
        result: Any = None
        error: BaseException | None = None
        try:
            result = action()
        except BaseException as failure:
            error = _share(failure)
        for failed in self.gather(error):
            if failed is not None:
                raise failed
        return result

    def close(self) -> None:
        """Leave the group, and the run folder to others."""
        if self.lock is not None:
            self.lock.release()
        left = self._waiting is not None and self._waiting.is_alive()  # stopped while it waited
        if self.n_processes > 1 and torch.distributed.is_initialized() and not left:
            torch.distributed.destroy_process_group()


def launch_processes(devices: int, num_nodes: int) -> Processes:
    """Start the other processes of this run, or join those that a launcher has started.

    Args:
        devices: processes per machine.
        num_nodes: machines.

    Returns:
        The group, seen from this process.
    """
    started = int(
        os.environ.get("WORLD_SIZE", "1")
    )  # by torchrun, or by the process that launched this one
    if devices * num_nodes == 1 and started == 1:
        return Processes()
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy

    for talkative in (
        "lightning.fabric.utilities.distributed",
        "lightning.pytorch.utilities.rank_zero",
    ):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = started // devices
    observer = logging.getLogger(OBSERVER)
    if not observer.handlers:  # the only word of a process that was killed
        observer.setLevel(logging.INFO)
        observer.addHandler(logging.StreamHandler(sys.stderr))
    os.environ[PARENT] = str(os.getpid())
    # gloo everywhere: only small Python objects are exchanged, never tensors of a device
    strategy = DDPStrategy(process_group_backend="gloo", timeout=MEETING)
    fabric = Fabric(accelerator="cpu", devices=devices, num_nodes=num_nodes, strategy=strategy)
    try:
        fabric.launch()
        group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    except RuntimeError as error:
        raise _no_meeting(error, devices * num_nodes) from error
    return Processes(fabric.global_rank, fabric.world_size, fabric.local_rank, group)


def _share(failure: BaseException) -> BaseException:
    """Return what the other processes are told of a failure in this one.

    Raises:
        BaseException: the failure itself, where it is a mistake of the program.
    """
    if isinstance(failure, (*ENDS_ALL, Stopped)):
        return failure
    explained = explain_fault(failure, Path.cwd())
    if explained is None:
        raise failure
    return MachineError(str(explained))


def _no_meeting(error: Exception, n_processes: int) -> MachineError:
    where = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    return MachineError(
        message(
            f"processes at {where}",
            f"a meeting that failed ({' '.join(str(error).split())[:200]})",
            f"all {n_processes} processes within {MEETING.total_seconds() / 60:g} min",
            "Look whether all were started, with the same trainer.devices and trainer.num_nodes, "
            "and whether this address can be reached from every node.",
        )
    )
