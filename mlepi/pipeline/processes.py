"""The processes that share the samples of a run.

One, several on this machine, or those of torchrun or SLURM.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed

from mlepi.errors import MlepiError
from mlepi.run_lock import Holder, RunLock, acquire, join

Result = TypeVar("Result")

PATIENCE = timedelta(days=7)
"""How long processes wait for each other: the first one may relax a structure or write a long
record meanwhile."""


class Processes:
    """The group of processes of a run.

    Small Python objects travel between them, arrays go through files.

    Args:
        rank: number of this process.
        n_processes: size of the group.
        local_rank: number of this process on its machine.
    """

    def __init__(self, rank: int = 0, n_processes: int = 1, local_rank: int = 0) -> None:
        self.rank = rank
        self.n_processes = n_processes
        self.local_rank = local_rank
        self.lock: RunLock | None = None

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
            return self.lock.holder

        holder = self.on_first(take)
        if self.lock is None:
            self.lock = join(folder, holder)
        return self.lock.word

    def check_folder(self) -> None:
        """Make sure that the run folder still belongs to this group.

        Raises:
            DataError: another run has taken it over.
        """
        if self.lock is not None:
            self.lock.check()

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
        torch.distributed.all_gather_object(values, value)
        return values

    def on_first(self, action: Callable[[], Result]) -> Result:
        """Run an action in the first process and hand its (small) result, or its error, to all.

        Raises:
            MlepiError: whatever the action raised, in every process.
        """
        result: Any = None
        error: Exception | None = None
        if self.is_first:
            try:
                self.check_folder()
                result = action()
            except MlepiError as failure:
                error = failure
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
        error: MlepiError | None = None
        try:
            result = action()
        except MlepiError as failure:
            error = failure
        for failed in self.gather(error):
            if failed is not None:
                raise failed
        return result

    def close(self) -> None:
        """Leave the group, and the run folder to others."""
        if self.lock is not None:
            self.lock.release()
        if self.n_processes > 1 and torch.distributed.is_initialized():
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
    # gloo everywhere: only small Python objects are exchanged, never tensors of a device
    strategy = DDPStrategy(process_group_backend="gloo", timeout=PATIENCE)
    fabric = Fabric(accelerator="cpu", devices=devices, num_nodes=num_nodes, strategy=strategy)
    fabric.launch()
    return Processes(fabric.global_rank, fabric.world_size, fabric.local_rank)
