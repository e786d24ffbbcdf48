"""States carried on along a line of k-points, without a factorisation at every point.

In the gauge of the orbitals' positions states change little from one k-point to the next, and so
does H − σS: factors of one k-point, turned into the gauge of another, nearly invert it there. With
the residual r = Hc − θSc of a Ritz pair, c†Sc = 1, the correction c ← c − (H − σS)⁻¹ r takes states
at E out of c by (θ − σ)/(E − σ) (inverse iteration). Rayleigh–Ritz and residuals are in *double*
precision, so that rounding of the factors and the way from their k-point cost convergence and no
accuracy. b = |θ − σ| ‖(H − σS)⁻¹ r‖_S bounds the distance from θ to an eigenvalue
(``mlepi.physics.eigenstates.followed_states``); with an inverse that is off by a contraction of
norm η it does so within 1/(1 − η), and η is what the last correction has left of b.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from mlepi.physics.eigenstates.block_lanczos import Operator, overlap_norms
from mlepi.physics.eigenstates.followed_states import GUARD, FollowedStates, turn_states

MAX_CORRECTIONS = 6
"""Corrections before the inverse is given up."""

SLOWEST = 0.6
"""A correction that leaves more of the error than this part shows that the inverse is of another
matrix, or that states outside the window are too close to it."""

ALIGNED = 0.5
"""Smallest singular value of the overlap of two neighbours whose states are carried on together."""


def carry_states(
    states: FollowedStates, sites: NDArray[np.float64], step: ArrayLike
) -> FollowedStates:
    """Turn states, and S times them, to a neighbouring k-point; arguments as ``turn_states``."""
    return FollowedStates(
        values=states.values,
        vectors=turn_states(states.vectors, sites, step),
        mapped=turn_states(states.mapped, sites, step),
        shift=states.shift,
        n_below=-1,
    )


def carry_inverse(solve: Operator, sites: NDArray[np.float64], step: ArrayLike) -> Operator:
    """Turn x ↦ (H − σS)⁻¹ x to a neighbouring k-point; arguments as ``turn_states``."""
    back = -np.asarray(step, dtype=np.float64)
    return lambda right: turn_states(solve(turn_states(right, sites, back)), sites, step)


def extrapolate_states(near: FollowedStates, far: FollowedStates, ratio: float) -> NDArray[Any]:
    """Carry states on along a line, near + ratio (near − far).

    Args:
        near: states of the nearer point, turned to the new one.
        far: states of the other point, turned to the new one; those that resemble ``near`` most
            are taken.
        ratio: distance of the new point from the nearer one, in distances of the nearer from the
            other.

    Returns:
        (n_orbitals, n_states), as many as ``near`` has; those of ``near`` alone where the two do
        not hold the same states.
    """
    left, overlaps, right = np.linalg.svd(far.vectors.conj().T @ near.mapped, full_matrices=False)
    if len(overlaps) < near.vectors.shape[1] or np.min(overlaps, initial=1.0) < ALIGNED:
        return near.vectors
    aligned = far.vectors @ (left @ right)
    return near.vectors + ratio * (near.vectors - aligned)


def correct_states(
    pair: tuple[NDArray[Any], NDArray[Any]],
    energy: float,
    window: float,
    start: NDArray[Any],
    inverse: tuple[Operator, float],
    *,
    tolerance: float = 5e-5,
) -> FollowedStates | None:
    """Correct states of neighbouring k-points until those with |E − energy| ≤ window are accurate.

    Args:
        pair: H, eV, and S, (n, n), Hermitian.
        energy: centre of the window, eV.
        window: half width inside which levels are accurate, eV.
        start: (n, m) vectors near the states up to ``GUARD`` beyond the window.
        inverse: x ↦ (H − σS)⁻¹ x, nearly, and σ, eV, near the centre.
        tolerance: largest error of a level inside the window, eV.

    Returns:
        The states within ``GUARD`` of the window, nobody having counted those below; None where
        corrections do not lead to them fast enough. A state that the start does not resemble is
        missed; count with ``count_states_below`` where completeness matters.
    """
    if start.shape[1] == 0:
        return None
    (hamiltonian_k, overlap_k), (solve, shift) = pair, inverse
    space = start, overlap_k @ start, hamiltonian_k @ start
    before = np.inf
    for _ in range(MAX_CORRECTIONS + 1):
        try:
            values, (vectors, mapped, images) = _rayleigh_ritz(*space)
        except scipy.linalg.LinAlgError:  # vectors that depend on each other
            return None
        inside = np.abs(values - energy) <= window
        if not np.any(inside):
            return None
        correction = solve(images - values * mapped)
        correction -= vectors @ (mapped.conj().T @ correction)
        correction_mapped = overlap_k @ correction
        bounds = np.abs(values - shift) * overlap_norms(correction, correction_mapped)
        error = float(np.max(bounds[inside]))
        if not error <= SLOWEST * before:
            return None
        if before < np.inf and error <= (1.0 - error / before) * np.sqrt(tolerance * GUARD):
            kept = np.abs(values - energy) <= window + GUARD
            return FollowedStates(values[kept], vectors[:, kept], mapped[:, kept], shift, -1)
        space = (
            vectors - correction,
            mapped - correction_mapped,
            images - hamiltonian_k @ correction,
        )
        before = error
    return None


def _rayleigh_ritz(
    vectors: NDArray[Any], mapped: NDArray[Any], images: NDArray[Any]
) -> tuple[NDArray[np.float64], tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Diagonalise H in the space of some vectors, given S and H times them.

    Values, and the vectors, S and H times them, S-normalised.
    """
    projected, gram = (vectors.conj().T @ image for image in (images, mapped))
    values, change = scipy.linalg.eigh(
        0.5 * (projected + projected.conj().T), 0.5 * (gram + gram.conj().T)
    )
    return values, (vectors @ change, mapped @ change, images @ change)
