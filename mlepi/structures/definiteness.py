"""Real Bloch sums at k-points of zeros and halves, and whether they are positive definite."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.sparse import csr_array

from mlepi.errors import DataError, message

NEAR_SINGULAR = 1e-4
"""Smallest usual eigenvalue of S."""


def real_kpoints(shift: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return the k-points 0 and ½ along every axis that has neighbours, Γ last."""
    axes = [(0.5, 0.0) if shift[:, axis].any() else (0.0,) for axis in range(3)]
    return [np.array(kpoint) for kpoint in product(*axes)]


def is_definite(matrix: NDArray[np.float64]) -> bool:
    """Say whether a real symmetric matrix is positive definite."""
    return bool(scipy.linalg.lapack.dpotrf(matrix, lower=1, clean=0)[1] == 0)


def check_definite(
    where: str, overlap: NDArray[np.float64], kpoint: NDArray[np.float64]
) -> float | None:
    """Return the smallest eigenvalue of S where it is below ``NEAR_SINGULAR``, else None."""
    if is_definite(overlap - NEAR_SINGULAR * np.eye(len(overlap))):
        return None
    smallest = float(scipy.linalg.eigvalsh(overlap, subset_by_index=[0, 0])[0])
    if not smallest > 0.0:
        place = f"k = {kpoint.tolist()}" if kpoint.any() else "Γ"
        raise DataError(
            message(
                where,
                f"an overlap matrix with smallest eigenvalue {smallest:.3g} at {place}",
                "a positive definite matrix",
                "Pairs are missing, or the blocks stand in a wrong order.",
            )
        )
    return smallest


def sum_real(
    edge_index: NDArray[np.int64],
    shift: NDArray[np.int64],
    blocks: NDArray[np.floating],
    mask: NDArray[np.bool_],
    kpoint: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Add up the blocks of all cells at a k-point of zeros and halves, (n_orbitals, n_orbitals)."""
    signs = 1.0 - 2.0 * ((shift @ (2.0 * kpoint)).astype(np.int64) % 2)
    dense: NDArray[np.float64] = add_up(edge_index, blocks * signs[:, None, None], mask)
    return dense


def sum_bloch(
    edge_index: NDArray[np.int64],
    shift: NDArray[np.int64],
    blocks: NDArray[np.floating],
    mask: NDArray[np.bool_],
    kpoint: NDArray[np.float64],
) -> NDArray[np.complex128]:
    """Return Σ_R e^{2πi k·R} M(R) at any k-point, (n_orbitals, n_orbitals)."""
    phases = np.exp(2j * np.pi * (shift @ kpoint))[:, None, None]
    dense: NDArray[np.complex128] = add_up(edge_index, phases * blocks, mask)
    return dense


def add_up(
    edge_index: NDArray[np.int64], blocks: NDArray[np.inexact], mask: NDArray[np.bool_]
) -> NDArray[Any]:
    """Add blocks, with their phases, to one matrix of the orbitals that there are.

    Args:
        edge_index: (2, n_edges) int, source and target.
        blocks: (n_edges, size, size), padded.
        mask: (n_atoms, size), orbitals of every atom.

    Returns:
        (n_orbitals, n_orbitals), of the type of the blocks.
    """
    (n_atoms, size), n_edges = mask.shape, edge_index.shape[1]
    places = edge_index[1] * n_atoms + edge_index[0], np.arange(n_edges)
    ones = np.ones(n_edges, dtype=blocks.dtype)
    gather = csr_array((ones, places), shape=(n_atoms**2, n_edges))  # in the order of the edges
    padded = (gather @ blocks.reshape(n_edges, size**2)).reshape(n_atoms, n_atoms, size, size)
    dense: NDArray[Any] = padded.transpose(0, 2, 1, 3).reshape(n_atoms * size, n_atoms * size)
    if mask.all():
        return dense
    keep = np.flatnonzero(mask.ravel())
    return dense[np.ix_(keep, keep)]
