"""The processes that go through the stages compute the samples themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from mlepi.errors import ConfigError, message
from mlepi.pipeline.engines.calls import Calls, Function, LocalCalls
from mlepi.pipeline.engines.engine import Engine, Found, Task, Work
from mlepi.pipeline.processes import Processes, launch_processes
from mlepi.threads import VARIABLES, count_cores


class Local(Engine):
    """This process, and those of ``trainer.devices`` or of a launcher where there are several."""

    def launch(self, devices: int, num_nodes: int) -> Processes:
        """Start the other processes, or join those that a launcher has started."""
        return launch_processes(devices, num_nodes)

    def evaluate(
        self, work: Work, tasks: Sequence[Task], say: Callable[[str], None]
    ) -> Generator[Found]:
        """Evaluate them here."""
        return work.evaluate(tasks)

    def open_calls(
        self, function: Function, folder: Path, jobs: int, say: Callable[[str], None]
    ) -> Calls:
        """Return calls in threads, which share the cores that this process may take."""
        cores = int(os.environ.get(VARIABLES[0], count_cores()))
        return LocalCalls(function, jobs, max(1, cores // jobs))


class Ranks(Local):
    """Several processes from beginning to end, each with its share of the samples.

    ``trainer.devices`` and ``trainer.num_nodes`` say how many, or torchrun or srun.
    """

    def launch(self, devices: int, num_nodes: int) -> Processes:
        """Start the other processes, or join those that a launcher has started.

        Raises:
            ConfigError: nobody says how many.
        """
        if devices * num_nodes == 1 and os.environ.get("WORLD_SIZE", "1") == "1":
            raise ConfigError(
                message(
                    "engine",
                    "ranks with trainer.devices=1",
                    "several processes",
                    "Set trainer.devices=N, start with torchrun or srun, or use engine=local.",
                )
            )
        return super().launch(devices, num_nodes)

    def open_calls(
        self, function: Function, folder: Path, jobs: int, say: Callable[[str], None]
    ) -> Calls:
        """Refuse: every rank would make every call.

        Raises:
            ConfigError: always.
        """
        return Engine.open_calls(self, function, folder, jobs, say)
