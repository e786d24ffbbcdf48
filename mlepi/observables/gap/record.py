"""The record of the gap stage: band edges and gap against temperature."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class GapRecord:
    """Band edges from peaks of the unfolded spectral function, beside those of the supercells.

    All energies are relative to ``reference``, on the scale of H (``align`` "none") or of the mean
    potential of each sample. Errors are standard errors of a bootstrap over blocks of samples, with
    the same resamples at all temperatures, those of the supercells' edges of a jackknife.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: supercells per temperature, the most where they differ.
        supercell: primitive cells along each lattice vector.
        reference: middle of the gap of the undisplaced crystal.
        align: "none" or "mean_potential": whether rigid shifts of H between samples were removed.
        peak_width: standard deviation of the lines whose maxima are taken.
        kpoints: (n_points, 3).
        equilibrium: (n_points, 2), valence and conduction band, undisplaced.
        energies: (n_energies,), of the spectra, relative to the middle of their windows.
        centres: (2,), middle of the windows of valence and conduction band, relative to
            ``reference``.
        spectral_functions: (n_temperatures, n_points, 2, n_energies), of both bands.
        band_energies: (n_temperatures, n_points, 2), peaks.
        band_errors: (n_temperatures, n_points, 2).
        equilibrium_gap: lowest conduction less highest valence energy among the points,
            undisplaced.
        gaps: (n_temperatures,), the same of the peaks.
        gap_errors: (n_temperatures,).
        gap_changes: (n_temperatures,), from the first temperature.
        gap_change_errors: (n_temperatures,), small thanks to common random numbers.
        supercell_edges: (n_temperatures, 3), mean highest occupied level of the supercells at the
            points, mean lowest empty level, and mean gap; NaN where a sample's lie outside the
            energy window. For comparison: folded states split and repel each other.
        supercell_edge_errors: (n_temperatures, 3).
        degrees_of_freedom: of the standard errors, independent groups of samples less one; NaN in
            records of earlier versions.
        pseudo_gaps: (n_blocks, n_temperatures), jackknife pseudo-values of the gap, one per block
            of independent groups of samples; none in records of earlier versions.
        equilibrium_direct_gap: smallest distance of both bands at one of the points, undisplaced;
            NaN of a single point, whose gap it is, and in records of earlier versions.
        direct_gaps: (n_temperatures,), the same of the peaks; none of a single point.
        direct_gap_errors: (n_temperatures,).
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    reference: float = field(metadata=unit("eV"))
    align: str = field(metadata=unit("1"))
    peak_width: float = field(metadata=unit("eV"))
    kpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    equilibrium: NDArray[np.float64] = field(metadata=unit("eV"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))
    centres: NDArray[np.float64] = field(metadata=unit("eV"))
    spectral_functions: NDArray[np.float64] = field(metadata=unit("1/eV"))
    band_energies: NDArray[np.float64] = field(metadata=unit("eV"))
    band_errors: NDArray[np.float64] = field(
        metadata=unit("eV", error_of="band_energies", components=("valence", "conduction"))
    )
    equilibrium_gap: float = field(metadata=unit("eV"))
    gaps: NDArray[np.float64] = field(metadata=unit("eV"))
    gap_errors: NDArray[np.float64] = field(metadata=unit("eV", error_of="gaps"))
    gap_changes: NDArray[np.float64] = field(metadata=unit("eV"))
    gap_change_errors: NDArray[np.float64] = field(metadata=unit("eV", error_of="gap_changes"))
    supercell_edges: NDArray[np.float64] = field(metadata=unit("eV"))
    supercell_edge_errors: NDArray[np.float64] = field(
        metadata=unit(
            "eV", error_of="supercell_edges", components=("valence edge", "conduction edge", "gap")
        )
    )
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))
    pseudo_gaps: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0)), metadata=unit("eV")
    )
    equilibrium_direct_gap: float = field(default=float("nan"), metadata=unit("eV"))
    direct_gaps: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("eV")
    )
    direct_gap_errors: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("eV", error_of="direct_gaps")
    )
