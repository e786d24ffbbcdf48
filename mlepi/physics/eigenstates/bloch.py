"""Phases of Bloch sums, the generalised eigenproblem at one k, and the Fermi energy.

Convention: lattice gauge, H(k) = Σ_R e^{2πi k·R} H(R) with k fractional and no atomic positions in
the phase; rows of the block of edge e belong to the target atom ``edge_index[1, e]`` in cell 0,
columns to the source ``edge_index[0, e]`` in cell R = ``edge_cell_shift[e]``. Energies in eV; two
electrons per state (no spin polarisation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.linalg
import scipy.optimize
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from mlepi.errors import PhysicsError, message
from mlepi.units import BOLTZMANN

SPIN_DEGENERACY = 2.0
"""Electrons per band and k-point."""


def bloch_phases(shifts: NDArray[np.integer], kpoint: ArrayLike) -> NDArray[Any]:
    """Return e^{2πi k·R} of cell shifts (n, 3).

    (n,), of real dtype where k is time-reversal invariant.
    """
    turns = shifts @ np.asarray(kpoint, dtype=np.float64)
    phases = np.exp(2j * np.pi * turns)
    return (
        np.round(phases.real)
        if np.all(np.abs(2.0 * turns - np.round(2.0 * turns)) < 1e-12)
        else phases
    )


def solve_bands(
    hamiltonian_k: NDArray[np.complexfloating],
    overlap_k: NDArray[np.complexfloating] | None = None,
    *,
    subset: tuple[int, int] | None = None,
    vectors: bool = False,
) -> Any:
    """Solve H c = E S c at every k by dense diagonalisation.

    Args:
        hamiltonian_k: (n_k, n, n) or (n, n), eV; Hermitian.
        overlap_k: same shape, or None for orthonormal orbitals.
        subset: first and last band wanted, inclusive and counted from 0; all bands when None.
        vectors: also return the eigenvectors.

    Returns:
        Eigenvalues (n_k, n_states) or (n_states,), eV, ascending; with ``vectors`` also the
        eigenvectors (n_k, n, n_states) or (n, n_states) in columns, with c†Sc = 1.

    Raises:
        PhysicsError: an overlap matrix is not positive definite.
    """
    single = hamiltonian_k.ndim == 2
    matrices = hamiltonian_k[None] if single else hamiltonian_k
    overlaps = (
        [None] * len(matrices) if overlap_k is None else overlap_k[None] if single else overlap_k
    )
    solved = [_solve_one(h, s, subset, vectors) for h, s in zip(matrices, overlaps, strict=True)]
    eigenvalues = np.array([values for values, _ in solved])
    if not vectors:
        return eigenvalues[0] if single else eigenvalues
    eigenvectors = np.array([columns for _, columns in solved])
    return (eigenvalues[0], eigenvectors[0]) if single else (eigenvalues, eigenvectors)


def _solve_one(
    hamiltonian: NDArray[Any],
    overlap: NDArray[Any] | None,
    subset: tuple[int, int] | None,
    vectors: bool,
) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
    """Reduce by Cholesky and diagonalise.

    Three times faster than LAPACK's generalised driver for all states.
    """
    if overlap is None:
        lower, reduced = None, hamiltonian
    else:
        lower = cholesky_factor(overlap)
        half = scipy.linalg.solve_triangular(lower, hamiltonian, lower=True)
        reduced = scipy.linalg.solve_triangular(lower, half.conj().T, lower=True)
    driver = "evd" if subset is None and vectors else "evr"
    if not vectors:
        return scipy.linalg.eigh(
            reduced, eigvals_only=True, driver="evr", subset_by_index=subset
        ), None
    values, columns = scipy.linalg.eigh(reduced, driver=driver, subset_by_index=subset)
    if lower is not None:
        columns = scipy.linalg.solve_triangular(lower, columns, lower=True, trans="C")
    return values, columns


def cholesky_factor(overlap: NDArray[Any]) -> NDArray[Any]:
    """Factor S = L L†, refusing an overlap that is not positive definite.

    Args:
        overlap: (n, n) Hermitian.

    Returns:
        (n, n) lower triangle L.

    Raises:
        PhysicsError: S has an eigenvalue ≤ 0.
    """
    try:
        return scipy.linalg.cholesky(overlap, lower=True)
    except np.linalg.LinAlgError as error:
        smallest = float(scipy.linalg.eigvalsh(overlap, subset_by_index=(0, 0))[0])
        raise PhysicsError(
            message(
                "overlap matrix",
                f"smallest eigenvalue {smallest:.3e}",
                "a positive definite matrix",
                "Atoms are too close for this basis, or S is not accurate enough: check the "
                "structure and the overlap table.",
            )
        ) from error


def smallest_overlap_eigenvalue(overlap_k: NDArray[np.complexfloating]) -> float:
    """Return the smallest eigenvalue of S over all k.

    Below about 1e-4 errors in H make ghost states.

    Args:
        overlap_k: (n_k, n, n) or (n, n).

    Returns:
        The eigenvalue, dimensionless; negative when S is not positive definite.
    """
    matrices = overlap_k[None] if overlap_k.ndim == 2 else overlap_k
    return min(
        float(scipy.linalg.eigvalsh(matrix, subset_by_index=(0, 0))[0]) for matrix in matrices
    )


def count_valence_electrons(
    numbers: Sequence[int] | NDArray[np.integer], valence: Mapping[int, float]
) -> float:
    """Count the valence electrons of a neutral structure.

    Args:
        numbers: (n_atoms,) atomic numbers.
        valence: atomic number → valence electrons of its pseudopotential, e.g. {6: 4}.

    Returns:
        Number of electrons per cell.

    Raises:
        PhysicsError: an element has no entry.
    """
    missing = sorted({int(z) for z in numbers} - {int(z) for z in valence})
    if missing:
        raise PhysicsError(
            message(
                "valence electrons",
                f"no entry for atomic numbers {missing}",
                "one per element",
                "Give them with valence_electrons={SYMBOL: NUMBER, …}.",
            )
        )
    return float(sum(valence[int(z)] for z in numbers))


def fermi_energy_from_eigenvalues(
    eigenvalues: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_electrons: float,
    temperature: float,
) -> float:
    """Find the chemical potential at which occupations hold the electrons, two per state.

    Args:
        eigenvalues: (n_k, n_bands), eV; all occupied bands and some empty ones.
        weights: (n_k,) weight of each k-point; normalised here.
        n_electrons: electrons per cell.
        temperature: electronic temperature of the smearing, K; > 0.

    Returns:
        Fermi energy, eV.

    Raises:
        PhysicsError: the temperature is not positive, or the bands cannot hold the electrons.
    """
    if temperature <= 0:
        raise PhysicsError(
            message(
                "Fermi energy",
                f"temperature {temperature} K",
                "a smearing > 0 K",
                "Use for example 300 K.",
            )
        )
    capacity = SPIN_DEGENERACY * eigenvalues.shape[1]
    if not 0 < n_electrons < capacity:
        raise PhysicsError(
            message(
                "Fermi energy",
                f"{n_electrons} electrons",
                f"more than 0 and fewer than {capacity}",
                "Check `valence` and the basis.",
            )
        )
    shares = (np.asarray(weights) / np.sum(weights))[:, None] * SPIN_DEGENERACY
    thermal = BOLTZMANN * temperature

    def excess(level: float) -> float:
        return float(np.sum(shares * expit((level - eigenvalues) / thermal)) - n_electrons)

    margin = 50.0 * thermal + 1.0
    return float(
        scipy.optimize.brentq(
            excess, eigenvalues.min() - margin, eigenvalues.max() + margin, xtol=1e-10
        )
    )
