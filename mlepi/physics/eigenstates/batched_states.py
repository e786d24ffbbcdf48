"""States near an energy of many pencils of one size at once, on the device of the tensors.

Shift-inverted subspace iteration.

All matrices of a batch take the same steps, which is what a GPU wants: one batched LU factorisation
of H − σS, then repeated application of A = (H − σS)⁻¹S to a block with a Rayleigh–Ritz step in the
S inner product. States further from σ than those of the block fade with the ratio of their
distances. A Ritz pair (μ, c), E = σ + 1/μ, with b = ‖A c − μ c‖_S / μ² lies within b of an
eigenvalue, and within b²/δ when the rest of the spectrum is further away than δ; the bounds are
those of ``mlepi.physics.eigenstates.followed_states``. On a processor the solvers of
``mlepi.physics.eigenstates.shift_invert`` are faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.followed_states import GUARD
from mlepi.physics.eigenstates.shift_invert import count_negative

WIDTH = 64
"""Vectors in a block; twice the states of a window and more converge in few steps."""

MAX_STEPS = 60
"""Steps with one block before a wider one is tried."""


@dataclass(frozen=True)
class BatchedStates:
    """States of one pencil of a batch.

    Attributes:
        values: (n_states,) eV, ascending, float64.
        vectors: (n, n_states), c†Sc = 1.
    """

    values: Tensor
    vectors: Tensor


def solve_batch_within(
    hamiltonians: Tensor,
    overlaps: Tensor,
    energy: float,
    window: float,
    *,
    tolerance: float = 5e-5,
    width: int = WIDTH,
) -> list[BatchedStates]:
    """Find all states with |E − energy| ≤ window of every pencil.

    Args:
        hamiltonians: (n_batch, n, n) Hermitian, float64 or complex128, eV.
        overlaps: (n_batch, n, n) Hermitian positive definite.
        energy: centre of the window and shift, eV; moved by 1e-5 eV when it hits an eigenvalue.
        window: half width, eV.
        tolerance: largest error of an eigenvalue, eV.
        width: vectors in a block; doubled until all states of the window fit.

    Returns:
        One result per pencil. Pencils smaller than four blocks are diagonalised completely.
        ``count_batch_below`` at both ends of the window proves completeness.

    Raises:
        PhysicsError: an overlap is not positive definite.
    """
    n = hamiltonians.shape[-1]
    for shift in (energy, energy + 1e-5, energy + 3.3e-5):
        factors, pivots, status = torch.linalg.lu_factor_ex(hamiltonians - shift * overlaps)
        while 4 * width <= n and not bool(status.any()):
            found = _iterate(factors, pivots, overlaps, window, tolerance, width)
            if found is not None:
                ritz, vectors = found
                return [
                    _select(shift + 1.0 / mu, c, energy, window)
                    for mu, c in zip(ritz, vectors, strict=True)
                ]
            width *= 2
        if 4 * width > n:
            break
    values, vectors = _diagonalise(hamiltonians, overlaps)
    return [_select(e, c, energy, window) for e, c in zip(values, vectors, strict=True)]


def count_batch_below(hamiltonians: Tensor, overlaps: Tensor, energies: Tensor) -> list[int]:
    """Count the eigenvalues below an energy of every pencil, by the inertia of H − ES.

    Args:
        hamiltonians: (n_batch, n, n) Hermitian, eV.
        overlaps: (n_batch, n, n) Hermitian positive definite.
        energies: (n_batch,) eV.
    """
    shifted = hamiltonians - energies.to(overlaps)[:, None, None] * overlaps
    # cuSOLVER has no Hermitian factorisation, only the symmetric one of real matrices
    times = 2 if shifted.is_complex() and shifted.device.type != "cpu" else 1
    factors, pivots = torch.linalg.ldl_factor(
        as_real_symmetric(shifted) if times == 2 else shifted, hermitian=True
    )
    return [
        count_negative(f, p) // times
        for f, p in zip(factors.cpu().numpy(), pivots.cpu().numpy(), strict=True)
    ]


def as_real_symmetric(matrices: Tensor) -> Tensor:
    """Write Hermitian matrices X + iY as [[X, −Y], [Y, X]], which has every eigenvalue twice.

    Args:
        matrices: (n_batch, n, n) complex.

    Returns:
        (n_batch, 2n, 2n) real and symmetric.
    """
    x, y = matrices.real, matrices.imag
    return torch.cat([torch.cat([x, -y], dim=-1), torch.cat([y, x], dim=-1)], dim=-2)


def _iterate(
    factors: Tensor, pivots: Tensor, overlaps: Tensor, window: float, tolerance: float, width: int
) -> tuple[Tensor, Tensor] | None:
    """Iterate until all Ritz pairs inside the window are converged.

    μ (n_batch, width) and vectors (n_batch, n, width).
    """
    n = overlaps.shape[-1]
    start = np.random.default_rng(0).normal(size=(n, width))
    block = torch.from_numpy(start).to(overlaps).expand(len(overlaps), n, width)
    block = torch.linalg.lu_solve(factors, pivots, overlaps @ block)
    largest_bound = float(np.sqrt(tolerance * GUARD))
    for _ in range(MAX_STEPS):
        block, mapped = _orthonormalise(block, overlaps @ block)
        image = torch.linalg.lu_solve(factors, pivots, mapped)
        projected = mapped.mH @ image
        ritz, weights = torch.linalg.eigh(0.5 * (projected + projected.mH))
        block, image = block @ weights, image @ weights
        error = image - ritz[:, None, :] * block
        residuals = (error.conj() * (overlaps @ error)).sum(dim=1).real.clamp(min=0.0).sqrt()
        inside = ritz.abs() + residuals >= 1.0 / window
        if bool((inside.sum(dim=1) > width // 2).any()):
            return None
        if bool((~inside | (residuals <= largest_bound * ritz**2)).all()):
            return ritz, block
        block = image / ritz.abs().clamp(min=1e-12)[:, None, :]
    return None


def _orthonormalise(block: Tensor, mapped: Tensor) -> tuple[Tensor, Tensor]:
    """Make the columns of every block S-orthonormal; ``mapped`` is S times the block."""
    scale = (block.conj() * mapped).sum(dim=1).real.sqrt()[:, None, :]
    block, mapped = block / scale, mapped / scale
    gram = block.mH @ mapped
    squares, columns = torch.linalg.eigh(0.5 * (gram + gram.mH))
    change = columns / squares.clamp(min=1e-14).sqrt()[:, None, :].to(columns)
    return block @ change, mapped @ change


def _diagonalise(hamiltonians: Tensor, overlaps: Tensor) -> tuple[Tensor, Tensor]:
    """Solve every pencil completely by Cholesky reduction."""
    lower, status = torch.linalg.cholesky_ex(overlaps)
    if bool(status.any()):
        raise PhysicsError(
            message(
                "overlap matrix",
                "an eigenvalue that is not positive",
                "a positive definite matrix",
                "Atoms are too close for this basis, or S is not accurate enough: check the "
                "structure and the overlap table.",
            )
        )
    half = torch.linalg.solve_triangular(lower, hamiltonians, upper=False)
    reduced = torch.linalg.solve_triangular(lower, half.mH, upper=False)
    values, columns = torch.linalg.eigh(0.5 * (reduced + reduced.mH))
    return values, torch.linalg.solve_triangular(lower.mH, columns, upper=True)


def _select(values: Tensor, vectors: Tensor, energy: float, window: float) -> BatchedStates:
    order = torch.argsort(values)
    order = order[(values[order] - energy).abs() <= window]
    return BatchedStates(values[order], vectors[:, order])
