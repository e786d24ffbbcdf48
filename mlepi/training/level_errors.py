"""Errors of energy levels by window, and states that a prediction has and DFT does not.

Levels are paired by band index at every k. They are compared as they are and after the median of
their differences, a common shift of a structure, is taken away.

Two measures of states from errors of H along soft directions of S. A *ghost* lies below all levels
of DFT. A *soft state* lies anywhere up to the window above the Fermi energy and has an |c|² that no
state of DFT has there: c†Sc = 1, so that a state along a direction with the eigenvalue s of S has
|c|² = 1/s. Ghosts are soft states; a soft state among the bands displaces the index of those above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from mlepi.physics.eigenstates.bloch import solve_bands

WINDOWS = {"2ev": (-2.0, 2.0), "occupied": (-math.inf, 0.0), "5ev": (-math.inf, 5.0)}
"""Name → lowest and highest energy from DFT's Fermi level, eV."""

GHOST_DEPTH = 1.0
"""How far below DFT's lowest level a ghost lies at least, eV."""


NORM_WINDOW = 2.0
"""Up to how far above DFT's Fermi level soft states are looked for, eV."""

NORM_FACTOR = 2.0
"""How many times the largest |c|² of any training state a soft state has at least."""


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


def predict_states(
    hamiltonian: NDArray[Any], overlap: NDArray[Any], added: NDArray[Any] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Solve for the levels at several k-points, and for |c|² of their states.

    Args:
        hamiltonian: (n_k, n, n), eV.
        overlap: (n_k, n, n).
        added: (n_k, n, n), eV, what a level shift adds to H; None for the plain H.

    Returns:
        (n_k, n), eV, ascending; and (n_k, n), Σ|c|² of states with c†Sc = 1.
    """
    plain = hamiltonian if added is None else hamiltonian + added
    levels, norms = [], []
    for matrix, metric in zip(plain, overlap, strict=True):
        values, states = solve_bands(matrix, metric, vectors=True)
        levels.append(values)
        norms.append(np.sum(np.abs(states) ** 2, axis=0))
    return np.array(levels), np.array(norms)


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


def count_soft_states(
    predicted: NDArray[np.float64],
    norms: NDArray[np.float64],
    largest_norm: float,
    fermi_energy: float,
) -> NDArray[np.int64]:
    """Count the states up to ``NORM_WINDOW`` above the Fermi energy whose |c|² no label has.

    Args:
        predicted: (n_k, n), eV.
        norms: (n_k, n), |c|² of their states.
        largest_norm: of states of the labels up to there
            (``mlepi.training.level_shift.ShiftLabels.find_largest_norm``).
        fermi_energy: of the reference, eV.

    Returns:
        (n_k,) int, states with more than ``NORM_FACTOR`` times as much at every k.
    """
    low = predicted <= fermi_energy + NORM_WINDOW
    return np.asarray((low & (norms > NORM_FACTOR * largest_norm)).sum(axis=1))


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
    predicted: NDArray[np.float64],
    reference: NDArray[np.float64],
    fermi_energy: float,
    norms: NDArray[np.float64] | None = None,
    largest_norm: float | None = None,
    windows: Mapping[str, tuple[float, float]] = WINDOWS,
) -> dict[str, NDArray[np.float64]]:
    """Return what the levels of one structure add to the sums of each quantity.

    Args:
        predicted: (n_k, n), eV.
        reference: (n_k, n), eV.
        fermi_energy: of the reference, eV.
        norms: (n_k, n), |c|² of the predicted states; None where they are not known.
        largest_norm: |c|² of training states; None where it is not known.
        windows: name → lowest and highest energy from DFT's Fermi level, eV.

    Returns:
        "bands_WINDOW" and "bands_WINDOW_aligned" (less the median) → (3,), Σ|x| (eV), Σx² (eV²)
        and number of levels; "ghosts" → number of ghosts, of k-points with any, of k-points; and
        "soft_states" likewise where both norms are known.
    """
    found = {}
    for name, window in windows.items():
        errors = select_errors(predicted, reference, fermi_energy, window)
        for suffix, centre in (("", 0.0), ("_aligned", np.median(errors) if len(errors) else 0.0)):
            x = errors - centre
            found[f"bands_{name}{suffix}"] = np.array([np.abs(x).sum(), (x**2).sum(), len(x)])
    counts = {"ghosts": count_ghosts(predicted, reference)}
    if norms is not None and largest_norm is not None:
        counts["soft_states"] = count_soft_states(predicted, norms, largest_norm, fermi_energy)
    for name, count in counts.items():
        found[name] = np.array([count.sum(), (count > 0).sum(), len(count)], dtype=np.float64)
    return found


COUNTS = ("ghosts", "soft_states")
"""Quantities that count states: how many, k-points with any, and k-points."""

LEVEL_QUANTITIES = (
    *(f"bands_{name}{suffix}" for name in WINDOWS for suffix in ("", "_aligned")),
    *COUNTS,
)
"""Keys of ``compare_levels``."""
