"""Stages that look at every displaced supercell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stage import Record, Stage

Part = dict[str, NDArray[Any]]
"""What a stage found in one sample: small named arrays."""

Prepared = TypeVar("Prepared")
"""What all samples of a stage share: a frozen value."""


class SampledStage(Stage, Generic[Prepared]):
    """A stage that looks at every displaced supercell; the samples are shared over the processes.

    ``begin`` is called once in every process, ``evaluate`` once per sample in one of them, and
    ``finish`` in one process. What was found in single samples stays valid when an ensemble grows.

    Attributes:
        targets: observables whose error bars can decide when an ensemble is large enough.
        least_samples: fewest that make a record with error bars.
        averages: whether the record is an average; it then lacks the samples with ghost states.
        uneven: whether ``finish`` understands temperatures with fewer samples than others
            (``Ensemble.counts``); a stage that does not is given those that all have.
    """

    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    networks: ClassVar[tuple[str, ...]] = ("electron",)
    lists: ClassVar[tuple[str, ...]] = ("full",)
    compared: ClassVar[bool] = True
    targets: ClassVar[tuple[str, ...]] = ()
    least_samples: ClassVar[int] = 2
    averages: ClassVar[bool] = True
    uneven: ClassVar[bool] = False

    @abstractmethod
    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the result of one sample, as JSON-able data.

        Neither the number of samples nor the temperatures belong to it.
        """

    @abstractmethod
    def begin(self, ensemble: Ensemble) -> Prepared:
        """Compute what all samples share; it must not depend on their number."""

    @abstractmethod
    def evaluate(self, prepared: Prepared, sample: Sample) -> Part:
        """Return what one displaced supercell contributes; it is stored at once."""

    @abstractmethod
    def finish(
        self,
        prepared: Prepared,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> Record:
        """Combine the results of all samples into the record.

        Args:
            prepared: what ``begin`` returned.
            ensemble: temperatures, number of samples and their design.
            results: of all samples, in the order of snapshots and, within one, of temperatures; may
                be gone through more than once. Where snapshots with ghost states are left out, the
                others are numbered without gaps, as the design of the ensemble is.
        """

    def error_bars(self, record: Record) -> Mapping[str, NDArray[Any]]:
        """Return half the 68 % interval of every target, (n_temperatures,), in its unit."""
        return {}

    def target_values(self, record: Record) -> Mapping[str, NDArray[Any]]:
        """Return every target, (n_temperatures,), in its unit; for errors relative to it."""
        return {}

    def contributions(self, record: Record) -> Mapping[str, NDArray[Any]]:
        """Return what single groups of samples contribute to every target.

        Jackknife pseudo-values, (n_groups, n_temperatures), in its unit: they tell how skewed the
        groups are. A stage that does not say it needs more of them before its error bar decides.
        """
        return {}

    def prepare(self, ensemble: Ensemble) -> Prepared:
        """Check the ensemble, then ``begin``.

        Raises:
            ConfigError: too few samples for an error bar.
            StructureError: atoms in another order than that of ``Atoms.repeat``.
        """
        if ensemble.n_samples < self.least_samples:
            raise ConfigError(
                message(
                    "n_samples",
                    f"{ensemble.n_samples}",
                    f"at least {self.least_samples}, for an error bar",
                    "Ask for more samples.",
                )
            )
        ensemble.check_atoms()
        return self.begin(ensemble)


def averages(stage: type[Stage]) -> bool:
    """Tell whether the record of a stage is an average over samples."""
    return issubclass(stage, SampledStage) and stage.averages
