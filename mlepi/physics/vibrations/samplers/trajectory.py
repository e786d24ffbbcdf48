"""Displaced supercells from molecular dynamics or path integrals, read from files in any format that ASE knows.

Frames follow each other in time and are correlated: they are grouped in blocks of several
autocorrelation times, so that error bars of averages count independent blocks and not frames. The
beads of a path integral at one time belong to one group as well.

References:
    Flyvbjerg, Petersen, J. Chem. Phys. 91, 461 (1989), doi:10.1063/1.457480 (blocks of correlated
    data). Sokal, in Functional Integration, Springer (1997), doi:10.1007/978-1-4899-0319-8_6
    (autocorrelation time, its window).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import ConfigError, DataError, message
from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.vibrations.samplers.sampler import Sampler
from mlepi.physics.vibrations.thermal import HarmonicEnsemble

BLOCK_LENGTH = 5.0
"""Length of a block in autocorrelation times; neighbouring blocks remain correlated to the order of
the inverse of this."""

CELL_TOLERANCE = 1e-3
"""Å, by which the cell of a frame may differ from the supercell."""


@dataclass(frozen=True)
class Frames:
    """What a trajectory holds after equilibration.

    Attributes:
        displacements: (n_times, n_beads, n_supercell, 3), Å, centre of mass at rest.
        weights: (n_times, n_beads), statistical weights.
    """

    displacements: NDArray[np.float64]
    weights: NDArray[np.float64]


class Trajectory(Sampler):
    """Positions of a simulation at each temperature, in the supercell of the run and its order of atoms.

    Snapshot i is bead i % n_beads of the (i // n_beads)-th frame that is kept. Positions may be
    wrapped into the cell and the whole crystal may drift. The simulation decides the statistics,
    quantum or classical; the harmonic distribution is only compared with.

    Args:
        file: path with {temperature} or {temperature:g} in place of the temperature in K; a pattern
            with * names the files of the beads of a path integral.
        skip: frames at the beginning that are left out as equilibration.
        stride: of the frames after those, one in so many is kept.
        weights: key of the frames' weights, e.g. in an extxyz file; null: all weigh the same. With
            several temperatures the weights must not depend on the temperature.
        block: kept frames per group; null: five autocorrelation times of ⟨u²⟩ in plane or out of
            plane, whichever is longer.
    """

    def __init__(
        self,
        *,
        file: str,
        skip: int = 0,
        stride: int = 1,
        weights: str | None = None,
        block: int | None = None,
    ) -> None:
        if skip < 0 or stride < 1 or (block is not None and block < 1):
            raise ConfigError(
                message(
                    "sampler",
                    f"skip {skip}, stride {stride}, block {block}",
                    "skip ≥ 0, stride ≥ 1, block null or ≥ 1",
                    "Correct them.",
                )
            )
        self.file = file
        self.skip = skip
        self.stride = stride
        self.weights = weights
        self.block = block
        self._frames: dict[float, tuple[HarmonicEnsemble, Frames]] = {}

    def files(self, temperatures: Sequence[float]) -> tuple[Path, ...]:
        """Return the files of all temperatures."""
        return tuple(
            path
            for temperature in temperatures
            for path in self._paths(temperature, len(temperatures) > 1)
        )

    def displacements(
        self, ensemble: HarmonicEnsemble, temperature: float, indices: Sequence[int], seed: int
    ) -> NDArray[np.float64]:
        """Return the displacements of given snapshots.

        Raises:
            DataError: a file is missing or damaged, holds another structure, or too few frames.
        """
        found = self._read(ensemble, temperature).displacements
        flat = found.reshape(-1, *found.shape[2:])
        self._require(max(int(i) for i in indices) + 1, len(flat), temperature)
        return flat[np.asarray(indices, dtype=np.int64)]

    def design(self, ensemble: HarmonicEnsemble, n_samples: int) -> SampleDesign:
        """Return blocks of frames, the same at every temperature, and the weights of the frames.

        Raises:
            DataError: weights differ between temperatures, or there are too few frames.
        """
        frames = {t: self._read(ensemble, t) for t in ensemble.temperatures}
        n_beads = max(found.weights.shape[1] for found in frames.values())
        block = self.block or max(block_length(found.displacements) for found in frames.values())
        weights = []
        for temperature, found in frames.items():
            self._require(n_samples, found.weights.size, temperature)
            weights.append(found.weights.reshape(-1)[:n_samples])
        if any(not np.array_equal(other, weights[0]) for other in weights[1:]):
            raise DataError(
                message(
                    "sampler.weights",
                    "weights that differ between temperatures",
                    "the same at every temperature of a run",
                    "Make one run per temperature.",
                )
            )
        return SampleDesign(np.arange(n_samples) // (n_beads * block), weights[0])

    def _require(self, wanted: int, present: int, temperature: float) -> None:
        if wanted > present:
            raise DataError(
                message(
                    f"trajectory at {temperature:g} K",
                    f"{present} snapshots",
                    f"{wanted} after skip={self.skip} with stride={self.stride}",
                    f"Set n_samples={present} or less, or run the simulation for longer.",
                )
            )

    def _paths(self, temperature: float, several: bool) -> list[Path]:
        try:
            name = self.file.format(temperature=temperature)
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(
                message(
                    "sampler.file",
                    repr(self.file),
                    "{temperature:g} as the only placeholder",
                    "Correct the path.",
                )
            ) from error
        if several and name == self.file:
            raise ConfigError(
                message(
                    "sampler.file",
                    repr(self.file),
                    "{temperature:g} in the path of several temperatures",
                    "Add it.",
                )
            )
        pattern = Path(name)
        paths = sorted(
            pattern.parent.glob(pattern.name), key=lambda path: (len(path.name), path.name)
        )
        if not paths:
            raise DataError(
                message(
                    "sampler.file",
                    f"no file {name!r}",
                    "a trajectory at every temperature",
                    "Correct the path.",
                )
            )
        return paths

    def _read(self, ensemble: HarmonicEnsemble, temperature: float) -> Frames:
        if temperature not in self._frames or self._frames[temperature][0] is not ensemble:
            sites = ensemble.modes.atoms.repeat(ensemble.modes.supercell)
            beads = [
                self._read_bead(path, sites)
                for path in self._paths(temperature, len(ensemble.temperatures) > 1)
            ]
            n_times = min(len(displacements) for displacements, _ in beads)
            frames = Frames(
                np.stack([displacements[:n_times] for displacements, _ in beads], axis=1),
                np.stack([weights[:n_times] for _, weights in beads], axis=1),
            )
            self._frames[temperature] = (ensemble, frames)
        return self._frames[temperature][1]

    def _read_bead(
        self, path: Path, sites: Atoms
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return displacements (n_times, n_supercell, 3), Å, and weights (n_times,) of one file."""
        try:
            frames = ase.io.read(path, index=f"{self.skip}::{self.stride}")
        except Exception as error:  # ASE's parsers raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(
                message(
                    str(path),
                    f"an unreadable file ({reason})",
                    "a trajectory in a format that ASE knows",
                    "Check it.",
                )
            ) from error
        if not frames:
            raise DataError(
                message(
                    str(path),
                    f"no frames after the first {self.skip}",
                    "at least one",
                    "Lower sampler.skip.",
                )
            )
        displacements = [
            measure_displacements(atoms, sites, f"{path}, frame {self.skip + number * self.stride}")
            for number, atoms in enumerate(frames)
        ]
        return np.stack(displacements), np.array([self._weight(path, atoms) for atoms in frames])

    def _weight(self, path: Path, atoms: Atoms) -> float:
        if self.weights is None:
            return 1.0
        value = atoms.info.get(self.weights)
        if not isinstance(value, (int, float, np.number)) or not np.isfinite(value) or value < 0:
            raise DataError(
                message(
                    str(path),
                    f"{self.weights}={value!r} in a frame",
                    "a weight ≥ 0 in every frame",
                    "Correct sampler.weights.",
                )
            )
        return float(value)


def measure_displacements(atoms: Atoms, sites: Atoms, where: str) -> NDArray[np.float64]:
    """Measure how far every atom is from its site, whatever the drift of the crystal and the wrapping of its atoms.

    Args:
        atoms: a frame, Å.
        sites: the undisplaced supercell, Å, amu.
        where: name of the frame, for messages.

    Returns:
        (n_supercell, 3), Å, centre of mass at rest.

    Raises:
        DataError: other elements, another cell, positions that are not finite, or atoms that are
            not at their sites.
    """
    if len(atoms) != len(sites) or not np.array_equal(atoms.numbers, sites.numbers):
        raise DataError(
            message(
                where,
                atoms.get_chemical_formula(),
                f"{sites.get_chemical_formula()} with its elements in the order of the supercell",
                "Use the supercell of this run (sampling stage with export=true writes it).",
            )
        )
    misfit = float(np.abs(atoms.cell.array - sites.cell.array).max())
    if misfit > CELL_TOLERANCE or not np.isfinite(atoms.positions).all():
        got = (
            f"a cell that differs by {misfit:.3f} Å"
            if misfit > CELL_TOLERANCE
            else "positions that are not finite"
        )
        raise DataError(
            message(
                where,
                got,
                "the fixed cell of the run",
                "Simulate at constant volume in this supercell.",
            )
        )
    inverse = np.linalg.inv(sites.cell.array)
    fractional = (atoms.positions - sites.positions) @ inverse
    # the drift as a circular mean: wrapped atoms do not disturb it
    fractional = fractional - np.angle(np.exp(2j * np.pi * fractional).mean(axis=0)) / (2.0 * np.pi)
    displacements = (fractional - np.round(fractional)) @ sites.cell.array
    masses = np.array(sites.get_masses())
    displacements = displacements - masses @ displacements / masses.sum()
    _check_order(displacements, sites, where)
    return np.asarray(displacements)


def _check_order(displacements: NDArray[np.float64], sites: Atoms, where: str) -> None:
    """Refuse atoms that are nearer to the site of another atom than to their own."""
    if len(sites) < 2:
        return
    distances = sites.get_all_distances(mic=True)
    np.fill_diagonal(distances, np.inf)
    own = np.linalg.norm(displacements, axis=1)
    for atom in np.nonzero(own > 0.5 * distances.min(axis=1))[0]:
        moved = sites.copy()
        moved.positions[atom] += displacements[atom]
        others = np.delete(np.arange(len(sites)), atom)
        vectors = sites.positions[others] - moved.positions[atom]
        fractional = vectors @ np.linalg.inv(sites.cell.array)
        nearest = np.linalg.norm((fractional - np.round(fractional)) @ sites.cell.array, axis=1)
        if nearest.min() < own[atom]:
            raise DataError(
                message(
                    where,
                    f"atom {atom} {own[atom]:.2f} Å from its site and nearer to that of atom "
                    f"{others[np.argmin(nearest)]}",
                    "vibrations about the sites, atoms in the order of the supercell",
                    "Sort the atoms as in the supercell of this run, or leave out frames in which "
                    "atoms have changed places.",
                )
            )


def block_length(displacements: NDArray[np.float64]) -> int:
    """Return how many frames make a block.

    ``BLOCK_LENGTH`` autocorrelation times of ⟨u²⟩ in or out of plane.

    Args:
        displacements: (n_times, n_beads, n_atoms, 3), Å.
    """
    squares = np.mean(displacements**2, axis=(1, 2))
    times = [
        autocorrelation_time(series) for series in (squares[:, 0] + squares[:, 1], squares[:, 2])
    ]
    return max(1, int(np.ceil(BLOCK_LENGTH * max(times)))) if max(times) > 0.5 else 1


def autocorrelation_time(series: NDArray[np.float64]) -> float:
    """Return the integrated autocorrelation time τ = ½ + Σ_{t≥1} ρ(t), summed up to the first t ≥ 5τ (Sokal 1997, Sec. 3).

    Args:
        series: (n_times,), equally spaced.

    Returns:
        In steps; ½ for independent values. The variance of the mean is 2τ/n times that of one
        value.
    """
    n = len(series)
    deviations = series - series.mean()
    if n < 3 or not np.any(deviations):
        return 0.5
    padded = np.fft.rfft(deviations, n=2 * n)
    covariance = np.fft.irfft(np.abs(padded) ** 2, n=2 * n)[:n]
    running = 0.5 + np.cumsum(covariance[1:] / covariance[0])
    window = np.nonzero(np.arange(1, n) >= 5.0 * running)[0]
    return max(0.5, float(running[window[0] if len(window) else -1]))
