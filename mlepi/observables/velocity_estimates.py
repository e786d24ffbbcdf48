"""From the samples' levels and weights to v_F(T) with error bars: the two estimators and their bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.spectra import find_peaks
from mlepi.physics.statistics import SampleDesign, bootstrap
from mlepi.physics.velocities import fit_cone, window_slope
from mlepi.results.observables import VelocityRecord


@dataclass(frozen=True)
class VelocityFit:
    """How energies become a velocity.

    Attributes:
        window: smallest and largest |k − K|, Å⁻¹.
        dispersion: "hyperbola" or "linear".
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
        n_counts: number of sample sizes in the convergence study.
    """

    window: tuple[float, float]
    dispersion: str
    n_resamples: int
    seed: int
    n_counts: int

    def parameters(self, distances: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fit the low bands.

        Args:
            distances: (n_points,) Å⁻¹.
            energies: (n_points, 2) low valence and conduction band, eV, or (n_points, 4) between the split-off ones.

        Returns:
            (3,): v in m/s, γ₁ in eV, mean slope of the low bands in m/s; NaN where an energy is not known.
        """
        if not np.all(np.isfinite(energies)):
            return np.full(3, np.nan)
        middle = energies.shape[1] // 2
        valence, conduction = energies[:, middle - 1], energies[:, middle]
        split_off = (energies[:, 0], energies[:, 3]) if energies.shape[1] == 4 else None
        fit = fit_cone(distances, valence, conduction, self.window, self.dispersion, split_off)
        return np.array([fit.fermi_velocity, fit.gamma_1, window_slope(distances, valence, conduction, self.window)])


def spectral_energies(
    spectra: NDArray[np.floating], energies: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the estimator by peaks: sample weights → positions of the maxima of the averaged spectra of single bands.

    Args:
        spectra: (n_samples, n_temperatures, n_points, n_bands, n_energies), 1/eV.
        energies: (n_energies,), eV.

    Returns:
        Function (n_samples,) → (n_temperatures, n_points, n_bands), eV.
    """
    flat = spectra.reshape(len(spectra), -1)
    return lambda weights: find_peaks(energies, (weights.astype(flat.dtype) @ flat).reshape(spectra.shape[1:]).astype(np.float64))


def sorted_energies(levels: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the estimator by averages of sorted eigenvalues.

    Args:
        levels: (n_samples, n_temperatures, n_points, 2), eV; NaN where a sample does not tell.

    Returns:
        Function (n_samples,) → (n_temperatures, n_points, 2), eV; NaN where any sample does not tell.
    """
    return lambda weights: np.tensordot(weights, levels, axes=1)


def estimate_velocities(
    estimator: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    design: SampleDesign,
    distances: NDArray[np.float64],
    equilibrium: NDArray[np.float64],
    fit: VelocityFit,
) -> VelocityRecord:
    """Fit v_F at every temperature, with bootstrap errors and the convergence with the number of samples.

    Args:
        estimator: sample weights (n_samples,) → energies (n_temperatures, n_points, n_bands), eV, two or four bands.
        design: of the samples, at least two groups.
        distances: (n_points,) |k − K|, Å⁻¹.
        equilibrium: (n_points, n_bands), eV, undisplaced energies of the same points.
        fit: window and dispersion.

    Returns:
        The record.
    """

    def fitted(energies: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([fit.parameters(distances, at_temperature) for at_temperature in energies])

    def resample(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bootstrap over the first samples: energies and parameters of every resample."""
        padding = np.zeros(design.n_samples - count)
        shape = energies.shape
        flat = bootstrap(
            lambda weights: estimator(np.concatenate([weights, padding])).ravel(),
            design.first(count),
            fit.n_resamples,
            fit.seed + count,
        )
        resampled = flat.reshape(-1, *shape)
        return resampled, np.array([fitted(one) for one in resampled])

    def first(count: int) -> NDArray[np.float64]:
        return np.concatenate([design.first(count).weights, np.zeros(design.n_samples - count)])

    energies = estimator(design.weights)
    values = fitted(energies)
    at_rest = fit.parameters(distances, equilibrium)
    resampled_energies, resampled = resample(design.n_samples)
    errors = resampled.std(axis=0)
    fewest = next(n for n in range(2, design.n_samples + 1) if design.first(n).n_groups > 1)
    counts = np.unique(np.round(np.geomspace(fewest, design.n_samples, fit.n_counts)).astype(np.int64))
    return VelocityRecord(
        distances=distances,
        equilibrium_energies=equilibrium,
        energies=energies,
        energy_errors=resampled_energies.std(axis=0),
        equilibrium_velocity=float(at_rest[0]),
        velocities=values[:, 0],
        velocity_errors=errors[:, 0],
        ratios=values[:, 0] / at_rest[0],
        ratio_errors=errors[:, 0] / at_rest[0],
        changes=values[:, 0] - values[0, 0],
        change_errors=(resampled[:, :, 0] - resampled[:, :1, 0]).std(axis=0),
        equilibrium_gamma_1=float(at_rest[1]),
        gamma_1=values[:, 1],
        gamma_1_errors=errors[:, 1],
        equilibrium_slope=float(at_rest[2]),
        slopes=values[:, 2],
        slope_errors=errors[:, 2],
        slope_ratios=values[:, 2] / at_rest[2],
        slope_ratio_errors=errors[:, 2] / at_rest[2],
        convergence_counts=counts,
        convergence_velocities=np.array([fitted(estimator(first(count)))[:, 0] for count in counts]),
        convergence_errors=np.array([resample(count)[1][:, :, 0].std(axis=0) for count in counts[:-1]] + [errors[:, 0]]),
    )
