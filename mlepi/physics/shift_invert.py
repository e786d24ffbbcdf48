"""The few eigenstates nearest to an energy: one dense factorisation, then block Lanczos on the shift-inverted operator.

With A = (H − σS)⁻¹ S, which is self-adjoint in the S inner product, the states nearest to σ have the largest |μ| of
A c = μ c, E = σ + 1/μ. The residual ‖A c − μ c‖_S bounds the error of μ rigorously, hence (E − σ)² times it bounds that of
E; iteration stops when this bound is below the tolerance. References: Ericsson and Ruhe, Math. Comput. 35, 1251 (1980),
doi:10.1090/S0025-5718-1980-0583502-2 (shift-invert); Grimes, Lewis and Simon, SIAM J. Matrix Anal. Appl. 15, 228 (1994),
doi:10.1137/S0895479888151111 (blocks).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.bloch import solve_bands

BLOCK_WIDTH = 24
"""Vectors per block; must exceed the largest degeneracy, and should match the number of states wanted."""

MAX_BLOCKS = 16
"""Solves with one factorisation before the search is given up."""

CLOSEST = 1e-7
"""eV; a shift closer to an eigenvalue than this is moved by a hundred times as much, for the sake of rounding."""

RANK_TOLERANCE = 1e-13
"""Directions of a new block whose squared norm relative to A times the last block is smaller are dropped as noise."""


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
        start: (n, m) vectors to start from, for example the eigenvectors at a neighbouring k; random ones are added.
        tolerance: largest error of an eigenvalue, eV.

    Returns:
        Eigenvalues (n_states,), eV, ascending, and eigenvectors (n, n_states) with c†Sc = 1. Matrices of fewer than
        eight blocks are diagonalised densely. ``count_states_below`` at both ends of the window proves completeness.

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
    first = _start_block(start, n, overlap_k.dtype)
    for shift in (energy, energy + 100.0 * CLOSEST, energy + 333.0 * CLOSEST):
        solve = _factorise(hamiltonian_k, overlap_k, shift)
        ritz = None if solve is None else _block_lanczos(solve, overlap_k, first, window, tolerance)
        if ritz is not None:
            values = shift + 1.0 / ritz[0]
            order = np.argsort(values)
            order = order[np.abs(values[order] - energy) <= window]
            return values[order], ritz[1][:, order]
    raise PhysicsError(
        message(
            "shift-invert solver",
            f"no convergence to {tolerance} eV within ±{window} eV of {energy:.3f} eV in {MAX_BLOCKS} blocks of {BLOCK_WIDTH}",
            "a window with a few tens of states",
            "Narrow the window, or diagonalise densely.",
        )
    )


def count_states_below(hamiltonian_k: NDArray[Any], overlap_k: NDArray[Any], energy: float) -> int:
    """Count the eigenvalues below an energy: the negative inertia of H − ES (Sylvester's law), by one LDL† factorisation.

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
    factors, pivots, _ = factorise(matrix, lwork=int(np.real(size(len(matrix), lower=1)[0])), lower=1, overwrite_a=1)
    return count_negative(factors, pivots)


def count_negative(factors: NDArray[Any], pivots: NDArray[np.integer]) -> int:
    """Count the negative eigenvalues of D in LAPACK's factorisation L D L†.

    Args:
        factors: (n, n), as ``sytrf`` and ``hetrf`` return it for the lower triangle.
        pivots: (n,) int.
    """
    diagonal = np.real(np.diagonal(factors))
    pairs = np.flatnonzero(pivots < 0)[::2]  # LAPACK marks both rows of a 2×2 pivot, which holds one state of each sign
    single = pivots > 0
    trace = diagonal[pairs] + diagonal[pairs + 1]
    determinant = diagonal[pairs] * diagonal[pairs + 1] - np.abs(np.diagonal(factors, -1)[pairs]) ** 2
    in_pairs = np.where(determinant < 0, 1, np.where(trace < 0, 2, 0))
    return int(np.count_nonzero(diagonal[single] < 0) + in_pairs.sum())


def _start_block(start: NDArray[Any] | None, n: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return (n, BLOCK_WIDTH) vectors, a third of them random at least, so that no state is orthogonal to all."""
    block = np.random.default_rng(0).normal(size=(n, BLOCK_WIDTH)).astype(dtype)
    if start is not None:
        taken = start[:, : 2 * BLOCK_WIDTH // 3]
        block[:, : taken.shape[1]] = taken if np.iscomplexobj(block) else np.real(taken)
    return block


def _factorise(hamiltonian: NDArray[Any], overlap: NDArray[Any], shift: float) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """Return x ↦ (H − σS)⁻¹ x from an LU factorisation, or None when the matrix is exactly singular."""
    matrix = np.ascontiguousarray(hamiltonian - shift * overlap).T  # column-major without a copy; solved with trans=1
    getrf, getrs = scipy.linalg.get_lapack_funcs(("getrf", "getrs"), (matrix,))
    factors, pivots, status = getrf(matrix, overwrite_a=True)
    if status != 0:
        return None
    return lambda right: getrs(factors, pivots, right, trans=1)[0]


def _block_lanczos(
    solve: Callable[[NDArray[Any]], NDArray[Any]], overlap: NDArray[Any], first: NDArray[Any], window: float, tolerance: float
) -> tuple[NDArray[np.float64], NDArray[Any]] | None:
    """Expand the Krylov space block by block until all Ritz pairs of A = (H − σS)⁻¹S inside the window are converged.

    Returns:
        μ (n_states,) and S-normalised vectors (n, n_states), or None without convergence or when σ hits an eigenvalue.
    """
    block = solve(overlap @ first)
    mapped = overlap @ block
    block, mapped = _orthonormalise(block, mapped, _norms(block, mapped))
    basis, dual, images = block, mapped, np.empty((len(block), 0), dtype=block.dtype)
    for _ in range(MAX_BLOCKS):
        image = solve(mapped)
        images = np.concatenate([images, image], axis=1)
        projected = dual.conj().T @ images
        ritz, weights = np.linalg.eigh(0.5 * (projected + projected.conj().T))
        if np.max(np.abs(ritz)) > 1.0 / CLOSEST:
            return None
        mapped_image = overlap @ image
        block, mapped = _project_out(image, mapped_image, basis, dual)
        last = weights[-image.shape[1] :]
        residuals = np.sqrt(np.abs(np.einsum("an,ab,bn->n", last.conj(), block.conj().T @ mapped, last)))
        wanted = np.abs(ritz) >= 1.0 / (window + 1000.0 * tolerance)
        # a pair outside that could still move in means that a state may be missing, however good the others are
        approaching = ~wanted & (np.abs(ritz) + residuals >= 1.0 / window)
        if not np.all(wanted) and not np.any(approaching) and np.all(residuals[wanted] < tolerance * ritz[wanted] ** 2):
            return ritz[wanted], basis @ weights[:, wanted]
        block, mapped = _orthonormalise(block, mapped, _norms(image, mapped_image))
        block, mapped = _project_out(block, mapped, basis, dual)
        block, mapped = _orthonormalise(block, mapped, _norms(block, mapped))
        if block.shape[1] == 0:
            return None
        basis, dual = np.concatenate([basis, block], axis=1), np.concatenate([dual, mapped], axis=1)
    return None


def _project_out(
    block: NDArray[Any], mapped: NDArray[Any], basis: NDArray[Any], dual: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Remove from a block (and from S times it) its components in the space, in the S inner product."""
    inside = dual.conj().T @ block
    return block - basis @ inside, mapped - dual @ inside


def _norms(block: NDArray[Any], mapped: NDArray[Any]) -> NDArray[np.float64]:
    """Return the S norms of the columns: (m,); ``mapped`` is S times the block."""
    return np.sqrt(np.abs(np.einsum("na,na->a", block.conj(), mapped)))


def _orthonormalise(block: NDArray[Any], mapped: NDArray[Any], scale: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make the columns S-orthonormal, dropping directions that are rounding noise compared with ``scale`` (m,)."""
    block, mapped = block / scale, mapped / scale
    squares, columns = np.linalg.eigh(block.conj().T @ mapped)
    keep = squares > RANK_TOLERANCE
    change = columns[:, keep] / np.sqrt(squares[keep])
    return block @ change, mapped @ change
