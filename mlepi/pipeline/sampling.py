"""The thermal ensemble of displaced supercells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.io import write

from mlepi.errors import ConfigError, message
from mlepi.physics.sampling import SOFTEST_FREQUENCY, HarmonicEnsemble, ImaginaryModes, Statistics, compute_modes, draw_normals
from mlepi.results import PhononRecord, SamplingRecord

if TYPE_CHECKING:
    from mlepi.pipeline.run import Run

EXPORT_FOLDER = "samples"


class SamplingStage:
    """Settle the distribution of displacements and examine its snapshots.

    Args:
        statistics: "quantum" (with zero point) or "classical".
        imaginary: modes without a positive frequency: "error", "freeze" or "floor".
        floor_frequency: THz, for "floor".
        export: write the displaced supercells as extxyz files, one per temperature.
        target: observable whose error bar decides when there are enough samples.
        target_error: error bar at which the ensemble stops growing, at every temperature, in the unit of the observable; None
            takes all ``n_samples``.
    """

    name: ClassVar[str] = "sampling"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("phonon",)
    record: ClassVar[type] = SamplingRecord

    def __init__(
        self,
        *,
        statistics: Statistics = "quantum",
        imaginary: ImaginaryModes = "error",
        floor_frequency: float = 0.5,
        export: bool = False,
        target: str = "fermi_velocity",
        target_error: float | None = None,
    ) -> None:
        if target_error is not None and not target_error > 0:
            raise ConfigError(
                message(
                    "stage.sampling.target_error",
                    f"{target_error}",
                    "null or a positive error bar",
                    "Give it in the target's unit.",
                )
            )
        self.statistics = statistics
        self.imaginary = imaginary
        self.floor_frequency = floor_frequency
        self.export = export
        self.target = target
        self.target_error = target_error

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return all settings with temperatures, number of samples and seed."""
        return {**self.distribution(run), "temperature": run.temperatures, "n_samples": run.n_samples, "export": self.export}

    def distribution(self, run: Run) -> Mapping[str, Any]:
        """Return what decides a single snapshot at a given temperature."""
        return {
            "statistics": self.statistics,
            "imaginary": self.imaginary,
            "floor_frequency": self.floor_frequency,
            "seed": run.seed,
        }

    def stopping(self) -> Mapping[str, Any]:
        """Return what decides how many samples the stages after this one look at, beside ``n_samples``."""
        return {} if self.target_error is None else {"target": self.target, "target_error": self.target_error}

    def compute(self, run: Run) -> SamplingRecord:
        """Draw every snapshot once, one at a time, and return what characterises them."""
        phonon: PhononRecord = run.read("phonon")
        modes = compute_modes(phonon.build_force_constants())
        ensemble = HarmonicEnsemble(modes, run.temperatures, self.statistics, self.imaginary, self.floor_frequency)
        supercell, n_atoms = phonon.atoms.repeat(phonon.supercell), len(phonon.atoms)
        squares = np.zeros((len(run.temperatures), n_atoms, 3))
        largest = np.zeros(len(run.temperatures))
        if self.export:
            for path in (run.store.folder / EXPORT_FOLDER).glob("*.extxyz"):
                path.unlink()
        for sample in range(run.n_samples):
            displacements = ensemble.displacements(draw_normals(run.seed, [sample], modes.n_supercell))[:, 0]
            squares += (displacements**2).reshape(len(squares), -1, n_atoms, 3).mean(axis=1)
            largest = np.maximum(largest, np.linalg.norm(displacements, axis=2).max(axis=1))
            if self.export:
                self._export(run, supercell, displacements)
        threshold = self.floor_frequency if self.imaginary == "floor" else SOFTEST_FREQUENCY
        return SamplingRecord(
            temperatures=np.array(run.temperatures),
            n_samples=run.n_samples,
            seed=run.seed,
            statistics=self.statistics,
            imaginary=self.imaginary,
            floor_frequency=self.floor_frequency,
            n_soft_modes=int(np.sum(~modes.translations & (modes.frequencies < threshold))),
            mean_square_displacements=ensemble.mean_square_displacements(),
            sampled_mean_square_displacements=squares / run.n_samples,
            max_displacements=largest,
        )

    def summarize(self, record: SamplingRecord) -> str:
        """Say in a few words what was found."""
        span = f"{record.temperatures.min():g} to {record.temperatures.max():g} K"
        soft = f", {record.n_soft_modes} soft modes: {record.imaginary}" if record.n_soft_modes else ""
        return f"{record.n_samples} snapshots at {span}, largest displacement {record.max_displacements.max():.2f} Å{soft}"

    def _export(self, run: Run, supercell: Any, displacements: Any) -> None:
        folder = run.store.folder / EXPORT_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for temperature, displacement in zip(run.temperatures, displacements, strict=True):
            atoms = supercell.copy()
            atoms.positions += displacement
            write(folder / f"T{temperature:g}.extxyz", atoms, append=True)
