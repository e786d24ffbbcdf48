"""The observables stage.

Equilibrium bands and density of states, A(k, E) near K, and v_F(T) with both estimators.

Every sample is solved only near the Dirac energy, at supercell k-points that serve K→Γ and K→M at
once where K folds onto Γ (H is real, so the states at −k are known). The spectral functions of the
two low bands use the equilibrium bands of the primitive cell as a reference
(``mlepi.physics.bands.unfolding.band_weights``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.near_k.reference_bands import ReferenceBands, build_near_k, sort_distances
from mlepi.observables.near_k.samples import SpectraSettings, VelocitySamples
from mlepi.observables.near_k.unfold_sample import unfold_sample
from mlepi.observables.near_k.velocity_estimates import (
    ResamplingPlan,
    SlopeFit,
    VelocityFit,
    estimate_velocities,
    estimate_windows,
)
from mlepi.observables.sample_checks import check_samples
from mlepi.physics.bands import lattice
from mlepi.physics.bands.spectra import SHAPES, compute_dos, compute_spectral_function, find_peaks
from mlepi.physics.bands.velocities import DISPERSIONS
from mlepi.physics.eigenstates.bloch import count_valence_electrons, fermi_energy_from_eigenvalues
from mlepi.physics.eigenstates.dense_bloch import solve_many
from mlepi.pipeline.stage import SampleKey
from mlepi.results.observables import ObservablesRecord

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run


class FermiVelocityStage:
    """Bands, density of states, spectral functions and Fermi velocity.

    See ``conf/stage/settings/observables.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        electronic_temperature: K.
        band_spacing: Å⁻¹.
        dos_mesh: k-points.
        dos_width: eV.
        dos_window: eV, relative to the Fermi energy.
        distances: Å⁻¹, |k − K|; 0 is K itself.
        energy_window: eV, half width.
        energy_step: eV.
        line_shape: "gaussian" or "lorentzian".
        line_width: eV, of the maps of A(k, E).
        peak_width: eV, of the spectra whose maxima give the velocity: wider lines make the maximum
            of few samples less noisy.
        velocity_window: Å⁻¹.
        windows: Å⁻¹, further windows in which all fits are repeated.
        dispersion: "hyperbola" or "linear".
        split_off_bands: fit the split-off bands of a bilayer together with the low ones
            (hyperbola).
        n_resamples: of the bootstrap.
        n_counts: of the convergence study.
    """

    name: ClassVar[str] = "observables"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = ObservablesRecord
    targets: ClassVar[tuple[str, ...]] = ("fermi_velocity", "fermi_velocity_change")

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        electronic_temperature: float,
        band_spacing: float,
        dos_mesh: Sequence[int],
        dos_width: float,
        dos_window: Sequence[float],
        distances: Sequence[float],
        energy_window: float,
        energy_step: float,
        line_shape: str,
        line_width: float,
        peak_width: float,
        velocity_window: Sequence[float],
        windows: Sequence[Sequence[float]],
        dispersion: str,
        split_off_bands: bool,
        n_resamples: int,
        n_counts: int,
    ) -> None:
        narrow, wide = min(line_width, peak_width), max(line_width, peak_width)
        if energy_step > 0.5 * narrow or not 0 < narrow <= wide < energy_window:
            raise ConfigError(
                message(
                    "stage.observables",
                    f"energy_step {energy_step}, line_width {line_width}, peak_width "
                    f"{peak_width}, window {energy_window} eV",
                    "a step of at most half of either width, and widths smaller than the window",
                    "Lower energy_step, or widen energy_window.",
                )
            )
        for key, choice, known in (
            ("dispersion", dispersion, DISPERSIONS),
            ("line_shape", line_shape, SHAPES),
        ):
            if choice not in known:
                raise ConfigError(
                    message(
                        f"stage.observables.{key}",
                        repr(choice),
                        f"one of {list(known)}",
                        "Choose one of them.",
                    )
                )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.electronic_temperature = electronic_temperature
        self.band_spacing = band_spacing
        self.dos_mesh = tuple(int(n) for n in dos_mesh)
        self.dos_width = dos_width
        self.dos_window = tuple(float(e) for e in dos_window)
        self.distances = sort_distances("observables", distances)
        self.energy_window = energy_window
        n_steps = round(energy_window / energy_step)
        self.fit = VelocityFit(
            (float(velocity_window[0]), float(velocity_window[1])),
            dispersion,
            n_resamples,
            0,
            n_counts,
        )
        self.spectra = SpectraSettings(
            (np.arange(-n_steps, n_steps + 1) * energy_step).astype(np.float64),
            line_shape,
            line_width,
            peak_width,
            self.fit.window,
            tuple((float(low), float(high)) for low, high in windows),
            split_off_bands and dispersion == "hyperbola",
        )
        self._reference: ReferenceBands | None = None
        self._device = "cpu"

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(run),
            "electronic_temperature": self.electronic_temperature,
            "band_spacing": self.band_spacing,
            "dos": [*self.dos_mesh, self.dos_width, *self.dos_window],
            "energies": [float(self.spectra.energies[0]), len(self.spectra.energies)],
            "line": [self.spectra.line_shape, self.spectra.line_width, self.spectra.peak_width],
            "fit": [
                *self.fit.window,
                self.fit.dispersion,
                self.fit.n_resamples,
                self.fit.seed,
                self.fit.n_counts,
            ],
            "split_off_bands": self.spectra.split_off_bands,
        }

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the levels and weights of one sample."""
        return {
            "distances": list(self.distances),
            "window": self.energy_window,
            "velocity_windows": [
                list(window) for window in sorted({self.fit.window, *self.spectra.windows})
            ],
            "valence_electrons": {str(z): n for z, n in self.valence_electrons.items()},
            "supercell": list(run.supercell),
        }

    def begin(self, run: Run) -> None:
        """Solve the equilibrium near K and settle which supercell k-points serve which points."""
        self._device = run.device
        atoms, hamiltonian, overlap = run.equilibrium()
        self._reference = build_near_k(
            atoms, hamiltonian, overlap, run.supercell, self.distances, self.valence_electrons
        )
        displaced = run.displaced(SampleKey(0, run.temperatures[0]))
        check_samples(run.n_samples, atoms, displaced, self._reference.atom_map)

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Solve one displaced supercell near the Dirac energy and unfold it.

        The arrays are those of ``unfold_sample``.
        """
        reference = self._require_reference()
        return unfold_sample(
            reference,
            hamiltonian,
            overlap,
            self.energy_window,
            self._device,
            self.spectra.fitted_points(reference.distances),
        )

    def finish(
        self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]
    ) -> ObservablesRecord:
        """Average the samples and fit the velocities."""
        if self._reference is None:
            self.begin(run)
        reference = self._require_reference()
        collected = VelocitySamples(self.spectra, reference, run.temperatures, run.design)
        for key, arrays in results:
            collected.add(key.sample, key.temperature, arrays)
        estimates = self._estimate(collected)
        at_rest = np.stack(
            [
                compute_spectral_function(
                    self.spectra.energies,
                    levels,
                    np.ones(len(levels)),
                    self.spectra.line_width,
                    self.spectra.line_shape,
                )
                for levels in reference.eigenvalues - reference.centre
            ]
        )
        record = ObservablesRecord(
            **self._equilibrium(run),
            dirac_energy=reference.centre,
            temperatures=np.array(run.temperatures),
            n_samples=run.n_samples,
            supercell=reference.atom_map.supercell,
            line_shape=self.spectra.line_shape,
            line_width=self.spectra.line_width,
            peak_width=self.spectra.peak_width,
            energies=self.spectra.energies,
            map_distances=reference.distances,
            equilibrium_spectral_function=at_rest,
            spectral_functions=collected.total,
            captured_weights=collected.captured,
            miscounted_shares=collected.miscounted
            / (run.n_samples * np.count_nonzero(collected.inner)),
            velocity_window=self.fit.window,
            dispersion=self.fit.dispersion,
            split_off_bands=self.spectra.split_off_bands,
            n_resamples=self.fit.n_resamples,
            **estimates,
        )
        run.warnings += [f"{self.name}: {text}" for text in record.doubts()]
        return record

    def _estimate(self, collected: VelocitySamples) -> dict[str, Any]:
        """Fit the velocities of all estimators, with error bars and convergence."""
        reference, fitted, spectra, levels = (
            collected.reference,
            collected.fitted,
            collected.spectra,
            collected.levels,
        )
        plan = ResamplingPlan(
            spectra.design, self.fit.n_resamples, self.fit.n_counts, self.fit.seed
        )
        rest = reference.eigenvalues[:, reference.n_occupied + collected.bands] - reference.centre
        # sorting cannot tell cones that fold onto one k-point apart: neither may its reference
        shared = (
            reference.index[:, None] == reference.index[None, :]
            if reference.n_cones > 1
            else np.eye(len(rest), dtype=bool)
        )
        folded = (shared @ rest) / shared.sum(axis=1)[:, None]
        outwards = np.sign(reference.distances[fitted])[:, None]
        of_spectra, without = (
            [self._peaks_and_slopes(spectra.average(weights), outwards) for weights in sets]
            for sets in (plan.weights, spectra.left_out)
        )
        of_levels, levels_without = (
            np.array([levels.average(weights) for weights in sets])
            for sets in (plan.weights, levels.left_out)
        )
        peaks, slopes = (np.array([each[n] for each in of_spectra]) for n in range(2))
        peaks_without, slopes_without = (np.array([each[n] for each in without]) for n in range(2))
        found: dict[str, Any] = {}
        slope_fit = SlopeFit(**vars(self.fit))
        for name, some, some_without, at_rest, fit in (
            ("spectral", peaks, peaks_without, rest[fitted], self.fit),
            ("sorted", of_levels, levels_without, folded[fitted], self.fit),
            (
                "operator",
                slopes,
                slopes_without,
                outwards * reference.slopes[fitted][:, collected.followed],
                slope_fit,
            ),
        ):
            distances = np.abs(reference.distances)[fitted]
            found[f"{name}_windows"] = estimate_windows(
                some, plan, distances, at_rest, fit, self.spectra.windows
            )
            all_inner, without_inner = (
                part[..., collected.inner, :] for part in (some, some_without)
            )
            velocity = estimate_velocities(
                all_inner,
                without_inner,
                plan,
                distances[collected.inner],
                at_rest[collected.inner],
                fit,
            )
            found[name] = replace(
                velocity, convergence_counts=spectra.n_samples[velocity.convergence_counts - 1]
            )
        spectral, operator = found["spectral"], found.pop("operator")
        found["sorted_average"] = found.pop("sorted")
        energies = {
            name: getattr(spectral, name)
            for name in ("energies", "energy_errors", "equilibrium_energies")
        }
        found |= {
            "band_slopes": operator.energies,
            "equilibrium_band_slopes": operator.equilibrium_energies,
        }
        return {**found, "velocity_operator": replace(operator, **energies)}

    def _peaks_and_slopes(
        self, spectra: NDArray[np.floating], outwards: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Find the maxima of A, eV, and the mean slope of the states there, dE/d|k − K| in eV·Å.

        Args:
            spectra: (n_temperatures, 2, n_points, n_bands, n_energies), of
                ``VelocitySamples.spectra_of``.
            outwards: (n_points, 1), 1 towards Γ and −1 towards M.

        Returns:
            (n_temperatures, n_points, n_bands) each.
        """
        plain, moving = np.moveaxis(spectra.astype(np.float64), 1, 0)
        peaks = find_peaks(self.spectra.energies, plain)
        place = (peaks - self.spectra.energies[0]) / (
            self.spectra.energies[1] - self.spectra.energies[0]
        )
        left = np.floor(place).astype(np.int64)
        share = place - left
        at_left, at_right = (
            np.stack(
                [
                    np.take_along_axis(each, (left + side)[..., None], axis=-1)[..., 0]
                    for each in (plain, moving)
                ]
            )
            for side in (0, 1)
        )
        weight, slope = (1.0 - share) * at_left + share * at_right
        return peaks, outwards * slope / weight

    def summarize(self, record: ObservablesRecord) -> str:
        """Say in a few words what was found."""
        spectral, last = record.spectral, f"{record.temperatures[-1]:g} K"
        averaged = 1e-5 * record.sorted_average.velocities[-1]
        sorted_average = f"{averaged:.2f}" if np.isfinite(averaged) else "not available"
        return (
            f"v_F {1e-5 * spectral.equilibrium_velocity:.2f} → {1e-5 * spectral.velocities[-1]:.2f}"
            f"±{1e-5 * spectral.velocity_errors[-1]:.2f} ×10⁵ m/s at {last} "
            f"(spectral peak; sorted average {sorted_average}), "
            f"slope ratio {spectral.slope_ratios[-1]:.3f}±{spectral.slope_ratio_errors[-1]:.3f}; "
            f"{record.n_samples} samples of {'×'.join(str(n) for n in record.supercell)} cells, "
            f"{record.dispersion} at |k−K| "
            f"{record.velocity_window[0]:g}–{record.velocity_window[1]:g} Å⁻¹"
        )

    def error_bars(self, record: ObservablesRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bars of v_F from spectral peaks and of its change with T, m/s."""
        return {
            "fermi_velocity": record.spectral.velocity_errors,
            "fermi_velocity_change": record.spectral.change_errors,
        }

    def _require_reference(self) -> ReferenceBands:
        if self._reference is None:
            raise PhysicsError(
                message(
                    "observables stage",
                    "a sample before begin()",
                    "begin() first",
                    "Run the stage through the runner.",
                )
            )
        return self._reference

    def _equilibrium(self, run: Run) -> dict[str, Any]:
        """Compute bands, Fermi energy and density of states of the primitive cell."""
        atoms, hamiltonian, overlap = run.equilibrium()
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
