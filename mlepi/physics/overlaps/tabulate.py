"""Two-centre overlap integrals of numerical atomic orbitals by Fourier–Bessel transforms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.physics.overlaps.orbitals import (
    RadialOrbitals,
    compute_radial_transforms,
    quadrature,
    reduced_bessel,
)
from mlepi.physics.overlaps.table import ElementPair, OverlapTable, element_pairs, list_channels


def tabulate_overlaps(
    orbitals: Sequence[RadialOrbitals], *, k_max: float = 40.0, n_grid: int = 1025
) -> OverlapTable:
    """Tabulate the overlaps of every pair of shells of any set of elements.

    s_L(R) = 8 (−1)^((l1−l2−L)/2) ∫ k² F_1(k) F_2(k) j_L(kR) dk, divided by R^L (Sankey and
    Niklewski 1989, doi:10.1103/PhysRevB.40.3979; Soler et al. 2002,
    doi:10.1088/0953-8984/14/11/302, section 5).

    Args:
        orbitals: radial functions, one entry per element.
        k_max: upper end of the momentum integral, 1/Å.
        n_grid: number of equally spaced distances from 0 to the sum of two radii.

    Returns:
        The table.

    Raises:
        DataError: an element occurs twice, or ``k_max`` misses more than 1 % of a function.
    """
    by_number = {o.number: o for o in orbitals}
    if len(by_number) != len(orbitals) or not orbitals:
        raise DataError(
            message(
                "orbitals",
                f"elements {[o.number for o in orbitals]}",
                "each once",
                "Give one set per element.",
            )
        )
    k, weights = quadrature(0.0, k_max)
    transforms = {z: _checked_transforms(o, k, weights) for z, o in by_number.items()}
    shells = {z: o.shells for z, o in by_number.items()}
    values: dict[ElementPair, NDArray[np.float64]] = {}
    for z1, z2 in element_pairs(shells):
        distances = np.linspace(0.0, by_number[z1].radius + by_number[z2].radius, n_grid)
        values[z1, z2] = _tabulate_pair(
            (transforms[z1], transforms[z2]),
            (shells[z1], shells[z2]),
            (k, weights),
            distances,
            same_element=z1 == z2,
        )
    return OverlapTable(
        shells=shells,
        radii={z: o.radius for z, o in by_number.items()},
        names={z: o.name for z, o in by_number.items()},
        values=values,
    )


def find_k_max(orbitals: Sequence[RadialOrbitals], missing: float = 1e-9) -> float:
    """Return an upper end of the momentum integral for tight functions such as Gaussians.

    Args:
        orbitals: radial functions.
        missing: part of ∫ F² k² dk of any function that may lie beyond.

    Returns:
        40, 80 or 160 1/Å, the first that suffices or else the last.
    """
    for k_max in (40.0, 80.0):
        k, weights = quadrature(k_max, 2.0 * k_max, n_panels=8)
        beyond = [(compute_radial_transforms(o, k) ** 2 * k**2) @ weights for o in orbitals]
        if max(float(part.max()) for part in beyond) * 2.0 / np.pi < missing:
            return k_max
    return 160.0


def _checked_transforms(
    orbitals: RadialOrbitals, k: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Transform the functions of one element and compare their norms with those in real space.

    The norms, (2/π) ∫ k² F² dk up to ``k_max``, are not forced to 1: OpenMX uses the functions as
    they are tabulated, and so must an overlap that goes with its H.
    """
    transforms = compute_radial_transforms(orbitals, k)
    norms, complete = (transforms**2 * k**2) @ weights * 2.0 / np.pi, orbitals.norms()
    if float(np.abs(norms - complete).max()) > 1e-2:
        raise DataError(
            message(
                f"orbitals {orbitals.name!r}",
                f"norms {norms.round(4).tolist()} within k_max",
                f"{complete.round(4).tolist()} ± 0.01",
                "Increase k_max.",
            )
        )
    return transforms


def _tabulate_pair(
    transforms: tuple[NDArray[np.float64], NDArray[np.float64]],
    shells: tuple[tuple[int, ...], tuple[int, ...]],
    momenta: tuple[NDArray[np.float64], NDArray[np.float64]],
    distances: NDArray[np.float64],
    same_element: bool,
) -> NDArray[np.float64]:
    """Integrate all channels of one element pair: (n_channels, n_grid), Å^(−L).

    The last point, the cutoff, is set to zero.
    """
    k, weights = momenta
    channels = list_channels(*shells, same_element=same_element)
    values = np.empty((len(channels), len(distances)))
    for total in sorted({c.total for c in channels}):
        bessel = reduced_bessel(total, np.outer(k, distances))
        rows = [n for n, c in enumerate(channels) if c.total == total]
        products = np.array(
            [transforms[0][channels[n].shell_1] * transforms[1][channels[n].shell_2] for n in rows]
        )
        signs = [
            (-1) ** ((shells[0][channels[n].shell_1] - shells[1][channels[n].shell_2] - total) // 2)
            for n in rows
        ]
        values[rows] = (
            8.0 * np.array(signs)[:, None] * ((products * (weights * k ** (2 + total))) @ bessel)
        )
    values[:, -1] = 0.0
    return values
