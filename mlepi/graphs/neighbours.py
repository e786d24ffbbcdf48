"""Periodic neighbour lists in the package's edge convention."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.structures.pair_search import search_pairs

MINIMUM_DISTANCE = 0.5
"""Two atoms closer than this (Å) are taken for a mistake in the structure."""


def find_edges(atoms: Atoms, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find all ordered pairs of different atoms closer than a cutoff.

    They are sorted by target, then source, then shift.

    Args:
        atoms: structure; positions need not be wrapped into the cell.
        cutoff: Å.

    Returns:
        ``edge_index`` (2, n_edges), row 0 = source j, row 1 = target i, and ``edge_cell_shift``
        (n_edges, 3), with edge vector r_j + shift·cell − r_i. Both directions of every pair are
        present.

    Raises:
        StructureError: no atoms, non-finite positions, or atoms closer than ``MINIMUM_DISTANCE``.
    """
    if (
        len(atoms) == 0
        or not np.isfinite(atoms.positions).all()
        or not np.isfinite(atoms.cell.array).all()
    ):
        raise StructureError(
            message(
                "structure",
                "no atoms or non-finite coordinates",
                "a finite structure",
                "Check the file.",
            )
        )
    if bool(np.all(atoms.pbc)) and abs(atoms.cell.volume) < 1e-6:
        raise StructureError(
            message(
                "structure",
                "a cell without volume",
                "three independent lattice vectors",
                "Set the cell.",
            )
        )
    target, source, shift, distance = search_pairs(
        atoms.positions, atoms.cell.array, cutoff, periodic=np.asarray(atoms.pbc, dtype=bool)
    )
    if len(distance) and float(distance.min()) < MINIMUM_DISTANCE:
        closest = int(np.argmin(distance))
        raise StructureError(
            message(
                "structure",
                f"atoms {int(target[closest])} and {int(source[closest])} "
                f"{float(distance[closest]):.3f} Å apart",
                f"at least {MINIMUM_DISTANCE} Å",
                "Check positions, cell and units (Å).",
            )
        )
    order = np.lexsort((shift[:, 2], shift[:, 1], shift[:, 0], source, target))
    return np.stack([source[order], target[order]]), shift[order]


SHORTEST_BOND = 0.66
"""Part of the sum of two covalent radii (Cordero 2008, doi:10.1039/b801115j) below which two atoms
are no compressed bond any more. The shortest known bonds lie above it (N≡N at 0.77, U=O of uranyl
and La=O at 0.67), two carbon atoms 1.0 Å apart below."""


def check_distances(where: str, atoms: Atoms) -> None:
    """Refuse a structure with two atoms that are unphysically close.

    Args:
        where: structure, for the message.
        atoms: Å.

    Raises:
        StructureError: a pair is closer than ``SHORTEST_BOND`` times the sum of its radii.
    """
    radii = covalent_radii[atoms.numbers]
    edges, shift = find_edges(atoms, 2.0 * SHORTEST_BOND * float(radii.max()))
    source, target = edges
    vectors = atoms.positions[source] + shift @ atoms.cell.array - atoms.positions[target]
    lengths = np.linalg.norm(vectors, axis=1)
    limits = SHORTEST_BOND * (radii[source] + radii[target])
    if not np.any(lengths < limits):
        return
    worst = int(np.argmin(lengths / limits))
    names = [f"{atoms.symbols[i]} {i}" for i in (int(target[worst]), int(source[worst]))]
    raise StructureError(
        message(
            where,
            f"atoms {names[0]} and {names[1]} {lengths[worst]:.3f} Å apart",
            f"at least {limits[worst]:.2f} Å, {SHORTEST_BOND} of the sum of their covalent radii",
            "Check positions, cell and units (Å).",
        )
    )


def find_pairs(
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    periodic: NDArray[np.bool_],
    cutoff: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find every pair of atoms closer than a cutoff once, in no particular order.

    Args:
        positions: (n_atoms, 3), Å.
        cell: (3, 3), rows = lattice vectors, Å.
        periodic: (3,), lattice vectors along which the structure repeats.
        cutoff: Å.

    Returns:
        ``pairs`` (2, n_pairs) and ``shift`` (n_pairs, 3), with the vector r_pairs[0] + shift·cell −
        r_pairs[1]. Of the two directions of a pair, an atom and its own image included, one is
        present.
    """
    target, source, shift, _ = search_pairs(
        positions, cell, cutoff, both_ways=False, periodic=np.asarray(periodic, dtype=bool)
    )
    return np.stack([source, target]), shift
