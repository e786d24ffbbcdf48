"""What the sparse_bands stage found.

States around the Fermi level of a large cell along a path, beside the continuum model.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit

FLAT_BANDS = 4
"""Flat bands of a twisted bilayer per spin: two in each valley."""


@dataclass(frozen=True)
class ContinuumRecord:
    """The Bistritzer–MacDonald model of the same twist.

    Attributes:
        twist: degrees.
        velocity: ħ v_F of a single layer.
        w_aa: interlayer hopping in AA regions.
        w_ab: interlayer hopping in AB regions.
        source: where the three come from.
        magic_angle: at which the velocity at K vanishes with these parameters, degrees; NaN when it
            does not.
        distances: (n_points,) along the path.
        energies: (n_points, n_bands), of both valleys, from the middle of the flat bands at K.
    """

    twist: float = field(metadata=unit("degree"))
    velocity: float = field(metadata=unit("eV·Å"))
    w_aa: float = field(metadata=unit("eV"))
    w_ab: float = field(metadata=unit("eV"))
    source: str
    magic_angle: float = field(metadata=unit("degree"))
    distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))

    def flat_width(self) -> float:
        """Return the width of the flat bands on the path, eV."""
        return _flat_width(self.energies)


@dataclass(frozen=True)
class SparseBandsRecord:
    """Neighbouring states of a large cell, the same numbers at every k-point.

    Attributes:
        kpoints: (n_kpoints, 3).
        distances: (n_kpoints,) along the path.
        labels: special points of the path.
        label_distances: (n_labels,).
        energies: (n_kpoints, n_states), ascending.
        first_state: number of the lowest of them among all states, counted from 0 by inertia.
        n_electrons: per cell.
        fermi_energy: of the neutral cell with these k-points.
        electronic_temperature: of its smearing.
        error_bound: largest ‖Hc − ESc‖ / √s, with s the smallest eigenvalue of S: bounds the error
            of every energy.
        proven: number of k-points at which two further counts have shown that no state is missing.
        backend: library of the factorisation.
        cpu_seconds: (n_kpoints,) for each k-point; that of its time-reversed partner where it was
            not computed again.
        continuum: the continuum model; None when it was not asked for.
        moire: whether it is a bilayer of graphene, whose four bands around neutrality count.
    """

    kpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    labels: tuple[str, ...]
    label_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))
    first_state: int = field(metadata=unit("1"))
    n_electrons: float = field(metadata=unit("1"))
    fermi_energy: float = field(metadata=unit("eV"))
    electronic_temperature: float = field(metadata=unit("K"))
    error_bound: float = field(metadata=unit("eV"))
    proven: int = field(metadata=unit("1"))
    backend: str
    cpu_seconds: NDArray[np.float64] = field(metadata=unit("s"))
    continuum: ContinuumRecord | None = None
    moire: bool = True

    def band_gap(self) -> float:
        """Return the gap on the path, eV; negative where the bands overlap."""
        middle = self.energies.shape[1] // 2
        return float(self.energies[:, middle].min() - self.energies[:, middle - 1].max())

    def flat_width(self) -> float:
        """Return the width of the four states around neutrality over the k-points, eV."""
        return _flat_width(self.energies)

    def dirac_energy(self) -> float:
        """Return the mean of the four states around neutrality at the first K, eV.

        Over the path when K is not on it.
        """
        middle, half = self.energies.shape[1] // 2, FLAT_BANDS // 2
        flat = self.energies[:, middle - half : middle + half]
        if "K" not in self.labels:
            return float(flat.mean())
        place = self.label_distances[self.labels.index("K")]
        return float(flat[int(np.argmin(np.abs(self.distances - place)))].mean())

    def gaps(self) -> tuple[float, float]:
        """Return the smallest gaps below and above the four bands around neutrality, eV."""
        middle, half = self.energies.shape[1] // 2, FLAT_BANDS // 2
        low, high = middle - half, middle + half
        return (
            float(self.energies[:, low].min() - self.energies[:, low - 1].max()),
            float(self.energies[:, high].min() - self.energies[:, high - 1].max()),
        )


def _flat_width(energies: NDArray[np.float64]) -> float:
    middle, half = energies.shape[1] // 2, FLAT_BANDS // 2
    return float(np.ptp(energies[:, middle - half : middle + half]))
