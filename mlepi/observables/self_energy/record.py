"""The record of the self_energy stage.

Averaged Green's functions near K, self-energies, quasiparticles, and v_F from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlepi.observables.near_k.record import Estimate, VelocityRecord, WindowRecord
from mlepi.results import unit


@dataclass(frozen=True)
class SelfEnergyRecord:
    """Self-energies and quasiparticles of the bands near the Dirac energy.

    The bands are (valence, conduction), or (split-off valence, valence, conduction, split-off
    conduction). Errors are standard errors of a bootstrap over blocks of samples.

    Attributes:
        temperatures: (n_temperatures,).
        n_samples: supercells per temperature, the most where they differ.
        supercell: primitive cells along each lattice vector.
        dirac_energy: middle of the low bands at K, equilibrium.
        broadening: η.
        energies: (n_energies,), ω relative to the Dirac energy.
        map_distances: (n_points,), k − K along M–K–Γ, negative towards M.
        bare_energies: (n_points, n_bands), undisplaced, relative to the Dirac energy.
        spectral_functions: (n_temperatures, n_points, n_bands, n_energies), −Im Ḡ_bb/π at ω + iη,
            per spin.
        self_energies: (n_temperatures, n_points, n_bands, n_energies), Σ_b(ω + iη), complex.
        quasiparticle_energies: (n_temperatures, n_points, n_bands), relative to the Dirac energy.
        quasiparticle_errors: (n_temperatures, n_points, n_bands).
        weights: (n_temperatures, n_points, n_bands), Z.
        weight_errors: (n_temperatures, n_points, n_bands).
        widths: (n_temperatures, n_points, n_bands), −2 Z Im Σ, full width.
        width_errors: (n_temperatures, n_points, n_bands).
        first_order_shifts: (n_temperatures, n_points, n_bands), first moment of A less ε: ⟨H⟩ − ε,
            exact, the Debye–Waller shift of all orders.
        first_order_errors: (n_temperatures, n_points, n_bands).
        second_moments: (n_temperatures, n_points, n_bands), variance of A without η: the strength
            of the scattering.
        velocity_window: smallest and largest |k − K| of the fits.
        dispersion: "hyperbola" or "linear".
        split_off_bands: whether the split-off bands took part in the fit.
        n_resamples: of the bootstrap.
        velocity: v_F from the quasiparticle energies.
        windows: the same from other windows.
        degrees_of_freedom: of the standard errors, independent groups of samples less one; NaN in
            records of earlier versions.
    """

    temperatures: NDArray[np.float64] = field(metadata=unit("K"))
    n_samples: int = field(metadata=unit("1"))
    supercell: tuple[int, ...] = field(metadata=unit("1"))
    dirac_energy: float = field(metadata=unit("eV"))
    broadening: float = field(metadata=unit("eV"))
    energies: NDArray[np.float64] = field(metadata=unit("eV"))
    map_distances: NDArray[np.float64] = field(metadata=unit("1/Å"))
    bare_energies: NDArray[np.float64] = field(metadata=unit("eV"))
    spectral_functions: NDArray[np.float64] = field(metadata=unit("1/eV"))
    self_energies: NDArray[np.complex128] = field(metadata=unit("eV"))
    quasiparticle_energies: NDArray[np.float64] = field(metadata=unit("eV"))
    quasiparticle_errors: NDArray[np.float64] = field(
        metadata=unit("eV", error_of="quasiparticle_energies")
    )
    weights: NDArray[np.float64] = field(metadata=unit("1"))
    weight_errors: NDArray[np.float64] = field(metadata=unit("1", error_of="weights"))
    widths: NDArray[np.float64] = field(metadata=unit("eV"))
    width_errors: NDArray[np.float64] = field(metadata=unit("eV", error_of="widths"))
    first_order_shifts: NDArray[np.float64] = field(metadata=unit("eV"))
    first_order_errors: NDArray[np.float64] = field(
        metadata=unit("eV", error_of="first_order_shifts")
    )
    second_moments: NDArray[np.float64] = field(metadata=unit("eV²"))
    velocity_window: tuple[float, ...] = field(metadata=unit("1/Å"))
    dispersion: str = field(metadata=unit("1"))
    split_off_bands: bool = field(metadata=unit("1"))
    n_resamples: int = field(metadata=unit("1"))
    velocity: VelocityRecord
    windows: WindowRecord
    degrees_of_freedom: float = field(default=float("nan"), metadata=unit("1"))

    @property
    def quasiparticle_shifts(self) -> NDArray[np.float64]:
        """(n_temperatures, n_points, n_bands) eV, from the undisplaced bands."""
        return self.quasiparticle_energies - self.bare_energies

    def velocity_estimates(self) -> list[Estimate]:
        """Return v_F from the quasiparticle energies."""
        method = f"Self-energies are taken {1e3 * self.broadening:.0f} meV above the real axis."
        return [Estimate("self-energy", self.velocity, self.windows, self, method)]
