"""The record of the conductivity stage.

Optical conductivity and joint density of states against photon energy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class ConductivityRecord:
    """Optical response of a sheet, per layer.

    Error bars are standard errors of a bootstrap over groups of samples.

    Averages over samples are corrected by the undisplaced structure: each sample is compared with
    the undisplaced supercell at its own k-points, and the mean difference is added to the
    undisplaced spectrum of a dense mesh.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: supercells per temperature.
        supercell: primitive cells along each lattice vector.
        n_layers: of the sheet.
        mesh: k-points of each supercell; their common offset differs from sample to sample.
        equilibrium_mesh: k-points of the undisplaced primitive cell.
        electronic_temperature: of the occupations.
        line_width: standard deviation of the Gaussian lines.
        universal_conductivity: e²/4ħ in siemens, the unit of the conductivities.
        energies: (n_energies,), ħω.
        equilibrium_conductivity: (n_energies,), undisplaced, mean of xx and yy.
        conductivities: (n_temperatures, n_energies).
        conductivity_errors: (n_temperatures, n_energies).
        equilibrium_joint_density: (n_energies,), undisplaced joint density of vertical transitions,
            both spins.
        joint_densities: (n_temperatures, n_energies), transitions weighted by the primitive
            k-points that both states share.
        joint_density_errors: (n_temperatures, n_energies).
        fermi_shifts: (n_temperatures,), mean Fermi energy of the samples minus that of the
            undisplaced supercell.
        ghosts: (n_temperatures,), mean number of ghost states per supercell, which were given no
            electrons.
        window: smallest and largest ħω of the window means.
        equilibrium_mean: mean conductivity in the window, undisplaced.
        means: (n_temperatures,), the same at temperature.
        mean_errors: (n_temperatures,).
        convergence_counts: (n_counts,), numbers of samples of the convergence study.
        convergence_means: (n_counts, n_temperatures), window means from the first samples.
        convergence_errors: (n_counts, n_temperatures).
        degrees_of_freedom: of the standard errors, independent groups of samples less one; NaN in
            records of earlier versions.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    n_layers: int = field(metadata=unit("1"))
    mesh: tuple[int, ...] = field(metadata=unit("1"))
    equilibrium_mesh: tuple[int, ...] = field(metadata=unit("1"))
    electronic_temperature: float = field(metadata=unit("K"))
    line_width: float = field(metadata=unit("eV"))
    universal_conductivity: float = field(metadata=unit("S"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))
    equilibrium_conductivity: NDArray[np.float64] = field(metadata=unit("e²/4ħ"))
    conductivities: NDArray[np.float64] = field(metadata=unit("e²/4ħ"))
    conductivity_errors: NDArray[np.float64] = field(
        metadata=unit("e²/4ħ", error_of="conductivities")
    )
    equilibrium_joint_density: NDArray[np.float64] = field(metadata=unit("1/(eV·Å²)"))
    joint_densities: NDArray[np.float64] = field(metadata=unit("1/(eV·Å²)"))
    joint_density_errors: NDArray[np.float64] = field(
        metadata=unit("1/(eV·Å²)", error_of="joint_densities")
    )
    fermi_shifts: NDArray[np.float64] = field(metadata=unit("eV"))
    ghosts: NDArray[np.float64] = field(metadata=unit("1"))
    window: tuple[float, ...] = field(metadata=unit("eV"))
    equilibrium_mean: float = field(metadata=unit("e²/4ħ"))
    means: NDArray[np.float64] = field(metadata=unit("e²/4ħ"))
    mean_errors: NDArray[np.float64] = field(metadata=unit("e²/4ħ", error_of="means"))
    convergence_counts: NDArray[np.int64] = field(metadata=unit("1"))
    convergence_means: NDArray[np.float64] = field(metadata=unit("e²/4ħ"))
    convergence_errors: NDArray[np.float64] = field(metadata=unit("e²/4ħ"))
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))
