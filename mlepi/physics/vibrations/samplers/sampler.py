"""What a sampler gives: snapshots that depend on number, seed and distribution alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.vibrations.thermal import HarmonicEnsemble


class Sampler(ABC):
    """A rule that gives the displacements of snapshot i at a temperature.

    The settings are the arguments of the constructor.
    """

    def settings(self) -> dict[str, Any]:
        """Return what decides a snapshot: the name of the class and its arguments."""
        return {
            "sampler": type(self).__name__,
            **{key: value for key, value in vars(self).items() if not key.startswith("_")},
        }

    def files(self, temperatures: Sequence[float]) -> tuple[Path, ...]:
        """Return the files that the snapshots come from.

        Their content belongs to what decides a snapshot.
        """
        return ()

    def advice(self, n_samples: int, temperatures: Sequence[float]) -> list[str]:
        """Say what the user should know about this number of samples; usually nothing."""
        return []

    @property
    def fixed_groups(self) -> int | None:
        """Number of independent groups where it does not grow with the samples; else None."""
        return None

    def whole(self, n_samples: int) -> int:
        """Return the smallest number of samples that is not smaller and cuts no group."""
        return n_samples

    @abstractmethod
    def displacements(
        self, ensemble: HarmonicEnsemble, temperature: float, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Return the displacements of given snapshots.

        Args:
            ensemble: the structure with its modes and the harmonic distribution.
            temperature: K, one of the ensemble's.
            indices: numbers of the snapshots, ≥ 0.
            seed: of the ensemble, ≥ 0.

        Returns:
            (n_samples, n_supercell, 3), Å, atoms in the order of ``atoms.repeat``.
        """

    @abstractmethod
    def design(self, ensemble: HarmonicEnsemble, n_samples: int) -> SampleDesign:
        """Return which of the first samples are not independent of each other, and weights."""


class HarmonicSampler(Sampler):
    """A sampler of the harmonic distribution: it makes normals, the same at every temperature."""

    @abstractmethod
    def normals(
        self, ensemble: HarmonicEnsemble, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Return the normals of given snapshots: (n_samples, n_supercell, 3), dimensionless.

        Arguments as ``displacements``.
        """

    @abstractmethod
    def groups(self, n_samples: int) -> NDArray[np.int64]:
        """Number the groups of samples that are not independent of each other: (n_samples,)."""

    def displacements(
        self, ensemble: HarmonicEnsemble, temperature: float, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Return u = M^{-1/2} C(T)^{1/2} z of given snapshots."""
        return ensemble.displacements_at(temperature, self.normals(ensemble, indices, seed))

    def design(self, ensemble: HarmonicEnsemble, n_samples: int) -> SampleDesign:
        """Return the groups; all samples weigh the same."""
        return SampleDesign(self.groups(n_samples))


def generator(seed: int, *numbers: int) -> np.random.Generator:
    """Return a generator that depends on a seed and on given numbers alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, *numbers]))
