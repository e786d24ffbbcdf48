"""What a stage is: it reads records, computes, and returns one record.

The runner does everything else.

A stage never writes the store, never asks whether its work is done and knows nothing of processes.
Its constructor takes the keys of ``conf/stage/settings/<name>.yaml``, its record is a frozen
dataclass whose fields carry their unit (``field(metadata=mlepi.results.unit(…))``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run

Record = Any
"""A frozen dataclass of ``mlepi.results``."""


class SampleKey(NamedTuple):
    """Identity of one displaced supercell; it does not depend on how many others there are.

    Attributes:
        sample: number of the snapshot.
        temperature: K.
    """

    sample: int
    temperature: float


class Stage(Protocol):
    """One step of the pipeline.

    Attributes:
        name: also the name of its record in the store and of its config.
        version: to be raised whenever the same inputs give another result.
        requires: stages whose records it reads.
        record: class of its record.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    requires: ClassVar[tuple[str, ...]]
    record: ClassVar[type]

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return everything beside the required records that decides the result, as plain JSON-able data."""
        ...

    def compute(self, run: Run) -> Record:
        """Compute the record; called in one process only.

        ``run.read(stage)`` gives the records of earlier stages.
        """
        ...

    def summarize(self, record: Record) -> str:
        """Say in a few words what was found; shown when the stage is done."""
        ...


@runtime_checkable
class SampledStage(Protocol):
    """A stage that looks at every displaced supercell.

    The runner shares the samples over the processes.

    ``sample_inputs`` must not hold the number of samples nor the temperatures: results of single
    samples then stay valid when an ensemble grows. ``begin`` is called once in every process,
    ``evaluate`` once per sample in one of them, ``finish`` in one process with the results of all
    samples in the order of snapshots and, within one, of temperatures.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    requires: ClassVar[tuple[str, ...]]
    record: ClassVar[type]

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return everything beside the required records that decides the result, as plain JSON-able data."""
        ...

    def sample_inputs(self, run: Run) -> Mapping[str, Any]:
        """Return what decides the result of one sample, as plain JSON-able data."""
        ...

    def begin(self, run: Run) -> None:
        """Prepare what all samples share.

        ``run.equilibrium()`` gives the undisplaced primitive H and S.
        """
        ...

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Return small named arrays for one displaced supercell; they are stored at once."""
        ...

    def finish(self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]) -> Record:
        """Combine the results of all samples into the record.

        Averages and error bars take ``run.design``.
        """
        ...

    def summarize(self, record: Record) -> str:
        """Say in a few words what was found; shown when the stage is done."""
        ...


@runtime_checkable
class TargetStage(Protocol):
    """A sampled stage whose error bars can decide when an ensemble is large enough.

    Attributes:
        targets: names of the observables it knows, as in ``stage.sampling.target``.
    """

    targets: ClassVar[tuple[str, ...]]

    def error_bars(self, record: Record) -> Mapping[str, NDArray]:
        """Return the standard error of every target at each temperature, (n_temperatures,), in its unit."""
        ...


@runtime_checkable
class NestedStage(Protocol):
    """A plain stage that rests on other runs, which the runner makes first, in folders below that of its own run."""

    def nested_runs(self, run: Run) -> Sequence[tuple[Run, Sequence[str]]]:
        """Return the runs and the stages of each.

        Called in every process, after the required records are there.
        """
        ...
