"""The self_energy stage: Green's functions near K, their self-energies, quasiparticles and v_F.

Every sample contributes a few Ritz levels per k-point that represent its Green's function
(``mlepi.physics.bands.green``); the average, the self-energy and its zeros are taken at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.observables.near_k.reference_bands import ReferenceBands, build_near_k
from mlepi.observables.near_k.unfold_sample import average_overlaps, check_elements, stack_padded
from mlepi.observables.near_k.velocity_estimates import (
    ResamplingPlan,
    SplitOff,
    estimate_velocities,
    estimate_windows,
)
from mlepi.observables.near_k.velocity_stage import VelocityStage
from mlepi.observables.self_energy.averages import GreenAverages
from mlepi.observables.self_energy.record import SelfEnergyRecord
from mlepi.observables.stage_settings import describe_electrons
from mlepi.physics.bands import unfolding
from mlepi.physics.bands.green import project_resolvent, self_energy
from mlepi.physics.bands.velocities import AT_K
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.sampled_stage import Part
from mlepi.pipeline.settings import Settings
from mlepi.results.quantities import half_interval

WEAK_QUASIPARTICLE = 0.5
"""A quasiparticle with less weight than this is told: its peak is one of several."""


@dataclass(frozen=True, kw_only=True)
class SelfEnergyStage(VelocityStage[ReferenceBands]):
    """Self-energies, quasiparticles and their Fermi velocity.

    See ``conf/stage/self_energy.yaml``; ``VelocityStage`` describes the settings of the fit.

    Attributes:
        energy_window: eV, half width around the Dirac energy.
        energy_step: eV.
        broadening: η, eV.
        tolerance: eV, of 1/G of every sample.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "self_energy"
    record: ClassVar[type] = SelfEnergyRecord
    targets: ClassVar[tuple[str, ...]] = ("quasiparticle_velocity",)
    uneven: ClassVar[bool] = True

    energy_window: float
    energy_step: float
    broadening: float
    tolerance: float

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        resolved = 0 < self.energy_step <= 0.5 * self.broadening < 0.5 * self.energy_window
        if not resolved or self.tolerance <= 0:
            raise ConfigError(
                message(
                    f"stage.{self.name}",
                    f"energy_step {self.energy_step}, broadening {self.broadening}, window "
                    f"{self.energy_window}, tolerance {self.tolerance} eV",
                    "a step of at most half the broadening, a broadening below the window, and a "
                    "tolerance > 0",
                    "Make the step smaller or the broadening larger, and the tolerance positive.",
                )
            )

    @cached_property
    def energies(self) -> NDArray[np.float64]:
        """(n_energies,) eV, relative to the Dirac energy."""
        n_steps = round(self.energy_window / self.energy_step)
        return (np.arange(-n_steps, n_steps + 1) * self.energy_step).astype(np.float64)

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(settings),
            "energies": [float(self.energies[0]), len(self.energies)],
            "windows": [list(window) for window in self.other_windows],
            "fit": self.fit.describe(),
        }

    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the Ritz levels of one sample."""
        return {
            "distances": list(self.distances),
            "resolvent": [self.energy_window, self.broadening, self.tolerance],
            "valence_electrons": describe_electrons(self.valence_electrons),
            "split_off_bands": self.with_split_off,
            "supercell": list(settings.supercell),
        }

    def begin(self, ensemble: Ensemble) -> ReferenceBands:
        """Solve the equilibrium near K and settle which supercell k-points serve which points."""
        return build_near_k(
            *ensemble.equilibrium, ensemble.supercell, self.distances, self.valence_electrons
        )

    def evaluate(self, prepared: ReferenceBands, sample: Sample) -> Part:
        """Represent the Green's functions of one displaced supercell by Ritz levels.

        Returns:
            ``levels`` (n_solved, n_levels) eV relative to the Dirac energy, padded with NaN, and
            ``weights`` (n_points, n_bands, n_levels), zero where padded.

        Raises:
            StructureError: the atoms are not those of the repeated primitive cell.
        """
        check_elements(prepared, sample.hamiltonian)
        followed = self._relative_bands(prepared) + prepared.states.shape[2] // 2
        layouts = sample.hamiltonian.lay_out(), sample.overlap.lay_out()
        overlaps = average_overlaps(prepared, sample.overlap)
        coarse = (
            np.arange(-self.energy_window, self.energy_window, 0.5 * self.broadening)
            + prepared.centre
        )
        levels: list[NDArray[np.float64]] = []
        weights: dict[int, NDArray[np.float64]] = {}
        for number, kpoint in enumerate(prepared.solved):
            points = np.flatnonzero(prepared.index == number)
            columns = [
                unfolding.bloch_columns(
                    prepared.projectors[point][followed],
                    overlaps[point],
                    prepared.atom_map,
                    prepared.counts,
                    prepared.kpoints[point],
                    reverse=bool(prepared.reversed_[point]),
                )
                for point in points
            ]
            h, s = (layout.at(kpoint) for layout in layouts)
            states = np.concatenate(columns, axis=1)
            projected = project_resolvent(
                h, s, states, coarse, self.broadening, tolerance=self.tolerance
            )
            levels.append(projected.levels - prepared.centre)
            shares = np.split(np.abs(projected.components) ** 2, len(points))
            weights |= {int(point): part for point, part in zip(points, shares, strict=True)}
        n_levels = max(len(some) for some in levels)
        in_order = [weights[point] for point in range(len(weights))]
        return {
            "levels": stack_padded(levels, (n_levels,), np.nan),
            "weights": stack_padded(in_order, (len(followed), n_levels), 0.0),
        }

    def finish(
        self,
        prepared: ReferenceBands,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> SelfEnergyRecord:
        """Average the Green's functions, find the quasiparticles and fit the velocity."""
        averages = GreenAverages(
            prepared, self._relative_bands(prepared), ensemble, self.energies, self.broadening
        )
        averages.collect(results)
        greens, bare, fit = averages.greens, averages.bare, self.fit
        plan = ResamplingPlan(greens.design, fit.n_resamples, fit.n_counts, fit.seed)
        resampled = np.array([averages.quasiparticles(weights) for weights in plan.weights])
        (energies, strengths, widths), of_resamples = plan.split(resampled)[-1]
        errors = greens.bootstrap_errors(of_resamples)
        left_out = np.array(
            [averages.quasiparticles(weights)[0] for weights in greens.left_out]
        ).reshape(-1, *resampled.shape[2:])
        distances = np.abs(prepared.distances)
        split_off = None
        if bare.shape[1] == 4:
            nearest = distances <= distances.min() + AT_K
            halves = [
                (0.5 * (some[..., nearest, 3] - some[..., nearest, 0])).mean(axis=-1)
                for some in (resampled[:, 0], left_out, bare)
            ]
            split_off = SplitOff(float(distances.min()), halves[0], halves[1], float(halves[2]))
        velocity = estimate_velocities(
            resampled[:, 0], left_out, plan, distances, bare, fit, split_off
        )
        first, first_errors, second = averages.moments()
        green = averages.green()
        return SelfEnergyRecord(
            temperatures=np.array(ensemble.temperatures),
            n_samples=ensemble.n_samples,
            supercell=prepared.atom_map.supercell,
            dirac_energy=prepared.centre,
            broadening=self.broadening,
            energies=self.energies,
            map_distances=prepared.distances,
            bare_energies=bare,
            spectral_functions=-green.imag / np.pi,
            self_energies=self_energy(green, bare, averages.z),
            quasiparticle_energies=energies,
            quasiparticle_errors=errors[0],
            weights=strengths,
            weight_errors=errors[1],
            widths=widths,
            width_errors=errors[2],
            first_order_shifts=first - bare,
            first_order_errors=first_errors,
            second_moments=second - first**2,
            velocity_window=fit.window,
            dispersion=self.dispersion,
            split_off_bands=self.with_split_off,
            n_resamples=self.n_resamples,
            velocity=replace(
                velocity,
                convergence_counts=greens.n_samples[velocity.convergence_counts - 1],
                degrees_of_freedom=greens.degrees_of_freedom,
            ),
            windows=estimate_windows(
                resampled[:, 0], plan, distances, bare, fit, self.other_windows, split_off
            ),
            degrees_of_freedom=greens.degrees_of_freedom,
        )

    def summarize(self, record: SelfEnergyRecord) -> str:
        """Say in a few words what was found."""
        velocity = record.velocity
        error = half_interval(velocity, "slope_errors")[-1]
        return (
            f"slope {1e-5 * velocity.equilibrium_slope:.2f} → {1e-5 * velocity.slopes[-1]:.2f}"
            f"±{1e-5 * error:.2f} ×10⁵ m/s at {record.temperatures[-1]:g} "
            f"K (quasiparticles), Z {record.weights.min():.2f}–{record.weights.max():.2f}, widths "
            f"up to {1e3 * record.widths.max():.0f} meV"
        )

    @staticmethod
    def doubts(record: SelfEnergyRecord) -> list[str]:
        """Say what makes the quasiparticles doubtful; empty when nothing does."""
        lowest = float(record.weights.min())
        if lowest >= WEAK_QUASIPARTICLE:
            return []
        return [
            Doubt(
                f"a quasiparticle has the weight {lowest:.2f} only.",
                "Its spectral function has several peaks, of which the highest is taken.",
                "A larger cell or a larger stage.self_energy.broadening joins them.",
            )
        ]

    def error_bars(self, record: SelfEnergyRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bar of the mean slope of quasiparticle energies, m/s."""
        return {"quasiparticle_velocity": half_interval(record.velocity, "slope_errors")}

    def target_values(self, record: SelfEnergyRecord) -> dict[str, NDArray[np.float64]]:
        """Return the mean slope of quasiparticle energies, m/s."""
        return {"quasiparticle_velocity": record.velocity.slopes}

    def contributions(self, record: SelfEnergyRecord) -> dict[str, NDArray[np.float64]]:
        """Return the pseudo-values of the mean slope, m/s."""
        return {"quasiparticle_velocity": record.velocity.pseudo_velocities[:, :, 1]}

    def _relative_bands(self, reference: ReferenceBands) -> NDArray[np.int64]:
        """Return the bands that are followed, relative to the lowest empty one."""
        n_pairs = reference.states.shape[2] // 2 if self.with_split_off else 1
        return np.arange(-n_pairs, n_pairs)
