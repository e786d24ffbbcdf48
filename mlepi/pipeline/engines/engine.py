"""What an engine is: it maps samples to what stages find in them.

What is to be done is a value, ``Work`` and ``Task``, that can be sent to another process; what
comes back is a stream of ``Found`` in any order. An engine never writes a result: the pass over the
samples stores what it yields, so that every engine goes on where any other one has stopped. Other
work than samples is handed out as ``Calls``.
"""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mlepi.arithmetic import float32_precision
from mlepi.errors import ConfigError, message
from mlepi.pipeline.ahead import run_ahead
from mlepi.pipeline.batch_sizes import predict_in_batches
from mlepi.pipeline.engines.calls import Calls, Function
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.ghosts import KEY, count_ghosts
from mlepi.pipeline.processes import Processes

if TYPE_CHECKING:
    from mlepi.pipeline.sampled_stage import Part, SampledStage
    from mlepi.pipeline.stages.hamiltonian.sample_files import SampleFiles


class Task(NamedTuple):
    """One sample and the stages that have not seen it.

    Attributes:
        key: the sample.
        stages: names.
    """

    key: SampleKey
    stages: tuple[str, ...]


class Found(NamedTuple):
    """What stages found in one sample.

    Attributes:
        key: the sample.
        parts: name of a stage → its result.
        maker: what computed it, ``describe_maker``.
    """

    key: SampleKey
    parts: Mapping[str, Part]
    maker: str


@dataclass(frozen=True)
class Work:
    """All that a process must know to evaluate samples; it can be sent to another one.

    Attributes:
        ensemble: whose samples are looked at, with the networks.
        stages: that look at them.
        prepared: name of a stage → what all its samples share.
        files: where H and S of samples are kept; None where they are not.
    """

    ensemble: Ensemble
    stages: tuple[SampledStage[Any], ...]
    prepared: Mapping[str, Any]
    files: SampleFiles | None

    def evaluate(self, tasks: Sequence[Task]) -> Generator[Found]:
        """Evaluate samples in this process, one after the other.

        They are predicted in batches and, with a GPU, ahead of their use.

        Args:
            tasks: the samples.

        Raises:
            MlepiError: a sample cannot be evaluated.
        """
        stages, maker = {stage.name: stage for stage in self.stages}, describe_maker()
        wanted = dict(tasks)
        settings = self.ensemble.networks.settings
        with (
            float32_precision(settings.tf32 and settings.on_gpu),
            closing(self._predict([task.key for task in tasks])) as predicted,
        ):
            for sample in predicted:
                counts = count_ghosts(sample, self.ensemble.ghost_energy)
                counted, parts = replace(sample, ghosts=counts), {}
                for name in wanted[sample.key]:
                    part = stages[name].evaluate(self.prepared[name], counted)
                    parts[name] = {**part, KEY: counts}
                yield Found(sample.key, parts, maker)

    def _predict(self, keys: Sequence[SampleKey]) -> Generator[Sample]:
        """Yield the samples in order."""
        settings = self.ensemble.networks.settings
        size = settings.largest_batch
        measured = settings.device if settings.on_gpu and settings.batch_size is None else None
        source = self.ensemble if self.files is None else self.files
        batches = predict_in_batches(source.predict, keys, size, measured)
        ahead = settings.on_gpu if settings.prefetch is None else settings.prefetch
        return run_ahead(batches, depth=size) if ahead else batches


class Engine(ABC):
    """Where the samples of a run are computed."""

    @abstractmethod
    def launch(self, devices: int, num_nodes: int) -> Processes:
        """Start or join the processes that go through the stages together.

        Args:
            devices: processes per machine.
            num_nodes: machines.
        """

    @abstractmethod
    def evaluate(
        self, work: Work, tasks: Sequence[Task], say: Callable[[str], None]
    ) -> Generator[Found]:
        """Yield what is found in samples, in any order; closing the generator ends the work.

        Args:
            work: what every process that computes must know.
            tasks: the samples of this process.
            say: what the user should know goes here, line by line.

        Raises:
            MlepiError: a sample cannot be evaluated.
        """

    def open_calls(
        self, function: Function, folder: Path, jobs: int, say: Callable[[str], None]
    ) -> Calls:
        """Return calls of a function, to be entered as a context.

        Args:
            function: see ``Function``; whatever goes to another process is pickled.
            folder: of the run.
            jobs: calls at once, where the engine does not say it.
            say: what the user should know goes here, line by line.

        Raises:
            ConfigError: this engine hands out samples only, or what it needs is missing.
        """
        name = type(self).__name__.lower()
        fix = "Use engine=local or engine=dask."
        raise ConfigError(message("engine", name, "one that hands out calls", fix))

    def close(self) -> None:  # noqa: B027 - most have started nothing
        """Let go of everything that was started."""


@cache
def name_processor() -> str:
    """Return the type of the processor."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def describe_maker() -> str:
    """Say what decides the last digits of results: type of processor and numbers of threads."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
    library = next((os.environ[name] for name in names if name in os.environ), "all")
    return f"{name_processor()}, {torch.get_num_threads()} threads, {library} in linear algebra"
