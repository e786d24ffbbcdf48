"""Which atom is in which layer, and which pairs of atoms stay within one layer.

A layer is a connected component of the graph of bonds, found with periodic boundary conditions in
all three directions; a pair is bonded when it is closer than a tolerance times the sum of the
covalent radii. Layers are numbered from bottom to top along the stacking direction, which is the
normal of the plane that a layer spans. A crystal bonded in three dimensions is one layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mlepi.errors import StructureError, message
from mlepi.structures.pair_search import search_pairs

TOLERANCE = 1.2
"""Bond criterion: distance below this times the sum of covalent radii (C–C 1.82 Å, Mo–S 3.11 Å)."""

BOUNDARY_PREFERENCE = 0.5
"""Å; numbering starts at the cell boundary unless another gap between layers is wider than the one
there by this."""


@dataclass(frozen=True)
class _Components:
    """Connected components of the bonded graph, unwrapped.

    Attributes:
        label: (n_atoms,) int, component of each atom.
        cells: (n_atoms, 3) int; atom a with this shift is bonded to its component without crossing
            it.
        spans: per component an orthonormal basis (rank, 3) of the lattice translations that connect
            it with itself, in units of the lattice vectors: rank 2 for a layer, 3 for a crystal, 0
            for a molecule.
    """

    label: NDArray[np.int64]
    cells: NDArray[np.int64]
    spans: list[NDArray[np.float64]]


def get_layers(atoms: Atoms) -> NDArray[np.int64]:
    """Return ``atoms.arrays["layer"]`` when it is there and valid, else find the layers.

    Args:
        atoms: structure, Å.

    Returns:
        (n_atoms,) int, layer of each atom.

    Raises:
        StructureError: the supplied layers are not integers 0…n−1, each used at least once.
    """
    if "layer" not in atoms.arrays:
        return assign_layers(atoms)
    supplied = np.asarray(atoms.arrays["layer"])
    layer = (
        supplied.astype(np.int64) if supplied.ndim == 1 and supplied.dtype.kind in "iuf" else None
    )
    if (
        layer is None
        or not np.array_equal(layer, supplied)
        or set(layer.tolist()) != set(range(int(layer.max(initial=-1)) + 1))
    ):
        got = (
            f"{supplied.dtype} of shape {supplied.shape} with values "
            f"{np.unique(supplied)[:8].tolist()}"
        )
        fix = "Renumber the layers, or delete the array to have them found."
        raise StructureError(
            message("atoms.arrays['layer']", got, "one integer per atom, 0…n−1 without gaps", fix)
        )
    return layer


def assign_layers(atoms: Atoms, tolerance: float = TOLERANCE) -> NDArray[np.int64]:
    """Find the layers of a structure from its bonds.

    Args:
        atoms: structure with three lattice vectors, positions in Å, wrapped or not; taken as
            periodic in all directions.
        tolerance: factor on the sum of covalent radii below which a pair is bonded.

    Returns:
        (n_atoms,) int, numbered 0, 1, … from bottom to top. With vacuum the lowest layer is the
        first above it; without, the first above the cell boundary.

    Raises:
        StructureError: the structure has no atoms or no cell with a volume.
    """
    components = _find_components(len(atoms), *_find_bonds(atoms, tolerance))
    n_components = len(components.spans)
    if n_components == 1:
        return np.zeros(len(atoms), dtype=np.int64)
    normal = _stacking_normal(components)
    heights = (atoms.cell.scaled_positions(atoms.positions) + components.cells) @ normal
    mean = np.bincount(components.label, weights=heights) / np.bincount(components.label)
    wrap = np.floor(mean + 1e-6)
    low, high = np.full(n_components, np.inf), np.full(n_components, -np.inf)
    np.minimum.at(low, components.label, heights)
    np.maximum.at(high, components.label, heights)
    order = np.argsort(mean - wrap, kind="stable")
    low, high = (low - wrap)[order], (high - wrap)[order]
    gaps = (np.append(low[1:], low[0] + 1.0) - high) / float(
        np.linalg.norm(normal @ atoms.cell.reciprocal().array)
    )
    first = 0 if gaps[-1] >= gaps.max() - BOUNDARY_PREFERENCE else int(np.argmax(gaps)) + 1
    number = np.empty(n_components, dtype=np.int64)
    number[np.roll(order, -first)] = np.arange(n_components)
    return number[components.label]


def select_intralayer(
    atoms: Atoms,
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    tolerance: float = TOLERANCE,
) -> NDArray[np.bool_]:
    """Mark the edges that stay within one layer.

    Equal layer numbers are necessary but not sufficient: in a crystal with one layer per cell an
    edge along the stacking direction leads to the next layer, which is an image with the same
    number.

    Args:
        atoms: structure, Å; a supplied layer index wins over the bonds.
        edge_index: (2, n_edges) int, row 0 = source j, row 1 = target i.
        edge_cell_shift: (n_edges, 3) int; edge vector = r_j + shift·cell − r_i.
        tolerance: bond criterion as in ``assign_layers``.

    Returns:
        (n_edges,) bool.
    """
    layer = get_layers(atoms)
    target, source, shifts = _find_bonds(atoms, tolerance)
    bonded = layer[target] == layer[source]
    components = _find_components(len(atoms), target[bonded], source[bonded], shifts[bonded])
    j, i = edge_index
    same = np.asarray(layer[i] == layer[j])
    part = components.label[i]
    translation = (components.cells[i] + edge_cell_shift - components.cells[j]).astype(np.float64)
    for label, span in enumerate(components.spans):
        if len(span) == 2:
            inside = np.flatnonzero((part == label) & (components.label[j] == label))
            outside_plane = translation[inside] - translation[inside] @ span.T @ span
            same[inside] &= np.abs(outside_plane).max(axis=1, initial=0.0) < 1e-6
    return same


def _find_bonds(
    atoms: Atoms, tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return all bonds in both directions: i, j (n_bonds,) and cell of j (n_bonds, 3)."""
    if len(atoms) == 0:
        raise StructureError(
            message("structure", "no atoms", "at least one", "Check the file or builder.")
        )
    if atoms.cell.rank < 3 or not np.isfinite(atoms.positions).all():
        got = (
            f"a cell of rank {atoms.cell.rank}"
            if atoms.cell.rank < 3
            else "positions that are not finite"
        )
        expected = "finite positions and three lattice vectors"
        raise StructureError(
            message(
                "structure", got, expected, "Give a slab vacuum along the third lattice vector."
            )
        )
    radii = tolerance * covalent_radii[atoms.numbers]
    i, j, shifts, distances = search_pairs(
        atoms.positions, atoms.cell.array, 2.0 * float(radii.max())
    )
    bonded = distances < radii[i] + radii[j]
    return i[bonded], j[bonded], shifts[bonded]


def _find_components(
    n_atoms: int, i: NDArray[np.int64], j: NDArray[np.int64], shifts: NDArray[np.int64]
) -> _Components:
    """Unwrap every component by going outwards from its first atom, all components at once."""
    n_components, label = connected_components(
        coo_array((np.ones(len(i)), (i, j)), shape=(n_atoms, n_atoms)), directed=False
    )
    cells = np.zeros((n_atoms, 3), dtype=np.int64)
    reached = np.zeros(n_atoms, dtype=bool)
    reached[np.unique(label, return_index=True)[1]] = True
    open_bonds = np.arange(len(i))
    while len(open_bonds):
        leading = open_bonds[reached[i[open_bonds]] & ~reached[j[open_bonds]]]
        _, first = np.unique(j[leading], return_index=True)
        leading = leading[first]
        cells[j[leading]] = cells[i[leading]] + shifts[leading]
        reached[j[leading]] = True
        open_bonds = open_bonds[~(reached[i[open_bonds]] & reached[j[open_bonds]])]
    translations = np.unique(np.column_stack([label[i], cells[i] + shifts - cells[j]]), axis=0)
    spans = []
    for component in range(n_components):
        own = translations[translations[:, 0] == component, 1:].astype(np.float64)
        _, singular, directions = np.linalg.svd(own if len(own) else np.zeros((1, 3)))
        spans.append(directions[: int(np.sum(singular > 1e-6))])
    return _Components(label.astype(np.int64), cells, spans)


def _stacking_normal(components: _Components) -> NDArray[np.float64]:
    """Return the smallest integers m with m·t = 0 for the translations t of the largest layer.

    Returns:
        (3,) int, (0, 0, 1) without a layer.

    m·f of fractional coordinates f is a height in units of the stacking period.
    """
    sizes = np.bincount(components.label)
    layers = [label for label, span in enumerate(components.spans) if len(span) == 2]
    if not layers:
        return np.array([0.0, 0.0, 1.0])
    first, second = components.spans[max(layers, key=lambda label: sizes[label])]
    normal = np.cross(first, second)
    normal = normal / np.abs(normal[np.abs(normal) > 1e-6]).min()
    for multiple in range(1, 100):
        if np.abs(multiple * normal - np.rint(multiple * normal)).max() < 1e-4:
            normal = np.rint(multiple * normal)
            break
    last = normal[np.flatnonzero(normal)[-1]]
    return np.asarray(normal if last > 0 else -normal)
