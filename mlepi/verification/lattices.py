"""Force constants and thermal amplitudes by hand, independent of the package's own."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy import constants

from mlepi.physics.vibrations.force_constants import ForceConstants

AMU = constants.atomic_mass
EV = constants.electron_volt
CARBON = 12.011
"""amu, standard atomic weight."""


def angular_frequency(stiffness: float, mass: float) -> float:
    """Return √(k/m) of k in eV/Å² and m in amu, in 1/s."""
    return float(np.sqrt(stiffness * EV * 1e20 / (mass * AMU)))


def oscillator_variance(
    omega: float | NDArray[np.float64], mass: float, temperature: float
) -> NDArray[np.float64]:
    """Return ⟨x²⟩ = ħ/(2mω) coth(ħω/2k_BT).

    Args:
        omega: 1/s.
        mass: amu.
        temperature: K.

    Returns:
        Å².
    """
    zero_point = constants.hbar / (2.0 * mass * AMU * np.asarray(omega)) * 1e20
    if temperature == 0.0:
        return zero_point
    return np.asarray(
        zero_point / np.tanh(constants.hbar * np.asarray(omega) / (2.0 * constants.k * temperature))
    )


def classical_variance(stiffness: float, temperature: float) -> float:
    """Return k_BT/k of k in eV/Å²: Å²."""
    return float(constants.k * temperature / EV / stiffness)


def einstein_solid(stiffness: float, n_cells: int) -> ForceConstants:
    """Return Φ_ab = k δ_ab for one carbon atom per cell.

    Translations are projected out by the ensemble, not here.
    """
    atoms = Atoms("C", cell=[3.0, 3.0, 3.0], pbc=True)
    atoms.set_masses([CARBON])
    values = np.zeros((1, n_cells, 3, 3))
    values[0, 0] = stiffness * np.eye(3)
    return ForceConstants(atoms, (n_cells, 1, 1), values)


def chain(stiffness: float, masses: tuple[float, ...], n_cells: int) -> ForceConstants:
    """Return a closed chain along x with equal springs between neighbours.

    They are the same for every direction of motion.

    Args:
        stiffness: eV/Å².
        masses: amu, of the atoms of one cell, one or two.
        n_cells: cells of the chain.
    """
    n = len(masses)
    atoms = Atoms(
        f"C{n}",
        positions=[[2.0 * a, 0.0, 0.0] for a in range(n)],
        cell=[2.0 * n, 8.0, 8.0],
        pbc=True,
    )
    atoms.set_masses(masses)
    values = np.zeros((n, n * n_cells, 3, 3))
    for a in range(n):
        for neighbour in ((a - 1) % (n * n_cells), (a + 1) % (n * n_cells)):
            values[a, a] += stiffness * np.eye(3)
            values[a, neighbour] -= stiffness * np.eye(3)
    return ForceConstants(atoms, (n_cells, 1, 1), values)


def dimer(stretch: float, swing: float, bond: float) -> ForceConstants:
    """Return a molecule of two carbon atoms along x.

    Args:
        stretch: eV/Å², along the bond.
        swing: eV/Å², across it; holds the direction of the bond.
        bond: Å.
    """
    atoms = Atoms(
        "C2", positions=[[0.0, 0.0, 0.0], [bond, 0.0, 0.0]], cell=[20.0, 20.0, 20.0], pbc=True
    )
    atoms.set_masses([CARBON, CARBON])
    spring = np.diag([stretch, swing, swing])
    values = np.array([[spring, -spring], [-spring, spring]])
    return ForceConstants(atoms, (1, 1, 1), values)
