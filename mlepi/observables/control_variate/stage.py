"""The control_variate stage: v_F(T) with the noise taken off that a cheap Hamiltonian shares.

The Hamiltonian of the stage ``tight_binding`` sees the samples of the electron network and many
more, in runs of its own below ``control``: see ``mlepi.physics.averages.control_variate``. All have
the same seed and sampler: the first cheap samples are those of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.observables.control_variate.record import (
    SLOPE,
    ControlledRecord,
    ControlVariateRecord,
)
from mlepi.observables.near_k.record import VelocityRecord
from mlepi.physics.averages.control_variate import apply_control
from mlepi.physics.averages.statistics import standard_errors
from mlepi.pipeline.companion_stage import CompanionStage, TakenSamples
from mlepi.pipeline.networks import Networks
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.sources import Source
from mlepi.pipeline.stages.hamiltonian.stage import HamiltonianStage
from mlepi.reference_systems.fit import describe_tight_binding
from mlepi.results import ResultsStore
from mlepi.results.quantities import half_interval

if TYPE_CHECKING:
    from mlepi.observables.fermi_velocity.record import FermiVelocityRecord
    from mlepi.pipeline.stage import Stage

FOLDER = "control"
"""Below the run folder; that of earlier versions, whose runs go on."""

CARBON = 6
FOLDERS = ("same", "many")
"""Of the runs below it: on the samples of the network, and on many."""

NESTED_STAGES = ("sampling", "hamiltonian", "fermi_velocity")


@dataclass(frozen=True, kw_only=True)
class ControlVariateStage(CompanionStage):
    """Combine the velocities of the network with those of the tight binding.

    See ``conf/stage/control_variate.yaml``.

    Attributes:
        n_samples: of the tight binding, at every temperature; where an error bar is asked for it
            decides.
        n_folds: parts of the samples; the coefficient for one is fitted to the others.

    Raises:
        ConfigError: fewer than two of either.
    """

    name: ClassVar[str] = "control_variate"
    requires: ClassVar[tuple[str, ...]] = (
        "structure",
        "phonon",
        "sampling",
        "tight_binding",
        "fermi_velocity",
    )
    record: ClassVar[type] = ControlVariateRecord
    corrects: ClassVar[str] = "fermi_velocity"
    targets: ClassVar[tuple[str, ...]] = ("fermi_velocity",)

    n_samples: int
    n_folds: int

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if self.n_samples < 2 or self.n_folds < 2:
            raise ConfigError(
                message(
                    "stage.control_variate",
                    f"n_samples {self.n_samples}, n_folds {self.n_folds}",
                    "at least 2 of both",
                    "Take 1000 and 5.",
                )
            )

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return all settings."""
        return {"n_samples": self.n_samples, "n_folds": self.n_folds}

    def suits(self, run: Run) -> bool:
        """Tell whether the structure is carbon alone, in layers."""
        atoms = run.read("structure").atoms
        return bool(np.all(atoms.numbers == CARBON)) and "layer" in atoms.arrays

    def cheap_runs(self, run: Run, taken: TakenSamples) -> Sequence[tuple[Run, Sequence[str]]]:
        """Return the runs of the tight binding: on the samples of the network, and on many."""
        many = replace(taken, n_samples=max(taken.n_cheap, taken.n_samples), fewer={})
        return [
            (_nest(run, name, each), NESTED_STAGES)
            for name, each in zip(FOLDERS, (taken, many), strict=True)
        ]

    def compute(self, run: Run, line: StageLine) -> ControlVariateRecord:
        """Apply the control variate to both estimators."""
        same, many = (nested for nested, _ in self.nested_runs(run))
        return self.correct(run.read(self.corrects), same, many)

    def correct(self, record: FermiVelocityRecord, same: Run, many: Run) -> ControlVariateRecord:
        """Apply the control variate to both estimators of a record of the network."""
        few, all_ = (nested.read("fermi_velocity") for nested in (same, many))
        return ControlVariateRecord(
            temperatures=record.temperatures,
            n_samples=record.n_samples,
            n_control_samples=all_.n_samples,
            spectral=self._control(record.spectral, few.spectral, all_.spectral),
            sorted_average=self._control(
                record.sorted_average, few.sorted_average, all_.sorted_average
            ),
        )

    def error_bars(self, record: ControlVariateRecord) -> dict[str, NDArray[np.float64]]:
        """Return half the interval of the mean slope of spectral peaks, m/s."""
        return {"fermi_velocity": half_interval(record.spectral, "errors")[:, SLOPE]}

    def target_values(self, record: ControlVariateRecord) -> dict[str, NDArray[np.float64]]:
        """Return the mean slope of spectral peaks, m/s."""
        return {"fermi_velocity": record.spectral.values[:, SLOPE]}

    def contributions(self, record: ControlVariateRecord) -> dict[str, NDArray[np.float64]]:
        """Return what groups of samples contribute to the mean slope, m/s."""
        return {"fermi_velocity": record.spectral.contributions[:, :, SLOPE]}

    def correlations(self, record: ControlVariateRecord) -> dict[str, NDArray[np.float64]]:
        """Return the correlation of the mean slopes by network and tight binding."""
        return {"fermi_velocity": record.spectral.correlations[:, SLOPE]}

    def summarize(self, record: ControlVariateRecord) -> str:
        """Say in a few words what was gained."""
        one, place = record.spectral, (-1, SLOPE)
        error, plain = (half_interval(one, name)[place] for name in ("errors", "plain_errors"))
        return (
            f"slope {1e-5 * one.values[place]:.3f}±{1e-5 * error:.3f} ×10⁵ m/s at "
            f"{record.temperatures[-1]:g} K "
            f"(plain {1e-5 * one.plain[place]:.3f}±{1e-5 * plain:.3f}), "
            f"variance / {one.variance_reductions[place]:.1f} "
            f"({one.sample_reductions[place]:.1f} for an exact cheap average); "
            f"{record.n_samples} + {record.n_control_samples} cheap samples"
        )

    def _control(
        self, expensive: VelocityRecord, same: VelocityRecord, many: VelocityRecord
    ) -> ControlledRecord:
        plain, pseudo = _quantities(expensive)
        controlled = apply_control(
            plain, pseudo, *_quantities(same), *_quantities(many), n_folds=self.n_folds
        )
        return ControlledRecord(
            plain=plain,
            plain_errors=standard_errors(pseudo),
            degrees_of_freedom=float(np.fmin(len(pseudo) - 1.0, expensive.degrees_of_freedom)),
            **vars(controlled),
        )


def _nest(run: Run, name: str, taken: TakenSamples) -> Run:
    """Return a run of the tight binding on the first samples of the same ensemble."""
    fit = run.read("tight_binding")
    arguments = describe_tight_binding(
        (fit.hopping, fit.hopping_decay),
        (fit.interlayer_hopping, fit.interlayer_decay),
        fit.bond,
        fit.spacing,
    )
    target = {"_target_": "mlepi.reference_systems.TightBinding", **arguments}
    settings = replace(
        run.settings,
        n_samples=taken.n_samples,
        electron=Source("tight binding", target),
        overlap=(),
        overlap_program=(),
        level_shift="off",
        left_out=taken.left_out,
        fewer=taken.fewer,
        dtype="float64",
        compiled=False,
    )
    # fields of a stage by its name: its class is not known here
    sampling, velocity = (cast(Any, run.stages[key]) for key in ("sampling", "fermi_velocity"))
    own: dict[str, Stage] = {
        "sampling": sampling.without_target(),
        "hamiltonian": HamiltonianStage(),
        "fermi_velocity": replace(velocity, valence_electrons={CARBON: 1.0}),
    }
    return Run(
        settings=settings,
        store=ResultsStore(run.store.folder / FOLDER / name),
        networks=Networks(settings, own_calculator=run.networks.own_calculator),
        stages={**run.stages, **own},
    )


def _quantities(record: VelocityRecord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return v_F, its change and the slope of one estimator, m/s.

    Args:
        record: of the estimator.

    Returns:
        (n_temperatures, 3), and their pseudo-values, (n_groups, n_temperatures, 3).
    """
    velocities, slopes = record.pseudo_velocities[:, :, 0], record.pseudo_velocities[:, :, 1]
    values = np.stack([record.velocities, record.changes, record.slopes], axis=-1)
    return values, np.stack([velocities, velocities - velocities[:, :1], slopes], axis=-1)
