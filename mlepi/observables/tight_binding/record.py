"""The record of the tight_binding stage: a cheap Hamiltonian fitted to the network's levels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


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
