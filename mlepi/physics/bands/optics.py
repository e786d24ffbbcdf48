"""Optical conductivity of a sheet (Kubo–Greenwood) and joint density, from states at one k-point.

    Re σ(ω) = (π e² g_s / ħ A) Σ_mn [(f_m − f_n)/(E_n − E_m)] |ħv_mn|² δ(E_n − E_m − ħω)

over ordered pairs of states of a cell of area A, averaged over k; energies ħω in eV, g_s = 2. Pairs
of one level take the limit −f′(E) of the bracket: they are the Drude peak, broadened like all
lines. σ is given in e²/4ħ, the conductivity of undoped graphene in the limit of massless electrons.

References:
    Greenwood, Proc. Phys. Soc. 71, 585 (1958), doi:10.1088/0370-1328/71/4/306.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from mlepi.errors import PhysicsError, StructureError, message
from mlepi.physics.bands.spectra import line_shape
from mlepi.physics.eigenstates.bloch import SPIN_DEGENERACY
from mlepi.units import BOLTZMANN

SAME_LEVEL = 1e-6
"""Two energies closer than this, eV, belong to one level."""

LINE_REACH = 6.0
"""Widths of a Gaussian line beyond which it is left out; its weight there is 2e-9."""

PAIRS_AT_ONCE = 1 << 14
"""Pairs of states whose lines are evaluated together."""


def sheet_area(cell: ArrayLike) -> float:
    """Return the area of a cell whose first two vectors span the sheet, Å².

    Raises:
        StructureError: these vectors do not lie in the xy plane.
    """
    first, second = np.asarray(cell, dtype=np.float64)[:2]
    if max(abs(first[2]), abs(second[2])) > 1e-6 * np.linalg.norm(first):
        raise StructureError(
            message(
                "sheet",
                f"lattice vectors {first.round(3).tolist()} and {second.round(3).tolist()} Å",
                "the first two in the xy plane",
                "Turn the structure so that its layers are normal to z.",
            )
        )
    return float(abs(first[0] * second[1] - first[1] * second[0]))


def fermi_occupations(
    eigenvalues: NDArray[np.float64], fermi_energy: float, temperature: float
) -> NDArray[np.float64]:
    """Return Fermi–Dirac occupations per spin, same shape; ``temperature`` in K, > 0."""
    return np.asarray(expit((fermi_energy - eigenvalues) / (BOLTZMANN * _positive(temperature))))


def sheet_conductivity(
    energies: NDArray[np.float64],
    eigenvalues: NDArray[np.float64],
    velocities: NDArray[np.complexfloating],
    fermi_energy: float,
    temperature: float,
    width: float,
    area: float,
) -> NDArray[np.float64]:
    """Compute Re σ(ω) of the states at one k-point; the mean over a k mesh is that of the sheet.

    States further from the Fermi energy than the largest ħω plus ``LINE_REACH`` widths and some
    k_BT have no part in it.

    Args:
        energies: (n_energies,) ħω, eV.
        eigenvalues: (n_states,), eV.
        velocities: (n_axes, n_states, n_states), ħv between the states, eV·Å.
        fermi_energy: eV.
        temperature: of the electrons, K; > 0.
        width: standard deviation of the Gaussian lines, eV.
        area: of the cell, Å².

    Returns:
        (n_axes, n_energies), e²/4ħ: the diagonal elements of σ along the axes of the velocities.

    Raises:
        PhysicsError: the electronic temperature is not positive.
    """
    lower, upper = np.triu_indices(len(eigenvalues))
    gaps = np.abs(eigenvalues[upper] - eigenvalues[lower])
    factors = _transition_factors(eigenvalues, fermi_energy, temperature)[lower, upper]
    strengths = factors * np.abs(velocities[:, lower, upper]) ** 2
    near = gaps < energies.max() + LINE_REACH * width
    strengths, gaps, single = strengths[:, near], gaps[near], (lower == upper)[near]
    spectrum = np.zeros((len(velocities), len(energies)))
    for start in range(0, len(gaps), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        lines = line_shape(energies - gaps[part, None], width, "gaussian")
        mirrored = np.where(
            single[part, None], 0.0, line_shape(energies + gaps[part, None], width, "gaussian")
        )
        spectrum += strengths[:, part] @ (lines + mirrored)
    return 4.0 * np.pi * SPIN_DEGENERACY / area * spectrum


def joint_density(
    energies: NDArray[np.float64],
    eigenvalues: NDArray[np.float64],
    weights: NDArray[np.float64],
    fermi_energy: float,
    temperature: float,
    width: float,
    area: float,
) -> NDArray[np.float64]:
    """Compute the joint density of vertical transitions at one k-point.

    J(ω) = (g_s/A) Σ_K Σ_mn W_m(K) W_n(K) (f_m − f_n) δ(E_n − E_m − ħω) over pairs with E_n > E_m.
    In a supercell W_n(K) is the share of a state in each primitive k-point K that folds onto its
    own (``unfolding``), so that J counts transitions that conserve K; without it, folding alone
    would make every transition vertical.

    Args:
        energies: (n_energies,) ħω, eV.
        eigenvalues: (n_states,), eV.
        weights: (n_folded, n_states), between 0 and 1; one row of ones for a primitive cell.
        fermi_energy: eV.
        temperature: of the electrons, K; > 0.
        width: standard deviation of the Gaussian lines, eV.
        area: of the cell, Å².

    Returns:
        (n_energies,), 1/(eV·Å²), both spins.

    Raises:
        PhysicsError: the electronic temperature is not positive.
    """
    occupations = fermi_occupations(eigenvalues, fermi_energy, temperature)
    lower, upper = np.triu_indices(len(eigenvalues), 1)
    gaps = eigenvalues[upper] - eigenvalues[lower]
    shared = weights.T @ weights
    strengths = np.sign(gaps) * (occupations[lower] - occupations[upper]) * shared[lower, upper]
    near = np.abs(gaps) < energies.max() + LINE_REACH * width
    strengths, gaps = strengths[near], np.abs(gaps[near])
    density = np.zeros(len(energies))
    for start in range(0, len(gaps), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        density += strengths[part] @ line_shape(energies - gaps[part, None], width, "gaussian")
    return SPIN_DEGENERACY / area * density


def _transition_factors(
    eigenvalues: NDArray[np.float64], fermi_energy: float, temperature: float
) -> NDArray[np.float64]:
    """Return (f_m − f_n)/(E_n − E_m) ≥ 0 with its limit within a level.

    (n_states, n_states), 1/eV.
    """
    thermal = BOLTZMANN * temperature
    occupations = fermi_occupations(eigenvalues, fermi_energy, temperature)
    gaps = eigenvalues[None, :] - eigenvalues[:, None]
    same = np.abs(gaps) < SAME_LEVEL
    slopes = occupations * (1.0 - occupations) / thermal
    limit = 0.5 * (slopes[:, None] + slopes[None, :])
    return np.where(
        same, limit, (occupations[:, None] - occupations[None, :]) / np.where(same, 1.0, gaps)
    )


def _positive(temperature: float) -> float:
    if temperature <= 0:
        raise PhysicsError(
            message(
                "electronic temperature",
                f"{temperature} K",
                "a number > 0",
                "Use for example 10 K for the limit of 0 K.",
            )
        )
    return temperature
