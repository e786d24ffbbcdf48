"""Thermal lines and special displacements: every mode at plus or minus its amplitude.

All second moments are right with σ_ν² = ⟨Q_ν²⟩, mode by mode; the fourth moment of a mode is σ⁴
instead of 3σ⁴. The mean of an observable f is therefore biased by −(1/12) Σ_ν ∂⁴f/∂Q_ν⁴ σ_ν⁴ and
higher orders, which falls with the number of modes that share the motion, that is with the size of
the supercell.

References:
    Monserrat, Phys. Rev. B 93, 014302 (2016), doi:10.1103/PhysRevB.93.014302 (thermal lines).
    Zacharias, Giustino, Phys. Rev. B 94, 075125 (2016), doi:10.1103/PhysRevB.94.075125 (alternating
    signs); Phys. Rev. Research 2, 013357 (2020), doi:10.1103/PhysRevResearch.2.013357 (choice of
    signs by an error function).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.physics.vibrations.mode_coordinates import ModeCoordinates
from mlepi.physics.vibrations.samplers.gaussian import incomplete_pair
from mlepi.physics.vibrations.samplers.sampler import HarmonicSampler, generator
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, mode_variance


class SignSampler(HarmonicSampler):
    """Snapshots 2j and 2j + 1 have the signs S and −S of set j."""

    @abstractmethod
    def signs(self, ensemble: HarmonicEnsemble, number: int, seed: int) -> NDArray[np.float64]:
        """Return the signs ±1 of one set: (n_coordinates,)."""

    def normals(
        self, ensemble: HarmonicEnsemble, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Return the normals of given snapshots."""
        coordinates = ensemble.coordinates
        signs = [(1 - 2 * (int(i) % 2)) * self.signs(ensemble, int(i) // 2, seed) for i in indices]
        return coordinates.normals(
            np.array(signs, dtype=np.float64).reshape(len(signs), coordinates.n_coordinates)
        )

    def groups(self, n_samples: int) -> NDArray[np.int64]:
        """A pair is a group."""
        return np.arange(n_samples) // 2

    def whole(self, n_samples: int) -> int:
        """Round up to whole pairs."""
        return n_samples + n_samples % 2

    def advice(self, n_samples: int, temperatures: Sequence[float]) -> list[str]:
        """Tell of an incomplete pair."""
        return incomplete_pair(n_samples)


def random_signs(seed: int, number: int, n_coordinates: int) -> NDArray[np.float64]:
    """Draw one set of signs ±1: (n_coordinates,)."""
    signs = generator(seed, number).integers(2, size=n_coordinates)
    return 2.0 * signs.astype(np.float64) - 1.0


class ThermalLines(SignSampler):
    """Random signs of all modes, and their opposites."""

    def signs(self, ensemble: HarmonicEnsemble, number: int, seed: int) -> NDArray[np.float64]:
        """Draw the signs of one set."""
        return random_signs(seed, number, ensemble.coordinates.n_coordinates)


class ZG(SignSampler):
    """Signs for which a single snapshot has nearly the exact covariance of one cell.

    Set 0 starts from alternating signs in the order of the modes (2016 form), further sets from
    random ones; from there signs are flipped one at a time for as long as this lowers Σ_ij (G_ij −
    C_ij)² / (C_ii C_jj), where G is the covariance of the coordinates of one cell averaged over the
    cells of the snapshot and C the exact one (the error function of the 2020 form, off-diagonal
    elements of one cell included). Signs are the same at all temperatures.

    Args:
        temperature: K, of the amplitudes for which the signs are chosen.
        n_sweeps: at most so many rounds of flips.
    """

    def __init__(self, *, temperature: float = 300.0, n_sweeps: int = 20) -> None:
        if not temperature > 0 or n_sweeps < 0:
            raise ConfigError(
                message(
                    "sampler",
                    f"temperature {temperature} K, n_sweeps {n_sweeps}",
                    "a positive temperature and 0 sweeps or more",
                    "Use 300 and 20.",
                )
            )
        self.temperature = temperature
        self.n_sweeps = n_sweeps
        self._chosen: tuple[HarmonicEnsemble, dict[tuple[int, int], NDArray[np.float64]]] | None = (
            None
        )

    def signs(self, ensemble: HarmonicEnsemble, number: int, seed: int) -> NDArray[np.float64]:
        """Choose the signs of one set."""
        if self._chosen is None or self._chosen[0] is not ensemble:
            self._chosen = (ensemble, {})
        chosen = self._chosen[1]
        if (number, seed) not in chosen:
            coordinates = ensemble.coordinates
            alternating = 1.0 - 2.0 * np.arange(coordinates.n_coordinates, dtype=np.float64) % 4.0
            start = (
                random_signs(seed, number, coordinates.n_coordinates) if number > 0 else alternating
            )
            amplitudes = np.sqrt(
                mode_variance(coordinates.frequencies, self.temperature, ensemble.statistics)
            )
            chosen[number, seed] = _improve_signs(coordinates, amplitudes, start, self.n_sweeps)
        return chosen[number, seed]


def _sums(
    coordinates: ModeCoordinates, amplitudes: NDArray[np.float64], signs: NDArray[np.float64]
) -> tuple[NDArray[np.complex128], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the wave at each q with its weight in G, the covariance C, and 1/√(C_ii C_jj)."""
    n_cells, size = int(np.prod(coordinates.supercell)), coordinates.vectors.shape[1]
    terms = (amplitudes * coordinates.factors)[:, None] * coordinates.vectors
    waves = np.zeros((n_cells, size), dtype=np.complex128)
    np.add.at(waves, coordinates.qpoint, signs[:, None] * terms)
    weights = np.zeros(n_cells)
    weights[coordinates.qpoint] = (
        np.where(coordinates.qpoint == coordinates.partner, 1.0, 2.0) / n_cells
    )
    exact = np.einsum("c,ci,cj->ij", weights[coordinates.qpoint], terms, terms.conj()).real
    diagonal = np.sqrt(np.maximum(np.diag(exact), np.finfo(float).tiny))
    return waves, weights, exact, 1.0 / np.outer(diagonal, diagonal)


def _improve_signs(
    coordinates: ModeCoordinates,
    amplitudes: NDArray[np.float64],
    start: NDArray[np.float64],
    n_sweeps: int,
) -> NDArray[np.float64]:
    """Flip one sign after the other for as long as the error of the covariance falls."""
    signs = start.copy()
    waves, weights, exact, scale = _sums(coordinates, amplitudes, signs)
    terms = (amplitudes * coordinates.factors)[:, None] * coordinates.vectors
    difference = np.einsum("q,qi,qj->ij", weights, waves, waves.conj()).real - exact
    error = float(np.sum((difference * scale) ** 2))
    for _ in range(n_sweeps):
        flipped = False
        for c, q in enumerate(coordinates.qpoint):
            wave = waves[q] - 2.0 * signs[c] * terms[c]
            before = np.outer(waves[q], waves[q].conj())
            change = weights[q] * (np.outer(wave, wave.conj()) - before).real
            lower = float(np.sum(((difference + change) * scale) ** 2))
            # by more than rounding, so that every machine flips the same signs
            if lower < error * (1.0 - 1e-9):
                signs[c], waves[q] = -signs[c], wave
                difference, error, flipped = difference + change, lower, True
        if not flipped:
            break
    return signs
