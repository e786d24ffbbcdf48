"""The few eigenstates nearest to an energy of a dense pencil.

One factorisation, then block Lanczos; and counting states.

``mlepi.physics.eigenstates.sparse`` does the same for matrices that are too large to be dense.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.block_lanczos import (
    CLOSEST,
    MAX_BLOCKS,
    Operator,
    WithinWindow,
    block_lanczos,
)

BLOCK_WIDTH = 24
"""Vectors per block; must exceed the largest degeneracy, and should match the number of states
wanted."""

WIDENINGS = (1, 3)
"""Factors on ``BLOCK_WIDTH``, tried one after the other: as many blocks of more vectors reach more
states."""


def solve_states_within(
    hamiltonian_k: NDArray[Any],
    overlap_k: NDArray[Any],
    energy: float,
    window: float,
    *,
    start: NDArray[Any] | None = None,
    tolerance: float = 5e-5,
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Find all states with |E − energy| ≤ window at one k-point.

    Args:
        hamiltonian_k: (n, n) Hermitian, eV; a vanishing imaginary part is dropped.
        overlap_k: (n, n) Hermitian positive definite.
        energy: centre of the window and shift σ, eV; moved by 1e-5 eV when it hits an eigenvalue.
        window: half width, eV.
        start: (n, m) vectors to start from, for example the eigenvectors at a neighbouring k;
            random ones are added.
        tolerance: largest error of an eigenvalue, eV.

    Returns:
        Eigenvalues (n_states,), eV, ascending, and eigenvectors (n, n_states) with c†Sc = 1.
        Matrices of fewer than eight blocks are diagonalised densely. ``count_states_below`` at both
        ends of the window proves completeness.

    Raises:
        PhysicsError: no convergence, because the window holds too many states for this method.
    """
    n = hamiltonian_k.shape[0]
    if not (np.any(np.imag(hamiltonian_k)) or np.any(np.imag(overlap_k))):
        hamiltonian_k, overlap_k = np.real(hamiltonian_k), np.real(overlap_k)
    if n < 8 * BLOCK_WIDTH:
        values, vectors = solve_bands(hamiltonian_k, overlap_k, vectors=True)
        inside = np.abs(values - energy) <= window
        return values[inside], vectors[:, inside]
    for shift in (energy, energy + 100.0 * CLOSEST, energy + 333.0 * CLOSEST):
        solve = _factorise(hamiltonian_k, overlap_k, shift)
        if solve is None:
            continue
        for width in (
            factor * BLOCK_WIDTH for factor in WIDENINGS if 8 * factor * BLOCK_WIDTH <= n
        ):
            first = _start_block(start, n, overlap_k.dtype, width)
            ritz = block_lanczos(
                solve,
                lambda block: overlap_k @ block,
                first,
                WithinWindow(window, tolerance),
                tolerance,
            )
            if ritz is not None:
                values = shift + 1.0 / ritz[0]
                order = np.argsort(values)
                order = order[np.abs(values[order] - energy) <= window]
                return values[order], ritz[1][:, order]
    raise PhysicsError(
        message(
            "shift-invert solver",
            f"no convergence to {tolerance} eV within ±{window} eV of {energy:.3f} eV in "
            f"{MAX_BLOCKS} blocks",
            "a window with a few hundreds of states at most",
            "Narrow the window, or diagonalise densely.",
        )
    )


def count_states_below(hamiltonian_k: NDArray[Any], overlap_k: NDArray[Any], energy: float) -> int:
    """Count the eigenvalues below an energy.

    The negative inertia of H − ES (Sylvester's law), by one LDL† factorisation.

    Args:
        hamiltonian_k: (n, n) Hermitian, eV.
        overlap_k: (n, n) Hermitian positive definite.
        energy: eV.

    Returns:
        Number of states with eigenvalues < energy.
    """
    matrix = hamiltonian_k - energy * overlap_k
    if not np.any(np.imag(matrix)):
        matrix = np.ascontiguousarray(np.real(matrix))
    matrix = matrix.T  # column-major without a copy; the complex conjugate has the same inertia
    name = "hetrf" if np.iscomplexobj(matrix) else "sytrf"
    factorise, size = scipy.linalg.get_lapack_funcs((name, name + "_lwork"), (matrix,))
    factors, pivots, _ = factorise(
        matrix, lwork=int(np.real(size(len(matrix), lower=1)[0])), lower=1, overwrite_a=1
    )
    return count_negative(factors, pivots)


def count_negative(factors: NDArray[Any], pivots: NDArray[np.integer]) -> int:
    """Count the negative eigenvalues of D in LAPACK's factorisation L D L†.

    Args:
        factors: (n, n), as ``sytrf`` and ``hetrf`` return it for the lower triangle.
        pivots: (n,) int.
    """
    diagonal = np.real(np.diagonal(factors))
    pairs = np.flatnonzero(pivots < 0)[
        ::2
    ]  # LAPACK marks both rows of a 2×2 pivot, which holds one state of each sign
    single = pivots > 0
    trace = diagonal[pairs] + diagonal[pairs + 1]
    determinant = (
        diagonal[pairs] * diagonal[pairs + 1] - np.abs(np.diagonal(factors, -1)[pairs]) ** 2
    )
    in_pairs = np.where(determinant < 0, 1, np.where(trace < 0, 2, 0))
    return int(np.count_nonzero(diagonal[single] < 0) + in_pairs.sum())


def _start_block(
    start: NDArray[Any] | None, n: int, dtype: np.dtype[Any], width: int
) -> NDArray[Any]:
    """Return (n, width) vectors, a third random at least: no state is orthogonal to all."""
    block = np.random.default_rng(0).normal(size=(n, width)).astype(dtype)
    if start is not None:
        taken = start[:, : 2 * width // 3]
        block[:, : taken.shape[1]] = taken if np.iscomplexobj(block) else np.real(taken)
    return block


def _factorise(hamiltonian: NDArray[Any], overlap: NDArray[Any], shift: float) -> Operator | None:
    """Return x ↦ (H − σS)⁻¹ x from an LU factorisation, None when H − σS is exactly singular."""
    matrix = np.ascontiguousarray(
        hamiltonian - shift * overlap
    ).T  # column-major without a copy; solved with trans=1
    getrf, getrs = scipy.linalg.get_lapack_funcs(("getrf", "getrs"), (matrix,))
    factors, pivots, status = getrf(matrix, overwrite_a=True)
    if status != 0:
        return None
    return lambda right: getrs(factors, pivots, right, trans=1)[0]
