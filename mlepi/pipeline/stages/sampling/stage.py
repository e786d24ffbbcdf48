"""The sampling stage: the distribution of displacements, and how well its snapshots show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.io import write

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.physics.averages.statistics import (
    SampleDesign,
    effective_sample_size,
    jackknife,
    standard_errors,
)
from mlepi.physics.vibrations.interlayer_motion import measure_interlayer_motion
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import HarmonicSampler, MonteCarlo
from mlepi.physics.vibrations.thermal import (
    SOFTEST_FREQUENCY,
    HarmonicEnsemble,
    ImaginaryModes,
    ProjectedOut,
    Statistics,
)
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stage import check_choice
from mlepi.pipeline.stages.phonon.record import PhononRecord
from mlepi.pipeline.stages.sampling.record import SamplingRecord
from mlepi.results import check_unchanged, hash_file

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

EXPORT_FOLDER = "samples"
BATCH_SIZE = 16
"""Snapshots that are looked at together."""
N_COUNTS = 10
"""Sample sizes in the study of the convergence."""
INTERLAYER_MESH = (48, 48, 1)
"""Wave vectors on which the motion of layers against each other is measured, unless others are
named."""
COMPANIONS = ("auto", "none")
LARGE_SHEAR = 1.5
"""More interlayer shear than this many times that of the dense mesh is told."""


@dataclass(frozen=True, kw_only=True)
class SamplingStage(PlainStage):
    """Settle the distribution of displacements and examine its snapshots.

    Attributes:
        statistics: "quantum" (with zero point) or "classical".
        imaginary: modes without a positive frequency: "error", "freeze" or "floor".
        floor_frequency: THz, for "floor".
        project_out: "none", "ZA" to leave out the rigid out-of-plane waves of the whole stack of
            layers, or "interlayer_gamma" to freeze shear and breathing of rigid layers at Γ.
        interlayer_mesh: wave vectors on which the motion of layers against each other is compared
            with that of the supercell.
        export: write the displaced supercells as extxyz files, one per temperature.
        target: observable whose error bar decides when there are enough samples; needed with an
            error only.
        target_error: half the 68 % interval at which a temperature has enough samples, in the unit
            of the observable; None and no ``relative_error`` takes all ``n_samples``.
        relative_error: the same over the observable itself.
        companion: "auto" to let a cheap Hamiltonian take noise off the observable where that
            reaches the error sooner, "none" for samples of the network alone.

    Raises:
        ConfigError: an error that is not positive, both of them, a mesh or a choice that is none.
    """

    name: ClassVar[str] = "sampling"
    requires: ClassVar[tuple[str, ...]] = ("phonon",)
    record: ClassVar[type] = SamplingRecord

    statistics: Statistics = "quantum"
    imaginary: ImaginaryModes = "error"
    floor_frequency: float = 0.5
    project_out: ProjectedOut = "none"
    interlayer_mesh: Sequence[int] = INTERLAYER_MESH
    export: bool = False
    target: str | None = None
    target_error: float | None = None
    relative_error: float | None = None
    companion: str = "auto"

    def __post_init__(self) -> None:
        """Refuse an error that is not positive, and two of them."""
        check_choice("stage.sampling.companion", self.companion, COMPANIONS)
        mesh = tuple(int(n) for n in self.interlayer_mesh)
        object.__setattr__(self, "interlayer_mesh", mesh)
        if len(mesh) != 3 or min(mesh) < 1:
            raise ConfigError(
                message(
                    "stage.sampling.interlayer_mesh",
                    f"{list(mesh)}",
                    "three numbers of at least 1",
                    "Take [48, 48, 1].",
                )
            )
        given = {"target_error": self.target_error, "relative_error": self.relative_error}
        for key, error in given.items():
            if error is not None and not 0.0 < error < math.inf:
                unit = "the target's unit" if key == "target_error" else "parts of the target"
                raise ConfigError(
                    message(key, f"{error}", "null or a positive error bar", f"Give it in {unit}.")
                )
        if None not in given.values():
            raise ConfigError(
                message(
                    "target_error and relative_error",
                    f"{self.target_error} and {self.relative_error}",
                    "one of them",
                    "Leave out the one that does not matter.",
                )
            )

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return all settings with temperatures, number of samples and seed."""
        return {
            **self.distribution(settings),
            "temperature": list(settings.temperatures),
            "n_samples": settings.n_samples,
            "export": self.export,
            **(
                {}
                if self.interlayer_mesh == INTERLAYER_MESH
                else {"interlayer_mesh": list(self.interlayer_mesh)}
            ),
        }

    def distribution(self, settings: Settings) -> dict[str, Any]:
        """Return what decides a single snapshot at a given temperature.

        Choices that change nothing are not named.
        """
        sampler = settings.sampler
        files = {str(path): hash_file(path) for path in sampler.files(settings.temperatures)}
        return {
            "statistics": self.statistics,
            "imaginary": self.imaginary,
            "floor_frequency": self.floor_frequency,
            "seed": settings.seed,
            **({} if self.project_out == "none" else {"project_out": self.project_out}),
            **({} if type(sampler) is MonteCarlo else {**sampler.settings(), "files": files}),
        }

    def stopping(self) -> dict[str, Any]:
        """Return what decides how many of the samples the later stages look at."""
        alone = {} if self.companion == "auto" else {"companion": self.companion}
        if self.target_error is not None:
            return {"target": self.target, "target_error": self.target_error, **alone}
        if self.relative_error is not None:
            return {"target": self.target, "relative_error": self.relative_error, **alone}
        return {}

    def without_target(self) -> SamplingStage:
        """Return the same stage for a run that takes all its samples."""
        return replace(self, target_error=None, relative_error=None)

    def compute(self, run: Run, line: StageLine) -> SamplingRecord:
        """Look at every snapshot once, a few at a time, and return what characterises them."""
        phonon, settings = run.read("phonon"), run.settings
        sampler, temperatures = settings.sampler, settings.temperatures
        force_constants = phonon.build_force_constants()
        modes = compute_modes(force_constants)
        # a sampler that does not draw from the distribution is only compared with its stable modes
        imaginary = self.imaginary if isinstance(sampler, HarmonicSampler) else "freeze"
        ensemble = HarmonicEnsemble(
            modes,
            temperatures,
            self.statistics,
            imaginary,
            self.floor_frequency,
            self.project_out,
            settings.device,
        )
        digests = {path: hash_file(path) for path in sampler.files(temperatures)}
        design = sampler.design(ensemble, settings.n_samples)
        squares, largest = self._examine(run, phonon, ensemble)
        check_unchanged(digests)
        counts, means, errors = study_convergence(squares.mean(axis=2), design)
        motion = measure_interlayer_motion(ensemble, force_constants, self.interlayer_mesh)
        threshold = self.floor_frequency if imaginary == "floor" else SOFTEST_FREQUENCY
        return SamplingRecord(
            temperatures=np.array(temperatures),
            n_samples=settings.n_samples,
            seed=settings.seed,
            statistics=self.statistics,
            imaginary=imaginary,
            floor_frequency=self.floor_frequency,
            n_soft_modes=int(np.sum(~modes.translations & (modes.frequencies < threshold))),
            mean_square_displacements=ensemble.mean_square_displacements(),
            sampled_mean_square_displacements=np.einsum("s,tsax->tax", design.weights, squares),
            max_displacements=largest,
            sampler=type(sampler).__name__,
            n_groups=design.n_groups,
            effective_sample_size=effective_sample_size(design.weights),
            project_out=self.project_out,
            za_shares=ensemble.za_shares(),
            convergence_counts=counts,
            convergence=means,
            convergence_errors=errors,
            advice=tuple(sampler.advice(settings.n_samples, temperatures)),
            supercell=tuple(settings.supercell),
            interlayer_motion=motion.sampled,
            harmonic_interlayer_motion=motion.harmonic,
            mesh_interlayer_motion=motion.mesh,
            interlayer_mesh=tuple(self.interlayer_mesh),
            n_soft_mesh_modes=motion.n_soft,
        )

    def summarize(self, record: SamplingRecord) -> str:
        """Say in a few words what was found."""
        span = f"{record.temperatures.min():g} to {record.temperatures.max():g} K"
        soft = (
            f", {record.n_soft_modes} soft modes: {record.imaginary}" if record.n_soft_modes else ""
        )
        flexural = (
            f"ZA share of ⟨u²⟩ {100 * record.za_shares.max():.0f} "
            f"%{', left out' if record.project_out == 'ZA' else ''}"
        )
        largest = f"largest displacement {record.max_displacements.max():.2f} Å"
        hottest = int(record.temperatures.argmax())
        shear = ""
        if record.interlayer_motion.size:
            here, mesh = (
                float(motion[hottest, :, 0].max())
                for motion in (record.interlayer_motion, record.mesh_interlayer_motion)
            )
            frozen = ", Γ frozen" if record.project_out == "interlayer_gamma" else ""
            shear = f", interlayer shear² {here:.4f} Å²{frozen} (dense mesh {mesh:.4f})"
        return (
            f"{record.n_samples} snapshots ({record.sampler}) at {span}, {largest}, "
            f"{flexural}{shear}{soft}"
        )

    @staticmethod
    def doubts(record: SamplingRecord) -> list[str]:
        """Tell what the sampler advises, and of modes whose treatment was a choice."""
        texts = [Doubt(advice, severity="note") for advice in record.advice]
        texts += _doubt_interlayer_motion(record)
        if record.n_soft_modes > 0:
            texts.append(
                Doubt(
                    f"{record.n_soft_modes} soft modes were treated by "
                    f"imaginary={record.imaginary}.",
                    "Averages depend on that choice.",
                    "Compare with the other choices, or relax the structure.",
                )
            )
        return list[str](texts)

    def _examine(
        self, run: Run, phonon: PhononRecord, ensemble: HarmonicEnsemble
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Go through all snapshots, and write them if asked.

        Returns:
            u² of every atom of the primitive cell, averaged over the cells of each snapshot,
            (n_temperatures, n_samples, n_atoms, 3), Å²; the largest displacements,
            (n_temperatures,), Å.
        """
        settings, folder = run.settings, run.store.folder / EXPORT_FOLDER
        n_temperatures, n_samples = len(settings.temperatures), settings.n_samples
        if self.export:
            for path in folder.glob("*.extxyz"):
                path.unlink()
        squares = np.zeros((n_temperatures, n_samples, len(phonon.atoms), 3))
        largest = np.zeros(n_temperatures)
        supercell = phonon.atoms.repeat(phonon.supercell)
        for i, temperature in enumerate(settings.temperatures):
            for start in range(0, n_samples, BATCH_SIZE):
                batch = range(start, min(start + BATCH_SIZE, n_samples))
                displacements = settings.sampler.displacements(
                    ensemble, temperature, batch, settings.seed
                )
                by_cell = (displacements**2).reshape(len(batch), -1, *squares.shape[2:])
                squares[i, start : batch.stop] = by_cell.mean(axis=1)
                lengths = np.linalg.norm(displacements, axis=2)
                largest[i] = max(largest[i], float(lengths.max()))
                if self.export:
                    _export(folder / f"T{temperature:g}.extxyz", supercell, displacements)
        return squares, largest


def _doubt_interlayer_motion(record: SamplingRecord) -> list[Doubt]:
    """Tell of layers that move against each other much more than in a large crystal."""
    here, mesh = record.interlayer_motion, record.mesh_interlayer_motion
    if not here.size:
        return []
    known = mesh[..., 0] > 0
    excess = np.where(known, here[..., 0] / np.where(known, mesh[..., 0], 1.0), 0.0)
    if excess.max() <= LARGE_SHEAR:
        return []
    t, pair = np.unravel_index(int(excess.argmax()), excess.shape)
    cell = "×".join(str(n) for n in record.supercell)
    dense = "×".join(str(n) for n in record.interlayer_mesh)
    return [
        Doubt(
            f"at {record.temperatures[t]:g} K layers slide against each other by ⟨d²⟩ = "
            f"{here[t, pair, 0]:.4f} Å² in this {cell} cell and by {mesh[t, pair, 0]:.4f} Å² on a "
            f"{dense} mesh of wave vectors.",
            "The rigid-layer modes of Γ count too much in a small cell.",
            "Compare with stage.sampling.project_out=interlayer_gamma, or take a larger cell.",
        )
    ]


def study_convergence(
    squares: NDArray[np.float64], design: SampleDesign
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Follow ⟨u²⟩ with the number of samples.

    Args:
        squares: (n_temperatures, n_samples, 3), Å², mean over the atoms of every sample; z is the
            direction out of plane.
        design: of the samples.

    Returns:
        Sample sizes (n_counts,); means and standard errors (n_counts, n_temperatures, 2), Å², in
        plane and out of plane; errors are NaN for fewer than two independent groups.
    """
    parts = np.stack([squares[..., 0] + squares[..., 1], squares[..., 2]], axis=-1)
    counts = np.unique(np.round(np.geomspace(1, design.n_samples, N_COUNTS)).astype(np.int64))
    means = np.zeros((len(counts), len(squares), 2))
    errors = np.full_like(means, np.nan)
    for row, count in enumerate(counts):
        first = design.first(int(count))

        def estimate(weights: NDArray[np.float64], count: int = int(count)) -> NDArray[np.float64]:
            return np.einsum("s,tsx->tx", weights, parts[:, :count]).ravel()

        means[row] = estimate(first.weights).reshape(-1, 2)
        if first.n_groups > 1:
            errors[row] = standard_errors(jackknife(estimate, first)).reshape(-1, 2)
    return counts, means, errors


def _export(path: Path, supercell: Atoms, displacements: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for displacement in displacements:
        atoms = supercell.copy()
        atoms.positions += displacement
        write(path, atoms, append=True)
