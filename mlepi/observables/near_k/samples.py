"""What the samples of a Fermi velocity add up to.

Averaged spectra, slopes and sorted levels at the fitted k-points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.near_k.reference_bands import ReferenceBands
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.bands.spectra import compute_spectral_function, sorted_levels
from mlepi.physics.bands.velocities import points_inside
from mlepi.pipeline.ensemble import SampleKey


@dataclass(frozen=True)
class SpectraSettings:
    """How levels of samples become spectra, and which of them are fitted.

    Attributes:
        energies: (n_energies,) eV, relative to the middle of the low bands at K.
        line_shape: "gaussian" or "lorentzian".
        line_width: eV, of the maps of A(k, E).
        peak_width: eV, of the spectra whose maxima give the velocity.
        window: Å⁻¹, smallest and largest |k − K| of the fit.
        windows: Å⁻¹, those in which it is repeated.
        split_off_bands: whether the next pair of bands is fitted as well.
    """

    energies: NDArray[np.float64]
    line_shape: str
    line_width: float
    peak_width: float
    window: tuple[float, float]
    windows: tuple[tuple[float, float], ...]
    split_off_bands: bool

    def fitted_points(self, distances: NDArray[np.float64]) -> NDArray[np.int64]:
        """Number the points inside any of the windows: (n_fitted,).

        Args:
            distances: (n_points,) Å⁻¹, k − K.
        """
        inside = [points_inside(np.abs(distances), each) for each in (self.window, *self.windows)]
        return np.flatnonzero(np.any(inside, axis=0))


class VelocitySamples:
    """Accumulate the samples.

    Averages of spectra and sorted levels at the fitted points, totals of all; keeps no sample.
    """

    def __init__(
        self,
        settings: SpectraSettings,
        reference: ReferenceBands,
        temperatures: Sequence[float],
        design: SampleDesign,
    ) -> None:
        distances = np.abs(reference.distances)
        self.fitted = settings.fitted_points(distances)
        self.inner = points_inside(distances[self.fitted], settings.window)
        n_pairs = reference.states.shape[2] // 2 if settings.split_off_bands else 1
        self.bands = np.arange(-n_pairs, n_pairs)
        self.followed = self.bands + reference.states.shape[2] // 2
        self.settings, self.reference = settings, reference
        self.design, self.temperatures = design, list(temperatures)
        self.total = np.zeros((len(temperatures), len(distances), len(settings.energies)))
        self.captured = np.ones(len(temperatures))
        self.miscounted = np.zeros(len(temperatures))
        levels = (len(self.fitted), len(self.bands))
        spectra = (2, *levels, len(settings.energies))
        self.spectra = BlockAverages(design, temperatures, spectra, np.float32)
        self.levels = BlockAverages(design, temperatures, levels)

    def add(self, key: SampleKey, arrays: Mapping[str, NDArray]) -> None:
        """Take in one sample at one temperature, in any order.

        Args:
            key: of the sample.
            arrays: of ``unfold_sample``, with the slopes at the fitted points.
        """
        column = self.temperatures.index(key.temperature)
        self._add_total(column, self.design.weights[key.sample], arrays)
        self._examine(column, arrays)
        self.spectra.add(*key, self.spectra_of(arrays))
        self.levels.add(*key, self.levels_of(arrays))

    def spectra_of(self, arrays: Mapping[str, NDArray]) -> NDArray[np.float32]:
        """Compute A(E) of the fitted bands, and A(E) with every state counted times its slope.

        Returns:
            (2, n_fitted, n_bands, n_energies), 1/eV and Å.
        """
        settings, bands = self.settings, self.followed
        shape = (2, len(self.fitted), len(bands), len(settings.energies))
        spectra = np.empty(shape, dtype=np.float32)
        for row, point in enumerate(self.fitted):
            levels, weights = self._at(point, arrays)
            shares = np.stack([weights[bands], arrays["slopes"][row][bands, : len(levels)]])
            spectra[:, row] = compute_spectral_function(
                settings.energies, levels, shares, settings.peak_width, settings.line_shape
            )
        return spectra

    def levels_of(self, arrays: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Average the levels of every band, found by their position in the sorted spectrum.

        Returns:
            (n_fitted, n_bands), eV; NaN where ghost states push the levels out of the energy
            window.
        """
        reference, n_bands = self.reference, len(self.bands)
        middle, reach = (
            reference.n_occupied * reference.atom_map.n_cells,
            reference.n_cones * n_bands // 2,
        )
        means = np.full((len(self.fitted), n_bands), np.nan)
        for row, point in enumerate(self.fitted):
            levels, _ = self._at(point, arrays)
            first = int(arrays["first"][reference.index[point]])
            if first <= middle - reach and middle + reach <= first + len(levels):
                wanted = sorted_levels(levels, first, range(middle - reach, middle + reach))
                means[row] = wanted.reshape(n_bands, reference.n_cones).mean(axis=1)
        return means

    def _at(
        self, point: np.integer | int, arrays: Mapping[str, NDArray]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the levels that serve a k-point and their weights, not padded.

        (n_states,), eV, and (n_bands + 1, n_states).
        """
        levels = arrays["levels"][int(self.reference.index[point])]
        levels = levels[np.isfinite(levels)]
        return levels, arrays["weights"][point, :, : len(levels)]

    def _add_total(self, column: int, weight: float, arrays: Mapping[str, NDArray]) -> None:
        settings = self.settings
        for point in range(len(self.reference.kpoints)):
            levels, weights = self._at(point, arrays)
            self.total[column, point] += weight * compute_spectral_function(
                settings.energies, levels, weights[-1], settings.line_width, settings.line_shape
            )

    def _examine(self, column: int, arrays: Mapping[str, NDArray]) -> None:
        """Look for weight outside the energy window and for states in excess below its centre."""
        reference = self.reference
        middle = reference.states.shape[2] // 2
        for point in self.fitted[self.inner]:
            levels, weights = self._at(point, arrays)
            self.captured[column] = min(
                self.captured[column], float(weights[middle - 1 : middle + 1].sum(axis=1).min())
            )
            n_below = int(arrays["first"][reference.index[point]]) + np.count_nonzero(levels < 0.0)
            self.miscounted[column] += n_below != reference.n_occupied * reference.atom_map.n_cells
