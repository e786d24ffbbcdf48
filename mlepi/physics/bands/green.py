"""Green's functions of single Bloch states in supercells, self-energies and quasiparticles.

For one sample and Löwdin-orthonormalised Bloch states B̃ (columns, B̃†SB̃ = 1;
``mlepi.physics.bands.unfolding``)

    G(z) = B̃†S (zS − H)⁻¹ SB̃ = Σ_n d_n d_n† / (z − E_n),   d_n = B̃†S c_n.

The average over samples, Ḡ, defines the self-energy Σ(z) = z − H⁰ − Ḡ(z)⁻¹, with H⁰ that of the
undisplaced crystal. Poles of Ḡ are poles of each of its diagonal elements, so that a single band
has Σ_b = z − ε_b − 1/Ḡ_bb; with the full matrix, the noise of a finite average in all other
orbitals enters through the inverse. Energies are taken at ω + iη: η smooths the discrete states of
a finite cell. A quasiparticle sits at ω − ε − Re Σ(ω) = 0; its weight is Z = 1/(1 − ∂Re Σ/∂ω), its
full width −2 Z Im Σ.

``project_resolvent`` finds G of a few columns without diagonalising: block Lanczos with (H − σS)⁻¹S
from the columns themselves, then Rayleigh–Ritz. Since the columns X and S⁻¹HX are in the space, the
moments ⟨1⟩, ⟨H⟩, ⟨H²⟩ and ⟨H³⟩ of its Ritz levels are exact, and each further block adds exact
inverse moments about σ.

References:
    Mahan, Many-Particle Physics, 3rd ed. (2000), ch. 3 (self-energy, quasiparticles). Gallivan,
    Grimme and Van Dooren, Numer. Algorithms 12, 33 (1996), doi:10.1007/BF02141740 (rational Krylov,
    moments).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.block_lanczos import overlap_norms
from mlepi.physics.eigenstates.followed_states import factorise, orthonormalise, single_precision

MAX_BLOCKS = 96
"""Solves with one factorisation before the matrix is diagonalised instead; a 12×12 cell of a
bilayer takes up to 50."""

DENSE_ORBITALS = 128
"""Smaller matrices are diagonalised at once."""


@dataclass(frozen=True)
class ProjectedLevels:
    """Levels that represent G(z) of a few columns.

    Attributes:
        levels: (n_levels,) eV, eigenvalues or Ritz values, ascending.
        components: (n_columns, n_levels), d_n.
    """

    levels: NDArray[np.float64]
    components: NDArray[Any]


def project_resolvent(
    hamiltonian_k: NDArray[Any],
    overlap_k: NDArray[Any],
    columns: NDArray[Any],
    energies: NDArray[np.float64],
    broadening: float,
    *,
    tolerance: float = 1e-5,
) -> ProjectedLevels:
    """Find few levels whose G_bb(ω + iη) is that of all eigenstates.

    Args:
        hamiltonian_k: (n, n) Hermitian, eV.
        overlap_k: (n, n) Hermitian positive definite.
        columns: (n, m), the states b in the orbital basis, S-normalised.
        energies: (n_energies,) eV, ω at which G is wanted.
        broadening: η, eV.
        tolerance: eV, largest change of any 1/G_bb (an energy, as Σ is) by the last block at which
            the search ends.

    Returns:
        Ritz levels; those of a complete diagonalisation where the matrix is small or the search
        does not end.

    Raises:
        PhysicsError: the overlap is not positive definite.
    """
    dense = len(hamiltonian_k) < max(DENSE_ORBITALS, 4 * columns.shape[1])
    factors = None if dense else factorise(hamiltonian_k, overlap_k, float(np.mean(energies)))
    if factors is not None:
        found = _expand(
            hamiltonian_k, overlap_k, columns, factors[0], energies + 1j * broadening, tolerance
        )
        if found is not None:
            return found
    values, vectors = solve_bands(hamiltonian_k, overlap_k, vectors=True)
    return ProjectedLevels(values, columns.conj().T @ (overlap_k @ vectors))


def diagonal_green_function(
    levels: NDArray[np.float64], weights: NDArray[np.float64], z: NDArray[Any]
) -> NDArray[np.complex128]:
    """Return G_bb(z) = Σ_n W_bn / (z − E_n).

    Args:
        levels: (…, n_levels) eV.
        weights: (…, n_bands, n_levels), |d_bn|².
        z: (n_energies,) complex, eV.

    Returns:
        (…, n_bands, n_energies), 1/eV.
    """
    green: NDArray[np.complex128] = weights @ (
        1.0 / np.asarray(z - levels[..., None], dtype=np.complex128)
    )
    return green


def self_energy(
    green: NDArray[Any], bare: NDArray[np.float64], z: NDArray[Any]
) -> NDArray[np.complex128]:
    """Return Σ_b(z) = z − ε_b − 1/Ḡ_bb(z) of averaged Green's functions.

    Args:
        green: (…, n_energies), Ḡ_bb, 1/eV.
        bare: (…) ε_b, eV.
        z: (n_energies,) complex, eV.

    Returns:
        (…, n_energies), eV.
    """
    return np.asarray(z - bare[..., None] - 1.0 / green, dtype=np.complex128)


def moments(levels: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Σ_n W_bn E_n and Σ_n W_bn E_n², of A_b at one k-point: (2, n_bands), eV and eV².

    Arguments as above.
    """
    first_two: NDArray[np.float64] = np.stack([weights @ levels, weights @ levels**2])
    return first_two


def quasiparticles(
    energies: NDArray[np.float64], green: NDArray[Any], bare: NDArray[np.float64], broadening: float
) -> Any:
    """Find the quasiparticle of every band.

    The zero of ω − ε − Re Σ(ω) with the largest spectral function.

    Args:
        energies: (n_energies,) even grid of ω, eV, that contains the peak.
        green: (…, n_energies), Ḡ_bb(ω + iη), 1/eV.
        bare: (…) ε, eV.
        broadening: η, eV.

    Returns:
        Three arrays (…): energies, eV; weights Z; full widths −2 Z Im Σ, eV.

    Raises:
        PhysicsError: a band has no quasiparticle on the grid.
    """
    inverse = 1.0 / green  # ω + iη − ε − Σ
    distance = inverse.real
    rising = (distance[..., :-1] < 0) & (distance[..., 1:] >= 0)
    if not np.all(np.any(rising, axis=-1)):
        raise PhysicsError(
            message(
                "quasiparticle",
                f"no zero of ω − ε − Re Σ between {energies[0]:.2f} and {energies[-1]:.2f} eV",
                "one inside",
                "Widen the energy window of the self_energy stage.",
            )
        )
    height = np.where(rising, -green[..., :-1].imag - green[..., 1:].imag, -np.inf)
    left = np.argmax(height, axis=-1)[..., None]
    step = float(energies[1] - energies[0])
    before, after = (np.take_along_axis(distance, left + side, axis=-1)[..., 0] for side in (0, 1))
    share = before / (before - after)
    found = energies[left[..., 0]] + share * step
    weight = step / (after - before)
    damping = [np.take_along_axis(inverse.imag, left + side, axis=-1)[..., 0] for side in (0, 1)]
    width = 2.0 * weight * (damping[0] + share * (damping[1] - damping[0]) - broadening)
    return found, weight, width


def _expand(
    hamiltonian: NDArray[Any],
    overlap: NDArray[Any],
    columns: NDArray[Any],
    solve: Callable[[NDArray[Any]], NDArray[Any]],
    z: NDArray[Any],
    tolerance: float,
) -> ProjectedLevels | None:
    """Expand the space of the columns until 1/G settles; None when it does not."""
    real = not (np.iscomplexobj(hamiltonian) or np.iscomplexobj(overlap))
    first = (
        np.concatenate([columns.real, columns.imag], axis=1)
        if real
        else columns.astype(np.complex128)
    )
    start = np.concatenate([first, _solve_overlap(overlap, hamiltonian @ first)], axis=1)
    basis, dual = orthonormalise(*_drop_zeros(start, overlap @ start))
    block, mapped = orthonormalise(*_drop_zeros(first, overlap @ first))
    images = hamiltonian @ basis
    wanted = columns.conj().T @ overlap
    known = None
    for _ in range(MAX_BLOCKS):
        block = solve(mapped)
        block, mapped = orthonormalise(block, overlap @ block)
        for _ in range(
            2
        ):  # single precision leaves too much of the space in the new block for one pass
            inside = dual.conj().T @ block
            block, mapped = orthonormalise(
                block - basis @ inside, mapped - dual @ inside, relative=False
            )
        if block.shape[1]:
            basis, dual = (
                np.concatenate([basis, block], axis=1),
                np.concatenate([dual, mapped], axis=1),
            )
            images = np.concatenate([images, hamiltonian @ block], axis=1)
        projected = basis.conj().T @ images
        levels, change = np.linalg.eigh(0.5 * (projected + projected.conj().T))
        components = (wanted @ basis) @ change
        inverse = 1.0 / diagonal_green_function(levels, np.abs(components) ** 2, z)
        settled = known is not None and float(np.max(np.abs(inverse - known))) < tolerance
        if settled or block.shape[1] == 0:
            return ProjectedLevels(levels, components)
        known = inverse
    return None


def _drop_zeros(block: NDArray[Any], mapped: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Leave out the columns that vanish, such as the imaginary part of a real state."""
    kept = overlap_norms(block, mapped) > 1e-8
    return block[:, kept], mapped[:, kept]


def _solve_overlap(overlap: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return S⁻¹ times some columns.

    By a factorisation in single precision and one step of refinement in double.
    """
    try:
        factors = scipy.linalg.cho_factor(single_precision(overlap), lower=True, check_finite=False)
    except np.linalg.LinAlgError:  # too nearly singular for single precision
        return np.asarray(scipy.linalg.solve(overlap, right, assume_a="pos"))

    def solve(columns: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(
            scipy.linalg.cho_solve(factors, single_precision(columns), check_finite=False)
        ).astype(right.dtype)

    solution = solve(right)
    return solution + solve(right - overlap @ solution)
