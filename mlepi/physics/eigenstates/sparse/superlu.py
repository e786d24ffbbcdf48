"""Factors of H − σS by SciPy's SuperLU, which everybody has: for matrices of moderate size.

With diagonal pivots in a symmetric order L·U of a Hermitian matrix is L·D·L†, so that the signs of
the diagonal of U give the inertia. SuperLU leaves the diagonal only where a pivot vanishes; the
permutations tell, and a large error of a solution tells when the diagonal was a bad choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.sparse.pencil import SparsePencil

BACKWARD_ERROR = 1e-11
"""Largest backward error with diagonal pivots; beyond it, pivots are chosen by size instead."""


class SuperluFactors:
    """Factors of H − σS.

    Args:
        pencil: H(k) and S(k).
        shift: σ, eV.
        memory_limit: GB that the factors may take.

    Attributes:
        n_negative: states of the pencil below σ; None when the diagonal could not be kept.

    Raises:
        PhysicsError: the memory would not suffice, or the matrix is singular.
    """

    n_negative: int | None

    def __init__(self, pencil: SparsePencil, shift: float, memory_limit: float) -> None:
        self._pencil = pencil
        needed = estimate_memory(pencil)
        if needed > memory_limit:
            raise PhysicsError(
                message(
                    f"SuperLU, {pencil.n_orbitals} orbitals",
                    f"about {needed:.0f} GB for the factors",
                    f"at most {memory_limit:.1f} GB",
                    "Install the more frugal PARDISO with `pip install pypardiso`.",
                )
            )
        matrix = _full(pencil, shift)
        self.n_negative = None
        try:
            self._factors = _factorise(matrix, symmetric=True)
            if self._error(matrix) < BACKWARD_ERROR:
                self.n_negative = _count_negative(self._factors)
            else:
                self._factors = _factorise(matrix, symmetric=False)
        except RuntimeError as error:
            raise PhysicsError(
                message(
                    f"SuperLU at {shift} eV",
                    str(error),
                    "a regular matrix",
                    "The shift is an eigenvalue: move it.",
                )
            ) from error

    def solve(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return (H − σS)⁻¹ times the columns of a block, (n, m)."""
        solution: NDArray[Any] = self._factors.solve(
            np.asfortranarray(block, dtype=self._pencil.hamiltonian.dtype)
        )
        return solution

    def release(self) -> None:
        """Give the memory back."""
        self._factors = None

    def _error(self, matrix: Any) -> float:
        """Return ‖A x − b‖ / (‖A‖ ‖x‖ + ‖b‖) of a random right-hand side: the backward error."""
        right = (
            np.random.default_rng(0).normal(size=(self._pencil.n_orbitals, 1)).astype(matrix.dtype)
        )
        solution = self.solve(right)
        scale = scipy.sparse.linalg.norm(matrix, 1) * np.linalg.norm(solution) + np.linalg.norm(
            right
        )
        return float(np.linalg.norm(matrix @ solution - right) / scale)


def estimate_memory(pencil: SparsePencil) -> float:
    """Estimate the memory of SuperLU's factors, GB.

    That of all elements of the matrix, which grows faster than the matrix.

    Args:
        pencil: H(k) and S(k).

    Returns:
        GB, within a factor of two for layered structures; see ``FILL``.
    """
    n, itemsize = pencil.n_orbitals, pencil.hamiltonian.itemsize
    return 1e-9 * (itemsize + 4) * min(FILL[0] * n ** FILL[1], float(n) ** 2)


FILL = (5.2, 1.76)
"""Elements of both factors as prefactor and exponent of the number of orbitals, measured on twisted
bilayers."""


def _full(pencil: SparsePencil, shift: float) -> Any:
    """Return H − σS with both triangles, in compressed columns."""
    upper = pencil.triangle(pencil.shifted(shift))
    lower = scipy.sparse.triu(upper, k=1).conj().T
    return scipy.sparse.csc_array(upper + lower)


def _factorise(matrix: Any, symmetric: bool) -> Any:
    """Call SuperLU with diagonal pivots in a symmetric order, or with pivots by size."""
    if symmetric:
        options = {"SymmetricMode": True}
        return scipy.sparse.linalg.splu(
            matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options
        )
    return scipy.sparse.linalg.splu(matrix)


def _count_negative(factors: Any) -> int | None:
    """Count negative pivots; None when rows and columns were not permuted alike."""
    if not np.array_equal(factors.perm_r, factors.perm_c):
        return None
    return int(np.count_nonzero(np.real(factors.U.diagonal()) < 0))
