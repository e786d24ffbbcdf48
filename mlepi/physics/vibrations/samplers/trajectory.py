"""Displaced supercells from the frames of molecular dynamics or path integrals.

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
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import ConfigError, DataError, message
from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.vibrations.samplers.sampler import Sampler
from mlepi.physics.vibrations.thermal import HarmonicEnsemble

BLOCK_LENGTH = 20.0
"""Length of a block in autocorrelation times beyond that of independent frames; neighbouring blocks
remain correlated, which makes the squared error bar too small by the inverse of this, 5 %."""

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


class FrameSource(Protocol):
    """Whatever gives the frames of a simulation, such as ``mlepi.structures.trajectory_files``."""

    def settings(self) -> dict[str, Any]:
        """Return what decides the frames beside the content of files, "skip" and "stride" too."""
        ...

    def paths(self, temperatures: Sequence[float]) -> tuple[Path, ...]:
        """Return the files of all temperatures, K."""
        ...

    def read(self, temperature: float) -> Sequence[Sequence[tuple[str, Atoms, float]]]:
        """Return the frames of every bead: name for messages, structure (Å), weight."""
        ...


class Trajectory(Sampler):
    """Positions of a simulation at each temperature, in the supercell of the run.

    Atoms are in the order of the supercell. Snapshot i is bead i % n_beads of the (i // n_beads)-th
    frame that is kept. Positions may be wrapped into the cell and the whole crystal may drift. The
    simulation decides the statistics, quantum or classical; the harmonic distribution is only
    compared with.

    Args:
        source: of the frames. With several temperatures their weights must not depend on the
            temperature.
        block: kept frames per group; None: twenty autocorrelation times of the slowest motion.
    """

    def __init__(self, *, source: FrameSource, block: int | None = None) -> None:
        if block is not None and block < 1:
            raise ConfigError(
                message("sampler.block", f"{block}", "null or ≥ 1", "Use null to measure it.")
            )
        self.block = block
        self._source = source
        self._frames: dict[float, tuple[HarmonicEnsemble, Frames]] = {}

    def settings(self) -> dict[str, Any]:
        """Return what decides a snapshot: the settings of the source, and the blocks."""
        return {"sampler": type(self).__name__, **self._source.settings(), "block": self.block}

    def files(self, temperatures: Sequence[float]) -> tuple[Path, ...]:
        """Return the files of all temperatures."""
        return self._source.paths(temperatures)

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
            kept = self._source.settings()
            raise DataError(
                message(
                    f"trajectory at {temperature:g} K",
                    f"{present} snapshots",
                    f"{wanted} after skip={kept['skip']} with stride={kept['stride']}",
                    f"Set n_samples={present} or less, or run the simulation for longer.",
                )
            )

    def _read(self, ensemble: HarmonicEnsemble, temperature: float) -> Frames:
        if temperature not in self._frames or self._frames[temperature][0] is not ensemble:
            self._source.paths(ensemble.temperatures)
            sites = ensemble.modes.atoms.repeat(ensemble.modes.supercell)
            beads = self._source.read(temperature)
            displacements = [
                np.stack([measure_displacements(atoms, sites, name) for name, atoms, _ in bead])
                for bead in beads
            ]
            weights = [np.array([weight for *_, weight in bead]) for bead in beads]
            n_times = min(len(bead) for bead in beads)
            frames = Frames(
                np.stack([bead[:n_times] for bead in displacements], axis=1),
                np.stack([bead[:n_times] for bead in weights], axis=1),
            )
            self._frames[temperature] = (ensemble, frames)
        return self._frames[temperature][1]


def measure_displacements(atoms: Atoms, sites: Atoms, where: str) -> NDArray[np.float64]:
    """Measure how far every atom is from its site.

    Neither a drift of the crystal nor atoms wrapped into the cell disturb it.

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
    """Return how many frames make ``BLOCK_LENGTH`` times τ − ½ of the slowest motion.

    Of ⟨u²⟩ in plane, ⟨u²⟩ out of plane and the displacements themselves the slowest counts: an
    observable may follow either. Displacements that swing back have a short time, those of a
    thermostat that damps them twice that of their squares.

    Args:
        displacements: (n_times, n_beads, n_atoms, 3), Å.
    """
    squares = np.mean(displacements**2, axis=(1, 2))
    times = [
        autocorrelation_time(series)
        for series in (
            squares[:, 0] + squares[:, 1],
            squares[:, 2],
            displacements.mean(axis=1).reshape(len(displacements), -1),
        )
    ]
    return max(1, int(np.ceil(BLOCK_LENGTH * (max(times) - 0.5))))


def autocorrelation_time(series: NDArray[np.float64]) -> float:
    """Return the integrated autocorrelation time τ = ½ + Σ_{t≥1} ρ(t).

    The sum ends at the first t ≥ 5τ (Sokal 1997, Sec. 3).

    Args:
        series: (n_times,), equally spaced, or (n_times, n_series), whose covariances are summed.

    Returns:
        In steps; ½ for independent values. The variance of the mean is 2τ/n times that of one
        value.
    """
    n = len(series)
    deviations = (series - series.mean(axis=0)).reshape(n, -1)
    if n < 3 or not np.any(deviations):
        return 0.5
    padded = np.fft.rfft(deviations, n=2 * n, axis=0)
    covariance = np.fft.irfft(np.sum(np.abs(padded) ** 2, axis=1), n=2 * n)[:n]
    running = 0.5 + np.cumsum(covariance[1:] / covariance[0])
    window = np.nonzero(np.arange(1, n) >= 5.0 * running)[0]
    return max(0.5, float(running[window[0] if len(window) else -1]))
