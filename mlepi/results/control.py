"""Records of the stages ``tight_binding`` and ``control``.

A cheap Hamiltonian, and what it takes off the error bars.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results.hdf5 import unit


@dataclass(frozen=True)
class TightBindingRecord:
    """One-orbital tight binding fitted to the levels of the network around the Dirac energy.

    Attributes:
        hopping: inside a layer, at the equilibrium bond.
        hopping_decay: β of it, −d ln t / d ln d.
        interlayer_hopping: at the equilibrium spacing; without meaning in a monolayer.
        interlayer_decay: its β.
        bond: equilibrium.
        spacing: equilibrium.
        n_layers: of the structure.
        fermi_velocity: of the fit, undisplaced.
        rms: misfit of the levels of displaced supercells.
        kpoints: (n_kpoints, 3), fractional, of the supercell.
        levels: (n_structures, n_kpoints, n_levels), of the network, relative to their mean over
            each structure.
        fitted_levels: the same of the fit.
    """

    hopping: float = field(metadata=unit("eV"))
    hopping_decay: float = field(metadata=unit("1"))
    interlayer_hopping: float = field(metadata=unit("eV"))
    interlayer_decay: float = field(metadata=unit("1"))
    bond: float = field(metadata=unit("Å"))
    spacing: float = field(metadata=unit("Å"))
    n_layers: int = field(metadata=unit("1"))
    fermi_velocity: float = field(metadata=unit("m/s"))
    rms: float = field(metadata=unit("eV"))
    kpoints: NDArray[np.float64] = field(metadata=unit("fractional"))
    levels: NDArray[np.float64] = field(metadata=unit("eV"))
    fitted_levels: NDArray[np.float64] = field(metadata=unit("eV"))


@dataclass(frozen=True)
class ControlledRecord:
    """v_F of one estimator with a control variate.

    The last axis is (v_F, its change from the first T, mean slope).

    Attributes:
        plain: (n_temperatures, 3), without control.
        plain_errors: (n_temperatures, 3), jackknife.
        values: (n_temperatures, 3), with control.
        errors: (n_temperatures, 3), those of the cheap average included.
        coefficients: (n_temperatures, 3), c.
        correlations: (n_temperatures, 3), of what single groups of samples contribute.
        variance_reductions: (n_temperatures, 3), squared plain error over squared controlled one; 0
            where nothing varies.
        sample_reductions: (n_temperatures, 3), the same for an exact cheap average.
    """

    plain: NDArray[np.float64] = field(metadata=unit("m/s"))
    plain_errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    values: NDArray[np.float64] = field(metadata=unit("m/s"))
    errors: NDArray[np.float64] = field(metadata=unit("m/s"))
    coefficients: NDArray[np.float64] = field(metadata=unit("1"))
    correlations: NDArray[np.float64] = field(metadata=unit("1"))
    variance_reductions: NDArray[np.float64] = field(metadata=unit("1"))
    sample_reductions: NDArray[np.float64] = field(metadata=unit("1"))


@dataclass(frozen=True)
class ControlRecord:
    """Control variate of a run.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: of the network.
        n_control_samples: of the tight binding, the former among them.
        spectral: from spectral peaks.
        sorted_average: from sorted eigenvalues.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    n_control_samples: int = field(metadata=unit("1"))
    spectral: ControlledRecord
    sorted_average: ControlledRecord
