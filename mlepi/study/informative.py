"""Which structures lower the error of an observable most, once they are labelled.

The error of a network on structure i changes the target by a_i: what members of a committee
disagree by, times its effect on the target there. Errors of similar structures are taken to be
correlated, C_ij = a_i a_j exp(−d_ij²/2ℓ²) with the distance d of their descriptors, so that the
target T = Σ w_i t_i has the variance wᵀ C w of the networks. A label of structure i, of noise σ²,
leaves

    Var(T) − (C w)_i² / (C_ii + σ²)

of it, and the errors of all others are conditioned on it, as those of a Gaussian process.
Structures are chosen one by one for what they lower most: spread times effect, and unlike those
before them. A label tells the errors of independent networks, those of H and those of forces, and a
target may have several values, one per temperature: their variances, and what a label lowers of
them, add.

σ decides what the spread on the structure itself is worth. Without it, a label of a structure on
which all agree would tell as much of its neighbours as one on which they differ.

References:
    Krause, Singh, Guestrin, J. Mach. Learn. Res. 9, 235 (2008) (greedy choice of observations of a
    Gaussian process). Rasmussen, Williams, Gaussian Processes for Machine Learning (2006),
    Eq. 2.24.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message

NEGLIGIBLE = 1e-12
"""Share of a variance below which it counts as none."""


@dataclass(frozen=True)
class Choice:
    """Structures that were chosen.

    Attributes:
        order: (n_chosen,) int, positions, the most helpful first.
        variances: (n_chosen + 1,), variance of the target by the networks before, and after each
            label; squares of its unit.
        cost: of all labels, in the unit of the costs.
    """

    order: list[int]
    variances: NDArray[np.float64]
    cost: float


def divide_variance(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Divide the variance of a target among its samples, exactly.

    T_m = Σ_i w_i v_mi by member m has the variance Σ_i w_i cov(v_i, T); a sample whose errors
    others cancel has a negative part.

    Args:
        values: (n_members, n_samples), of the target on every sample, by every member.
        weights: (n_samples,), of the samples in the target.

    Returns:
        (n_samples,), squares of the unit; their sum is the variance among the members.

    Raises:
        PhysicsError: fewer than two members.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2:
        got, fix = f"shape {values.shape}", "Train a second network."
        raise PhysicsError(message("committee", got, "two members at least", fix))
    deviations = values - values.mean(axis=0)
    target = deviations @ weights
    return np.asarray(weights * (deviations.T @ target) / (len(values) - 1))


def choose_length(descriptors: NDArray[np.float64]) -> float:
    """Return the median distance of two structures, over which errors are taken to be alike.

    Args:
        descriptors: (n, n_components), scaled.
    """
    first, second = np.triu_indices(len(descriptors), 1)
    distances = np.linalg.norm(descriptors[first] - descriptors[second], axis=1)
    apart = distances[distances > 0.0]
    return float(np.median(apart)) if apart.size else 1.0


def correlate_errors(
    spreads: NDArray[np.float64],
    effects: NDArray[np.float64],
    descriptors: NDArray[np.float64],
    length: float,
) -> NDArray[np.float64]:
    """Return the covariance of the target's errors on all structures.

    Args:
        spreads: (n,), standard deviation of the networks on each structure, such as that of H, eV.
        effects: (n,), change of the target with it, in its unit over that of the spreads; signed.
        descriptors: (n, n_components), scaled.
        length: distance of descriptors over which errors are alike.

    Returns:
        (n, n), squares of the unit of the target.

    Raises:
        PhysicsError: a spread is negative, or the length not positive.
    """
    if np.any(np.asarray(spreads) < 0.0) or not length > 0.0:
        got = f"spreads from {float(np.min(spreads)):g}, a length of {length:g}"
        fix = "Give standard deviations."
        raise PhysicsError(message("spreads", got, "0 or more, and a length above 0", fix))
    amplitudes = np.asarray(spreads) * np.asarray(effects)
    correlation = np.exp(-0.5 * measure_squares(descriptors, descriptors) / length**2)
    np.fill_diagonal(correlation, 1.0)
    return np.asarray(amplitudes[:, None] * amplitudes * correlation)


def carry_effects(
    spreads: NDArray[np.float64],
    amplitudes: NDArray[np.float64],
    squares: NDArray[np.float64],
    length: float,
) -> NDArray[np.float64]:
    """Carry effects on the target from samples, where they are known, to other structures.

    The slope of the amplitudes with the spreads, a line through zero fitted by least squares, each
    sample with the weight exp(−(d² − d²_nearest)/2ℓ²).

    Args:
        spreads: (n_samples,), standard deviation of the networks on each sample.
        amplitudes: (n_samples,), change of the target with it, signed.
        squares: (n, n_samples), d² of the descriptors of structures and samples.
        length: ℓ.

    Returns:
        (n,), unit of the target over that of the spreads; 0 where no sample has a spread.
    """
    nearest = squares.min(axis=1, keepdims=True)
    weights = np.exp(-0.5 * (squares - nearest) / length**2)
    size = weights @ spreads**2
    known = size > 0.0
    return np.asarray(
        np.where(known, weights @ (spreads * amplitudes) / np.where(known, size, 1.0), 0.0)
    )


def measure_squares(
    descriptors: NDArray[np.float64], others: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the squared distances of two sets of descriptors, (n, m).

    Args:
        descriptors: (n, n_components).
        others: (m, n_components).
    """
    own, their = np.sum(descriptors**2, axis=1), np.sum(others**2, axis=1)
    return np.asarray(np.maximum(own[:, None] + their - 2.0 * descriptors @ others.T, 0.0))


def select_informative(
    covariance: NDArray[np.float64],
    weights: NDArray[np.float64],
    n_wanted: int,
    *,
    noise: float | NDArray[np.float64] = 0.0,
    allowed: NDArray[np.bool_] | None = None,
    costs: NDArray[np.float64] | None = None,
    budget: float | None = None,
) -> Choice:
    """Choose the structures whose labels lower the variance of a target most.

    Args:
        covariance: (n, n), of the target's errors, as ``correlate_errors`` gives it; or (n_kinds,
            n, n), of independent networks, whose errors a label tells together.
        weights: (n,), of the structures in the target, or (n_values, n), in each of its values;
            zero for such as only may be labelled.
        n_wanted: labels at most.
        noise: standard deviation of what a label leaves unknown, in the unit of the target; one
            for all networks, or (n_kinds,).
        allowed: (n,), whether a structure may be labelled; None for all.
        costs: (n,), of a label; with them what counts is the variance lowered per cost.
        budget: that may be spent; what costs more than is left of it is passed over.

    Returns:
        Fewer than are wanted, where no further label helps or can be paid.
    """
    left = np.array(covariance, dtype=np.float64)
    left = left.reshape(-1, *left.shape[-2:])
    shares = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    closed = np.zeros(left.shape[1], dtype=bool) if allowed is None else ~np.asarray(allowed)
    prices = np.ones(left.shape[1]) if costs is None else np.asarray(costs, dtype=np.float64)
    money = np.inf if budget is None else float(budget)
    start = float(np.einsum("ti,kij,tj->", shares, left, shares))
    unknown = np.broadcast_to(np.asarray(noise, dtype=np.float64) ** 2, len(left))[:, None]
    least = NEGLIGIBLE * np.diagonal(left, axis1=1, axis2=2).max(axis=1, initial=0.0)[:, None]
    order: list[int] = []
    variances = [start]
    spent = 0.0
    while len(order) < n_wanted:
        own = np.diagonal(left, axis1=1, axis2=2).copy()
        common = np.sum((left @ shares.T) ** 2, axis=2)
        known = own > least
        gains = np.sum(np.where(known, common / np.where(known, own + unknown, 1.0), 0.0), axis=0)
        gains[closed | (prices > money - spent)] = 0.0
        gains[order] = 0.0
        best = int(np.argmax(gains / prices)) if len(gains) else 0
        if not len(gains) or gains[best] <= NEGLIGIBLE * start:
            break
        order.append(best)
        spent += float(prices[best])
        variances.append(max(0.0, variances[-1] - float(gains[best])))
        for matrix, size, told, rest in zip(left, own, known, unknown[:, 0], strict=True):
            if told[best]:
                matrix -= np.outer(matrix[:, best], matrix[best]) / (size[best] + rest)
    return Choice(order, np.array(variances), spent if costs is not None else float(len(order)))
