"""The record of the linear-response stage.

Second-order shifts of the low bands, term by term, and the velocities they give.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.results import unit


@dataclass(frozen=True)
class SecondOrderRecord:
    """Second-order shifts with the phonons of one mesh of wave vectors.

    The last axis of energies is that of ``LinearResponseRecord.equilibrium_energies``. Slopes are
    the mean group velocity of the low bands in the window, which is linear in the energies: the
    changes of the three terms add up.

    Attributes:
        mesh: divisions of the reciprocal lattice vectors.
        n_resting_modes: modes without a positive frequency that were left at rest, translations
            apart.
        mean_square_displacements: (n_temperatures,), ⟨u²⟩ of an atom, mean over the atoms, of these
            phonons.
        fan: (n_temperatures, n_points, n_bands), adiabatic Fan shift.
        debye_waller: (n_temperatures, n_points, n_bands).
        nonadiabatic: (n_temperatures, n_points, n_bands), what the phonon energies in the
            denominators add.
        static_velocities: (n_temperatures,), v_F of the bands with the first two terms.
        static_gamma_1: (n_temperatures,), γ₁ of the same fit.
        static_slopes: (n_temperatures,), their mean slope.
        dynamic_velocities: (n_temperatures,), v_F of the bands with all three terms.
        dynamic_gamma_1: (n_temperatures,).
        dynamic_slopes: (n_temperatures,).
        fan_slopes: (n_temperatures,), change of the mean slope by this term.
        debye_waller_slopes: (n_temperatures,).
        nonadiabatic_slopes: (n_temperatures,).
    """

    mesh: tuple[int, ...] = field(metadata=unit("1"))
    n_resting_modes: int = field(metadata=unit("1"))
    mean_square_displacements: NDArray[np.float64] = field(metadata=unit("Å²"))
    fan: NDArray[np.float64] = field(metadata=unit("eV"))
    debye_waller: NDArray[np.float64] = field(metadata=unit("eV"))
    nonadiabatic: NDArray[np.float64] = field(metadata=unit("eV"))
    static_velocities: NDArray[np.float64] = field(metadata=unit("m/s", quantity=True))
    static_gamma_1: NDArray[np.float64] = field(metadata=unit("eV"))
    static_slopes: NDArray[np.float64] = field(metadata=unit("m/s", quantity=True))
    dynamic_velocities: NDArray[np.float64] = field(metadata=unit("m/s", quantity=True))
    dynamic_gamma_1: NDArray[np.float64] = field(metadata=unit("eV"))
    dynamic_slopes: NDArray[np.float64] = field(metadata=unit("m/s", quantity=True))
    fan_slopes: NDArray[np.float64] = field(metadata=unit("m/s"))
    debye_waller_slopes: NDArray[np.float64] = field(metadata=unit("m/s"))
    nonadiabatic_slopes: NDArray[np.float64] = field(metadata=unit("m/s"))

    @property
    def static(self) -> NDArray[np.float64]:
        """Adiabatic shifts, Fan and Debye–Waller together, eV."""
        return self.fan + self.debye_waller

    @property
    def dynamic(self) -> NDArray[np.float64]:
        """Shifts with phonon energies in the denominators, eV."""
        return self.static + self.nonadiabatic


@dataclass(frozen=True)
class LinearResponseRecord:
    """Second-order perturbation theory of the low bands near K from derivatives of H and S.

    Attributes:
        temperatures: (n_temperatures,).
        supercell: primitive cells along each lattice vector of the cell in which H and S were
            differentiated.
        derivatives: how, in words.
        translation_residual: largest change of a block of H by a rigid shift of the crystal; zero
            for an exact derivative.
        border_share: share of ∂H, summed squares, at pairs that are as near to two images of the
            moved atom: what an interpolation between the wave vectors of the supercell cannot
            assign.
        broadening: η of the denominators.
        chemical_potential: relative to the Dirac energy.
        dirac_energy: middle of the low bands at K, equilibrium.
        map_distances: (n_points,), k − K along M–K–Γ, negative towards M; the points of the fit.
        equilibrium_energies: (n_points, n_bands), relative to the Dirac energy: (valence,
            conduction), or those between the split-off ones.
        velocity_window: smallest and largest |k − K| of the fits.
        dispersion: "hyperbola" or "linear".
        split_off_bands: whether the split-off bands took part in the fits.
        equilibrium_velocity: v_F of the undisplaced structure, same fit.
        equilibrium_gamma_1: γ₁ of the same fit.
        equilibrium_slope: mean slope of the undisplaced structure.
        in_supercell: with the wave vectors of the supercell, those that its samples contain.
        interpolated: with those of a denser mesh; None when none was asked for.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    derivatives: str = field(metadata=unit("1"))
    translation_residual: float = field(metadata=unit("eV/Å"))
    border_share: float = field(metadata=unit("1"))
    broadening: float = field(metadata=unit("eV"))
    chemical_potential: float = field(metadata=unit("eV"))
    dirac_energy: float = field(metadata=unit("eV"))
    map_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    equilibrium_energies: NDArray[np.float64] = field(metadata=unit("eV"))
    velocity_window: tuple[float, ...] = field(metadata=unit("1/Å"))
    dispersion: str = field(metadata=unit("1"))
    split_off_bands: bool = field(metadata=unit("1"))
    equilibrium_velocity: float = field(metadata=unit("m/s"))
    equilibrium_gamma_1: float = field(metadata=unit("eV"))
    equilibrium_slope: float = field(metadata=unit("m/s"))
    in_supercell: SecondOrderRecord
    interpolated: SecondOrderRecord | None = None
