"""Where on a path through the Brillouin zone points lie that are known from elsewhere.

A point stands for its whole star: rotations of the crystal and q → −q, which change no frequency,
and reciprocal lattice vectors.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from mlepi.physics.bands.lattice import to_cartesian
from mlepi.physics.vibrations.phonopy_order import build_phonopy

TOLERANCE = 1e-4
"""1/Å; a point closer to the path than this is on it."""


def list_rotations(atoms: Atoms, symprec: float = 1e-4) -> NDArray[np.int64]:
    """Return how the symmetry of a crystal, with q → −q, acts on fractional wave vectors.

    Args:
        atoms: one cell.
        symprec: distance within which atoms count as symmetric, Å.

    Returns:
        (n_rotations, 3, 3), unique, with the identity: R q are equivalent to q.
    """
    symmetry = build_phonopy(atoms, (1, 1, 1), symprec).primitive_symmetry
    rotations = np.asarray(symmetry.reciprocal_operations, dtype=np.int64)
    return np.unique(np.concatenate([rotations, -rotations]), axis=0)


def find_on_path(
    point: ArrayLike,
    path: NDArray[np.float64],
    distances: NDArray[np.float64],
    rotations: NDArray[np.int64],
    cell: ArrayLike,
) -> NDArray[np.float64]:
    """Find all places of a path that are equivalent to a point.

    Args:
        point: (3,) fractional.
        path: (n_points, 3) fractional, along straight lines between neighbours.
        distances: (n_points,), 1/Å, length of the path so far; neighbours at one distance are the
            two sides of a break.
        rotations: (n_rotations, 3, 3), of ``list_rotations``.
        cell: (3, 3) rows, Å.

    Returns:
        (n_places,), 1/Å, ascending; empty where the path does not meet the star of the point.
    """
    star = np.unique(np.round(rotations @ np.asarray(point, dtype=np.float64), 9), axis=0)
    around = np.array(list(product(range(-1, 2), repeat=3)))
    images = ((star - np.floor(star))[:, None] + around).reshape(-1, 3)
    starts, steps = to_cartesian(path[:-1], cell), to_cartesian(np.diff(path, axis=0), cell)
    lengths = np.linalg.norm(steps, axis=1)
    joined = (lengths > 0.0) & (np.diff(distances) > 0.0)
    found: list[float] = []
    for image in to_cartesian(images, cell):
        share = np.einsum("ij,ij->i", image - starts, steps) / np.where(joined, lengths, 1.0) ** 2
        share = np.clip(share, 0.0, 1.0)
        off = np.linalg.norm(starts + share[:, None] * steps - image, axis=1)
        near = joined & (off < TOLERANCE)
        found += (distances[:-1] + share * np.diff(distances))[near].tolist()
    places = np.sort(np.array(found, dtype=np.float64))
    kept = np.diff(places, prepend=-np.inf) > 10.0 * TOLERANCE
    return places[kept]
