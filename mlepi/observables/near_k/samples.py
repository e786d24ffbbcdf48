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
from mlepi.physics.bands.velocities import AT_K, points_inside
from mlepi.pipeline.ensemble import SampleKey

LOW, OUTER = np.array([-1, 0]), np.array([-2, 1])
"""Low and split-off bands, counted from the first empty one."""


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
        pinned: whether the next pair of bands pins γ₁.
    """

    energies: NDArray[np.float64]
    line_shape: str
    line_width: float
    peak_width: float
    window: tuple[float, float]
    windows: tuple[tuple[float, float], ...]
    split_off_bands: bool
    pinned: bool

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

    Attributes:
        fitted: (n_fitted,) int, the points inside any window.
        pins: (n_pins,) int, the points nearest to K, where the split-off bands pin γ₁.
        around: (n_around,) int, K and the points next to it; empty without K.
        has_split_off: whether there are split-off bands in the energy window.
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
        self.sums = np.zeros((len(temperatures), len(distances), len(settings.energies)))
        self.held = np.zeros(len(temperatures))
        self.captured = np.ones(len(temperatures))
        self.miscounted = np.zeros(len(temperatures))
        levels = (len(self.fitted), len(self.bands))
        spectra = (2, *levels, len(settings.energies))
        self.spectra = BlockAverages(design, temperatures, spectra, np.float32)
        self.levels = BlockAverages(design, temperatures, levels)
        self.pins = np.flatnonzero(distances <= distances.min() + AT_K)
        self.around = _points_around(distances)
        self.has_split_off = settings.pinned and self._sees_split_off()
        pins = (len(self.pins) * self.has_split_off, 2)
        self.outer_spectra = BlockAverages(design, temperatures, (*pins, len(settings.energies)))
        self.outer_levels = BlockAverages(design, temperatures, pins)
        self.around_levels = BlockAverages(design, temperatures, (len(self.around), 2))

    def add(self, key: SampleKey, arrays: Mapping[str, NDArray]) -> None:
        """Take in one sample at one temperature, in any order.

        Args:
            key: of the sample.
            arrays: of ``unfold_sample``, with the slopes at the fitted points.
        """
        column = self.temperatures.index(key.temperature)
        self.held[column] += self.design.weights[key.sample]
        self._add_total(column, self.design.weights[key.sample], arrays)
        self._examine(column, arrays)
        self.spectra.add(*key, self.spectra_of(arrays))
        self.levels.add(*key, self.levels_of(self.fitted, self.bands, arrays))
        self.around_levels.add(*key, self.levels_of(self.around, LOW, arrays))
        if self.has_split_off:
            self.outer_spectra.add(*key, self._outer_spectra_of(arrays))
            self.outer_levels.add(*key, self.levels_of(self.pins, OUTER, arrays))

    @property
    def total(self) -> NDArray[np.float64]:
        """A(k, E) of all bands, (n_temperatures, n_points, n_energies), 1/eV."""
        return self.sums / self.held[:, None, None] if self.design.uneven else self.sums

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

    def levels_of(
        self,
        points: NDArray[np.int64],
        bands: NDArray[np.int64],
        arrays: Mapping[str, NDArray],
    ) -> NDArray[np.float64]:
        """Average the levels of bands, found by their position in the sorted spectrum.

        Args:
            points: (n_points,) int.
            bands: (n_bands,) int, counted from the first empty one.
            arrays: of ``unfold_sample``.

        Returns:
            (n_points, n_bands), eV; NaN where ghost states push the levels out of the energy
            window.
        """
        reference, n_cones = self.reference, self.reference.n_cones
        middle = reference.n_occupied * reference.atom_map.n_cells
        places = middle + n_cones * bands[:, None] + np.arange(n_cones)
        means = np.full((len(points), len(bands)), np.nan)
        for row, point in enumerate(points):
            levels, _ = self._at(point, arrays)
            first = int(arrays["first"][reference.index[point]])
            if first <= places.min() and places.max() < first + len(levels):
                wanted = sorted_levels(levels, first, places.ravel().tolist())
                means[row] = wanted.reshape(places.shape).mean(axis=1)
        return means

    def _outer_spectra_of(self, arrays: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Compute A(E) of the split-off bands nearest to K: (n_pins, 2, n_energies), 1/eV."""
        settings, bands = self.settings, OUTER + self.reference.states.shape[2] // 2
        spectra = np.empty((len(self.pins), 2, len(settings.energies)))
        for row, point in enumerate(self.pins):
            levels, weights = self._at(point, arrays)
            spectra[row] = compute_spectral_function(
                settings.energies, levels, weights[bands], settings.peak_width, settings.line_shape
            )
        return spectra

    def _sees_split_off(self) -> bool:
        """Tell whether there are split-off bands, and nearest to K inside the energy window."""
        reference = self.reference
        if reference.states.shape[2] < 4:
            return False
        rest = reference.eigenvalues[self.pins][:, reference.n_occupied + OUTER] - reference.centre
        return bool(np.all(np.abs(rest) < self.settings.energies[-1]))

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
            self.sums[column, point] += weight * compute_spectral_function(
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


def _points_around(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number K and the points next to it, (3,); none where K is not among the points.

    Args:
        distances: (n_points,) |k − K|, Å⁻¹.
    """
    at_k, away = np.flatnonzero(distances <= AT_K), distances[distances > AT_K]
    if not len(at_k) or not len(away):
        return np.empty(0, dtype=np.int64)
    return np.append(at_k[:1], np.flatnonzero(np.abs(distances - away.min()) <= AT_K))
