"""Rotations of orbital blocks: whether a block has the symmetry that its bond allows.

A two-centre block does not change when space is turned around the bond (Slater and Koster 1954,
doi:10.1103/PhysRev.94.1498), an on-site block of a free atom not when it is turned around any axis.
With the generators K of rotations of the real harmonics, y((1 + θ d×) r) = (1 + θ K(d)) y(r), that
is K_i(d) B − B K_j(d) = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray


@cache
def _shell_generators(l: int) -> NDArray[np.float64]:
    """Return K for x, y, z of one shell in e3nn's order, (3, 2l + 1, 2l + 1), antisymmetric."""
    m = np.arange(-l, l + 1)
    raising = np.diag(np.sqrt(l * (l + 1.0) - m[:-1] * (m[:-1] + 1.0)), -1)  # ⟨m + 1|L₊|m⟩
    momenta = np.array(
        [(raising + raising.T) / 2.0, (raising - raising.T) / 2.0j, np.diag(m).astype(complex)]
    )
    real = np.zeros((2 * l + 1, 2 * l + 1), dtype=complex)  # real harmonics of complex ones
    real[l, l] = 1.0
    for k in range(1, l + 1):
        sign = (-1.0) ** k
        real[l + k, [l + k, l - k]] = sign / np.sqrt(2.0), 1.0 / np.sqrt(2.0)
        real[l - k, [l + k, l - k]] = -1.0j * sign / np.sqrt(2.0), 1.0j / np.sqrt(2.0)
    turned = real @ (1.0j * momenta.transpose(0, 2, 1)) @ real.conj().T
    return np.ascontiguousarray(turned.real)


def build_generators(shells: Sequence[int]) -> NDArray[np.float64]:
    """Join the generators of the shells of one atom.

    Args:
        shells: angular momenta, in the order of the orbitals.

    Returns:
        (3, n_orbitals, n_orbitals): K for x, y, z.
    """
    ends = np.cumsum([2 * l + 1 for l in shells])
    joined = np.zeros((3, int(ends[-1]), int(ends[-1])))
    for l, end in zip(shells, ends.tolist(), strict=True):
        part = slice(end - 2 * l - 1, end)
        joined[:, part, part] = _shell_generators(l)
    return joined


def axial_deviation(
    blocks: NDArray[np.floating],
    directions: NDArray[np.float64],
    shells: tuple[Sequence[int], Sequence[int]],
) -> NDArray[np.float64]:
    """Return K_i(d) B − B K_j(d) of blocks between two elements.

    Args:
        blocks: (n, n_orbitals_i, n_orbitals_j) in internal order, any unit.
        directions: (n, 3), unit vectors of the bonds.
        shells: of the elements of rows and columns.

    Returns:
        (n, n_orbitals_i, n_orbitals_j), unit of the blocks; zero for two-centre blocks.
    """
    rows, columns = (np.tensordot(directions, build_generators(ls), 1) for ls in shells)
    deviation: NDArray[np.float64] = rows @ blocks - blocks @ columns
    return deviation


def spherical_deviation(blocks: NDArray[np.floating], shells: Sequence[int]) -> float:
    """Return the largest |K B − B K| of on-site blocks of one element over the three axes.

    Args:
        blocks: (n, n_orbitals, n_orbitals) in internal order.
        shells: of the element.
    """
    generators = build_generators(shells)[:, None]
    return float(np.abs(generators @ blocks - blocks @ generators).max(initial=0.0))
