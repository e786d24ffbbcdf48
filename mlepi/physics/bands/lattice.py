"""Reciprocal lattice and k-points.

Paths, meshes, and the K points of hexagonal two-dimensional cells.

k-points are fractional everywhere, k_cartesian = k · B with rows of B the reciprocal vectors
including 2π, Å⁻¹.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import seekpath
from ase import Atoms
from ase.dft.kpoints import parse_path_string
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
                "Use for example [GAMMA,M,K,GAMMA], or [[0,0,0],[0.5,0,0]], and 0.02.",
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


ASCII_NAMES = {"G": "Γ", "GAMMA": "Γ", "KP": "K'", "K_PRIME": "K'"}
"""How special points may be written on a keyboard without Greek letters."""

BREAK = "|"
"""Where a path goes on at another point without a line between them."""


def lattice_path(
    atoms: Atoms, periodic: Sequence[bool]
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Name the special points of any lattice, and a path through all of them.

    Crystals have those of their space group by seekpath (Hinuma et al., Comput. Mater. Sci. 128,
    140 (2017)), in terms of the cell as it is; layers and wires, which seekpath does not know,
    those of their lattice by ASE.

    Args:
        atoms: the structure.
        periodic: (3,), lattice vectors along which k counts; False along vacuum.

    Returns:
        Name → (3,) fractional, Γ for the centre, and names in order with ``BREAK`` where the path
        is interrupted.
    """
    if all(periodic):
        sites = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        with warnings.catch_warnings():  # spglib's, of a call inside seekpath
            warnings.simplefilter("ignore", DeprecationWarning)
            found = seekpath.get_path_orig_cell(sites)
        pieces = [list(found["path"][0])]
        for start, end in found["path"][1:]:
            if start == pieces[-1][-1]:
                pieces[-1].append(end)
            else:
                pieces.append([start, end])
        named = found["point_coords"]
    else:
        path = atoms.cell.bandpath(npoints=0, pbc=periodic)
        pieces, named = parse_path_string(path.path), path.special_points
    points = {ASCII_NAMES.get(name, name): np.array(k, float) for name, k in named.items()}
    route: list[str] = []
    for piece in pieces:
        route += [BREAK] * bool(route) + [ASCII_NAMES.get(name, name) for name in piece]
    return points, route


def join_paths(paths: Sequence[KPath]) -> KPath:
    """Put paths behind each other without a distance between them; the ends share a label."""
    joined = paths[0]
    for path in paths[1:]:
        end = joined.distances[-1]
        joined = KPath(
            np.concatenate([joined.kpoints, path.kpoints]),
            np.concatenate([joined.distances, end + path.distances]),
            np.concatenate([joined.ticks, end + path.ticks[1:]]),
            (*joined.labels[:-1], joined.labels[-1] + BREAK + path.labels[0], *path.labels[1:]),
        )
    return joined


def follow_route(
    route: Sequence[str | Sequence[float]] | None,
    own_points: Mapping[str, Sequence[float]],
    atoms: Atoms,
    periodic: Sequence[bool],
    spacing: float,
) -> KPath:
    """Build a path from what a user asks for.

    Args:
        route: names of special points or of own ones, fractional coordinates, and ``BREAK``; None
            takes K-Γ-M-K' for a hexagonal layer and the lattice's own path otherwise.
        own_points: name → (3,) fractional; they win over special points of that name.
        atoms: the structure.
        periodic: (3,), lattice vectors along which k counts.
        spacing: largest distance of two neighbours, Å⁻¹.

    Raises:
        ConfigError: a name is unknown, coordinates are not three numbers, or a piece is too short.
    """
    points, default = lattice_path(atoms, periodic)
    if not periodic[2]:
        try:
            points |= hexagonal_points(atoms.cell.array)
            # the equivalent corner on the edge of K and M
            points["K'"] = 2.0 * points["M"] - points["K"]
            default = ["K", "Γ", "M", "K'"]
        except StructureError:
            pass  # another lattice has other points
    named: dict[str, ArrayLike] = {**points, **own_points}
    pieces: list[list[str]] = [[]]
    for stop in default if route is None else route:
        if stop == BREAK:
            pieces.append([])
        elif isinstance(stop, str):
            pieces[-1].append(stop if stop in named else ASCII_NAMES.get(stop.upper(), stop))
        else:
            label = "(" + ", ".join(f"{x:g}" for x in stop) + ")"
            named[label] = stop
            pieces[-1].append(label)
    wrong = [name for name, k in named.items() if np.shape(k) != (3,)]
    if wrong:
        raise ConfigError(
            message("k path", repr(named[wrong[0]]), "three fractional coordinates", "Give three.")
        )
    return join_paths([build_k_path(named, piece, atoms.cell.array, spacing) for piece in pieces])


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
