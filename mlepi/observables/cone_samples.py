"""What the samples of a Fermi velocity add up to: averaged spectra, slopes and sorted levels at the fitted k-points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.cone import Cone
from mlepi.observables.velocity_estimates import ResamplingPlan
from mlepi.physics.spectra import compute_spectral_function, sorted_levels
from mlepi.physics.statistics import MeanAccumulator
from mlepi.physics.velocities import points_inside
from mlepi.pipeline.stage import SampleKey

if TYPE_CHECKING:
    from mlepi.observables.fermi_velocity import FermiVelocityStage


class ConeSamples:
    """Accumulate the samples: averages of spectra and sorted levels at the fitted points, totals of all; keeps no sample."""

    def __init__(self, stage: FermiVelocityStage, cone: Cone, temperatures: Sequence[float], plan: ResamplingPlan) -> None:
        distances = np.abs(cone.distances)
        self.fitted = stage.fitted_points(cone)
        self.inner = points_inside(distances[self.fitted], stage.fit.window)
        n_pairs = cone.states.shape[2] // 2 if stage.split_off_bands else 1
        self.bands = np.arange(-n_pairs, n_pairs)
        self.followed = self.bands + cone.states.shape[2] // 2
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
        """Return A(E) of the bands that are fitted, and A(E) with every state counted times its slope.

        Returns:
            (2, n_fitted, n_bands, n_energies), 1/eV and Å.
        """
        stage, bands = self.stage, self.followed
        spectra = np.empty((2, len(self.fitted), len(bands), len(stage.energies)), dtype=np.float32)
        for row, point in enumerate(self.fitted):
            levels, weights = self._at(point, arrays)
            shares = np.stack([weights[bands], arrays["slopes"][row][bands, : len(levels)]])
            spectra[:, row] = compute_spectral_function(stage.energies, levels, shares, stage.peak_width, stage.line_shape)
        return spectra

    def levels_of(self, arrays: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Return the mean levels of every band by position in the sorted spectrum: (n_fitted, n_bands), eV.

        They are NaN where ghost states push the levels, found by counting, out of the energy window.
        """
        cone, n_bands = self.cone, len(self.bands)
        middle, reach = cone.n_occupied * cone.atom_map.n_cells, cone.n_cones * n_bands // 2
        means = np.full((len(self.fitted), n_bands), np.nan)
        for row, point in enumerate(self.fitted):
            levels, _ = self._at(point, arrays)
            first = int(arrays["first"][cone.index[point]])
            if first <= middle - reach and middle + reach <= first + len(levels):
                wanted = sorted_levels(levels, first, range(middle - reach, middle + reach))
                means[row] = wanted.reshape(n_bands, cone.n_cones).mean(axis=1)
        return means

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
        for point in self.fitted[self.inner]:
            levels, weights = self._at(point, arrays)
            self.captured[column] = min(self.captured[column], float(weights[middle - 1 : middle + 1].sum(axis=1).min()))
            n_below = int(arrays["first"][cone.index[point]]) + np.count_nonzero(levels < 0.0)
            self.miscounted[column] += n_below != cone.n_occupied * cone.atom_map.n_cells
