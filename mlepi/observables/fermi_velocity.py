"""The observables stage: equilibrium bands and density of states, A(k, E) near K, and v_F(T) with both estimators.

Every sample is solved only near the Dirac energy, at supercell k-points that serve K→Γ and K→M at once where K folds onto Γ
(H is real, so the states at −k are known). The spectral functions of the two low bands use the equilibrium bands of the
primitive cell as a reference (``mlepi.physics.unfolding.band_weights``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.cone import Cone, build_cone, lay_out, solve_many, unfold_sample
from mlepi.observables.velocity_estimates import VelocityFit, estimate_velocities, sorted_energies, spectral_energies
from mlepi.physics import lattice, unfolding
from mlepi.physics.bloch import count_valence_electrons, fermi_energy_from_eigenvalues
from mlepi.physics.spectra import SHAPES, compute_dos, compute_spectral_function, sorted_levels
from mlepi.physics.velocities import DISPERSIONS
from mlepi.pipeline.stage import SampleKey
from mlepi.results.observables import ObservablesRecord

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
    version: ClassVar[int] = 2
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
        cone = self._require_cone()
        collected = _Samples(self, cone, run.temperatures)
        for key, arrays in results:
            collected.add(key, arrays)
        rest = cone.eigenvalues[:, cone.n_occupied + np.array([-1, 0])] - cone.dirac_energy
        # sorting cannot tell cones that fold onto one k-point apart: neither may its reference
        shared = cone.index[:, None] == cone.index[None, :] if cone.n_cones > 1 else np.eye(len(rest), dtype=bool)
        folded = (shared @ rest) / shared.sum(axis=1)[:, None]
        distances = np.abs(cone.distances)
        fitted = collected.fitted
        n_samples = len(collected.spectra)
        spectral = estimate_velocities(
            spectral_energies(np.stack(collected.spectra), self.energies),
            run.design,
            distances[fitted],
            cone.eigenvalues[fitted][:, cone.n_occupied + collected.bands] - cone.dirac_energy,
            self.fit,
        )
        averaged = estimate_velocities(
            sorted_energies(np.stack(collected.sorted_levels)), run.design, distances[fitted], folded[fitted], self.fit
        )
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
            n_samples=n_samples,
            supercell=cone.atom_map.supercell,
            line_shape=self.line_shape,
            line_width=self.line_width,
            peak_width=self.peak_width,
            energies=self.energies,
            map_distances=cone.distances,
            equilibrium_spectral_function=at_rest,
            spectral_functions=collected.total / n_samples,
            captured_weights=collected.captured,
            miscounted_shares=collected.miscounted / (n_samples * len(fitted)),
            velocity_window=self.fit.window,
            dispersion=self.fit.dispersion,
            split_off_bands=self.split_off_bands,
            n_resamples=self.fit.n_resamples,
            spectral=spectral,
            sorted_average=averaged,
        )
        run.warnings += [f"{self.name}: {text}" for text in record.doubts()]
        return record

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
    """Accumulate the samples: spectra and sorted levels of the fitted points, totals of all."""

    def __init__(self, stage: FermiVelocityStage, cone: Cone, temperatures: Sequence[float]) -> None:
        distances = np.abs(cone.distances)
        self.fitted = np.flatnonzero((distances >= stage.fit.window[0] - 1e-9) & (distances <= stage.fit.window[1] + 1e-9))
        n_pairs = cone.states.shape[2] // 2 if stage.split_off_bands else 1
        self.bands = np.arange(-n_pairs, n_pairs)
        self.stage, self.cone, self.temperatures = stage, cone, list(temperatures)
        self.total = np.zeros((len(temperatures), len(distances), len(stage.energies)))
        self.captured = np.ones(len(temperatures))
        self.miscounted = np.zeros(len(temperatures))
        self.spectra: list[NDArray[np.float32]] = []
        self.sorted_levels: list[NDArray[np.float64]] = []
        self._counts: dict[int, int] = {}

    def add(self, key: SampleKey, arrays: Mapping[str, NDArray]) -> None:
        """Take in one sample; snapshots may come in any order."""
        stage, cone = self.stage, self.cone
        row, column = self._counts.setdefault(key.sample, len(self._counts)), self.temperatures.index(key.temperature)
        shape = (len(self.temperatures), len(self.fitted))
        middle_band = cone.states.shape[2] // 2
        if row == len(self.spectra):
            self.spectra.append(np.zeros((*shape, len(self.bands), len(stage.energies)), dtype=np.float32))
            # stays NaN where ghost states push the low levels, found by counting, out of the energy window
            self.sorted_levels.append(np.full((*shape, 2), np.nan))
        for point in range(len(cone.kpoints)):
            number = int(cone.index[point])
            levels = arrays["levels"][number]
            levels = levels[np.isfinite(levels)]
            weights = arrays["weights"][point, :, : len(levels)]
            self.total[column, point] += compute_spectral_function(
                stage.energies, levels, weights[-1], stage.line_width, stage.line_shape
            )
            position = np.flatnonzero(self.fitted == point)
            if len(position) == 0:
                continue
            self.captured[column] = min(
                self.captured[column], float(weights[middle_band - 1 : middle_band + 1].sum(axis=1).min())
            )
            self.spectra[row][column, position[0]] = compute_spectral_function(
                stage.energies, levels, weights[middle_band + self.bands], stage.peak_width, stage.line_shape
            )
            middle, cones = cone.n_occupied * cone.atom_map.n_cells, cone.n_cones
            first = int(arrays["first"][number])
            self.miscounted[column] += first + np.count_nonzero(levels < 0.0) != middle
            if first <= middle - cones and middle + cones <= first + len(levels):
                pair = sorted_levels(levels, first, range(middle - cones, middle + cones))
                self.sorted_levels[row][column, position[0]] = pair[:cones].mean(), pair[cones:].mean()
