"""Which atom of the primitive cell every atom of a displaced supercell is, found from positions.

Samples of an ensemble come in the order of ``ase.Atoms.repeat``; a supercell from elsewhere may
have any order and may be wrapped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.physics.bands.unfolding import AtomMap

SAME_SITE = 0.7
"""Å; half a bond: atoms of one element and layer closer to each other than this in plane, but for
lattice vectors, are images of one atom of the primitive cell."""
SAME_HEIGHT = 1.5
"""Å, the same across the plane, where flexural waves move atoms further; half the distance of two
atoms of a layer that lie above each other."""


def find_sites(atoms: Atoms, repeats: Sequence[int]) -> AtomMap:
    """Find which atom of the primitive cell every atom of a displaced supercell is.

    Args:
        atoms: Å, with the layer of each atom where there are layers; in any order.
        repeats: primitive cells along each lattice vector.

    Returns:
        Primitive atoms numbered by first appearance.

    Raises:
        StructureError: not every primitive atom is there once per cell.
    """
    cell = atoms.cell.array / np.array(repeats)[:, None]
    normal = np.cross(cell[0], cell[1]) / np.linalg.norm(np.cross(cell[0], cell[1]))
    places = np.linalg.solve(cell.T, atoms.positions.T).T
    layers = np.asarray(atoms.arrays.get("layer", np.zeros(len(atoms), dtype=np.int64)))
    sites: list[int] = []
    owners: NDArray[np.int64] = np.empty(len(atoms), dtype=np.int64)
    cells: NDArray[np.int64] = np.zeros((len(atoms), 3), dtype=np.int64)
    for atom, place in enumerate(places):
        known = np.array(sites, dtype=np.int64)
        steps = np.round(place - places[known])
        moved = (place - places[known] - steps) @ cell
        height = moved @ normal
        in_plane = np.linalg.norm(moved - height[:, None] * normal, axis=1)
        near = (in_plane < SAME_SITE) & (np.abs(height) < SAME_HEIGHT)
        same = (layers[known] == layers[atom]) & (atoms.numbers[known] == atoms.numbers[atom])
        matches = np.flatnonzero(near & same)
        if len(matches):
            owners[atom], cells[atom] = matches[0], steps[matches[0]]
        else:
            owners[atom] = len(sites)
            sites.append(atom)
    found = np.column_stack([owners, np.mod(cells, repeats)])
    n_cells = int(np.prod(repeats))
    if len(sites) * n_cells != len(atoms) or len(np.unique(found, axis=0)) != len(atoms):
        raise StructureError(
            message(
                "sample",
                f"{len(sites)} different sites among {len(atoms)} atoms",
                f"{len(atoms) // n_cells} sites in each of {n_cells} cells",
                "Use a supercell of weakly displaced atoms, and its own repeats.",
            )
        )
    return AtomMap(owners, cells, (int(repeats[0]), int(repeats[1]), int(repeats[2])))


def average_sites(atoms: Atoms, atom_map: AtomMap) -> Atoms:
    """Return the primitive cell with every atom at the mean of its images.

    Args:
        atoms: supercell, Å.
        atom_map: of ``find_sites``.
    """
    cell = atoms.cell.array / np.array(atom_map.supercell)[:, None]
    owners = atom_map.primitive_atoms
    # the image of an atom that was wrapped differs by lattice vectors of the supercell
    offsets = atoms.positions - atom_map.cells @ cell
    first = np.unique(owners, return_index=True)[1]
    from_first = np.linalg.solve(atoms.cell.array.T, (offsets - offsets[first][owners]).T).T
    offsets -= np.round(from_first) @ atoms.cell.array
    counts = np.bincount(owners)
    means = np.stack([np.bincount(owners, weights=x) for x in offsets.T], axis=1) / counts[:, None]
    primitive = Atoms(numbers=atoms.numbers[first], positions=means, cell=cell, pbc=atoms.pbc)
    if "layer" in atoms.arrays:
        primitive.set_array("layer", atoms.arrays["layer"][first])
    return primitive
