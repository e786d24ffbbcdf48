"""Edge frames, and Wigner matrices between the global frame and that of an edge.

Features of angular momentum l are e3nn's real harmonics, m = −l…l, of the axes (y, z, x): a vector
is stored as its (y, z, x) components and the m = 0 component lies along z. In the frame of an edge
the edge points along m = 0, where the harmonics of the edge vector vanish for every m ≠ 0 (Passaro
& Zitnick 2023, arXiv:2302.03655).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from e3nn import o3
from torch import Tensor

AXES = (1, 2, 0)
"""Cartesian components in the order of the l = 1 features: (y, z, x)."""
FROM_AXES = (2, 0, 1)
"""Places of the Cartesian components (x, y, z) among the l = 1 features."""


@cache
def wigner_3j(l1: int, l2: int, l3: int) -> Tensor:
    """Return e3nn's real 3j symbol, (2l1+1, 2l2+1, 2l3+1), float64; its square sums to one."""
    return o3.wigner_3j(l1, l2, l3, dtype=torch.float64)


def edge_frames(vectors: Tensor) -> Tensor:
    """Return rotations Q whose middle column is the edge direction, in the axis order (y, z, x).

    The angle around the edge is arbitrary (nothing that the network emits depends on it); it is
    fixed by the Cartesian axis least parallel to the edge, so that no direction is singular and
    derivatives exist everywhere.

    Args:
        vectors: (n_edges, 3), non-zero, Å, Cartesian (x, y, z).

    Returns:
        (n_edges, 3, 3); features in the global frame are D(Q) times features in the edge frame.
    """
    return frames_with(vectors, least_parallel_axes(vectors))


def least_parallel_axes(vectors: Tensor) -> Tensor:
    """Return the Cartesian axis least parallel to each vector, (n, 3), Cartesian (x, y, z)."""
    axes = torch.nn.functional.one_hot(vectors.detach()[:, AXES].abs().argmin(dim=1), 3)
    return axes[:, FROM_AXES].to(vectors)


def frames_with(vectors: Tensor, references: Tensor) -> Tensor:
    """Return rotations Q as ``edge_frames``, the angle around the edge fixed by a second vector.

    The first column is the part of it across the edge.

    Args:
        vectors: (n_edges, 3), non-zero, Å, Cartesian (x, y, z).
        references: (n_edges, 3), not parallel to the vectors.

    Returns:
        (n_edges, 3, 3), in the axis order (y, z, x).
    """
    direction = vectors[:, AXES] / torch.linalg.norm(vectors, dim=1, keepdim=True)
    first = references[:, AXES]
    first = first - (first * direction).sum(1, keepdim=True) * direction
    first = first / torch.linalg.norm(first, dim=1, keepdim=True)
    return torch.stack([first, direction, torch.linalg.cross(first, direction, dim=1)], dim=2)


def wigner_matrices(rotations: Tensor, l_max: int) -> list[Tensor]:
    """Return D^l of rotations given as matrices.

    By the recursion D^l = (D^1 ⊗ D^{l−1}) projected on l.

    Args:
        rotations: (n, 3, 3), proper, in the axis order (y, z, x).
        l_max: largest l.

    Returns:
        For l = 0 … l_max, (n, 2l+1, 2l+1).
    """
    n = rotations.shape[0]
    matrices = [rotations.new_ones(n, 1, 1), rotations][: l_max + 1]
    for l in range(2, l_max + 1):
        coupling = wigner_3j(1, l - 1, l).to(rotations)
        half = torch.einsum("eac,cdn->eadn", rotations, coupling)
        half = torch.einsum("ebd,eadn->eabn", matrices[-1], half)
        matrices.append((2 * l + 1) * torch.einsum("abm,eabn->emn", coupling, half))
    return matrices


def order_rows(l: int) -> list[int]:
    """Return the positions of m = 0, −1, +1, −2, +2, … among m = −l … l.

    The rows of edge-frame features.
    """
    return [l, *(l + sign * m for m in range(1, l + 1) for sign in (-1, 1))]


def columns_by_order(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Sort the columns of Wigner matrices by |m| as ``order_rows`` does.

    One (n, 2l+1, 2l+1) per l.
    """
    return [matrix[:, :, order_rows(l)] for l, matrix in enumerate(matrices)]


def edge_rotations(vectors: Tensor, l_max: int) -> list[Tensor]:
    """Return the matrices that turn edge-frame features to the global frame.

    D^l of ``edge_frames``, columns by |m|.

    Args:
        vectors: (n_edges, 3), non-zero, Å.
        l_max: largest l.

    Returns:
        For l = 0 … l_max, (n_edges, 2l+1, 2l+1): rows m = −l … l of the global frame, columns as
        ``order_rows``.
    """
    return columns_by_order(wigner_matrices(edge_frames(vectors), l_max))
