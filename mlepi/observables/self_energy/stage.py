"""The self_energy stage.

Averaged Green's functions of the bands near K, their self-energies, quasiparticles and v_F.

Every sample contributes a few Ritz levels per k-point that represent its Green's function
(``mlepi.physics.bands.green``); the average, the self-energy and its zeros are taken at the end.
Each band has its own scalar Dyson equation: the poles are those of the full matrix, and the noise
of a finite average does not enter through the inverse of a large one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.near_k.reference_bands import ReferenceBands, build_near_k, sort_distances
from mlepi.observables.near_k.unfold_sample import average_overlaps, check_elements
from mlepi.observables.near_k.velocity_estimates import (
    ResamplingPlan,
    VelocityFit,
    estimate_velocities,
    estimate_windows,
)
from mlepi.observables.sample_checks import check_samples
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.bands import unfolding
from mlepi.physics.bands.green import (
    diagonal_green_function,
    moments,
    project_resolvent,
    quasiparticles,
    self_energy,
)
from mlepi.physics.bands.velocities import DISPERSIONS
from mlepi.pipeline.stage import SampleKey
from mlepi.results.self_energy import SelfEnergyRecord

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run


class SelfEnergyStage:
    """Self-energies, quasiparticles and their Fermi velocity.

    See ``conf/stage/settings/self_energy.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        distances: Å⁻¹, |k − K|.
        energy_window: eV, half width around the Dirac energy.
        energy_step: eV.
        broadening: η, eV.
        tolerance: eV, of 1/G of every sample.
        velocity_window: Å⁻¹.
        windows: Å⁻¹, further windows in which the fit is repeated.
        dispersion: "hyperbola" or "linear".
        split_off_bands: fit the split-off bands of a bilayer together with the low ones
            (hyperbola).
        n_resamples: of the bootstrap.
        n_counts: of the convergence study.

    Raises:
        ConfigError: a setting without meaning.
    """

    name: ClassVar[str] = "self_energy"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = SelfEnergyRecord
    targets: ClassVar[tuple[str, ...]] = ("quasiparticle_velocity",)

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        distances: Sequence[float],
        energy_window: float,
        energy_step: float,
        broadening: float,
        tolerance: float,
        velocity_window: Sequence[float],
        windows: Sequence[Sequence[float]],
        dispersion: str,
        split_off_bands: bool,
        n_resamples: int,
        n_counts: int,
    ) -> None:
        if not 0 < energy_step <= 0.5 * broadening < 0.5 * energy_window or tolerance <= 0:
            raise ConfigError(
                message(
                    "stage.self_energy",
                    f"energy_step {energy_step}, broadening {broadening}, window {energy_window}, "
                    f"tolerance {tolerance} eV",
                    "a step of at most half the broadening, a broadening below the window, and a "
                    "tolerance > 0",
                    "Lower energy_step to half the broadening, or widen energy_window.",
                )
            )
        if dispersion not in DISPERSIONS:
            raise ConfigError(
                message(
                    "stage.self_energy.dispersion",
                    repr(dispersion),
                    f"one of {list(DISPERSIONS)}",
                    "Choose one of them.",
                )
            )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.distances = sort_distances("self_energy", distances)
        self.energy_window, self.broadening, self.tolerance = energy_window, broadening, tolerance
        n_steps = round(energy_window / energy_step)
        self.energies = (np.arange(-n_steps, n_steps + 1) * energy_step).astype(np.float64)
        self.fit = VelocityFit(
            (float(velocity_window[0]), float(velocity_window[1])),
            dispersion,
            n_resamples,
            0,
            n_counts,
        )
        self.windows = tuple((float(low), float(high)) for low, high in windows)
        self.split_off_bands = split_off_bands and dispersion == "hyperbola"
        self._reference: ReferenceBands | None = None

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(run),
            "energies": [float(self.energies[0]), len(self.energies)],
            "windows": [list(window) for window in self.windows],
            "fit": [
                *self.fit.window,
                self.fit.dispersion,
                self.fit.n_resamples,
                self.fit.seed,
                self.fit.n_counts,
            ],
        }

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the Ritz levels of one sample."""
        return {
            "distances": list(self.distances),
            "resolvent": [self.energy_window, self.broadening, self.tolerance],
            "valence_electrons": {str(z): n for z, n in self.valence_electrons.items()},
            "split_off_bands": self.split_off_bands,
            "supercell": list(run.supercell),
        }

    def begin(self, run: Run) -> None:
        """Solve the equilibrium near K and settle which supercell k-points serve which points."""
        equilibrium = run.equilibrium()
        reference = build_near_k(
            *equilibrium, run.supercell, self.distances, self.valence_electrons
        )
        displaced = run.displaced(SampleKey(0, run.temperatures[0]))
        check_samples(run.n_samples, equilibrium[0], displaced, reference.atom_map)
        self._reference = reference

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Represent the Green's functions of one displaced supercell by Ritz levels.

        Returns:
            ``levels`` (n_solved, n_levels) eV relative to the Dirac energy, padded with NaN, and
            ``weights`` (n_points, n_bands, n_levels), zero where padded.

        Raises:
            StructureError: the atoms are not those of the repeated primitive cell.
        """
        reference = self._require_reference()
        check_elements(reference, hamiltonian)
        bands = self._bands(reference)
        layouts = hamiltonian.lay_out(), overlap.lay_out()
        overlaps = average_overlaps(reference, overlap)
        coarse = (
            np.arange(-self.energy_window, self.energy_window, 0.5 * self.broadening)
            + reference.centre
        )
        found: list[NDArray[np.float64]] = []
        weights: dict[int, NDArray[np.float64]] = {}
        for number, kpoint in enumerate(reference.solved):
            points = np.flatnonzero(reference.index == number)
            columns = [
                unfolding.bloch_columns(
                    reference.projectors[point][bands],
                    overlaps[point],
                    reference.atom_map,
                    reference.counts,
                    reference.kpoints[point],
                    reverse=bool(reference.reversed_[point]),
                )
                for point in points
            ]
            h, s = (layout.at(kpoint) for layout in layouts)
            states = np.concatenate(columns, axis=1)
            projected = project_resolvent(
                h, s, states, coarse, self.broadening, tolerance=self.tolerance
            )
            found.append(projected.levels - reference.centre)
            shares = np.abs(projected.components) ** 2
            weights |= {
                int(point): part
                for point, part in zip(points, np.split(shares, len(points)), strict=True)
            }
        n_levels = max(len(levels) for levels in found)
        levels, padded = (
            np.full((len(found), n_levels), np.nan),
            np.zeros((len(weights), len(bands), n_levels)),
        )
        for number, values in enumerate(found):
            levels[number, : len(values)] = values
        for point, shares in weights.items():
            padded[point, :, : shares.shape[1]] = shares
        return {"levels": levels, "weights": padded}

    def finish(
        self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]
    ) -> SelfEnergyRecord:
        """Average the Green's functions, find the quasiparticles and fit the velocity."""
        if self._reference is None:
            self.begin(run)
        reference = self._require_reference()
        bare = (
            reference.eigenvalues[:, reference.n_occupied + self._relative_bands(reference)]
            - reference.centre
        )
        shape = bare.shape
        greens = BlockAverages(
            run.design, run.temperatures, (*shape, len(self.energies)), np.complex64
        )
        powers = BlockAverages(run.design, run.temperatures, (2, *shape))
        z = self.energies + 1j * self.broadening
        for key, arrays in results:
            levels = np.where(np.isfinite(arrays["levels"]), arrays["levels"], 0.0)[
                reference.index
            ]  # padded ones have no weight
            greens.add(
                key.sample, key.temperature, diagonal_green_function(levels, arrays["weights"], z)
            )
            of_points = [
                moments(some, weights)
                for some, weights in zip(levels, arrays["weights"], strict=True)
            ]
            powers.add(key.sample, key.temperature, np.stack(of_points, axis=1))

        def find(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.stack(
                quasiparticles(
                    self.energies,
                    greens.average(weights).astype(np.complex128),
                    bare,
                    self.broadening,
                )
            )

        plan = ResamplingPlan(greens.design, self.fit.n_resamples, self.fit.n_counts, self.fit.seed)
        resampled = np.array([find(weights) for weights in plan.weights])
        (energies, strengths, widths), of_resamples = plan.split(resampled)[-1]
        errors = of_resamples.std(axis=0)
        left_out = np.array([find(weights)[0] for weights in greens.left_out])
        velocity = estimate_velocities(
            resampled[:, 0], left_out, plan, np.abs(reference.distances), bare, self.fit
        )
        first, second = np.moveaxis(powers.average(), 1, 0)
        first_errors = powers.standard_errors(
            first, np.array([powers.average(weights)[:, 0] for weights in powers.left_out])
        )
        green = greens.average().astype(np.complex128)
        counts = greens.n_samples[velocity.convergence_counts - 1]
        record = SelfEnergyRecord(
            temperatures=np.array(run.temperatures),
            n_samples=run.n_samples,
            supercell=reference.atom_map.supercell,
            dirac_energy=reference.centre,
            broadening=self.broadening,
            energies=self.energies,
            map_distances=reference.distances,
            bare_energies=bare,
            spectral_functions=-green.imag / np.pi,
            self_energies=self_energy(green, bare, z),
            quasiparticle_energies=energies,
            quasiparticle_errors=errors[0],
            weights=strengths,
            weight_errors=errors[1],
            widths=widths,
            width_errors=errors[2],
            first_order_shifts=first - bare,
            first_order_errors=first_errors,
            second_moments=second - first**2,
            velocity_window=self.fit.window,
            dispersion=self.fit.dispersion,
            split_off_bands=self.split_off_bands,
            n_resamples=self.fit.n_resamples,
            velocity=replace(velocity, convergence_counts=counts),
            windows=estimate_windows(
                resampled[:, 0], plan, np.abs(reference.distances), bare, self.fit, self.windows
            ),
        )
        run.warnings += [f"{self.name}: {text}" for text in record.doubts()]
        return record

    def summarize(self, record: SelfEnergyRecord) -> str:
        """Say in a few words what was found."""
        velocity = record.velocity
        return (
            f"v_F {1e-5 * velocity.equilibrium_velocity:.2f} → {1e-5 * velocity.velocities[-1]:.2f}"
            f"±{1e-5 * velocity.velocity_errors[-1]:.2f} ×10⁵ m/s at {record.temperatures[-1]:g} "
            "K (quasiparticles), "
            f"Z {record.weights.min():.2f}–{record.weights.max():.2f}, widths up to "
            f"{1e3 * record.widths.max():.0f} meV"
        )

    def error_bars(self, record: SelfEnergyRecord) -> dict[str, NDArray[np.float64]]:
        """Return the error bar of v_F from quasiparticle energies, m/s."""
        return {"quasiparticle_velocity": record.velocity.velocity_errors}

    def _relative_bands(self, reference: ReferenceBands) -> NDArray[np.int64]:
        """Return the bands relative to the lowest empty one."""
        n_pairs = reference.states.shape[2] // 2 if self.split_off_bands else 1
        return np.arange(-n_pairs, n_pairs)

    def _bands(self, reference: ReferenceBands) -> NDArray[np.int64]:
        """Return the places of the bands among those of the reference."""
        return self._relative_bands(reference) + reference.states.shape[2] // 2

    def _require_reference(self) -> ReferenceBands:
        if self._reference is None:
            raise PhysicsError(
                message(
                    "self_energy stage",
                    "a sample before begin()",
                    "begin() first",
                    "Run the stage through the runner.",
                )
            )
        return self._reference
