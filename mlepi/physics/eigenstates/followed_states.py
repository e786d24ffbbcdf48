"""States near an energy at one k-point from those at neighbouring k-points.

Few solves, most of the work in single precision.

Neighbouring states span nearly the right space in the gauge that follows the positions of the
orbitals. One factorisation H − σS = L D L† in *single* precision counts the states below σ
(Sylvester's law) and expands that space by (H − σS)⁻¹S as block Lanczos does; Rayleigh–Ritz and
residuals are in *double* precision, so rounding of the factors costs convergence and no accuracy.
With the residual r of a Ritz pair (θ, c), c†Sc = 1, b = |θ − σ| ‖(H − σS)⁻¹ r‖_S bounds the
distance from θ to an eigenvalue, and since the states kept are orthogonal to the rest of the
spectrum but for their residuals, b²/δ bounds its error when the rest is further away than δ
(Parlett, The Symmetric Eigenvalue Problem, ch. 11, doi:10.1137/1.9781611971163).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from mlepi.physics.eigenstates.block_lanczos import Operator, overlap_norms, project_out
from mlepi.physics.eigenstates.shift_invert import count_negative

GUARD = 0.3
"""eV; states this far beyond the window are followed as well, so that δ of those inside is at least
this."""

MAX_ROUNDS = 5
"""Solves with one factorisation before the neighbours are given up as a start."""

CLEARANCE = 2e-3
"""eV; single precision counts the states below a shift safely when no level is nearer than this."""

RANK_TOLERANCE = 1e-7
"""Directions of a block with a smaller squared S norm, relative to its columns, are dropped as
noise of single precision."""


@dataclass(frozen=True)
class FollowedStates:
    """States of one k-point around the centre of a window.

    Attributes:
        values: (n_states,) eV, ascending.
        vectors: (n_orbitals, n_states), c†Sc = 1.
        mapped: (n_orbitals, n_states), S times the vectors.
        shift: σ, eV.
        n_below: number of all states of the matrix below σ; negative where nobody has counted.
    """

    values: NDArray[np.float64]
    vectors: NDArray[Any]
    mapped: NDArray[Any]
    shift: float
    n_below: int


def turn_states(
    vectors: NDArray[Any], sites: NDArray[np.float64], step: ArrayLike
) -> NDArray[np.complex128]:
    """Carry states from one k-point to a neighbouring one.

    Keep their periodic part in the gauge of the orbitals' positions τ: the lattice gauge, whose
    phases e^{2πi k·R} know cells only, has c = e^{2πi k·τ} a.

    Args:
        vectors: (n_orbitals, n_states), lattice gauge.
        sites: (n_orbitals, 3), fractional positions of the orbitals' atoms, those that cell shifts
            refer to.
        step: (3,) fractional, from the k-point of the states to the new one.
    """
    phases = np.exp(2j * np.pi * (sites @ np.asarray(step, dtype=np.float64)))
    turned: NDArray[np.complex128] = phases[:, None] * vectors
    return turned


def single_precision(matrix: NDArray[Any]) -> NDArray[Any]:
    """Round a matrix to float32 or complex64, whichever fits."""
    return matrix.astype(np.complex64 if np.iscomplexobj(matrix) else np.float32)


def choose_shift(levels: NDArray[np.float64], energy: float, reach: float) -> float:
    """Return the middle of the widest gap between levels near an energy, eV.

    Args:
        levels: (n_levels,) eV, expected.
        energy: eV.
        reach: eV, how far from ``energy`` the gap may end.
    """
    near = np.sort(levels[np.abs(levels - energy) <= reach])
    ends = np.concatenate([[energy - reach], near, [energy + reach]])
    widest = int(np.argmax(np.diff(ends)))
    return float(0.5 * (ends[widest] + ends[widest + 1]))


def follow_states(
    pair: tuple[NDArray[Any], NDArray[Any]],
    energy: float,
    window: float,
    start: NDArray[Any],
    shift: float,
    factors: tuple[Operator, int] | None = None,
    *,
    tolerance: float = 5e-5,
) -> FollowedStates | None:
    """Find the states with |E − energy| ≤ window + GUARD that neighbouring k-points suggest.

    Args:
        pair: H, eV, and S, (n, n), Hermitian, row-major.
        energy: centre of the window, eV.
        window: half width inside which levels are accurate, eV.
        start: (n, m) vectors near the wanted states; more than one neighbour makes it converge at
            once.
        shift: σ, eV, in a gap near the centre.
        factors: of H − σS, by ``factorise``, where they are there already.
        tolerance: largest error of a level inside the window, eV.

    Returns:
        The states, or None where the start does not lead to them: solve without a start then. A
        state that no vector of the start resembles can be missed; count with ``count_states_below``
        where completeness matters.
    """
    hamiltonian_k, overlap_k = pair
    factors = factors or factorise(hamiltonian_k, overlap_k, shift)
    if factors is None:
        return None
    solve, n_below = factors
    block, mapped = orthonormalise(start, overlap_k @ start)
    basis, dual, images = block, mapped, block[:, :0]
    for _ in range(MAX_ROUNDS):
        image = solve(mapped)
        images = np.concatenate([images, image], axis=1)
        projected = dual.conj().T @ images
        ritz, weights = np.linalg.eigh(0.5 * (projected + projected.conj().T))
        wanted = np.abs(shift + 1.0 / np.where(ritz == 0.0, 1e-30, ritz) - energy) <= window + GUARD
        if not np.any(wanted):
            return None
        states = _rayleigh_ritz(hamiltonian_k, overlap_k, images @ weights[:, wanted])
        values, vectors, residuals, vectors_mapped = states
        error = solve(residuals)
        bounds = np.abs(values - shift) * overlap_norms(error, overlap_k @ error)
        inside = np.abs(values - energy) <= window
        if np.all(bounds[inside] <= np.sqrt(tolerance * GUARD)):
            clear = np.min(np.abs(values - shift)) >= CLEARANCE
            return (
                FollowedStates(values, vectors, vectors_mapped, shift, n_below) if clear else None
            )
        image_mapped = overlap_k @ image
        scale = overlap_norms(image, image_mapped)
        block, mapped = project_out(image / scale, image_mapped / scale, [basis], [dual])
        block, mapped = orthonormalise(block, mapped, relative=False)
        block, mapped = orthonormalise(*project_out(block, mapped, [basis], [dual]))
        if block.shape[1] == 0:
            return None
        basis, dual = np.concatenate([basis, block], axis=1), np.concatenate([dual, mapped], axis=1)
    return None


def factorise(
    hamiltonian_k: NDArray[Any], overlap_k: NDArray[Any], shift: float
) -> tuple[Operator, int] | None:
    """Factorise H − σS in single precision.

    Args:
        hamiltonian_k: (n, n) Hermitian, row-major, eV.
        overlap_k: (n, n) Hermitian, row-major.
        shift: σ, eV.

    Returns:
        The function x ↦ (H − σS)⁻¹ x of (n, m) columns, and the number of states below σ; None when
        the factors break down.
    """
    precision = np.dtype(np.complex64 if np.iscomplexobj(hamiltonian_k) else np.float32)
    matrix = np.empty(hamiltonian_k.shape, dtype=precision)
    np.multiply(overlap_k, -shift, out=matrix, casting="same_kind")
    np.add(matrix, hamiltonian_k, out=matrix, casting="same_kind")
    matrix = (
        matrix.T
    )  # column-major without a copy: the conjugate, whose solutions are the conjugates
    kind = "he" if np.iscomplexobj(matrix) else "sy"
    names = (f"{kind}trf", f"{kind}trf_lwork", f"{kind}trs")
    decompose, size, substitute = scipy.linalg.get_lapack_funcs(names, (matrix,))
    factors, pivots, status = decompose(
        matrix, lwork=int(np.real(size(len(matrix), lower=1)[0])), lower=1, overwrite_a=1
    )
    if status != 0:
        return None

    def solve(right: NDArray[Any]) -> NDArray[Any]:
        if np.iscomplexobj(right) and kind == "sy":  # states of a complex k-point, folded onto Γ
            parts: NDArray[Any] = solve(right.real) + 1j * solve(right.imag)
            return parts
        column_major = np.asfortranarray(right.conj().astype(precision))
        solution: NDArray[Any] = substitute(factors, pivots, column_major, lower=1, overwrite_b=1)[
            0
        ]
        return solution.conj().astype(right.dtype)

    return solve, count_negative(factors, pivots)


def _rayleigh_ritz(
    hamiltonian_k: NDArray[Any], overlap_k: NDArray[Any], vectors: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Diagonalise H in the space of some vectors.

    Values, S-normalised vectors, residuals H c − θ S c, and S c.
    """
    vectors, mapped = orthonormalise(vectors, overlap_k @ vectors)
    images = hamiltonian_k @ vectors
    projected = vectors.conj().T @ images
    values, change = np.linalg.eigh(0.5 * (projected + projected.conj().T))
    mapped = mapped @ change
    return values, vectors @ change, images @ change - values * mapped, mapped


def orthonormalise(
    block: NDArray[Any], mapped: NDArray[Any], relative: bool = True
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make the columns S-orthonormal, dropping dependent ones.

    Against their own norm, or against one.
    """
    scale = overlap_norms(block, mapped) if relative else np.ones(block.shape[1])
    gram = block.conj().T @ mapped / (scale[:, None] * scale)
    squares, columns = np.linalg.eigh(0.5 * (gram + gram.conj().T))
    keep = squares > RANK_TOLERANCE
    change = columns[:, keep] / np.sqrt(squares[keep]) / scale[:, None]
    return block @ change, mapped @ change
