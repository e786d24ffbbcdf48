"""The record of the dos stage.

Densities of states of displaced supercells, in total and by orbital and layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class DosRecord:
    """Densities of states per primitive cell and spin against temperature.

    Energies are relative to ``reference``, on the scale of H (``align`` "none") or of the mean
    potential of each sample. Errors are jackknife standard errors over blocks of samples.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: supercells per temperature, the most where they differ.
        supercell: primitive cells along each lattice vector.
        mesh: k-points of the supercell.
        reference: Fermi energy of the undisplaced crystal on the same k-points, where its states
            are counted with the same lines.
        align: "none" or "mean_potential": whether rigid shifts of H between samples were removed.
        width: standard deviation of the lines.
        energies: (n_energies,).
        channels: names of the projections: element and angular momentum, then layers.
        n_electrons: valence electrons per primitive cell.
        n_orbitals: per primitive cell; the integral of the density over all energies.
        equilibrium: (n_energies,), undisplaced.
        equilibrium_projections: (n_channels, n_energies), undisplaced.
        dos: (n_temperatures, n_energies).
        dos_errors: (n_temperatures, n_energies).
        projections: (n_temperatures, n_channels, n_energies).
        integrated: (n_temperatures, n_energies), states below each energy.
        fermi_shifts: (n_temperatures,), energy below which the electrons fit, from ``reference``;
            NaN outside the window.
        fermi_shift_errors: (n_temperatures,).
        degrees_of_freedom: of the standard errors, independent groups of samples less one; NaN in
            records of earlier versions.
        fermi_dos: (n_temperatures,), where the electrons end, ``fermi_shifts``; NaN outside the
            window, none in records of earlier versions.
        fermi_dos_errors: (n_temperatures,); likewise.
        pseudo_fermi_dos: (n_blocks, n_temperatures), jackknife pseudo-values of it, one per block
            of independent groups of samples; likewise.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    mesh: tuple[int, ...] = field(metadata=unit("1"))
    reference: float = field(metadata=unit("eV"))
    align: str = field(metadata=unit("1"))
    width: float = field(metadata=unit("eV"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))
    channels: tuple[str, ...] = field(metadata=unit("1"))
    n_electrons: float = field(metadata=unit("1"))
    n_orbitals: int = field(metadata=unit("1"))
    equilibrium: NDArray[np.float64] = field(metadata=unit("1/eV"))
    equilibrium_projections: NDArray[np.float64] = field(metadata=unit("1/eV"))
    dos: NDArray[np.float64] = field(metadata=unit("1/eV"))
    dos_errors: NDArray[np.float64] = field(metadata=unit("1/eV", error_of="dos"))
    projections: NDArray[np.float64] = field(metadata=unit("1/eV"))
    integrated: NDArray[np.float64] = field(metadata=unit("1"))
    fermi_shifts: NDArray[np.float64] = field(metadata=unit("eV"))
    fermi_shift_errors: NDArray[np.float64] = field(metadata=unit("eV", error_of="fermi_shifts"))
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))
    fermi_dos: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("1/eV")
    )
    fermi_dos_errors: NDArray[np.float64] = field(
        default_factory=lambda: np.empty(0), metadata=unit("1/eV", error_of="fermi_dos")
    )
    pseudo_fermi_dos: NDArray[np.float64] = field(
        default_factory=lambda: np.empty((0, 0)), metadata=unit("1/eV")
    )
