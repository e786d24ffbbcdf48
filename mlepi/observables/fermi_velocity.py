"""The observables stage: equilibrium bands and density of states, A(k, E) near K, and v_F(T) with both estimators.

Every sample is solved only near the Dirac energy, at supercell k-points that serve K→Γ and K→M at once where K folds onto Γ
(H is real, so the states at −k are known). The spectral functions of the two low bands use the equilibrium bands of the
primitive cell as a reference (``mlepi.physics.unfolding.band_weights``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.cone import Cone, build_cone, lay_out, solve_many, unfold_sample
from mlepi.observables.velocity_estimates import ResamplingPlan, VelocityFit, estimate_velocities
from mlepi.physics import lattice, unfolding
from mlepi.physics.bloch import count_valence_electrons, fermi_energy_from_eigenvalues
from mlepi.physics.spectra import SHAPES, compute_dos, compute_spectral_function, find_peaks, sorted_levels
from mlepi.physics.statistics import MeanAccumulator, leave_one_out
from mlepi.physics.velocities import DISPERSIONS
from mlepi.pipeline.stage import SampleKey
from mlepi.results.observables import ObservablesRecord, VelocityRecord

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run


class FermiVelocityStage:
    """Bands, density of states, spectral functions and Fermi velocity; see ``conf/stage/settings/observables.yaml``.

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
        peak_width: eV, of the spectra whose maxima give the velocity: wider lines make the maximum of few samples less noisy.
        velocity_window: Å⁻¹.
        dispersion: "hyperbola" or "linear".
        split_off_bands: fit the split-off bands of a bilayer together with the low ones (spectral estimator, hyperbola).
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
                    f"energy_step {energy_step}, line_width {line_width}, peak_width {peak_width}, window {energy_window} eV",
                    "a step of at most half of either width, and widths smaller than the window",
                    "Correct them.",
                )
            )
        for key, choice, known in (("dispersion", dispersion, DISPERSIONS), ("line_shape", line_shape, SHAPES)):
            if choice not in known:
                raise ConfigError(
                    message(f"stage.observables.{key}", repr(choice), f"one of {list(known)}", "Choose one of them.")
                )
        if min(distances) < 0 or len(set(distances)) != len(distances):
            raise ConfigError(
                message("stage.observables.distances", f"{list(distances)}", "different numbers ≥ 0, in 1/Å", "Correct the list.")
            )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.electronic_temperature = electronic_temperature
        self.band_spacing = band_spacing
        self.dos_mesh = tuple(int(n) for n in dos_mesh)
        self.dos_width = dos_width
        self.dos_window = tuple(float(e) for e in dos_window)
        self.distances = tuple(sorted(float(d) for d in distances))
        self.energy_window = energy_window
        self.line_shape = line_shape
        self.line_width = line_width
        self.peak_width = peak_width
        n_steps = round(energy_window / energy_step)
        self.energies = (np.arange(-n_steps, n_steps + 1) * energy_step).astype(np.float64)
        self.fit = VelocityFit((float(velocity_window[0]), float(velocity_window[1])), dispersion, n_resamples, 0, n_counts)
        self.split_off_bands = split_off_bands and dispersion == "hyperbola"
        self._cone: Cone | None = None
        self._device = "cpu"

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(run),
            "electronic_temperature": self.electronic_temperature,
            "band_spacing": self.band_spacing,
            "dos": [*self.dos_mesh, self.dos_width, *self.dos_window],
            "energies": [float(self.energies[0]), len(self.energies)],
            "line": [self.line_shape, self.line_width, self.peak_width],
            "fit": [*self.fit.window, self.fit.dispersion, self.fit.n_resamples, self.fit.seed, self.fit.n_counts],
            "split_off_bands": self.split_off_bands,
        }

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the levels and weights of one sample."""
        return {
            "distances": list(self.distances),
            "window": self.energy_window,
            "valence_electrons": {str(z): n for z, n in self.valence_electrons.items()},
            "supercell": list(run.supercell),
        }

    def begin(self, run: Run) -> None:
        """Solve the equilibrium near K and settle which supercell k-points serve which primitive ones."""
        if run.n_samples < 2:
            raise ConfigError(message("n_samples", f"{run.n_samples}", "at least 2, for an error bar", "Ask for more samples."))
        self._device = run.device
        atoms, hamiltonian, overlap = run.equilibrium()
        self._cone = build_cone(atoms, hamiltonian, overlap, run.supercell, self.distances, self.valence_electrons)
        sample = run.displaced(SampleKey(0, run.temperatures[0]))
        unfolding.check_atom_map(self._cone.atom_map, atoms.positions, atoms.cell.array, sample.positions, sample.cell.array)

    def evaluate(self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix) -> dict[str, NDArray]:
        """Solve one displaced supercell near the Dirac energy and unfold it; the arrays are those of ``unfold_sample``."""
        return unfold_sample(self._require_cone(), hamiltonian, overlap, self.energy_window, self._device)

    def finish(self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]) -> ObservablesRecord:
        """Average the samples and fit the velocities."""
        if self._cone is None:
            self.begin(run)
        cone, plan = self._require_cone(), self._plan(run)
        collected = _Samples(self, cone, run.temperatures, plan)
        for key, arrays in results:
            collected.add(key, arrays)
        spectral, averaged = self._estimate(results, collected)
        at_rest = np.stack(
            [
                compute_spectral_function(self.energies, levels, np.ones(len(levels)), self.line_width, self.line_shape)
                for levels in cone.eigenvalues - cone.dirac_energy
            ]
        )
        record = ObservablesRecord(
            **self._equilibrium(run),
            dirac_energy=cone.dirac_energy,
            temperatures=np.array(run.temperatures),
            n_samples=run.n_samples,
            supercell=cone.atom_map.supercell,
            line_shape=self.line_shape,
            line_width=self.line_width,
            peak_width=self.peak_width,
            energies=self.energies,
            map_distances=cone.distances,
            equilibrium_spectral_function=at_rest,
            spectral_functions=collected.total,
            captured_weights=collected.captured,
            miscounted_shares=collected.miscounted / (run.n_samples * len(collected.fitted)),
            velocity_window=self.fit.window,
            dispersion=self.fit.dispersion,
            split_off_bands=self.split_off_bands,
            n_resamples=self.fit.n_resamples,
            spectral=spectral,
            sorted_average=averaged,
        )
        run.warnings += [f"{self.name}: {text}" for text in record.doubts()]
        return record

    def _plan(self, run: Run) -> ResamplingPlan:
        return ResamplingPlan(run.design, self.fit.n_resamples, self.fit.n_counts, self.fit.seed)

    def _estimate(
        self, results: Iterable[tuple[SampleKey, dict[str, NDArray]]], collected: _Samples
    ) -> tuple[VelocityRecord, VelocityRecord]:
        """Fit the velocities of both estimators; goes through the samples once more for each, leaving groups out."""
        cone, plan, fitted = collected.cone, collected.plan, collected.fitted
        rest = cone.eigenvalues[:, cone.n_occupied + np.array([-1, 0])] - cone.dirac_energy
        # sorting cannot tell cones that fold onto one k-point apart: neither may its reference
        shared = cone.index[:, None] == cone.index[None, :] if cone.n_cones > 1 else np.eye(len(rest), dtype=bool)
        folded = (shared @ rest) / shared.sum(axis=1)[:, None]
        distances = np.abs(cone.distances)[fitted]
        at_rest = cone.eigenvalues[fitted][:, cone.n_occupied + collected.bands] - cone.dirac_energy
        spectra, levels = collected.spectra.means(), collected.levels.means()
        left_out = leave_one_out(plan.design, collected.by_sample(results, collected.spectra_of), spectra[plan.last])
        peaks = np.array([find_peaks(self.energies, mean.astype(np.float64)) for _, mean in sorted(left_out, key=itemgetter(0))])
        spectral = estimate_velocities(
            find_peaks(self.energies, spectra.astype(np.float64)), peaks, plan, distances, at_rest, self.fit
        )
        left_out = leave_one_out(plan.design, collected.by_sample(results, collected.levels_of), levels[plan.last])
        without = np.array([mean for _, mean in sorted(left_out, key=itemgetter(0))])
        return spectral, estimate_velocities(levels.astype(np.float64), without, plan, distances, folded[fitted], self.fit)

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
            f"{record.dispersion} at |k−K| {record.velocity_window[0]:g}–{record.velocity_window[1]:g} Å⁻¹"
        )

    def error_bars(self, record: ObservablesRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bars of v_F from spectral peaks and of its change from the first temperature, m/s."""
        return {"fermi_velocity": record.spectral.velocity_errors, "fermi_velocity_change": record.spectral.change_errors}

    def _require_cone(self) -> Cone:
        if self._cone is None:
            raise PhysicsError(
                message("observables stage", "a sample before begin()", "begin() first", "Run the stage through the runner.")
            )
        return self._cone

    def _equilibrium(self, run: Run) -> dict[str, Any]:
        """Compute bands, Fermi energy and density of states of the primitive cell."""
        atoms, hamiltonian, overlap = run.equilibrium()
        n_electrons = count_valence_electrons(hamiltonian.numbers, self.valence_electrons)
        path = lattice.build_k_path(lattice.hexagonal_points(atoms.cell.array), "ΓKMΓ", atoms.cell.array, self.band_spacing)
        mesh, weights = lattice.build_k_mesh(self.dos_mesh)
        layouts = lay_out(hamiltonian), lay_out(overlap)
        on_mesh, on_path = (solve_many(*layouts, kpoints) for kpoints in (mesh, path.kpoints))
        fermi_energy = fermi_energy_from_eigenvalues(on_mesh, weights, n_electrons, self.electronic_temperature)
        dos_energies = np.arange(self.dos_window[0], self.dos_window[1] + 0.1 * self.dos_width, 0.4 * self.dos_width)
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


class _Samples:
    """Accumulate the samples: averages of spectra and sorted levels at the fitted points, totals of all; keeps no sample."""

    def __init__(self, stage: FermiVelocityStage, cone: Cone, temperatures: Sequence[float], plan: ResamplingPlan) -> None:
        distances = np.abs(cone.distances)
        self.fitted = np.flatnonzero((distances >= stage.fit.window[0] - 1e-9) & (distances <= stage.fit.window[1] + 1e-9))
        n_pairs = cone.states.shape[2] // 2 if stage.split_off_bands else 1
        self.bands = np.arange(-n_pairs, n_pairs)
        self.stage, self.cone, self.plan, self.temperatures = stage, cone, plan, list(temperatures)
        self.total = np.zeros((len(temperatures), len(distances), len(stage.energies)))
        self.captured = np.ones(len(temperatures))
        self.miscounted = np.zeros(len(temperatures))
        self.spectra, self.levels = MeanAccumulator(plan.weights), MeanAccumulator(plan.weights)
        self._unfinished: dict[int, dict[float, tuple[NDArray, NDArray]]] = {}

    def add(self, key: SampleKey, arrays: Mapping[str, NDArray]) -> None:
        """Take in one sample at one temperature, in any order."""
        column = self.temperatures.index(key.temperature)
        self._add_total(column, self.plan.design.weights[key.sample], arrays)
        self._examine(column, arrays)
        parts = self._unfinished.setdefault(key.sample, {})
        parts[key.temperature] = self.spectra_of(arrays), self.levels_of(arrays)
        if len(parts) == len(self.temperatures):
            for accumulator, which in ((self.spectra, 0), (self.levels, 1)):
                accumulator.add(key.sample, np.stack([parts[t][which] for t in self.temperatures]))
            del self._unfinished[key.sample]

    def by_sample(
        self, results: Iterable[tuple[SampleKey, dict[str, NDArray]]], feature: Callable[[Mapping[str, NDArray]], NDArray]
    ) -> Iterator[tuple[int, NDArray]]:
        """Yield the number of every sample and a feature of it at all temperatures, (n_temperatures, …)."""
        unfinished: dict[int, dict[float, NDArray]] = {}
        for key, arrays in results:
            parts = unfinished.setdefault(key.sample, {})
            parts[key.temperature] = feature(arrays)
            if len(parts) == len(self.temperatures):
                yield key.sample, np.stack([unfinished[key.sample][t] for t in self.temperatures])
                del unfinished[key.sample]

    def spectra_of(self, arrays: Mapping[str, NDArray]) -> NDArray[np.float32]:
        """Return A(E) of the bands that are fitted: (n_fitted, n_bands, n_energies), 1/eV."""
        stage, middle = self.stage, self.cone.states.shape[2] // 2
        spectra = []
        for point in self.fitted:
            levels, weights = self._at(point, arrays)
            lines = compute_spectral_function(
                stage.energies, levels, weights[middle + self.bands], stage.peak_width, stage.line_shape
            )
            spectra.append(lines.astype(np.float32))
        return np.array(spectra)

    def levels_of(self, arrays: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Return the mean low levels by position in the sorted spectrum: (n_fitted, 2), eV.

        They are NaN where ghost states push the low levels, found by counting, out of the energy window.
        """
        cone = self.cone
        middle, cones = cone.n_occupied * cone.atom_map.n_cells, cone.n_cones
        pairs = np.full((len(self.fitted), 2), np.nan)
        for row, point in enumerate(self.fitted):
            levels, _ = self._at(point, arrays)
            first = int(arrays["first"][cone.index[point]])
            if first <= middle - cones and middle + cones <= first + len(levels):
                pair = sorted_levels(levels, first, range(middle - cones, middle + cones))
                pairs[row] = pair[:cones].mean(), pair[cones:].mean()
        return pairs

    def _at(self, point: np.integer | int, arrays: Mapping[str, NDArray]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the levels that serve a k-point, (n_states,), and their weights, (n_bands + 1, n_states), not padded."""
        levels = arrays["levels"][int(self.cone.index[point])]
        levels = levels[np.isfinite(levels)]
        return levels, arrays["weights"][point, :, : len(levels)]

    def _add_total(self, column: int, weight: float, arrays: Mapping[str, NDArray]) -> None:
        stage = self.stage
        for point in range(len(self.cone.kpoints)):
            levels, weights = self._at(point, arrays)
            self.total[column, point] += weight * compute_spectral_function(
                stage.energies, levels, weights[-1], stage.line_width, stage.line_shape
            )

    def _examine(self, column: int, arrays: Mapping[str, NDArray]) -> None:
        """Look for weight outside the energy window and for states in excess below the Dirac energy."""
        cone = self.cone
        middle = cone.states.shape[2] // 2
        for point in self.fitted:
            levels, weights = self._at(point, arrays)
            self.captured[column] = min(self.captured[column], float(weights[middle - 1 : middle + 1].sum(axis=1).min()))
            n_below = int(arrays["first"][cone.index[point]]) + np.count_nonzero(levels < 0.0)
            self.miscounted[column] += n_below != cone.n_occupied * cone.atom_map.n_cells
