"""Averages of Green's functions over the samples, and the quasiparticles that follow from them.

Each band has its own scalar Dyson equation: the poles are those of the full matrix, and the noise
of a finite average does not enter through the inverse of a large one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.near_k.reference_bands import ReferenceBands
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.bands.green import diagonal_green_function, moments, quasiparticles
from mlepi.pipeline.ensemble import Ensemble, SampleKey
from mlepi.pipeline.sampled_stage import Part


class GreenAverages:
    """Averaged Green's functions and moments of the bands near K.

    Args:
        reference: k-points and bands at rest.
        bands: (n_bands,) int, those that are followed, relative to the lowest empty one.
        ensemble: of the samples.
        energies: (n_energies,) eV, relative to the Dirac energy.
        broadening: eV, imaginary part of the energy.

    Attributes:
        bare: (n_points, n_bands) eV, undisplaced, relative to the Dirac energy.
        z: (n_energies,) eV, complex energies.
        greens: Ḡ_bb(z), (n_points, n_bands, n_energies) per sample, 1/eV.
        powers: first and second moment of A, (2, n_points, n_bands) per sample, eV and eV².
    """

    def __init__(
        self,
        reference: ReferenceBands,
        bands: NDArray[np.int64],
        ensemble: Ensemble,
        energies: NDArray[np.float64],
        broadening: float,
    ) -> None:
        self.reference, self.energies, self.broadening = reference, energies, broadening
        self.bare = reference.eigenvalues[:, reference.n_occupied + bands] - reference.centre
        self.z = energies + 1j * broadening
        design, temperatures, shape = ensemble.design, ensemble.temperatures, self.bare.shape
        self.greens = BlockAverages(design, temperatures, (*shape, len(energies)), np.complex64)
        self.powers = BlockAverages(design, temperatures, (2, *shape))

    def collect(self, results: Iterable[tuple[SampleKey, Part]]) -> None:
        """Take in all samples, as Ritz levels and their weights."""
        for key, part in results:
            levels = np.where(np.isfinite(part["levels"]), part["levels"], 0.0)[
                self.reference.index
            ]  # padded ones have no weight
            self.greens.add(*key, diagonal_green_function(levels, part["weights"], self.z))
            of_points = [
                moments(some, weights)
                for some, weights in zip(levels, part["weights"], strict=True)
            ]
            self.powers.add(*key, np.stack(of_points, axis=1))

    def green(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.complex128]:
        """Return Ḡ_bb(z) under weights of the blocks, (n_temperatures, n_points, n_bands, n_z)."""
        return np.asarray(self.greens.average(weights).astype(np.complex128))

    def quasiparticles(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return energies, eV, weights and widths, eV, of the quasiparticles.

        (3, n_temperatures, n_points, n_bands).
        """
        green = self.green(weights)
        return np.stack(quasiparticles(self.energies, green, self.bare, self.broadening))

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return first moment, eV, its jackknife error, and second moment, eV², of A.

        (n_temperatures, n_points, n_bands) each.
        """
        first, second = np.moveaxis(self.powers.average(), 1, 0)
        without = np.array([self.powers.average(weights)[:, 0] for weights in self.powers.left_out])
        return first, self.powers.standard_errors(first, without), second
