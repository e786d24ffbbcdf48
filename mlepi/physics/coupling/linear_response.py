"""Second-order energy shifts of bands by phonons, in a non-orthogonal basis.

Fan and Debye–Waller, adiabatic and beyond.

Displacements are u_{κα,P} = (N m_κ)^{-1/2} Σ_{qν} e_{κα,ν}(q) e^{2πi q·P} Q_{qν} with N cells,
mass-scaled orthonormal eigenvectors e, and ⟨|Q_{qν}|²⟩ = σ²_{qν} = (ħ/2ω)(2n + 1). Derivatives
between the Bloch sums at k and at k + q (``mlepi.physics.coupling.cell_response``) give, per mode,
H1 = Σ_κα e_{κα,ν} m_κ^{-1/2} ∂H/∂u_{κα}(k + q, k) and S1 likewise, in eV/(Å √amu) and 1/(Å √amu).

Adiabatic. The basis moves with the atoms, and second-order perturbation theory of H c = E S c
gives, exactly,

    ΔE_n = N^{-1} Σ_{qν} σ² { Σ_m |V_mn|² / (E_n − E_m) − [q = 0] Re Σ_{n'} V_nn' S1_n'n }   Fan,  V
    = H1 − E_n S1,
         + ½ Σ_{ab} ⟨u_a u_b⟩ ⟨n|∂²H/∂u_a∂u_b − E_n ∂²S/∂u_a∂u_b|n⟩
         Debye–Waller,

where m runs over all bands at k + q but those that equal n, and n' over n and the bands at k
degenerate with it, whose mean shift ΔE_n then is. Both terms vanish for rigid translations by
themselves, because blocks ride on the atoms. In a fixed basis the split into Fan and Debye–Waller
terms is another one; their sum is the same.

Beyond adiabatic. The phonon energies in the denominators of the Fan self-energy,

    1/(E_n − E_m) · (2n + 1)  →  (n + 1 − f_m)/(E_n − E_m − ħω) + (n + f_m)/(E_n − E_m + ħω),

change the shift by the difference, taken with the electron-phonon matrix element of the potential
itself,

    g_mn = (ħ/2ω)^{1/2} [H1 − E_n ⟨∂φ|φ⟩ − E_m ⟨φ|∂φ⟩]_mn,

which equals V where E_m = E_n. It follows from H|n⟩ = E_n|n⟩ for the change of the orbitals on
either side, which is exact in a complete basis (Agapito and Bernardi 2018). Denominators 1/x are
the real parts x/(x² + η²).

References:
    Allen and Heine, J. Phys. C 9, 2305 (1976), doi:10.1088/0022-3719/9/12/013. Agapito and
    Bernardi, Phys. Rev. B 97, 235146 (2018), doi:10.1103/PhysRevB.97.235146 (g in atomic orbitals).
    Giustino, Rev. Mod. Phys. 89, 015003 (2017), doi:10.1103/RevModPhys.89.015003, Secs. III and V
    (g, self-energies).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from mlepi.errors import PhysicsError, message
from mlepi.physics.coupling.cell_response import CellResponse
from mlepi.units import BOLTZMANN, HBAR2_PER_AMU, PLANCK

DEGENERATE = 1e-6
"""eV; bands closer than this at one k share their shift."""


@dataclass(frozen=True)
class Perturbation:
    """Derivatives of H and S between the states at k and k + q, per coordinate or per mode.

    Attributes:
        hamiltonian: (n_coordinates, n_final, n_initial), ⟨m k+q|∂H|n k⟩.
        overlap: (n_coordinates, n_final, n_initial), ⟨m k+q|∂S|n k⟩.
        ket_overlap: (n_coordinates, n_final, n_initial), the part of ``overlap`` where the orbital
            on the right moves.
        final_energies: (n_final,), E_m at k + q, eV.
        initial_energies: (n_initial,), E_n at k, eV.
    """

    hamiltonian: NDArray[np.complex128]
    overlap: NDArray[np.complex128]
    ket_overlap: NDArray[np.complex128]
    final_energies: NDArray[np.float64]
    initial_energies: NDArray[np.float64]

    def adiabatic(self) -> NDArray[np.complex128]:
        """Return V = ∂H − E_n ∂S: (n_coordinates, n_final, n_initial)."""
        return self.hamiltonian - self.initial_energies * self.overlap

    def coupling(self) -> NDArray[np.complex128]:
        """Return ∂H − E_n ⟨∂φ|φ⟩ − E_m ⟨φ|∂φ⟩, the matrix element of the change of the potential.

        As ``adiabatic``.
        """
        return (
            self.adiabatic()
            + (self.initial_energies - self.final_energies[:, None]) * self.ket_overlap
        )

    def along(self, vectors: NDArray[np.complex128], masses: NDArray[np.float64]) -> Perturbation:
        """Return the derivatives along modes.

        Args:
            vectors: (3 n_atoms, n_modes), mass-scaled eigenvectors at q, columns.
            masses: (n_atoms,), amu.

        Returns:
            The same per mode: eV/(Å √amu) and 1/(Å √amu).
        """
        scaled = (vectors / np.sqrt(np.repeat(masses, 3))[:, None]).T
        hamiltonian, overlap, ket_overlap = (
            np.tensordot(scaled, part, axes=1)
            for part in (self.hamiltonian, self.overlap, self.ket_overlap)
        )
        return Perturbation(
            hamiltonian, overlap, ket_overlap, self.final_energies, self.initial_energies
        )


@dataclass(frozen=True)
class BlockResponses:
    """Responses of H, of S, and of S where only the orbital on the right moves."""

    hamiltonian: CellResponse
    overlap: CellResponse
    ket_overlap: CellResponse


def perturb(
    responses: BlockResponses,
    qpoint: ArrayLike,
    kpoints: NDArray[np.float64],
    initial: tuple[NDArray[np.float64], NDArray[np.complex128]],
    final: tuple[NDArray[np.float64], NDArray[np.complex128]],
) -> list[Perturbation]:
    """Return the derivatives between states at k and k + q, per coordinate of the atoms.

    Args:
        responses: of H and S.
        qpoint: (3,) fractional.
        kpoints: (n_k, 3) fractional.
        initial: energies (n_k, n_initial), eV, and states (n_k, n_orbitals, n_initial) at k, c†Sc =
            1.
        final: energies (n_k, n_final), eV, and states (n_k, n_orbitals, n_final) at k + q.

    Returns:
        One perturbation per k-point, eV/Å and 1/Å.
    """
    parts = []
    for response in (responses.hamiltonian, responses.overlap, responses.ket_overlap):
        matrices = response.couple(response.wave(qpoint), kpoints)
        bra = final[1].conj().swapaxes(1, 2)[:, None]
        parts.append(bra @ matrices @ initial[1][:, None])
    return [
        Perturbation(*found, *energies)
        for *found, energies in zip(*parts, zip(final[0], initial[0], strict=True), strict=True)
    ]


def adiabatic_fan(
    perturbation: Perturbation, variances: NDArray[np.float64], broadening: float
) -> NDArray[np.float64]:
    """Return Σ_ν σ² Σ_m |V_mn|² / (E_n − E_m) of one q, not divided by the number of wave vectors.

    Args:
        perturbation: per mode.
        variances: (n_temperatures, n_modes), σ², amu·Å².
        broadening: η, eV; with 0, states m as good as degenerate with n are left out.

    Returns:
        (n_temperatures, n_initial), eV.
    """
    gaps = perturbation.initial_energies - perturbation.final_energies[:, None]
    terms = np.sum(
        np.abs(perturbation.adiabatic()) ** 2 * _principal_value(gaps, broadening), axis=1
    )
    return np.asarray(variances @ terms)


def moving_norm(perturbation: Perturbation, variances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return −Σ_ν σ² Re Σ_n' V_nn' S1_n'n of the modes at q = 0, n' being n or degenerate with it.

    Args:
        perturbation: per mode, at q = 0, with the same states on both sides or more of them on the
            left.
        variances: (n_temperatures, n_modes), σ², amu·Å².

    Returns:
        (n_temperatures, n_initial), eV, not yet divided by the number of wave vectors.
    """
    gaps = perturbation.initial_energies - perturbation.final_energies[:, None]
    same = np.abs(gaps) < DEGENERATE
    terms = -np.sum((perturbation.adiabatic().conj() * perturbation.overlap).real * same, axis=1)
    return np.asarray(variances @ terms)


def nonadiabatic_fan(
    perturbation: Perturbation,
    variances: NDArray[np.float64],
    frequencies: NDArray[np.float64],
    temperatures: NDArray[np.float64],
    chemical_potential: float,
    broadening: float,
) -> NDArray[np.float64]:
    """Return what the phonon energies in the denominators add to the Fan term of one q.

    Args:
        perturbation: per mode.
        variances: (n_temperatures, n_modes), σ², amu·Å²; also decides the occupation, 2n + 1 = 2ω
            σ²/ħ.
        frequencies: (n_modes,), THz; modes with infinite frequency are at rest.
        temperatures: (n_temperatures,), K, of the electrons.
        chemical_potential: eV.
        broadening: η, eV.

    Returns:
        (n_temperatures, n_initial), eV, not yet divided by the number of wave vectors.
    """
    moving = np.flatnonzero(np.isfinite(frequencies))
    quanta = PLANCK * frequencies[moving][:, None, None]
    squares = np.abs(perturbation.coupling()[moving]) ** 2 * (HBAR2_PER_AMU / (2.0 * quanta))
    gaps = perturbation.initial_energies - perturbation.final_energies[:, None]
    lower, upper = (
        _principal_value(gaps - quanta, broadening),
        _principal_value(gaps + quanta, broadening),
    )
    static = _principal_value(gaps, broadening)
    result = np.empty((len(temperatures), len(perturbation.initial_energies)))
    for row, temperature in enumerate(temperatures):
        doubled = 2.0 * quanta * variances[row, moving][:, None, None] / HBAR2_PER_AMU  # 2n + 1
        filled = occupation(perturbation.final_energies - chemical_potential, temperature)[:, None]
        change = (
            (0.5 * (doubled + 1.0) - filled) * lower
            + (0.5 * (doubled - 1.0) + filled) * upper
            - doubled * static
        )
        result[row] = np.sum(squares * change, axis=(0, 1))
    return result


def occupation(energies: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Return the Fermi–Dirac occupations, in the shape of the energies.

    Args:
        energies: eV, relative to the chemical potential.
        temperature: K, ≥ 0.
    """
    if temperature == 0.0:
        return 0.5 * (1.0 - np.sign(energies))
    return np.asarray(expit(-energies / (BOLTZMANN * temperature)))


def debye_waller(
    hamiltonian: NDArray[np.complex128],
    overlap: NDArray[np.complex128],
    energies: NDArray[np.float64],
    states: NDArray[np.complex128],
) -> NDArray[np.float64]:
    """Return ⟨n|δ²H − E_n δ²S|n⟩.

    Args:
        hamiltonian: (n_orbitals, n_orbitals), half the second derivative of H contracted with the
            covariance, at k, eV.
        overlap: the same of S.
        energies: (n_bands,), eV.
        states: (n_orbitals, n_bands), c†Sc = 1.

    Returns:
        (n_bands,), eV.
    """
    diagonals = [
        np.einsum("in,ij,jn->n", states.conj(), matrix, states).real
        for matrix in (hamiltonian, overlap)
    ]
    return np.asarray(diagonals[0] - energies * diagonals[1])


def share_degenerate(
    shifts: NDArray[np.float64], energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Average shifts (…, n_bands) over bands that are degenerate, energies (n_bands,) in eV."""
    same = np.abs(energies[:, None] - energies) < DEGENERATE
    return np.asarray(shifts @ (same / same.sum(axis=0)))


def mean_square_coupling(
    perturbation: Perturbation, frequencies: NDArray[np.float64], n_bands: int
) -> NDArray[np.float64]:
    """Return ⟨g²⟩ = Σ_mn |g_mn|² / n_bands² of every mode between two sets of bands.

    Args:
        perturbation: per mode, with ``n_bands`` states on both sides.
        frequencies: (n_modes,), THz, positive.
        n_bands: of one layer; with several weakly coupled layers there are more states, and the sum
            over all of them, over the number of a single layer squared, does not depend on the
            number of layers.

    Returns:
        (n_modes,), eV².

    Raises:
        PhysicsError: a frequency is not positive.
    """
    if np.any(~(frequencies > 0)):
        raise PhysicsError(
            message(
                "⟨g²⟩",
                f"a mode of {np.min(frequencies):.3f} THz",
                "positive frequencies",
                "Leave out translations.",
            )
        )
    squares = np.sum(np.abs(perturbation.coupling()) ** 2, axis=(1, 2)) / n_bands**2
    return np.asarray(squares * HBAR2_PER_AMU / (2.0 * PLANCK * frequencies))


def _principal_value(gaps: NDArray[np.float64], broadening: float) -> NDArray[np.float64]:
    """Return x/(x² + η²), and 0 where η = 0 and |x| is that of degenerate states."""
    if broadening == 0.0:
        near = np.abs(gaps) < DEGENERATE
        return np.where(near, 0.0, 1.0 / np.where(near, 1.0, gaps))
    return np.asarray(gaps / (gaps**2 + broadening**2))
