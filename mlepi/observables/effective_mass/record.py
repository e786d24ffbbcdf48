"""The record of the effective_mass stage: curvature of the bands at an edge against temperature."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class EffectiveMassRecord:
    """Effective masses of a valence and a conduction band through a k-point, from unfolded peaks.

    Masses are ħ²/(d²E/dk²), negative where the band curves downwards. Energies are relative to the
    middle of the gap of the undisplaced crystal on the line. Errors are standard errors of a
    bootstrap over blocks of samples.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: supercells per temperature, the most where they differ.
        supercell: primitive cells along each lattice vector.
        kpoint: (3,), where the curvature is taken.
        toward: (3,), another point of the line.
        order: of the even polynomial in the distance, 2 or 4.
        peak_width: standard deviation of the lines whose maxima are taken.
        distances: (n_points,), signed, along the line.
        equilibrium: (n_points, 2), valence and conduction band, undisplaced.
        band_energies: (n_temperatures, n_points, 2), peaks.
        band_errors: (n_temperatures, n_points, 2).
        equilibrium_masses: (2,), undisplaced, same fit.
        masses: (n_temperatures, 2).
        mass_errors: (n_temperatures, 2).
        mass_changes: (n_temperatures, 2), from the first temperature.
        mass_change_errors: (n_temperatures, 2).
        degrees_of_freedom: of the standard errors, independent groups of samples less one; NaN in
            records of earlier versions.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    kpoint: NDArray[np.float64] = field(metadata=unit("fractional"))
    toward: NDArray[np.float64] = field(metadata=unit("fractional"))
    order: int = field(metadata=unit("1"))
    peak_width: float = field(metadata=unit("eV"))
    distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    equilibrium: NDArray[np.float64] = field(metadata=unit("eV"))
    band_energies: NDArray[np.float64] = field(metadata=unit("eV"))
    band_errors: NDArray[np.float64] = field(
        metadata=unit("eV", error_of="band_energies", components=("valence", "conduction"))
    )
    equilibrium_masses: NDArray[np.float64] = field(metadata=unit("m_e"))
    masses: NDArray[np.float64] = field(metadata=unit("m_e"))
    mass_errors: NDArray[np.float64] = field(
        metadata=unit("m_e", error_of="masses", components=("valence", "conduction"))
    )
    mass_changes: NDArray[np.float64] = field(metadata=unit("m_e"))
    mass_change_errors: NDArray[np.float64] = field(
        metadata=unit("m_e", error_of="mass_changes", components=("valence", "conduction"))
    )
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))
