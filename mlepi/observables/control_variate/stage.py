"""The stage ``control``.

v_F(T) with the noise taken off that a cheap tight binding shares with the electron network.

The tight binding of the stage ``tight_binding`` sees the same samples and many more, in runs of its
own below ``control``: see ``mlepi.physics.averages.control_variate``. All have the same seed and
sampler: the first cheap samples are those of the network.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.observables.fermi_velocity import FermiVelocityStage
from mlepi.physics.averages.control_variate import apply_control
from mlepi.physics.averages.statistics import standard_errors
from mlepi.pipeline.hamiltonian import HamiltonianStage
from mlepi.pipeline.sources import Source
from mlepi.reference_systems.fit import describe_tight_binding
from mlepi.results import (
    ControlledRecord,
    ControlRecord,
    ObservablesRecord,
    ResultsStore,
    TightBindingRecord,
    VelocityRecord,
)

if TYPE_CHECKING:
    from mlepi.pipeline.run import Run

FOLDER = "control"
CARBON = 6


class ControlStage:
    """Combine the velocities of the network with those of the tight binding.

    See ``conf/stage/settings/control.yaml``.

    Args:
        n_samples: of the tight binding, at every temperature.
        n_folds: parts of the samples; the coefficient for one is fitted to the others.
    """

    name: ClassVar[str] = "control"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = (
        "structure",
        "phonon",
        "sampling",
        "tight_binding",
        "observables",
    )
    record: ClassVar[type] = ControlRecord

    def __init__(self, *, n_samples: int, n_folds: int) -> None:
        if n_samples < 2 or n_folds < 2:
            raise ConfigError(
                message(
                    "stage.control",
                    f"n_samples {n_samples}, n_folds {n_folds}",
                    "at least 2 of both",
                    "Raise both to 2 or more.",
                )
            )
        self.n_samples = n_samples
        self.n_folds = n_folds

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return all settings."""
        return {"n_samples": self.n_samples, "n_folds": self.n_folds}

    def nested_runs(self, run: Run) -> Sequence[tuple[Run, Sequence[str]]]:
        """Return the runs of the tight binding: on the samples of the network, and on many."""
        fit: TightBindingRecord = run.read("tight_binding")
        arguments = describe_tight_binding(
            (fit.hopping, fit.hopping_decay),
            (fit.interlayer_hopping, fit.interlayer_decay),
            fit.bond,
            fit.spacing,
        )
        observables = copy.copy(cast(FermiVelocityStage, run.stages["observables"]))
        observables.valence_electrons, observables._reference = {CARBON: 1.0}, None
        sampling = copy.copy(run.stages["sampling"])
        sampling.target_error = None  # type: ignore[union-attr]
        used: ObservablesRecord = run.read("observables")
        runs = []
        for folder, n_samples in (
            (f"{FOLDER}/same", used.n_samples),
            (f"{FOLDER}/many", max(self.n_samples, used.n_samples)),
        ):
            store = ResultsStore(run.store.folder / folder)
            nested = replace(
                run,
                store=store,
                stages={
                    **run.stages,
                    "sampling": sampling,
                    "hamiltonian": HamiltonianStage(),
                    "observables": observables,
                },
                n_samples=n_samples,
                electron=Source(
                    "tight binding",
                    {"_target_": "mlepi.reference_systems.TightBinding", **arguments},
                ),
                overlap=(),
                dtype="float64",
                compiled=False,
                _records={},
            )
            runs.append((nested, ("sampling", "hamiltonian", "observables")))
        return runs

    def compute(self, run: Run) -> ControlRecord:
        """Apply the control variate to both estimators."""
        expensive: ObservablesRecord = run.read("observables")
        same, many = (
            cast(ObservablesRecord, nested.read("observables"))
            for nested, _ in self.nested_runs(run)
        )
        return ControlRecord(
            temperatures=expensive.temperatures,
            n_samples=expensive.n_samples,
            n_control_samples=many.n_samples,
            spectral=self._control(expensive.spectral, same.spectral, many.spectral),
            sorted_average=self._control(
                expensive.sorted_average, same.sorted_average, many.sorted_average
            ),
        )

    def summarize(self, record: ControlRecord) -> str:
        """Say in a few words what was gained."""
        one = record.spectral
        return (
            f"v_F {1e-5 * one.values[-1, 0]:.3f}±{1e-5 * one.errors[-1, 0]:.3f} ×10⁵ m/s at "
            f"{record.temperatures[-1]:g} K "
            f"(plain {1e-5 * one.plain[-1, 0]:.3f}±{1e-5 * one.plain_errors[-1, 0]:.3f}), "
            "variance / "
            f"{one.variance_reductions[-1, 0]:.1f} ({one.sample_reductions[-1, 0]:.1f} for an "
            "exact cheap average); "
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
            plain=plain, plain_errors=standard_errors(pseudo), **vars(controlled)
        )


def _quantities(record: VelocityRecord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Collect v_F, its change and the slope with their pseudo-values.

    Returns:
        (n_temperatures, 3) and (n_groups, n_temperatures, 3), m/s.
    """
    velocities, slopes = record.pseudo_velocities[:, :, 0], record.pseudo_velocities[:, :, 1]
    values = np.stack([record.velocities, record.changes, record.slopes], axis=-1)
    return values, np.stack([velocities, velocities - velocities[:, :1], slopes], axis=-1)
