"""Where the atoms of every pair are: elements, vectors, distances."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

SAME_PLACE = 0.1
"""Å; blocks of closer pairs are on-site."""


@dataclass(frozen=True)
class Bonds:
    """Geometry of edges.

    Attributes:
        targets: (n_edges,) int, atomic numbers of the rows.
        sources: (n_edges,) int, of the columns.
        vectors: (n_edges, 3) Å, from target to source.
        reversed_vectors: (n_edges, 3) Å, if the cells of the file had the opposite sign.
        distances: (n_edges,) Å.
    """

    targets: NDArray[np.int64]
    sources: NDArray[np.int64]
    vectors: NDArray[np.float64]
    reversed_vectors: NDArray[np.float64]
    distances: NDArray[np.float64]

    def by_elements(self, chosen: NDArray[np.bool_]) -> dict[tuple[int, int], NDArray[np.int64]]:
        """Return the chosen edges by ordered pair of elements (target, source)."""
        elements = np.unique(self.targets).tolist()
        found = {
            (a, b): np.flatnonzero(chosen & (self.targets == a) & (self.sources == b))
            for a, b in product(elements, elements)
        }
        return {pair: edges for pair, edges in found.items() if edges.size}


def find_bonds(atoms: Atoms, edge_index: NDArray[np.int64], shift: NDArray[np.int64]) -> Bonds:
    """Return the geometry of edges.

    Args:
        atoms: structure, Å.
        edge_index: (2, n_edges) int, source and target.
        shift: (n_edges, 3) int.
    """
    source, target = edge_index
    inside = atoms.positions[source] - atoms.positions[target]
    across = shift @ atoms.cell.array
    vectors, numbers = inside + across, atoms.numbers
    lengths = np.linalg.norm(vectors, axis=1)
    return Bonds(numbers[target], numbers[source], vectors, inside - across, lengths)
