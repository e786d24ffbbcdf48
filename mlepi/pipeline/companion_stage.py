"""Stages that take noise off the observable of another one by a cheap Hamiltonian.

The cheap one sees the same samples and many more, in runs of its own. Where an error bar is asked
for, such a stage can decide in the place of the other when there are enough samples
(``mlepi.pipeline.companion``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mlepi.pipeline.ghosts import GhostSummary
from mlepi.pipeline.plain_stage import NestedStage
from mlepi.pipeline.precision import Precision
from mlepi.pipeline.stage import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlepi.pipeline.run import Run


@dataclass(frozen=True)
class TakenSamples:
    """The samples that a record rests on, and those of its companion.

    Attributes:
        n_samples: snapshots, those that are left out among them, at the temperature with the most.
        fewer: K → snapshots, of temperatures with fewer.
        left_out: snapshots that no average contains.
        n_cheap: of the cheap Hamiltonian, at every temperature.
    """

    n_samples: int
    fewer: Mapping[float, int]
    left_out: tuple[int, ...]
    n_cheap: int

    @classmethod
    def of_record(cls, run: Run, stage: str, n_cheap: int) -> TakenSamples:
        """Return the samples of a record in the store.

        Args:
            run: with the record.
            stage: of it; an average over samples.
            n_cheap: cheap samples, unless those of the record have been chosen.
        """
        provenance = run.store.provenance(stage)
        ghosts = GhostSummary.from_provenance(provenance)
        left_out = () if ghosts is None else ghosts.left_out
        n_samples = run.read(stage).n_samples + len(left_out)
        precision = Precision.from_provenance(provenance)
        if precision is None:
            return cls(n_samples, {}, left_out, n_cheap)
        counts = dict(zip(precision.temperatures, precision.n_samples, strict=True))
        fewer = {t: n for t, n in counts.items() if n < max(counts.values())}
        return cls(n_samples, fewer, left_out, precision.n_cheap or n_cheap)


class CompanionStage(NestedStage):
    """A stage that corrects the record of a sampled stage by cheap samples.

    Attributes:
        corrects: the sampled stage; its record has ``n_samples``.
        targets: observables of it whose error bars become smaller.
        n_samples: cheap samples at every temperature, unless an error bar chooses them.
    """

    corrects: ClassVar[str]
    targets: ClassVar[tuple[str, ...]]
    n_samples: int

    @abstractmethod
    def suits(self, run: Run) -> bool:
        """Tell whether there is a cheap Hamiltonian for the structure of a run."""

    @abstractmethod
    def cheap_runs(self, run: Run, taken: TakenSamples) -> Sequence[tuple[Run, Sequence[str]]]:
        """Return the runs of the cheap Hamiltonian with their stages.

        On the same samples first, then on many; what they rest on has its records.
        """

    @abstractmethod
    def correct(self, record: Record, same: Run, many: Run) -> Record:
        """Return the record of this stage.

        Args:
            record: of the stage that is corrected.
            same: finished run of the cheap Hamiltonian on its samples.
            many: and on many.
        """

    @abstractmethod
    def error_bars(self, record: Record) -> Mapping[str, NDArray[Any]]:
        """Return half the 68 % interval of every target, (n_temperatures,), in its unit."""

    @abstractmethod
    def target_values(self, record: Record) -> Mapping[str, NDArray[Any]]:
        """Return every target, (n_temperatures,), in its unit."""

    @abstractmethod
    def contributions(self, record: Record) -> Mapping[str, NDArray[Any]]:
        """Return what single groups of samples contribute, (n_groups, n_temperatures)."""

    @abstractmethod
    def correlations(self, record: Record) -> Mapping[str, NDArray[Any]]:
        """Return ρ of the two Hamiltonians for every target, (n_temperatures,)."""

    def nested_runs(self, run: Run) -> Sequence[tuple[Run, Sequence[str]]]:
        """Return the cheap runs that belong to the record in the store."""
        return self.cheap_runs(run, TakenSamples.of_record(run, self.corrects, self.n_samples))
