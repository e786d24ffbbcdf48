"""The record of the fermi_velocity stage: bands, spectral functions near K and v_F(T)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.near_k.record import (
    Estimate,
    FoldedDifferenceRecord,
    VelocityRecord,
    WindowRecord,
)
from mlepi.physics.bands.velocities import points_inside
from mlepi.results import unit


@dataclass(frozen=True)
class PeakWidthRecord:
    """Velocity of the spectral peaks over that of the equilibrium, by the width of the lines.

    Attributes:
        widths: (n_widths,), that of the run first, ascending.
        slope_ratios: (n_widths, n_temperatures), mean slope in the window of the run.
        slope_ratio_errors: (n_widths, n_temperatures), bootstrap.
        slope_change_errors: (n_widths, n_temperatures), of the difference to the first width.
        pinned_ratios: (n_widths, n_temperatures), v with γ₁ pinned; NaN without split-off bands.
        pinned_ratio_errors: (n_widths, n_temperatures), bootstrap.
    """

    widths: NDArray[np.float64] = field(metadata=unit("eV"))
    slope_ratios: NDArray[np.float64] = field(metadata=unit("1"))
    slope_ratio_errors: NDArray[np.float64] = field(metadata=unit("1"))
    slope_change_errors: NDArray[np.float64] = field(metadata=unit("1"))
    pinned_ratios: NDArray[np.float64] = field(metadata=unit("1"))
    pinned_ratio_errors: NDArray[np.float64] = field(metadata=unit("1"))

    @property
    def changes(self) -> NDArray[np.float64]:
        """(n_temperatures,), slope ratio of lines √2 times as wide less that of the run's own."""
        return self.slope_ratios[1] - self.slope_ratios[0]


@dataclass(frozen=True)
class FermiVelocityRecord:
    """Bands, spectral functions and Fermi velocities of a run.

    Attributes:
        fermi_energy: of the equilibrium structure.
        electronic_temperature: smearing with which it was found.
        n_electrons: valence electrons per primitive cell.
        dirac_energy: middle of the low bands at K, equilibrium.
        band_kpoints: (n_k, 3), path of the equilibrium bands.
        band_distances: (n_k,), along the path.
        band_labels: special points.
        band_label_distances: (n_labels,).
        bands: (n_k, n_bands), equilibrium eigenvalues, not shifted.
        dos_mesh: k mesh of the density of states.
        dos_energies: (n_dos,), relative to the Fermi energy.
        dos: (n_dos,), equilibrium, per cell and spin.
        temperatures: (n_temperatures,).
        n_samples: supercells per temperature, the most where they differ.
        supercell: primitive cells along each lattice vector.
        line_shape: "gaussian" or "lorentzian".
        line_width: standard deviation or half width of the lines of ``spectral_functions``.
        peak_width: the same of the lines whose maxima ``spectral`` uses.
        energies: (n_energies,), relative to the Dirac energy.
        map_distances: (n_points,), k − K along M–K–Γ, negative towards M.
        equilibrium_spectral_function: (n_points, n_energies), per spin.
        spectral_functions: (n_temperatures, n_points, n_energies), averaged over the samples.
        captured_weights: (n_temperatures,), smallest share of a low band at a fitted point that
            lies in the energy window.
        miscounted_shares: (n_temperatures,), share of the fitted points and samples at which the
            states below the Dirac energy are not as many as the electron pairs: ghost states or
            rigid shifts, which upset ``sorted_average`` only.
        velocity_window: smallest and largest |k − K| of the fits.
        dispersion: "hyperbola" or "linear".
        split_off_bands: whether the split-off bands took part in the fits.
        n_resamples: of the bootstrap.
        spectral: v_F from the peaks of the unfolded spectral function of the low bands.
        sorted_average: v_F from averages of sorted supercell eigenvalues, for comparison only:
            level repulsion among folded bands rounds the cone in a small supercell.
        velocity_operator: v_F from group velocities of supercell states, ⟨∂H/∂k − E ∂S/∂k⟩,
            averaged over the states in the spectral peak; its energies are those of ``spectral``.
        band_slopes: (n_temperatures, n_points, n_bands), these group velocities as dE/d|k − K|.
        equilibrium_band_slopes: (n_points, n_bands), undisplaced.
        spectral_windows: ``spectral`` in other windows.
        sorted_windows: ``sorted_average`` in other windows.
        operator_windows: ``velocity_operator`` in other windows.
        folded_difference: difference of averaged sorted levels between K and the points next to it,
            which is an opening of K and no velocity; None without K, and in older files.
        peak_widths: ``spectral`` with wider lines; None in older files.
    """

    fermi_energy: float = field(metadata=unit("eV"))
    electronic_temperature: float = field(metadata=unit("K"))
    n_electrons: float = field(metadata=unit("1"))
    dirac_energy: float = field(metadata=unit("eV"))
    band_kpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    band_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    band_labels: tuple[str, ...] = field(metadata=unit("1"))
    band_label_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    bands: NDArray[np.float64] = field(metadata=unit("eV"))
    dos_mesh: tuple[int, ...] = field(metadata=unit("1"))
    dos_energies: NDArray[np.float64] = field(metadata=unit("eV"))
    dos: NDArray[np.float64] = field(metadata=unit("1/eV"))
    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    line_shape: str = field(metadata=unit("1"))
    line_width: float = field(metadata=unit("eV"))
    peak_width: float = field(metadata=unit("eV"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))
    map_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    equilibrium_spectral_function: NDArray[np.float64] = field(metadata=unit("1/eV"))
    spectral_functions: NDArray[np.float64] = field(metadata=unit("1/eV"))
    captured_weights: NDArray[np.float64] = field(metadata=unit("1"))
    miscounted_shares: NDArray[np.float64] = field(metadata=unit("1"))
    velocity_window: tuple[float, ...] = field(metadata=unit("1/Å"))
    dispersion: str = field(metadata=unit("1"))
    split_off_bands: bool = field(metadata=unit("1"))
    n_resamples: int = field(metadata=unit("1"))
    spectral: VelocityRecord
    sorted_average: VelocityRecord
    velocity_operator: VelocityRecord
    band_slopes: NDArray[np.float64] = field(metadata=unit("eV·Å"))
    equilibrium_band_slopes: NDArray[np.float64] = field(metadata=unit("eV·Å"))
    spectral_windows: WindowRecord
    sorted_windows: WindowRecord
    operator_windows: WindowRecord
    folded_difference: FoldedDifferenceRecord | None = None
    peak_widths: PeakWidthRecord | None = None

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """(n_points,), True where a point of the map takes part in the fits."""
        lower, upper = self.velocity_window
        return points_inside(np.abs(self.map_distances), (lower, upper))

    def velocity_estimates(self) -> list[Estimate]:
        """Return v_F by the three estimators."""
        method = (
            f"Maps of A(k, E) have {self.line_shape} lines of {1e3 * self.line_width:.0f} meV, the "
            f"spectra whose maxima are fitted {1e3 * self.peak_width:.0f} meV. Error bars: "
            f"standard deviation of {self.n_resamples} bootstrap resamples of the samples."
        )
        return [
            Estimate("spectral peak", self.spectral, self.spectral_windows, self, method),
            Estimate(
                "velocity operator", self.velocity_operator, self.operator_windows, self, method
            ),
            Estimate("sorted average", self.sorted_average, self.sorted_windows, self, method),
        ]
