"""Errors of energy levels by window, and ghosts: levels that a prediction has below all of DFT's.

Levels are paired by band index at every k. They are compared as they are and after the median of
their differences, a common shift of a structure, is taken away.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from mlepi.physics.eigenstates.bloch import solve_bands

WINDOWS = {"2ev": (-2.0, 2.0), "occupied": (-math.inf, 0.0), "5ev": (-math.inf, 5.0)}
"""Name → lowest and highest energy from DFT's Fermi level, eV."""

GHOST_DEPTH = 1.0
"""How far below DFT's lowest level a ghost lies at least, eV."""


def choose_kpoints(cell: ArrayLike, count: int = 5) -> NDArray[np.float64]:
    """Return the first of Γ, K, a generic point and two M of a hexagonal cell.

    In a supercell these are its own points; K of the primitive cell folds onto one of them.

    Args:
        cell: (3, 3) rows, Å.
        count: number of points, up to 5.

    Returns:
        (count, 3), fractional.
    """
    first, second = np.asarray(cell, dtype=np.float64)[:2]
    obtuse = first @ second < 0.0
    k = (1.0 / 3.0, 1.0 / 3.0, 0.0) if obtuse else (2.0 / 3.0, 1.0 / 3.0, 0.0)
    points = [(0.0, 0.0, 0.0), k, (0.137, 0.271, 0.0), (0.5, 0.0, 0.0), (0.0, 0.5, 0.0)]
    return np.array(points[:count])


def predict_levels(
    hamiltonian: NDArray[Any], overlap: NDArray[Any], added: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Solve for the levels at several k-points.

    Args:
        hamiltonian: (n_k, n, n), eV.
        overlap: (n_k, n, n).
        added: (n_k, n, n), eV, what a level shift adds to H; None for the plain H.

    Returns:
        (n_k, n), eV, ascending.
    """
    plain = hamiltonian if added is None else hamiltonian + added
    return np.asarray(solve_bands(plain, overlap))


def select_errors(
    predicted: NDArray[np.float64],
    reference: NDArray[np.float64],
    fermi_energy: float,
    window: tuple[float, float],
) -> NDArray[np.float64]:
    """Return the differences of the reference's levels within a window: (n_levels,), eV.

    Args:
        predicted: (n_k, n), eV.
        reference: (n_k, n), eV.
        fermi_energy: of the reference, eV.
        window: lowest and highest energy from it, eV.
    """
    energy = reference - fermi_energy
    inside = (energy >= window[0]) & (energy <= window[1])
    return np.asarray((predicted - reference)[inside])


def count_ghosts(
    predicted: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Count the levels more than ``GHOST_DEPTH`` below the lowest of the reference over all k.

    Args:
        predicted: (n_k, n), eV.
        reference: (n_k, n), eV.

    Returns:
        (n_k,) int, ghosts at every k.
    """
    return np.asarray((predicted < reference.min() - GHOST_DEPTH).sum(axis=1))


def form_bound(
    hamiltonian: NDArray[Any], overlap: NDArray[Any], error: NDArray[Any], lowest: float
) -> float:
    """Return how far an error goes towards making a ghost: below 1 there can be none.

    The largest eigenvalue of −A^{-1/2} ΔH A^{-1/2} with A = H − (E_lowest − ``GHOST_DEPTH``)S: A +
    ΔH is positive definite, so that no level lies below E_lowest − ``GHOST_DEPTH``, if it is < 1.

    Args:
        hamiltonian: (n, n), eV, of the reference.
        overlap: (n, n).
        error: (n, n), eV, ΔH.
        lowest: lowest level of the reference, eV.
    """
    raised = hamiltonian - (lowest - GHOST_DEPTH) * overlap
    return -float(scipy.linalg.eigh(error, raised, eigvals_only=True, subset_by_index=(0, 0))[0])


def compare_levels(
    predicted: NDArray[np.float64], reference: NDArray[np.float64], fermi_energy: float
) -> dict[str, NDArray[np.float64]]:
    """Return what the levels of one structure add to the sums of each quantity.

    Args:
        predicted: (n_k, n), eV.
        reference: (n_k, n), eV.
        fermi_energy: of the reference, eV.

    Returns:
        "bands_WINDOW" and "bands_WINDOW_aligned" (less the median) → (3,), Σ|x| (eV), Σx² (eV²)
        and number of levels; "ghosts" → number of ghosts, of k-points with any, of k-points.
    """
    found = {}
    for name, window in WINDOWS.items():
        errors = select_errors(predicted, reference, fermi_energy, window)
        for suffix, centre in (("", 0.0), ("_aligned", np.median(errors) if len(errors) else 0.0)):
            x = errors - centre
            found[f"bands_{name}{suffix}"] = np.array([np.abs(x).sum(), (x**2).sum(), len(x)])
    ghosts = count_ghosts(predicted, reference)
    found["ghosts"] = np.array([ghosts.sum(), (ghosts > 0).sum(), len(ghosts)], dtype=np.float64)
    return found


LEVEL_QUANTITIES = (
    *(f"bands_{name}{suffix}" for name in WINDOWS for suffix in ("", "_aligned")),
    "ghosts",
)
"""Keys of ``compare_levels``."""
