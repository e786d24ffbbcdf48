"""Angular parts of two-centre integrals: real solid harmonics and Gaunt coefficients.

Real harmonics of e3nn in the order m = −l…l, i.e. (y, z, x) for l = 1. e3nn's polar axis is its
second one, so that its functions of a vector given as (y, z, x) are the usual ones with the polar
axis z.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from e3nn import o3
from numpy.typing import NDArray


def coupled_momenta(l1: int, l2: int) -> range:
    """Return the total angular momenta L of a pair of shells with Gaunt coefficients ≠ 0."""
    return range(abs(l1 - l2), l1 + l2 + 1, 2)


def solid_harmonics(l: int, vectors: torch.Tensor) -> torch.Tensor:
    """Evaluate r^l Y_lm(r̂), polynomials in the components of r, with ∫ Y² dΩ = 1.

    Args:
        l: angular momentum.
        vectors: (n, 3), Å, components (x, y, z).

    Returns:
        (n, 2l + 1), Å^l.
    """
    return o3.spherical_harmonics(
        l, vectors[:, [1, 2, 0]], normalize=False, normalization="integral"
    )


@cache
def gaunt_coefficients(l1: int, l2: int, l3: int) -> NDArray[np.float64]:
    """Integrate three real harmonics, G^{m1 m2 m3}_{l1 l2 l3} = ∫ Y_l1m1 Y_l2m2 Y_l3m3 dΩ.

    The product quadrature (Gauss–Legendre in cos θ, equal steps in φ) is exact for these
    polynomials.

    Returns:
        (2·l1 + 1, 2·l2 + 1, 2·l3 + 1), float64; rounding noise is set to zero.
    """
    degree = l1 + l2 + l3
    cosine, cosine_weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
    phi = 2.0 * np.pi * np.arange(degree + 1) / (degree + 1)
    sine = np.sqrt(1.0 - cosine**2)
    points = np.stack(
        [
            np.outer(sine, np.cos(phi)),
            np.outer(sine, np.sin(phi)),
            np.outer(cosine, np.ones_like(phi)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    weights = np.repeat(cosine_weights, degree + 1) * 2.0 * np.pi / (degree + 1)
    y1, y2, y3 = (solid_harmonics(l, torch.from_numpy(points)).numpy() for l in (l1, l2, l3))
    coefficients: NDArray[np.float64] = np.einsum("p,pa,pb,pc->abc", weights, y1, y2, y3)
    coefficients[np.abs(coefficients) < 1e-13] = 0.0
    return coefficients


@cache
def coupling_matrix(l1: int, l2: int) -> torch.Tensor:
    """Stack the Gaunt coefficients of all coupled momenta of a pair of shells.

    Returns:
        (Σ_L (2L + 1), (2·l1 + 1)(2·l2 + 1)), float64; rows run over L, then M.
    """
    rows = [gaunt_coefficients(l1, l2, l).reshape(-1, 2 * l + 1).T for l in coupled_momenta(l1, l2)]
    return torch.from_numpy(np.ascontiguousarray(np.concatenate(rows)))
