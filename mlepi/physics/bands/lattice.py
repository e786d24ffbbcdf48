"""Reciprocal lattice and k-points.

Paths, meshes, and the K points of hexagonal two-dimensional cells.

k-points are fractional everywhere, k_cartesian = k · B with rows of B the reciprocal vectors
including 2π, Å⁻¹.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import ConfigError, StructureError, message

HEXAGONAL_TOLERANCE = 0.02
"""Largest relative difference of the in-plane lattice vectors, and of cos 60°, for a cell to count
as hexagonal."""


@dataclass(frozen=True)
class KPath:
    """A path through the Brillouin zone.

    Attributes:
        kpoints: (n_k, 3) fractional.
        distances: (n_k,) Å⁻¹ along the path.
        ticks: (n_labels,) distances of the named points, Å⁻¹.
        labels: their names.
    """

    kpoints: NDArray[np.float64]
    distances: NDArray[np.float64]
    ticks: NDArray[np.float64]
    labels: tuple[str, ...]


def reciprocal_lattice(cell: ArrayLike) -> NDArray[np.float64]:
    """Return the reciprocal vectors, rows, with a_i · b_j = 2π δ_ij.

    (3, 3), Å⁻¹ for a cell in Å.
    """
    return 2.0 * np.pi * np.linalg.inv(np.asarray(cell, dtype=np.float64)).T


def to_cartesian(kpoints: ArrayLike, cell: ArrayLike) -> NDArray[np.float64]:
    """Convert fractional k-points (…, 3) to Å⁻¹."""
    return np.asarray(kpoints, dtype=np.float64) @ reciprocal_lattice(cell)


def to_fractional(kpoints: ArrayLike, cell: ArrayLike) -> NDArray[np.float64]:
    """Convert k-points (…, 3) in Å⁻¹ to fractional ones: k_i = k · a_i / 2π."""
    return (
        np.asarray(kpoints, dtype=np.float64) @ np.asarray(cell, dtype=np.float64).T / (2.0 * np.pi)
    )


def hexagonal_points(cell: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Name the special points of a cell that is hexagonal in its first two vectors (60° or 120°).

    Args:
        cell: (3, 3) rows, Å.

    Returns:
        Fractional "Γ", "M", "K" and "K'" = −K, with M and K corners of one irreducible wedge.

    Raises:
        StructureError: the cell is not hexagonal in the plane of its first two vectors.
    """
    first, second = np.asarray(cell, dtype=np.float64)[:2]
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    cosine = float(first @ second / (lengths[0] * lengths[1]))
    if (
        abs(lengths[0] / lengths[1] - 1.0) > HEXAGONAL_TOLERANCE
        or abs(abs(cosine) - 0.5) > HEXAGONAL_TOLERANCE
    ):
        raise StructureError(
            message(
                "cell",
                f"in-plane lengths {lengths[0]:.3f} and {lengths[1]:.3f} Å at "
                f"{np.degrees(np.arccos(cosine)):.1f}°",
                "two equal vectors at 60° or 120°",
                "K points exist in hexagonal cells only; name k-points by hand for others.",
            )
        )
    corner = np.array([1.0, 1.0, 0.0]) / 3.0 if cosine < 0 else np.array([2.0, 1.0, 0.0]) / 3.0
    return {"Γ": np.zeros(3), "M": np.array([0.5, 0.0, 0.0]), "K": corner, "K'": -corner}


def build_k_path(
    points: Mapping[str, ArrayLike], route: Sequence[str], cell: ArrayLike, spacing: float
) -> KPath:
    """Connect named points by straight lines.

    Args:
        points: name → (3,) fractional.
        route: names in order, at least two.
        cell: (3, 3) rows, Å.
        spacing: largest distance of two neighbours, Å⁻¹.

    Returns:
        The path; every named point is on it.

    Raises:
        ConfigError: a name is unknown, the route is too short, or the spacing is not positive.
    """
    unknown = [name for name in route if name not in points]
    if unknown or len(route) < 2 or spacing <= 0:
        raise ConfigError(
            message(
                "k path",
                f"route {list(route)} with spacing {spacing} Å⁻¹",
                f"at least two of {list(points)} and a spacing > 0",
                "Use for example ΓKMΓ and 0.02.",
            )
        )
    corners = np.array([points[name] for name in route], dtype=np.float64)
    pieces = [corners[:1]]
    for start, end in pairwise(corners):
        steps = max(1, int(np.ceil(np.linalg.norm(to_cartesian(end - start, cell)) / spacing)))
        pieces.append(start + (end - start) * (np.arange(1, steps + 1) / steps)[:, None])
    kpoints = np.concatenate(pieces)
    steps_length = np.linalg.norm(to_cartesian(np.diff(kpoints, axis=0), cell), axis=1)
    distances = np.concatenate([[0.0], np.cumsum(steps_length)])
    ends = np.cumsum([len(piece) for piece in pieces]) - 1
    return KPath(kpoints, distances, distances[ends], tuple(route))


def build_line(
    start: ArrayLike, toward: ArrayLike, distances: ArrayLike, cell: ArrayLike
) -> NDArray[np.float64]:
    """Return the k-points at given distances from one point in the direction of another.

    Args:
        start: (3,) fractional.
        toward: (3,) fractional; only the direction counts.
        distances: (n_k,) Å⁻¹; negative ones lie on the far side.
        cell: (3, 3) rows, Å.

    Returns:
        (n_k, 3) fractional.
    """
    direction = np.asarray(toward, dtype=np.float64) - np.asarray(start, dtype=np.float64)
    length = np.linalg.norm(to_cartesian(direction, cell))
    return np.asarray(start) + np.asarray(distances, dtype=np.float64)[:, None] * direction / length


def build_k_mesh(mesh: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Build a Γ-centred mesh reduced by time reversal, E(k) = E(−k).

    Args:
        mesh: divisions along the three reciprocal vectors.

    Returns:
        kpoints (n_k, 3) fractional and weights (n_k,), which sum to one.

    Raises:
        ConfigError: a division is not positive.
    """
    divisions = np.asarray(mesh, dtype=np.int64)
    if divisions.shape != (3,) or divisions.min() < 1:
        raise ConfigError(
            message("k mesh", f"{list(mesh)}", "three divisions ≥ 1", "For example [24, 24, 1].")
        )
    grid = np.stack(
        np.meshgrid(*[np.arange(n) for n in divisions], indexing="ij"), axis=-1
    ).reshape(-1, 3)
    partner = np.ravel_multi_index(tuple(((-grid) % divisions).T), tuple(divisions))
    own = np.arange(len(grid))
    kept = own <= partner
    weights = np.where(own == partner, 1.0, 2.0)[kept] / len(grid)
    return grid[kept] / divisions, weights
