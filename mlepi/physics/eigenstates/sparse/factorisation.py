"""What the solver needs of a sparse direct factorisation, and the choice of one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.sparse.pardiso import PardisoFactors, pardiso_is_installed
from mlepi.physics.eigenstates.sparse.pencil import SparsePencil
from mlepi.physics.eigenstates.sparse.superlu import SuperluFactors

BACKENDS = ("auto", "pardiso", "superlu")


class Factors(Protocol):
    """A factorised matrix H − σS.

    Attributes:
        n_negative: its negative eigenvalues, hence the states of the pencil below σ (Sylvester's
            law of inertia); None when the factorisation cannot tell.
    """

    n_negative: int | None

    def solve(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return (H − σS)⁻¹ times the columns of a block, (n, m)."""
        ...

    def release(self) -> None:
        """Give the memory back."""
        ...


Factorise = Callable[[SparsePencil, float], Factors]
"""Factorises H − σS."""


def choose_backend(backend: str = "auto") -> str:
    """Return "pardiso" or "superlu".

    Args:
        backend: "pardiso" (MKL, from the extra ``large``), "superlu" (SciPy), or "auto" for the
            first that is there.

    Raises:
        PhysicsError: an unknown backend, or PARDISO is wanted and not installed.
    """
    if backend not in BACKENDS:
        raise PhysicsError(
            message(
                "sparse factorisation",
                repr(backend),
                f"one of {list(BACKENDS)}",
                "Choose one of them.",
            )
        )
    if backend == "pardiso" and not pardiso_is_installed():
        raise PhysicsError(
            message(
                "sparse factorisation",
                "no MKL PARDISO",
                "the package pypardiso, which brings it",
                "Install it with `pip install pypardiso`, or choose superlu for small matrices.",
            )
        )
    return "superlu" if backend == "superlu" or not pardiso_is_installed() else "pardiso"


def choose_factorisation(backend: str = "auto", memory_limit: float | None = None) -> Factorise:
    """Return the function that factorises.

    Args:
        backend: as for ``choose_backend``.
        memory_limit: GB that a factorisation may take; all of the machine's memory when None.

    Raises:
        PhysicsError: as for ``choose_backend``.
    """
    limit = _machine_memory() if memory_limit is None else memory_limit
    if choose_backend(backend) == "superlu":
        return lambda pencil, shift: SuperluFactors(pencil, shift, limit)
    return lambda pencil, shift: PardisoFactors(pencil, shift, limit)


def _machine_memory() -> float:
    """Return the physical memory, GB."""
    return 1e-9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
