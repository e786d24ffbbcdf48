"""LDL† of H − σS by MKL PARDISO: solutions and inertia, without a copy of the matrix.

MKL comes as a binary wheel with the optional package ``pypardiso``, of which only the handle of the
library is used. Matrix types −2 (real symmetric indefinite) and −4 (complex Hermitian indefinite),
Bunch–Kaufman pivots within supernodes, METIS ordering. Reference: Schenk and Gärtner, Electron.
Trans. Numer. Anal. 23, 158 (2006); parameters: Intel's oneMKL reference.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.sparse.pencil import SparsePencil

ANALYSE, FACTORISE, SOLVE, SOLVE_DIAGONAL, RELEASE = 11, 22, 33, 332, -1
"""Phases of PARDISO."""

REAL_SYMMETRIC, COMPLEX_HERMITIAN = -2, -4
"""Matrix types, both indefinite."""

ERRORS = {
    -2: "not enough memory",
    -3: "a failed reordering",
    -4: "a zero pivot: the shift is an eigenvalue",
}
"""What the error codes that can be met here mean."""

PAIRED = 1e-6
"""Off-diagonal element of a pivot relative to the largest in its row; a 2×2 pivot is chosen for a
large one."""

CHECKED = 1e-9
"""Largest disagreement of a row with the random probe, relative to its elements and per row."""

KILOBYTE = 1.024e-6
"""GB."""


@cache
def pardiso_is_installed() -> bool:
    """Tell whether the package that brings MKL is there."""
    return importlib.util.find_spec("pypardiso") is not None


class PardisoFactors:
    """Factors of H − σS in MKL's memory.

    Args:
        pencil: H(k) and S(k).
        shift: σ, eV.
        memory_limit: GB that the factors may take.

    Attributes:
        n_negative: states of the pencil below σ; None when the shift is too close to an eigenvalue.
        n_perturbed: pivots that were too small and were replaced; such factors neither count nor
            solve.
        memory: GB taken at the peak of the factorisation, beside the matrix.
        n_elements: elements of the factor.

    Raises:
        PhysicsError: the memory does not suffice, or the factorisation failed.
    """

    n_negative: int | None

    def __init__(self, pencil: SparsePencil, shift: float, memory_limit: float) -> None:
        self._pencil, self._values = pencil, pencil.shifted(shift)
        self._handle, self._parameters = np.zeros(64, dtype=np.int64), _parameters()
        try:
            self._call(ANALYSE)
            self.memory = KILOBYTE * max(
                self._parameters[14], self._parameters[15] + self._parameters[16]
            )
            if self.memory > memory_limit:
                raise PhysicsError(
                    message(
                        f"PARDISO, {pencil.n_orbitals} orbitals",
                        f"{self.memory:.1f} GB for the factors",
                        f"at most {memory_limit:.1f} GB",
                        "Raise the limit, or use a machine with more memory.",
                    )
                )
            self._call(FACTORISE)
        except PhysicsError:
            self.release()
            raise
        self.n_elements = int(self._parameters[17])
        self.n_perturbed = int(self._parameters[13])
        self.n_negative = None
        if self.n_perturbed == 0:
            self.n_negative = (
                int(self._parameters[22]) if pencil.is_real else self._count_negative()
            )

    def solve(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return (H − σS)⁻¹ times the columns of a block, (n, m).

        Raises:
            PhysicsError: pivots were replaced; MKL then writes beyond the solution of complex
                matrices.
        """
        if self.n_perturbed:
            raise self._failure(ERRORS[-4])
        right = np.asfortranarray(block, dtype=self._values.dtype)
        solution = np.empty_like(right, order="F")
        self._call(SOLVE, right, solution)
        return solution

    def release(self) -> None:
        """Give the memory back."""
        if np.any(self._handle):
            self._call(RELEASE)
            self._handle[:] = 0

    def __del__(self) -> None:
        if hasattr(self, "_handle") and not sys.is_finalizing():
            self.release()

    def _count_negative(self) -> int | None:
        """Count the negative eigenvalues of D, which MKL tells for real matrices only.

        Returns:
            The number, None when D cannot be read.
        """
        probes = pivot_probes(self._pencil.n_orbitals)
        # the first right-hand side of this phase comes out wrong where a pivot is 2×2: it is left
        # empty
        right = np.zeros((len(probes), probes.shape[1] + 1), dtype=self._values.dtype, order="F")
        right[:, 1:] = probes
        solution = np.empty_like(right, order="F")
        self._call(SOLVE_DIAGONAL, right, solution)
        return count_negative_pivots(solution[:, 1:])

    def _call(
        self, phase: int, right: NDArray[Any] | None = None, solution: NDArray[Any] | None = None
    ) -> None:
        """Call MKL, which knows that storing one triangle by rows may mean the conjugate."""
        kind = REAL_SYMMETRIC if self._pencil.is_real else COMPLEX_HERMITIAN
        error = ctypes.c_int32(0)
        one = ctypes.c_int32(1)
        mtype = ctypes.c_int32(kind)
        n = ctypes.c_int32(self._pencil.n_orbitals)
        n_right, quiet = ctypes.c_int32(1 if right is None else right.shape[1]), ctypes.c_int32(0)
        _library()(
            _address(self._handle),
            ctypes.byref(one),
            ctypes.byref(one),
            ctypes.byref(mtype),
            ctypes.byref(ctypes.c_int32(phase)),
            ctypes.byref(n),
            _address(self._values),
            _address(self._pencil.starts),
            _address(self._pencil.columns),
            None,
            ctypes.byref(n_right),
            _address(self._parameters),
            ctypes.byref(quiet),
            _address(right),
            _address(solution),
            ctypes.byref(error),
        )
        if error.value != 0:
            raise self._failure(ERRORS.get(error.value, f"error {error.value}"))

    def _failure(self, reason: str) -> PhysicsError:
        where = f"PARDISO, {self._pencil.n_orbitals} orbitals"
        return PhysicsError(
            message(where, reason, "a factorisation", "Move the shift, or free memory.")
        )


def pivot_probes(n: int) -> NDArray[np.float64]:
    """Return the vectors that reveal a matrix of 1×1 and 2×2 pivots: (n, 4).

    They are 1, t and t² with t = 1/n, …, 1, and a random one.
    """
    place = np.arange(1, n + 1) / n
    return np.stack([np.ones(n), place, place**2, np.random.default_rng(0).normal(size=n)], axis=1)


def count_negative_pivots(solution: NDArray[Any]) -> int | None:
    """Count the negative eigenvalues of a Hermitian D with 1×1 and 2×2 pivots.

    Four vectors that its inverse is applied to suffice. A 2×2 pivot couples two rows i and j that
    need not be neighbours. From y = a + b, a tᵢ + b tⱼ and a tᵢ² + b tⱼ² follow the partner, tⱼ =
    (y₃ − tᵢ² y₁)/(y₂ − tᵢ y₁) − tᵢ, the diagonal a and the off-diagonal b of D⁻¹; the fourth vector
    checks them.

    Args:
        solution: (n, 4), D⁻¹ times ``pivot_probes``.

    Returns:
        Number of negative eigenvalues; None when the rows do not pair up.
    """
    n = len(solution)
    place = pivot_probes(n)[:, 1]
    slope = solution[:, 1] - place * solution[:, 0]
    paired = np.flatnonzero(np.abs(slope) > PAIRED / n * np.abs(solution[:, 0]))
    sums = np.real((solution[paired, 2] - place[paired] ** 2 * solution[paired, 0]) / slope[paired])
    partner = np.rint(n * (sums - place[paired])) - 1
    if np.any((partner < 0) | (partner >= n) | (partner == paired)):
        return None
    partner = partner.astype(np.int64)
    coupling = np.zeros(n, dtype=solution.dtype)
    coupling[paired] = slope[paired] / (place[partner] - place[paired])
    diagonal = np.real(solution[:, 0] - coupling)
    return _count_negative(diagonal, coupling, paired, partner, solution[:, 3])


def _count_negative(
    diagonal: NDArray[np.float64],
    coupling: NDArray[Any],
    paired: NDArray[np.int64],
    partner: NDArray[np.int64],
    checked: NDArray[Any],
) -> int | None:
    """Count the negative eigenvalues of D⁻¹ from its elements.

    Returns:
        The number, None when they do not explain the result for the random vector.
    """
    n = len(diagonal)
    random = pivot_probes(n)[:, 3]
    expected = diagonal * random.astype(coupling.dtype)
    expected[paired] += coupling[paired] * random[partner]
    scale = np.abs(diagonal) + np.abs(coupling)
    if np.any(np.abs(expected - checked) > CHECKED * n * scale):
        return None
    # MKL may leave the lower element of a pivot out: its row then looks single
    pairs = np.unique(
        np.stack([np.minimum(paired, partner), np.maximum(paired, partner)], axis=1), axis=0
    )
    if len(np.unique(pairs)) != pairs.size:
        return None
    i, j = pairs.T
    determinant = (
        diagonal[i] * diagonal[j] - np.maximum(np.abs(coupling[i]), np.abs(coupling[j])) ** 2
    )
    in_pairs = np.where(determinant < 0, 1, np.where(diagonal[i] + diagonal[j] < 0, 2, 0))
    single = np.ones(n, dtype=np.bool_)
    single[pairs] = False
    return int(np.count_nonzero(diagonal[single] < 0) + in_pairs.sum())


def _parameters() -> NDArray[np.int32]:
    """Return PARDISO's integer parameters; positions are one less than in its documentation."""
    parameters = np.zeros(64, dtype=np.int32)
    parameters[0] = 1  # all values are given here
    parameters[1] = 2  # METIS
    parameters[9] = 10  # a pivot below 10⁻¹⁰ times the norm is perturbed
    parameters[17] = -1  # count the elements of the factor
    parameters[20] = 1  # 1×1 and 2×2 pivots
    parameters[34] = 1  # indices from zero
    return parameters


def _address(array: NDArray[Any] | None) -> ctypes.c_void_p | None:
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


@cache
def _library() -> Any:
    """Return MKL's function ``pardiso`` with a prototype of our own."""
    function = importlib.import_module("pypardiso").PyPardisoSolver().libmkl["pardiso"]
    function.argtypes, function.restype = [ctypes.c_void_p] * 16, None
    return function
