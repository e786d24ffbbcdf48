"""The fermi_velocity stage: bands and density of states at rest, A(k, E) near K, and v_F(T).

Every sample is solved only near the Dirac energy, at supercell k-points that serve K→Γ and K→M at
once where K folds onto Γ (H is real, so the states at −k are known). The spectral functions of the
two low bands use the equilibrium bands of the primitive cell as a reference
(``mlepi.physics.bands.unfolding.band_weights``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.doubts import Doubt
from mlepi.errors import ConfigError, message
from mlepi.observables.fermi_velocity.estimates import estimate_all
from mlepi.observables.fermi_velocity.record import FermiVelocityRecord, PeakWidthRecord
from mlepi.observables.near_k.reference_bands import ReferenceBands, build_near_k
from mlepi.observables.near_k.samples import SpectraSettings, VelocitySamples
from mlepi.observables.near_k.unfold_sample import unfold_sample
from mlepi.observables.near_k.velocity_stage import VelocityStage
from mlepi.observables.stage_settings import describe_electrons
from mlepi.physics.bands import lattice
from mlepi.physics.bands.spectra import SHAPES, compute_dos, compute_spectral_function
from mlepi.physics.eigenstates.bloch import count_valence_electrons, fermi_energy_from_eigenvalues
from mlepi.physics.eigenstates.dense_bloch import solve_many
from mlepi.pipeline.ensemble import Ensemble, Equilibrium, Sample, SampleKey
from mlepi.pipeline.sampled_stage import Part
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.stage import check_choice
from mlepi.results.quantities import half_interval

FEW_SAMPLES = 20
"""With fewer samples the error bars are themselves uncertain by more than 1/√40, 16 %."""

LOST_WEIGHT = 0.25
"""More weight of a low band than this outside the energy window is told."""

WIDTH_CHANGE = 0.01
"""A larger change of the slope ratio by lines √2 times as wide is told, where it is no noise."""

MISCOUNTED_SHARE = 0.1
"""A larger share of points with a wrong number of states below the Dirac energy is told."""


@dataclass(frozen=True)
class LineThroughK:
    """What all samples share.

    Attributes:
        reference: k-points along M–K–Γ, the bands at rest there, and how they are served.
        device: where the states are computed.
    """

    reference: ReferenceBands
    device: str


@dataclass(frozen=True, kw_only=True)
class FermiVelocityStage(VelocityStage[LineThroughK]):
    """Bands, density of states, spectral functions and Fermi velocity.

    See ``conf/stage/fermi_velocity.yaml``; ``VelocityStage`` describes the settings of the fit.

    Attributes:
        electronic_temperature: K.
        band_spacing: Å⁻¹.
        dos_mesh: k-points.
        dos_width: eV.
        dos_window: eV, relative to the Fermi energy.
        energy_window: eV, half width.
        energy_step: eV.
        line_shape: "gaussian" or "lorentzian".
        line_width: eV, of the maps of A(k, E).
        peak_width: eV, of the spectra whose maxima give the velocity: wider lines make the maximum
            of few samples less noisy.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "fermi_velocity"
    record: ClassVar[type] = FermiVelocityRecord
    lists: ClassVar[tuple[str, ...]] = ("all", "full")
    targets: ClassVar[tuple[str, ...]] = ("fermi_velocity", "fermi_velocity_change")
    uneven: ClassVar[bool] = True

    electronic_temperature: float
    band_spacing: float
    dos_mesh: Sequence[int]
    dos_width: float
    dos_window: Sequence[float]
    energy_window: float
    energy_step: float
    line_shape: str
    line_width: float
    peak_width: float

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        super().__post_init__()
        narrow, wide = sorted((self.line_width, self.peak_width))
        if self.energy_step > 0.5 * narrow or not 0 < narrow <= wide < self.energy_window:
            raise ConfigError(
                message(
                    f"stage.{self.name}",
                    f"energy_step {self.energy_step}, line_width {self.line_width}, peak_width "
                    f"{self.peak_width}, window {self.energy_window} eV",
                    "a step of at most half of either width, and widths smaller than the window",
                    "Make the step smaller, the lines wider or the window larger.",
                )
            )
        check_choice(f"stage.{self.name}.line_shape", self.line_shape, SHAPES)
        for key, value in {
            "dos_mesh": tuple(int(n) for n in self.dos_mesh),
            "dos_window": tuple(float(energy) for energy in self.dos_window),
        }.items():
            object.__setattr__(self, key, value)

    @cached_property
    def spectra(self) -> SpectraSettings:
        """How levels become spectra."""
        n_steps = round(self.energy_window / self.energy_step)
        return SpectraSettings(
            (np.arange(-n_steps, n_steps + 1) * self.energy_step).astype(np.float64),
            self.line_shape,
            self.line_width,
            self.peak_width,
            self.fit.window,
            self.other_windows,
            self.with_split_off,
            self.dispersion == "hyperbola",
        )

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(settings),
            "electronic_temperature": self.electronic_temperature,
            "band_spacing": self.band_spacing,
            "dos": [*self.dos_mesh, self.dos_width, *self.dos_window],
            "energies": [float(self.spectra.energies[0]), len(self.spectra.energies)],
            "line": [self.line_shape, self.line_width, self.peak_width],
            "fit": self.fit.describe(),
            "split_off_bands": self.spectra.split_off_bands,
        }

    def sample_inputs(self, settings: Settings) -> dict[str, Any]:
        """Return what decides the levels and weights of one sample."""
        return {
            "distances": list(self.distances),
            "window": self.energy_window,
            "velocity_windows": [
                list(window) for window in sorted({self.fit.window, *self.spectra.windows})
            ],
            "valence_electrons": describe_electrons(self.valence_electrons),
            "supercell": list(settings.supercell),
        }

    def begin(self, ensemble: Ensemble) -> LineThroughK:
        """Solve the equilibrium near K and settle which supercell k-points serve which points."""
        reference = build_near_k(
            *ensemble.equilibrium, ensemble.supercell, self.distances, self.valence_electrons
        )
        return LineThroughK(reference, ensemble.device)

    def evaluate(self, prepared: LineThroughK, sample: Sample) -> Part:
        """Solve one displaced supercell near the Dirac energy and unfold it.

        The arrays are those of ``unfold_sample``.
        """
        return unfold_sample(
            prepared.reference,
            sample.hamiltonian,
            sample.overlap,
            self.energy_window,
            prepared.device,
            self.spectra.fitted_points(prepared.reference.distances),
        )

    def finish(
        self,
        prepared: LineThroughK,
        ensemble: Ensemble,
        results: Iterable[tuple[SampleKey, Part]],
    ) -> FermiVelocityRecord:
        """Average the samples and fit the velocities."""
        reference, spectra = prepared.reference, self.spectra
        collected = VelocitySamples(spectra, reference, ensemble.temperatures, ensemble.design)
        for key, part in results:
            collected.add(key, part)
        at_rest = np.stack(
            [
                compute_spectral_function(
                    spectra.energies, levels, np.ones(len(levels)), self.line_width, self.line_shape
                )
                for levels in reference.eigenvalues - reference.centre
            ]
        )
        return FermiVelocityRecord(
            **self._solve_at_rest(ensemble.equilibrium),
            dirac_energy=reference.centre,
            temperatures=np.array(ensemble.temperatures),
            n_samples=ensemble.n_samples,
            supercell=reference.atom_map.supercell,
            line_shape=self.line_shape,
            line_width=self.line_width,
            peak_width=self.peak_width,
            energies=spectra.energies,
            map_distances=reference.distances,
            equilibrium_spectral_function=at_rest,
            spectral_functions=collected.total,
            captured_weights=collected.captured,
            miscounted_shares=collected.miscounted
            / (np.array(ensemble.counts) * np.count_nonzero(collected.inner)),
            velocity_window=self.fit.window,
            dispersion=self.dispersion,
            split_off_bands=spectra.split_off_bands,
            n_resamples=self.n_resamples,
            **estimate_all(collected, self.fit),
        )

    def _solve_at_rest(self, equilibrium: Equilibrium) -> dict[str, Any]:
        """Compute bands, Fermi energy and density of states of the primitive cell."""
        atoms, hamiltonian, overlap = equilibrium
        n_electrons = count_valence_electrons(hamiltonian.numbers, self.valence_electrons)
        path = lattice.build_k_path(
            lattice.hexagonal_points(atoms.cell.array), "ΓKMΓ", atoms.cell.array, self.band_spacing
        )
        mesh, weights = lattice.build_k_mesh(self.dos_mesh)
        layouts = hamiltonian.lay_out(), overlap.lay_out()
        on_mesh, on_path = (solve_many(*layouts, kpoints) for kpoints in (mesh, path.kpoints))
        fermi_energy = fermi_energy_from_eigenvalues(
            on_mesh, weights, n_electrons, self.electronic_temperature
        )
        dos_energies = np.arange(
            self.dos_window[0], self.dos_window[1] + 0.1 * self.dos_width, 0.4 * self.dos_width
        )
        return {
            "fermi_energy": fermi_energy,
            "electronic_temperature": self.electronic_temperature,
            "n_electrons": n_electrons,
            "band_kpoints": path.kpoints,
            "band_distances": path.distances,
            "band_labels": path.labels,
            "band_label_distances": path.ticks,
            "bands": on_path,
            "dos_mesh": self.dos_mesh,
            "dos_energies": dos_energies,
            "dos": compute_dos(dos_energies, on_mesh - fermi_energy, weights, self.dos_width),
        }

    def summarize(self, record: FermiVelocityRecord) -> str:
        """Say in a few words what was found."""
        spectral, last = record.spectral, f"{record.temperatures[-1]:g} K"
        averaged = 1e-5 * record.sorted_average.slopes[-1]
        sorted_average = f"{averaged:.2f}" if np.isfinite(averaged) else "not available"
        pinned = spectral.pinned
        coupled = (
            f", of v with γ₁ pinned {pinned.ratios[-1]:.3f}"
            f"±{half_interval(pinned, 'ratio_errors', around=spectral)[-1]:.3f}"
            if pinned is not None and np.isfinite(pinned.ratios[-1])
            else ""
        )
        return (
            f"slope {1e-5 * spectral.equilibrium_slope:.2f} → {1e-5 * spectral.slopes[-1]:.2f}"
            f"±{1e-5 * half_interval(spectral, 'slope_errors')[-1]:.2f} ×10⁵ m/s at {last} "
            f"(spectral peak; sorted average {sorted_average}), "
            f"ratio {spectral.slope_ratios[-1]:.3f}"
            f"±{half_interval(spectral, 'slope_ratio_errors')[-1]:.3f}"
            f"{coupled}; {record.n_samples} samples of "
            f"{'×'.join(str(n) for n in record.supercell)} cells, "
            f"{record.dispersion} at |k−K| "
            f"{record.velocity_window[0]:g}–{record.velocity_window[1]:g} Å⁻¹"
        )

    @staticmethod
    def doubts(record: FermiVelocityRecord) -> list[str]:
        """Say what makes the velocities doubtful; empty when nothing does."""
        texts: list[str] = []
        if record.n_samples < FEW_SAMPLES:
            texts.append(
                Doubt(
                    f"only {record.n_samples} samples per temperature.",
                    "The error bars are themselves uncertain.",
                    "Raise n_samples in the same folder; the samples that are there are kept.",
                    "note",
                )
            )
        if record.captured_weights.min() < 1.0 - LOST_WEIGHT:
            texts.append(
                Doubt(
                    f"only {100 * record.captured_weights.min():.0f} % of a low band lies within "
                    f"{record.energies[-1]:.2f} eV of the Dirac energy.",
                    "Peaks of what is cut off are missing in the fits.",
                    "Widen stage.fermi_velocity.energy_window.",
                )
            )
        if record.peak_widths is not None:
            texts += _doubt_width(record.peak_widths, record.temperatures)
        lost = ~np.isfinite(record.sorted_average.velocities)
        if np.any(lost):
            texts.append(
                Doubt(
                    f"no sorted average at {', '.join(f'{t:g}' for t in record.temperatures[lost])}"
                    " K.",
                    "Counted from the bottom of the spectrum, the low bands are outside the energy "
                    "window (ghost states of H and S).",
                    "Use the spectral peaks, which count no states.",
                    "note",
                )
            )
        elif record.miscounted_shares.max() > MISCOUNTED_SHARE:
            texts.append(
                Doubt(
                    f"at {100 * record.miscounted_shares.max():.0f} % of the points the states "
                    "below the Dirac energy are not as many as the electron pairs.",
                    "There are ghost states of H and S, or rigid shifts; do not trust the sorted "
                    "average.",
                    "Use the spectral peaks, which count no states.",
                    "note",
                )
            )
        return texts

    def error_bars(self, record: FermiVelocityRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bars of the mean slope of spectral peaks and of its change, m/s."""
        return {
            "fermi_velocity": half_interval(record.spectral, "slope_errors"),
            "fermi_velocity_change": half_interval(record.spectral, "slope_change_errors"),
        }

    def target_values(self, record: FermiVelocityRecord) -> dict[str, NDArray[np.float64]]:
        """Return the mean slope of spectral peaks and its change, m/s."""
        spectral = record.spectral
        return {
            "fermi_velocity": spectral.slopes,
            "fermi_velocity_change": spectral.slope_changes,
        }

    def contributions(self, record: FermiVelocityRecord) -> dict[str, NDArray[np.float64]]:
        """Return the pseudo-values of the mean slope and of its change, m/s."""
        slopes = record.spectral.pseudo_velocities[:, :, 1]
        return {"fermi_velocity": slopes, "fermi_velocity_change": slopes - slopes[:, :1]}


def _doubt_width(widths: PeakWidthRecord, temperatures: NDArray[np.float64]) -> list[str]:
    """Tell of lines whose width decides the velocity of the spectral peaks."""
    changes, errors = widths.changes, widths.slope_change_errors[1]
    told = (np.abs(changes) > WIDTH_CHANGE) & (np.abs(changes) > 2.0 * errors)
    if not np.any(told):
        return []
    worst = int(np.argmax(np.where(told, np.abs(changes), 0.0)))
    return [
        Doubt(
            f"lines of {1e3 * widths.widths[1]:.0f} instead of {1e3 * widths.widths[0]:.0f} meV "
            f"change the slope ratio at {temperatures[worst]:g} K by "
            f"{100 * changes[worst]:+.1f} %.",
            "The peaks depend on the width, and what does is no property of the bands.",
            "Lower stage.fermi_velocity.peak_width.",
        )
    ]
