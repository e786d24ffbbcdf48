"""Averages of large arrays over blocks of samples.

Arrays of every sample would fill the memory. Means over at most ``MAX_BLOCKS`` blocks of
independent groups of samples carry the same error bar: blocks are resampled instead of samples.

Temperatures may have different numbers of samples. Blocks then take the groups in turn, so that the
first groups fill all of them, and an average with given weights is Σ w x/Σ w over the blocks that a
temperature has: a resample of all blocks is one of those, the same at every temperature, and
changes with temperature keep their common random numbers. For n of N equal blocks the bootstrap has
the variance of n blocks up to 1/n², the jackknife is larger by (1 − 1/N)/(1 − 1/n) at most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.statistics import (
    SampleDesign,
    bootstrap_errors,
    effective_sample_size,
    jackknife_errors,
    jackknife_weights,
)

MAX_BLOCKS = 64
"""Blocks of samples; their error bar is itself uncertain by 1/√128, 9 %."""


class BlockAverages:
    """Weighted means over blocks of samples, one per temperature.

    Args:
        design: of the samples.
        temperatures: K, of the ensemble.
        shape: of one sample's array.
        dtype: of the means.
        max_blocks: largest number of blocks.

    Attributes:
        design: of the blocks, independent of each other, each with the weight of its samples.
        means: (n_blocks, n_temperatures, *shape).
        n_samples: (n_blocks,) int, samples in the first blocks up to each.
        left_out: (n_blocks, n_blocks), weights of the blocks without one of them at a time; (0, 1)
            for one block, which has no error bar.
    """

    def __init__(
        self,
        design: SampleDesign,
        temperatures: Sequence[float],
        shape: Sequence[int],
        dtype: type = np.float64,
        max_blocks: int = MAX_BLOCKS,
    ) -> None:
        n_blocks = min(design.n_groups, max_blocks)
        self._block = (
            design.groups % n_blocks
            if design.uneven
            else design.groups * n_blocks // design.n_groups
        )
        totals = np.bincount(self._block, weights=design.weights, minlength=n_blocks).astype(
            np.float64
        )
        self._shares = design.weights / np.where(totals > 0, totals, 1.0)[self._block]
        self._temperatures = list(temperatures)
        self.design = SampleDesign(np.arange(n_blocks), totals)
        self.n_samples = np.cumsum(np.bincount(self._block, minlength=n_blocks))
        self.left_out = jackknife_weights(self.design)
        self.means: NDArray = np.zeros((n_blocks, len(self._temperatures), *shape), dtype=dtype)
        self._filled = np.zeros((n_blocks, len(self._temperatures))) if design.uneven else None

    def add(self, sample: int, temperature: float, values: NDArray) -> None:
        """Take in the array of one sample.

        Args:
            sample: its number.
            temperature: K, one of the ensemble.
            values: (*shape), any unit.
        """
        column = self._temperatures.index(temperature)
        self.means[self._block[sample], column] += self._shares[sample] * values
        if self._filled is not None:
            self._filled[self._block[sample], column] += self._shares[sample]

    def average(self, weights: NDArray[np.float64] | None = None) -> NDArray:
        """Return the mean over blocks with given weights, (n_blocks,), or those of the ensemble.

        (n_temperatures, *shape).
        """
        chosen = self.design.weights if weights is None else weights
        flat = self.means.reshape(len(self.means), -1)
        average: NDArray = (chosen.astype(flat.real.dtype) @ flat).reshape(self.means.shape[1:])
        if self._filled is None:
            return average
        held = chosen @ self._filled
        if np.any(held <= 0.0):  # a resample of blocks that a temperature lacks says nothing of it
            average[held <= 0.0] = self.average()[held <= 0.0]
            held[held <= 0.0] = 1.0
        scale = held.reshape(-1, *(1,) * (average.ndim - 1)).astype(flat.real.dtype)
        return np.asarray(average / scale)

    def standard_errors(
        self, whole: NDArray[np.float64], without: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the jackknife error of any estimate; NaN for one block.

        From all blocks, (…), and from ``left_out``, (n_blocks, …).
        """
        return jackknife_errors(whole, without, self.design)

    def bootstrap_errors(self, resampled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the error of any estimate from its resamples; NaN for one block.

        (n_resamples, …) → (…).
        """
        return bootstrap_errors(resampled, self.design)

    @property
    def degrees_of_freedom(self) -> float:
        """Of the standard errors; of the temperature with the fewest samples."""
        if self._filled is None:
            return self.design.degrees_of_freedom
        shares = (self.design.weights[:, None] * self._filled).T
        return max(0.0, min(effective_sample_size(each) for each in shares) - 1.0)
