"""What the samples of a Fermi velocity add up to.

Averaged spectra, slopes and sorted levels at the fitted k-points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.block_averages import BlockAverages
from mlepi.observables.cone import Cone
from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.bands.spectra import compute_spectral_function, sorted_levels
from mlepi.physics.bands.velocities import points_inside
from mlepi.pipeline.stage import SampleKey

if TYPE_CHECKING:
    from mlepi.observables.fermi_velocity import FermiVelocityStage


class ConeSamples:
    """Accumulate the samples.

    Averages of spectra and sorted levels at the fitted points, totals of all; keeps no sample.
    """

    def __init__(
        self,
        stage: FermiVelocityStage,
        cone: Cone,
        temperatures: Sequence[float],
        design: SampleDesign,
    ) -> None:
        distances = np.abs(cone.distances)
        self.fitted = stage.fitted_points(cone)
        self.inner = points_inside(distances[self.fitted], stage.fit.window)
        n_pairs = cone.states.shape[2] // 2 if stage.split_off_bands else 1
        self.bands = np.arange(-n_pairs, n_pairs)
        self.followed = self.bands + cone.states.shape[2] // 2
        self.stage, self.cone, self.design, self.temperatures = (
            stage,
            cone,
            design,
            list(temperatures),
        )
        self.total = np.zeros((len(temperatures), len(distances), len(stage.energies)))
        self.captured = np.ones(len(temperatures))
        self.miscounted = np.zeros(len(temperatures))
        spectra, levels = (
            (2, len(self.fitted), len(self.bands), len(stage.energies)),
            (len(self.fitted), len(self.bands)),
        )
        self.spectra = BlockAverages(design, temperatures, spectra, np.float32)
        self.levels = BlockAverages(design, temperatures, levels)

    def add(self, key: SampleKey, arrays: Mapping[str, NDArray]) -> None:
        """Take in one sample at one temperature, in any order."""
        column = self.temperatures.index(key.temperature)
        self._add_total(column, self.design.weights[key.sample], arrays)
        self._examine(column, arrays)
        self.spectra.add(key, self.spectra_of(arrays))
        self.levels.add(key, self.levels_of(arrays))

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
            spectra[:, row] = compute_spectral_function(
                stage.energies, levels, shares, stage.peak_width, stage.line_shape
            )
        return spectra

    def levels_of(self, arrays: Mapping[str, NDArray]) -> NDArray[np.float64]:
        """Return the mean levels of every band by position in the sorted spectrum.

        (n_fitted, n_bands), eV.

        They are NaN where ghost states push the levels, found by counting, out of the energy
        window.
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

    def _at(
        self, point: np.integer | int, arrays: Mapping[str, NDArray]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
            self.captured[column] = min(
                self.captured[column], float(weights[middle - 1 : middle + 1].sum(axis=1).min())
            )
            n_below = int(arrays["first"][cone.index[point]]) + np.count_nonzero(levels < 0.0)
            self.miscounted[column] += n_below != cone.n_occupied * cone.atom_map.n_cells
