"""Independent random samples, alone or in pairs of opposite displacements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.vibrations.samplers.sampler import HarmonicSampler
from mlepi.physics.vibrations.thermal import HarmonicEnsemble, draw_normals


class MonteCarlo(HarmonicSampler):
    """Plain Monte Carlo: independent normals, one seed per snapshot."""

    def normals(
        self, ensemble: HarmonicEnsemble, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Draw the normals of given snapshots."""
        return draw_normals(seed, indices, ensemble.modes.n_supercell)

    def groups(self, n_samples: int) -> NDArray[np.int64]:
        """Every sample is a group of its own."""
        return np.arange(n_samples)


class Antithetic(HarmonicSampler):
    """Pairs of opposite displacements, 2j and 2j + 1.

    Whatever is odd in the displacements averages to zero exactly.

    Forces and whatever is linear in a mode gain most. In the energy of a band, momentum
    conservation leaves a linear term to the modes of Γ alone: at one k of a small cell it
    dominates, in an average over equivalent k it is gone and pairs gain nothing.
    """

    def normals(
        self, ensemble: HarmonicEnsemble, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Draw the normals of given snapshots."""
        numbers = np.asarray(indices, dtype=np.int64)
        signs = 1.0 - 2.0 * (numbers % 2)
        return signs[:, None, None] * draw_normals(seed, numbers // 2, ensemble.modes.n_supercell)

    def groups(self, n_samples: int) -> NDArray[np.int64]:
        """A pair is a group."""
        return np.arange(n_samples) // 2

    def whole(self, n_samples: int) -> int:
        """Round up to whole pairs."""
        return n_samples + n_samples % 2

    def advice(self, n_samples: int, temperatures: Sequence[float]) -> list[str]:
        """Tell of an incomplete pair."""
        return incomplete_pair(n_samples)


def incomplete_pair(n_samples: int) -> list[str]:
    """Say that an odd number of samples leaves one without its opposite."""
    if n_samples % 2 == 0:
        return []
    return [
        f"the last of {n_samples} samples has no opposite; an even number cancels odd terms "
        "exactly."
    ]
