"""Scrambled Sobol sequences in mode coordinates, in independent replicates.

References:
    Owen, J. Complexity 14, 466 (1998), doi:10.1006/jcom.1998.0487 (scrambled nets; replicates for
    the error). Joe, Kuo, SIAM J. Sci. Comput. 30, 2635 (2008), doi:10.1137/070709359 (direction
    numbers, as in scipy).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from mlepi.errors import ConfigError, message
from mlepi.physics.vibrations.mode_coordinates import measure_bond_stretch
from mlepi.physics.vibrations.samplers.sampler import HarmonicSampler, generator
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, mode_variance

if TYPE_CHECKING:
    from scipy.stats import qmc

FEWEST_REPLICATES = 2
"""Replicates without which there is no error bar."""

EQUAL_DIGITS = 6
"""Modes whose share of bond stretching agrees to so many digits are equal."""

BITS = 30
"""Binary digits of a point; a point stands for the middle of its cell, so that it is never 0 or 1.
"""


class Sobol(HarmonicSampler):
    """Quasi-random samples that fill the space of the modes that matter most evenly.

    Snapshot i is point i // n_replicates of replicate i % n_replicates, so that an ensemble grows
    without changing. A replicate is a sequence with its own random scrambling; the scatter of the
    replicates is the error bar. Best with n_replicates times a power of two samples.

    The leading coordinates of the sequence, which are the best distributed, go to the modes that
    stretch bonds most, ⟨(ê·Δu)²⟩ summed over bonds: hopping depends on bond lengths. Largest
    amplitudes would be a poor choice in a layered crystal, since the bending modes that have them
    hardly move a band.

    Args:
        n_replicates: independent sequences, at least two; the error bar is uncertain by 1/√(2
            n_replicates − 2).
    """

    def __init__(self, *, n_replicates: int = 8) -> None:
        if n_replicates < FEWEST_REPLICATES:
            raise ConfigError(
                message(
                    "sampler.n_replicates",
                    f"{n_replicates}",
                    f"{FEWEST_REPLICATES} or more",
                    "Use 8.",
                )
            )
        self.n_replicates = n_replicates
        self._order: tuple[HarmonicEnsemble, NDArray[np.int64]] | None = None

    def normals(
        self, ensemble: HarmonicEnsemble, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Return the normals of given snapshots."""
        coordinates = ensemble.coordinates
        n = self.n_replicates
        points = [
            sobol_point(seed, int(i) % n, int(i) // n, coordinates.n_coordinates) for i in indices
        ]
        values = np.empty((len(points), coordinates.n_coordinates))
        values[:, self._order_modes(ensemble)] = ndtri(np.array(points).reshape(values.shape))
        return coordinates.normals(values)

    def _order_modes(self, ensemble: HarmonicEnsemble) -> NDArray[np.int64]:
        """Sort the modes by how much they stretch bonds, most first.

        At zero point; classically the order is the same at any temperature.
        """
        if self._order is None or self._order[0] is not ensemble:
            coordinates = ensemble.coordinates
            temperature = 0.0 if ensemble.statistics == "quantum" else 300.0
            amplitudes = np.sqrt(
                mode_variance(coordinates.frequencies, temperature, ensemble.statistics)
            )
            stretch = measure_bond_stretch(coordinates, ensemble.modes.atoms, amplitudes)
            # equal ones, of equivalent wave vectors, keep their order on every machine
            ranks = np.round(stretch / stretch.max(), EQUAL_DIGITS)
            self._order = (ensemble, np.argsort(-ranks, kind="stable"))
        return self._order[1]

    def groups(self, n_samples: int) -> NDArray[np.int64]:
        """A replicate is a group."""
        return np.arange(n_samples) % self.n_replicates

    @property
    def fixed_groups(self) -> int:
        """The replicates."""
        return self.n_replicates

    def whole(self, n_samples: int) -> int:
        """Round up to a power of two of points in every replicate."""
        per_replicate = max(1, -(-n_samples // self.n_replicates))
        return self.n_replicates * 2 ** (per_replicate - 1).bit_length()

    def advice(self, n_samples: int, temperatures: Sequence[float]) -> list[str]:
        """Tell of a number of samples without balanced sequences or without an error bar."""
        per_replicate = n_samples / self.n_replicates
        exponent = max(1, round(np.log2(max(per_replicate, 1.0))))
        if per_replicate == 2**exponent:
            return []
        balanced = self.n_replicates * 2**exponent
        return [
            f"{n_samples} samples in {self.n_replicates} replicates are not balanced; {balanced} "
            "would be "
            "(replicates times a power of two)."
        ]


def sobol_point(seed: int, replicate: int, number: int, dimension: int) -> NDArray[np.float64]:
    """Return one point of a scrambled Sobol sequence: (dimension,), strictly between 0 and 1."""
    engine = _engine(seed, replicate, dimension)
    engine.reset()
    if number > 0:
        engine.fast_forward(number)
    return np.asarray(engine.random(1)[0] + 0.5 ** (BITS + 1))


@lru_cache(maxsize=64)
def _engine(seed: int, replicate: int, dimension: int) -> qmc.Sobol:
    from scipy.stats import qmc  # imports much

    if dimension > qmc.Sobol.MAXDIM:
        raise ConfigError(
            message(
                "sampler",
                f"Sobol for {dimension} modes",
                f"at most {qmc.Sobol.MAXDIM}",
                "Use sampler=thermal_lines.",
            )
        )
    return qmc.Sobol(dimension, scramble=True, bits=BITS, rng=generator(seed, replicate))
