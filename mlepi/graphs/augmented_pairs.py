"""S of augmented waves in a structure: pairs that overlap directly, or by a third atom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import find_pairs, list_edges, list_pairs, unite_pairs
from mlepi.graphs.neighbours import find_edges
from mlepi.physics.overlaps import (
    AugmentedOverlapTable,
    AugmentedPairs,
    compute_augmented_blocks,
)
from mlepi.physics.overlaps.augmented import PROJECTORS
from mlepi.structures.basis import OrbitalBasis


class _Reached(NamedTuple):
    """Edges within the sum of two radii, on-site ones first: index (2, n), shift (n, 3)."""

    edge_index: NDArray[np.int64]
    edge_cell_shift: NDArray[np.int64]


def find_augmented_pairs(atoms: Atoms, table: AugmentedOverlapTable) -> AugmentedPairs:
    """Find all pairs of a structure between which S is not zero.

    Orbitals of two atoms overlap within the sum of their radii, and both may overlap with the
    projectors of a third one.

    Args:
        atoms: structure; not modified.
        table: with the radii of orbitals and projectors.

    Raises:
        StructureError: an element that the table lacks, or atoms that are too close.
    """
    missing = sorted(set(atoms.numbers.tolist()) - set(table.shells))
    if missing:
        got, expected = f"atomic numbers {missing}", f"elements of its table, {list(table.shells)}"
        raise StructureError(message("structure", got, expected, "Use the basis of the table."))
    radii = table.table.radii
    orbitals = np.array([radii[int(z)] for z in atoms.numbers])
    projectors = np.array([radii[PROJECTORS + int(z)] for z in atoms.numbers])
    direct = _find_within(atoms, orbitals, orbitals)
    seen = _find_within(atoms, orbitals, projectors)
    first, second = _join(seen.edge_index[1])
    through = np.concatenate(
        [
            seen.edge_index[0][np.stack([first, second])].T,
            seen.edge_cell_shift[second] - seen.edge_cell_shift[first],
        ],
        axis=1,
    )
    every = unite_pairs([list_pairs(*direct), through])
    edge_index, shift = (np.ascontiguousarray(part) for part in list_edges(every))
    return AugmentedPairs(
        edge_index,
        shift,
        _measure(atoms, edge_index, shift),
        seen.edge_index,
        _measure(atoms, *seen),
        np.stack([first, second, find_pairs(every, through)]),
    )


def compute_augmented_overlaps(
    atoms: Atoms, table: AugmentedOverlapTable, basis: OrbitalBasis
) -> BlockMatrix:
    """Compute the overlap matrix of a structure.

    Args:
        atoms: structure; not modified.
        table: of its orbitals and projectors.
        basis: of the Hamiltonian, which pads the blocks.

    Raises:
        StructureError: an unknown element, or atoms that are too close.
    """
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    pairs = find_augmented_pairs(atoms, table)
    blocks = compute_augmented_blocks(table, numbers, pairs, basis.max_orbitals)
    return BlockMatrix(numbers, basis, pairs.edge_index, pairs.edge_cell_shift, blocks)


def _find_within(
    atoms: Atoms, sources: NDArray[np.float64], targets: NDArray[np.float64]
) -> _Reached:
    """Find the pairs closer than the radius of the source and that of the target."""
    edge_index, shift = find_edges(atoms, float(sources.max() + targets.max()))
    lengths = np.linalg.norm(_measure(atoms, edge_index, shift), axis=1)
    close = lengths < sources[edge_index[0]] + targets[edge_index[1]]
    own = np.tile(np.arange(len(atoms), dtype=np.int64), (2, 1))
    return _Reached(
        np.concatenate([own, edge_index[:, close]], axis=1),
        np.concatenate([np.zeros((len(atoms), 3), dtype=np.int64), shift[close]]),
    )


def _measure(
    atoms: Atoms, edge_index: NDArray[np.int64], shift: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the vectors from target to source, (n, 3) Å; zero on a site."""
    source, target = edge_index
    vectors: NDArray[np.float64] = (
        atoms.positions[source] - atoms.positions[target] + shift @ atoms.cell.array
    )
    return vectors


def _join(groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all ordered pairs of members of one group, as places: (n,) each."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    counts = counts[counts > 0]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    many = np.repeat(counts, counts)  # partners of every member
    first = np.repeat(np.arange(len(groups)), many)
    within = np.arange(len(first)) - np.repeat(np.cumsum(many) - many, many)
    second = np.repeat(np.repeat(starts, counts), many) + within
    return order[first], order[second]
