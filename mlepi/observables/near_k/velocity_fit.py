"""Velocities from band energies, or slopes, inside a window, by three models of the bands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError
from mlepi.physics.bands.pinned_velocities import fit_pinned_cone, fit_pinned_slopes
from mlepi.physics.bands.velocities import (
    AT_K,
    fit_cone,
    fit_slopes,
    points_inside,
    window_slope,
)
from mlepi.units import EV_ANGSTROM_TO_METRE_PER_SECOND

FREE, SLOPE, PINNED, N_PARAMETERS = 0, 2, 3, 5
"""Places of v of the free fit (its γ₁ follows), of the mean slope, and of v with γ₁ pinned (its γ₁
follows) among the parameters."""

NO_SPLIT_OFF = (0.0, float("nan"))
"""Stands for split-off bands that are not there."""


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

    def describe(self) -> list[Any]:
        """Return the same as JSON-able data, for what decides a result."""
        return [*self.window, self.dispersion, self.n_resamples, self.seed, self.n_counts]

    def check(self, distances: NDArray[np.float64]) -> None:
        """Refuse a window with too few of the distances, (n_points,) Å⁻¹, for the free fit.

        Raises:
            ConfigError: too few.
        """
        fit_cone(distances, -distances, distances, self.window, self.dispersion)

    def parameters(
        self,
        distances: NDArray[np.float64],
        energies: NDArray[np.float64],
        split_off: tuple[float, float] = NO_SPLIT_OFF,
    ) -> NDArray[np.float64]:
        """Fit the low bands by every model.

        Args:
            distances: (n_points,) Å⁻¹.
            energies: (n_points, 2) low valence and conduction band, eV, or (n_points, 4) between
                the split-off ones, which then take part in the free fit.
            split_off: |k − K|, Å⁻¹, and half the distance of the split-off bands there, eV, which
                pin γ₁.

        Returns:
            (5,): v in m/s and γ₁ in eV of the free fit, mean slope of the low bands in m/s, v in
            m/s and γ₁ in eV with γ₁ pinned; NaN where an energy is not known, or the window holds
            too few distances.
        """
        if not np.all(np.isfinite(energies)):
            return np.full(N_PARAMETERS, np.nan)
        middle = energies.shape[1] // 2
        valence, conduction = energies[:, middle - 1], energies[:, middle]
        outer = (energies[:, 0], energies[:, 3]) if energies.shape[1] == 4 else None
        low = (distances, valence, conduction, self.window)

        def free() -> list[float]:
            fit = fit_cone(*low, self.dispersion, outer)
            return [fit.fermi_velocity, fit.gamma_1]

        def pinned() -> list[float]:
            fit = fit_pinned_cone(*low, split_off)
            return [fit.fermi_velocity, fit.gamma_1]

        return self._join(free, lambda: [window_slope(*low)], pinned, split_off)

    def _join(
        self,
        free: Callable[[], list[float]],
        slope: Callable[[], list[float]],
        pinned: Callable[[], list[float]],
        split_off: tuple[float, float],
    ) -> NDArray[np.float64]:
        """Evaluate the models one after the other, NaN where one does not apply: (5,)."""
        pins = self.dispersion == "hyperbola" and np.isfinite(split_off[1]) and split_off[1] > 0
        values: list[float] = []
        for model, size in ((free, 2), (slope, 1), (pinned if pins else None, 2)):
            try:
                values += [np.nan] * size if model is None else model()
            except ConfigError:  # too few distances inside
                values += [np.nan] * size
        return np.array(values)

    def parameters_of_many(
        self,
        distances: NDArray[np.float64],
        energies: NDArray[np.float64],
        split_off: tuple[float, NDArray[np.float64]] | None = None,
    ) -> NDArray[np.float64]:
        """Fit many averages, (n_sets, n_temperatures, n_points, n_bands), eV.

        With, where there are split-off bands, |k − K| and half their distance, (n_sets,
        n_temperatures) eV. (n_sets, n_temperatures, 5), each as ``parameters``.
        """
        at, outer = (0.0, np.full(energies.shape[:2], np.nan)) if split_off is None else split_off
        return np.array(
            [
                [
                    self.parameters(distances, one, (at, float(half)))
                    for one, half in zip(at_temperatures, halves, strict=True)
                ]
                for at_temperatures, halves in zip(energies, outer, strict=True)
            ]
        )


@dataclass(frozen=True)
class SlopeFit(VelocityFit):
    """How slopes of bands become a velocity.

    As ``VelocityFit``, with slopes dE/d|k − K|, eV·Å, in place of energies. K itself, where bands
    touch, is left out.
    """

    def parameters(
        self,
        distances: NDArray[np.float64],
        energies: NDArray[np.float64],
        split_off: tuple[float, float] = NO_SPLIT_OFF,
    ) -> NDArray[np.float64]:
        """Fit the slopes of the bands, (n_points, n_bands), eV·Å.

        Result as ``VelocityFit.parameters``.
        """
        off = distances > AT_K
        distances, slopes = distances[off], energies[off]
        n_pairs = slopes.shape[1] // 2
        halves = 0.5 * (slopes[:, n_pairs:] - slopes[:, n_pairs - 1 :: -1])
        inside = points_inside(distances, self.window)

        def mean() -> list[float]:
            return [
                float(halves[inside, 0].mean()) * EV_ANGSTROM_TO_METRE_PER_SECOND
                if np.any(inside)
                else np.nan
            ]

        return self._join(
            lambda: list(fit_slopes(distances, halves, self.window, self.dispersion)),
            mean,
            lambda: list(fit_pinned_slopes(distances, halves, self.window, split_off)),
            split_off,
        )
