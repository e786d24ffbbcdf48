"""Valence and conduction peaks of averaged unfolded spectra at any k-points.

The supercell's own edges stand beside them. Near both edges only the states inside an energy window
are computed (``mlepi.physics.eigenstates.window_states``): one window where the gap is narrow, one
around either edge where it is wide. Energies are relative to the middle of the gap of the
undisplaced crystal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.observables.near_k.reference_bands import (
    ReferenceBands,
    build_reference,
    count_occupied,
)
from mlepi.observables.near_k.unfold_sample import unfold_sample
from mlepi.observables.stage_settings import describe_electrons
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import bootstrap, pseudo_values
from mlepi.physics.bands import lattice
from mlepi.physics.bands.spectra import compute_spectral_function, find_peaks
from mlepi.physics.eigenstates.dense_bloch import solve_many
from mlepi.pipeline.ensemble import Ensemble, Equilibrium, Sample, SampleKey
from mlepi.pipeline.sampled_stage import Part
from mlepi.pipeline.stage import check_choice

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix

ALIGNMENTS = ("none", "mean_potential")
"""What a sample's energies are relative to: the zero of H, or the mean potential Tr H/Tr S of its
own atoms."""

HIDDEN_WEIGHT = 0.5
"""A band with more of its weight than this outside the window has no peak to speak of."""


@dataclass(frozen=True)
class PeakSettings:
    """How peaks are found.

    Attributes:
        stage: name, for messages.
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        energy_window: eV, half width around the middle of the gap, or around either edge.
        energy_step: eV.
        peak_width: eV, standard deviation of the Gaussian lines.
        align: one of ``ALIGNMENTS``.
        n_resamples: of the bootstrap.
    """

    stage: str
    valence_electrons: Mapping[int, float]
    energy_window: float
    energy_step: float
    peak_width: float
    align: str
    n_resamples: int

    def __post_init__(self) -> None:
        """Refuse settings without meaning."""
        if not 0 < self.energy_step <= 0.5 * self.peak_width < 0.5 * self.energy_window:
            raise ConfigError(
                message(
                    f"stage.{self.stage}",
                    f"energy_step {self.energy_step}, peak_width {self.peak_width}, energy_window "
                    f"{self.energy_window} eV",
                    "a step of at most half the width, and a width below the window",
                    "Make the step smaller or the lines wider.",
                )
            )
        check_choice(f"stage.{self.stage}.align", self.align, ALIGNMENTS)

    @property
    def energies(self) -> NDArray[np.float64]:
        """(n_energies,) eV, relative to the middle of a window."""
        n_steps = round(self.energy_window / self.energy_step)
        return (np.arange(-n_steps, n_steps + 1) * self.energy_step).astype(np.float64)

    def sample_inputs(self) -> dict[str, Any]:
        """Return what decides the result of one sample."""
        return {
            "window": self.energy_window,
            "valence_electrons": describe_electrons(self.valence_electrons),
        }

    def inputs(self) -> dict[str, Any]:
        """Return what decides the peaks."""
        return {
            **self.sample_inputs(),
            "peaks": [self.energy_step, self.peak_width, self.align, self.n_resamples],
        }


@dataclass(frozen=True)
class BandPeaks:
    """The k-points of a stage and the equilibrium there.

    Attributes:
        settings: how peaks are found.
        windows: one for both edges, or one for the valence and one for the conduction band.
        equilibrium: (n_points, 2) valence and conduction band, eV, relative to ``reference``.
        reference: eV, middle of the gap of the undisplaced crystal among the k-points.
        mean_potential: eV, of the undisplaced crystal.
        device: where the states are computed.
    """

    settings: PeakSettings
    windows: tuple[ReferenceBands, ...]
    equilibrium: NDArray[np.float64]
    reference: float
    mean_potential: float
    device: str

    @property
    def centres(self) -> NDArray[np.float64]:
        """(2,) eV, middle of the windows of both bands, valence first, from ``reference``."""
        return np.array([self.windows[0].centre, self.windows[-1].centre]) - self.reference

    def evaluate(self, sample: Sample) -> Part:
        """Solve one displaced supercell near the edges.

        Returns:
            ``levels_w`` (n_solved, n_states) eV, padded with NaN, ``weights_w`` (n_points, 2,
            n_states) of the two edge bands and ``first_w`` (n_solved,), for each window w, as
            ``unfold_sample`` returns them; ``shift`` () eV, mean potential less that of the
            undisplaced crystal.
        """
        matrices, half_width = (sample.hamiltonian, sample.overlap), self.settings.energy_window
        arrays = {"shift": np.array(mean_potential(*matrices) - self.mean_potential)}
        for w, window in enumerate(self.windows):
            found = unfold_sample(window, *matrices, half_width, self.device)
            middle = window.states.shape[2] // 2
            arrays |= {f"levels_{w}": found["levels"], f"first_{w}": found["first"]}
            arrays[f"weights_{w}"] = found["weights"][:, middle - 1 : middle + 1]
        return arrays

    def average(
        self, ensemble: Ensemble, results: Iterable[tuple[SampleKey, Part]]
    ) -> PeakAverages:
        """Average the spectra of both edge bands and the supercells' own edges.

        Args:
            ensemble: of the samples.
            results: what ``evaluate`` returned for each.

        Raises:
            PhysicsError: a band is mostly outside its energy window.
        """
        energies, n_points = self.settings.energies, len(self.equilibrium)
        design, temperatures = ensemble.design, ensemble.temperatures
        spectra = BlockAverages(design, temperatures, (n_points, 2, len(energies)))
        edges = BlockAverages(design, temperatures, (2,))
        for key, arrays in results:
            shift = float(arrays["shift"]) if self.settings.align == "mean_potential" else 0.0
            spectrum = np.empty(spectra.means.shape[2:])
            for band in range(2):
                w = band if len(self.windows) == 2 else 0
                for point, number in enumerate(self.windows[w].index):
                    levels = arrays[f"levels_{w}"][number]
                    known = np.isfinite(levels)
                    spectrum[point, band] = compute_spectral_function(
                        energies,
                        levels[known] - shift,
                        arrays[f"weights_{w}"][point, band, known],
                        self.settings.peak_width,
                        "gaussian",
                    )
            spectra.add(*key, spectrum)
            edges.add(*key, self._own_edges(arrays) - shift)
        step = self.settings.energies[1] - self.settings.energies[0]
        lost = 1.0 - float(spectra.average().sum(axis=-1).min()) * step
        if lost > HIDDEN_WEIGHT:
            raise PhysicsError(
                message(
                    f"{self.settings.stage} stage",
                    f"{100 * lost:.0f} % of an edge band outside the energy window at one of the "
                    "k-points",
                    f"at most {100 * HIDDEN_WEIGHT:.0f} %",
                    f"Widen stage.{self.settings.stage}.energy_window, or ask for k-points nearer "
                    "to the edges.",
                )
            )
        return PeakAverages(self, spectra, edges)

    def _own_edges(self, arrays: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Return the highest occupied and the lowest empty level of a supercell at the k-points.

        (2,) eV; NaN if out of sight.
        """
        found = []
        for band in range(2):
            w = band if len(self.windows) == 2 else 0
            window = self.windows[w]
            place = window.n_occupied * window.atom_map.n_cells - 1 + band
            at_points = []
            for levels, first in zip(arrays[f"levels_{w}"], arrays[f"first_{w}"], strict=True):
                row = place - int(first)
                known = levels[np.isfinite(levels)]
                at_points.append(known[row] if 0 <= row < len(known) else np.nan)
            found.append(
                (max if band == 0 else min)(at_points) if np.all(np.isfinite(at_points)) else np.nan
            )
        return np.array(found) + self.centres


@dataclass(frozen=True)
class PeakAverages:
    """Averages of an ensemble and what follows from them.

    Attributes:
        peaks: the k-points.
        spectra: of the edge bands, (n_points, 2, n_energies) per sample.
        edges: of the supercells, (2,) per sample.
    """

    peaks: BandPeaks
    spectra: BlockAverages
    edges: BlockAverages

    def energies(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Return the peaks for weights of the blocks: (n_temperatures, n_points, 2) eV."""
        return (
            find_peaks(self.peaks.settings.energies, self.spectra.average(weights))
            + self.peaks.centres
        )

    def resampled(self) -> NDArray[np.float64]:
        """Return the peaks of all bootstrap resamples.

        (n_resamples, n_temperatures, n_points, 2) eV.
        """
        found = bootstrap(
            lambda w: self.energies(w).ravel(),
            self.spectra.design,
            self.peaks.settings.n_resamples,
            0,
        )
        return found.reshape(-1, *self.energies().shape)

    def errors(self, resampled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the standard errors of anything that follows from ``resampled``.

        (n_resamples, …) → (…).
        """
        return self.spectra.bootstrap_errors(resampled)

    def pseudo_gaps(self) -> NDArray[np.float64]:
        """Return the jackknife pseudo-values of the gap, (n_blocks, n_temperatures) eV."""
        without = [distance_of_edges(self.energies(weights)) for weights in self.spectra.left_out]
        return pseudo_values(distance_of_edges(self.energies()), np.array(without))

    @property
    def degrees_of_freedom(self) -> float:
        """Of all standard errors."""
        return self.spectra.degrees_of_freedom

    def own_edges(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean valence edge, conduction edge and gap of the supercells and their errors.

        (n_temperatures, 3) eV.
        """

        def with_gap(edges: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.concatenate([edges, edges[:, 1:] - edges[:, :1]], axis=1)

        mean = with_gap(self.edges.average())
        without = np.array(
            [with_gap(self.edges.average(weights)) for weights in self.edges.left_out]
        )
        return mean, self.edges.standard_errors(mean, without)


def place_peaks(
    settings: PeakSettings,
    ensemble: Ensemble,
    kpoints: NDArray[np.float64],
    distances: NDArray[np.float64] | None = None,
) -> BandPeaks:
    """Solve the equilibrium at the k-points and place the energy windows.

    Args:
        settings: how peaks are found.
        ensemble: of the samples, with the crystal at rest.
        kpoints: (n_points, 3) fractional, primitive.
        distances: (n_points,) Å⁻¹ along a line; None where the points have nothing to do with each
            other.

    Raises:
        PhysicsError: an odd number of electrons.
    """
    _, hamiltonian, overlap = ensemble.equilibrium
    n_occupied = count_occupied(hamiltonian, settings.valence_electrons)
    levels = solve_many(hamiltonian.lay_out(), overlap.lay_out(), kpoints)
    bands = levels[:, n_occupied - 1 : n_occupied + 1]
    highest, lowest = float(bands[:, 0].max()), float(bands[:, 1].min())
    middle = 0.5 * (highest + lowest)
    narrow = lowest - highest <= settings.energy_window
    # 1/Å: every point is proven complete on its own
    far_apart = np.arange(len(kpoints), dtype=np.float64)
    windows = tuple(
        build_reference(
            ensemble.equilibrium,
            ensemble.supercell,
            kpoints,
            far_apart if distances is None else distances,
            n_occupied,
            centre=centre,
            direction=np.zeros(3),
        )
        for centre in ((middle,) if narrow else (highest, lowest))
    )
    potential = mean_potential(hamiltonian, overlap)
    return BandPeaks(settings, windows, bands - middle, middle, potential, ensemble.device)


def distance_of_edges(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lowest conduction less the highest valence energy: (…, n_points, 2) → (…)."""
    return np.asarray(energies[..., 1].min(axis=-1) - energies[..., 0].max(axis=-1))


def smallest_direct_distance(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least distance of the bands at one k-point: (…, n_points, 2) → (…)."""
    return np.asarray((energies[..., 1] - energies[..., 0]).min(axis=-1))


def mean_potential(hamiltonian: BlockMatrix, overlap: BlockMatrix) -> float:
    """Return Tr H/Tr S over the on-site blocks, eV: a rigid shift H + μS raises it by μ."""
    traces = []
    for matrix in (hamiltonian, overlap):
        on_site = (matrix.edge_index[0] == matrix.edge_index[1]) & ~np.any(
            matrix.edge_cell_shift, axis=1
        )
        traces.append(float(np.einsum("eaa->", matrix.blocks[on_site])))
    return traces[0] / traces[1]


def find_edges(
    equilibrium: Equilibrium, mesh: Sequence[int], valence_electrons: Mapping[int, float]
) -> NDArray[np.float64]:
    """Find where on a mesh the valence band is highest and the conduction band lowest.

    Args:
        equilibrium: structure, H (eV) and S of the crystal at rest.
        mesh: divisions along each reciprocal lattice vector.
        valence_electrons: atomic number → valence electrons of its pseudopotential.

    Returns:
        (1 or 2, 3) fractional.

    Raises:
        PhysicsError: an odd number of electrons.
    """
    _, hamiltonian, overlap = equilibrium
    n_occupied = count_occupied(hamiltonian, valence_electrons)
    kpoints = lattice.build_k_mesh(mesh)[0]
    bands = solve_many(hamiltonian.lay_out(), overlap.lay_out(), kpoints)
    places = sorted(
        {int(np.argmax(bands[:, n_occupied - 1])), int(np.argmin(bands[:, n_occupied]))}
    )
    return kpoints[places]


def name_points(
    atoms: Atoms, points: Sequence[str | Sequence[float]], where: str
) -> NDArray[np.float64]:
    """Turn names of special points of a hexagonal cell, or fractional coordinates, into k-points.

    Args:
        atoms: of the primitive cell.
        points: names or coordinates.
        where: key of the config, for the message.

    Returns:
        (n_points, 3) fractional.

    Raises:
        ConfigError: an unknown name or not three numbers.
    """
    found = []
    for point in points:
        known = lattice.hexagonal_points(atoms.cell.array) if isinstance(point, str) else {}
        if point not in known if isinstance(point, str) else len(point) != 3:
            raise ConfigError(
                message(
                    where,
                    repr(point),
                    "Γ, M, K, K' or three fractional coordinates",
                    "Name a point of the hexagonal cell, or give three numbers.",
                )
            )
        found.append(
            known[point] if isinstance(point, str) else np.asarray(point, dtype=np.float64)
        )
    return np.array(found)
