"""Block Lanczos on a shift-inverted pencil, whatever factorised it.

The eigenstates on either side of the shift.

With A = (H − σS)⁻¹ S, which is self-adjoint in the S inner product, the states nearest to σ have
the largest |μ| of A c = μ c, E = σ + 1/μ. The residual ‖A c − μ c‖_S bounds the error of μ
rigorously, hence (E − σ)² times it bounds that of E; iteration stops when this bound is below the
tolerance. References: Ericsson and Ruhe, Math. Comput. 35, 1251 (1980),
doi:10.1090/S0025-5718-1980-0583502-2 (shift-invert); Grimes, Lewis and Simon, SIAM J. Matrix Anal.
Appl. 15, 228 (1994), doi:10.1137/S0895479888151111 (blocks).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_BLOCKS = 16
"""Solves with one factorisation before the search is given up."""

CLOSEST = 1e-7
"""eV; a shift closer to an eigenvalue than this is refused, for the sake of rounding."""

RANK_TOLERANCE = 1e-13
"""Directions of a new block whose squared norm relative to A times the last block is smaller are
dropped as noise."""

Operator = Callable[[NDArray[Any]], NDArray[Any]]
"""Maps (n, m) columns to (n, m) columns."""


class Selection(Protocol):
    """Which Ritz pairs are wanted, and whether one that is not could still move in among them."""

    def __call__(
        self, ritz: NDArray[np.float64], residuals: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], bool]:
        """Choose among Ritz values μ (ascending) with the bounds of their errors.

        Return (wanted, settled).
        """
        ...


@dataclass(frozen=True)
class WithinWindow:
    """All states with |E − σ| ≤ window.

    Attributes:
        window: eV.
        tolerance: largest error of an eigenvalue, eV.
    """

    window: float
    tolerance: float

    def __call__(
        self, ritz: NDArray[np.float64], residuals: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], bool]:
        """Choose the large |μ|.

        A pair outside that could still move in means that a state may be missing.
        """
        wanted = np.abs(ritz) >= 1.0 / (self.window + 1000.0 * self.tolerance)
        return wanted, not np.any(~wanted & (np.abs(ritz) + residuals >= 1.0 / self.window))


@dataclass(frozen=True)
class NearestOnEachSide:
    """The nearest states below σ and the nearest above.

    Attributes:
        n_below: states wanted with E < σ.
        n_above: states wanted with E > σ.
        tolerance: largest error of an eigenvalue, eV; two states closer than this may be exchanged
            at the edge.
    """

    n_below: int
    n_above: int
    tolerance: float

    def __call__(
        self, ritz: NDArray[np.float64], residuals: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], bool]:
        """Choose the ``n_below`` lowest μ < 0 and the ``n_above`` highest μ > 0."""
        n, below, above = len(ritz), self.n_below, self.n_above
        wanted = np.zeros(n, dtype=np.bool_)
        if np.count_nonzero(ritz < 0) < below or np.count_nonzero(ritz > 0) < above:
            return wanted, False
        wanted[:below], wanted[n - above :] = True, True
        low = ritz[below - 1] if below else -np.inf
        high = ritz[n - above] if above else np.inf
        slack_low = self.tolerance * low**2 if below else 0.0
        slack_high = self.tolerance * high**2 if above else 0.0
        others, reach = ritz[~wanted], residuals[~wanted]
        return wanted, not np.any(
            (others - reach < low - slack_low) | (others + reach > high + slack_high)
        )


def block_lanczos(
    solve: Operator,
    multiply_overlap: Operator,
    first: NDArray[Any],
    select: Selection,
    tolerance: float,
    max_blocks: int = MAX_BLOCKS,
) -> tuple[NDArray[np.float64], NDArray[Any]] | None:
    """Expand the Krylov space of A = (H − σS)⁻¹S until all wanted Ritz pairs are converged.

    Args:
        solve: X ↦ (H − σS)⁻¹ X.
        multiply_overlap: X ↦ S X.
        first: (n, m) starting vectors; m must exceed the largest degeneracy.
        select: which pairs are wanted.
        tolerance: largest error of an eigenvalue, eV.
        max_blocks: applications of ``solve`` before the search is given up.

    Returns:
        μ (n_states,), 1/eV, ascending, and S-normalised vectors (n, n_states), or None without
        convergence or when σ hits an eigenvalue.
    """
    block = solve(multiply_overlap(first))
    mapped = multiply_overlap(block)
    block, mapped = _orthonormalise(block, mapped, overlap_norms(block, mapped))
    basis, dual = (
        [block],
        [mapped],
    )  # block by block: joining them would copy what large problems hardly hold once
    projected = np.zeros((0, 0), dtype=block.dtype)
    for _ in range(max_blocks):
        image = solve(mapped)
        projected = _border(projected, np.concatenate([part.conj().T @ image for part in dual]))
        ritz, weights = np.linalg.eigh(projected)
        if np.max(np.abs(ritz)) > 1.0 / CLOSEST:
            return None
        mapped_image = multiply_overlap(image)
        block, mapped = project_out(image, mapped_image, basis, dual)
        last = weights[-image.shape[1] :]
        residuals = np.sqrt(
            np.abs(np.einsum("an,ab,bn->n", last.conj(), block.conj().T @ mapped, last))
        )
        wanted, settled = select(ritz, residuals)
        if (
            settled
            and not np.all(wanted)
            and np.all(residuals[wanted] < tolerance * ritz[wanted] ** 2)
        ):
            return ritz[wanted], _combine(basis, weights[:, wanted])
        block, mapped = _orthonormalise(block, mapped, overlap_norms(image, mapped_image))
        block, mapped = project_out(block, mapped, basis, dual)
        block, mapped = _orthonormalise(block, mapped, overlap_norms(block, mapped))
        if block.shape[1] == 0:
            return None
        basis.append(block)
        dual.append(mapped)
    return None


def _border(projected: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """Extend the projection of A by the columns of a new block: (n_basis, n_basis), Hermitian."""
    known = len(projected)
    bordered = np.empty((len(columns), len(columns)), dtype=columns.dtype)
    bordered[:known, :known] = projected
    bordered[:, known:] = columns
    bordered[known:, :known] = columns[:known].conj().T
    bordered[known:, known:] = 0.5 * (columns[known:] + columns[known:].conj().T)
    return bordered


def project_out(
    block: NDArray[Any], mapped: NDArray[Any], basis: list[NDArray[Any]], dual: list[NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Remove from a block (and from S times it) its components in a space, in the S inner product.

    Args:
        block: (n, m).
        mapped: (n, m), S times the block.
        basis: S-orthonormal vectors of the space, (n, …) each.
        dual: S times the basis.
    """
    inside = np.concatenate([part.conj().T @ block for part in dual])
    return block - _combine(basis, inside), mapped - _combine(dual, inside)


def _combine(parts: list[NDArray[Any]], weights: NDArray[Any]) -> NDArray[Any]:
    """Multiply the blocks of a basis, side by side, by weights (n_basis, m): (n, m)."""
    ends = np.cumsum([part.shape[1] for part in parts])
    total = parts[0] @ weights[: ends[0]]
    for part, begin, end in zip(parts[1:], ends[:-1], ends[1:], strict=True):
        total += part @ weights[begin:end]
    return total


def overlap_norms(block: NDArray[Any], mapped: NDArray[Any]) -> NDArray[np.float64]:
    """Return the S norms of the columns: (m,); ``mapped`` is S times the block."""
    return np.sqrt(np.abs(np.einsum("na,na->a", block.conj(), mapped)))


def _orthonormalise(
    block: NDArray[Any], mapped: NDArray[Any], scale: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Make the columns S-orthonormal, dropping rounding noise compared with ``scale`` (m,)."""
    block, mapped = block / scale, mapped / scale
    squares, columns = np.linalg.eigh(block.conj().T @ mapped)
    keep = squares > RANK_TOLERANCE
    change = columns[:, keep] / np.sqrt(squares[keep])
    return block @ change, mapped @ change
