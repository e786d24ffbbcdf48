"""Overlap labels from radial tables, for data sets that store Hamiltonians alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.graphs.augmented_pairs import compute_augmented_overlaps
from mlepi.graphs.block_pairs import find_pairs, list_pairs, unite_pairs
from mlepi.physics.overlaps import (
    AugmentedOverlapTable,
    OverlapErrors,
    RadialOverlaps,
    compute_overlap_blocks,
)
from mlepi.physics.overlaps.table import ElementPair
from mlepi.structures.bonds import find_bonds
from mlepi.structures.labelled_structure import LabelledStructure


def complete_overlaps(structure: LabelledStructure, table: RadialOverlaps) -> LabelledStructure:
    """Return a structure with overlap blocks on the edges of its Hamiltonian.

    A table of radial functions gives them as exactly as it was made; a structure that has overlaps
    keeps them.

    Args:
        structure: with Hamiltonian blocks.
        table: radial overlap functions of its basis.

    Raises:
        DataError: the structure has no Hamiltonian.
        StructureError: an element has no orbitals in the table.
    """
    if structure.overlap_blocks is not None:
        return structure
    edges, shifts, basis = structure.edge_index, structure.edge_cell_shift, structure.basis
    if edges is None or shifts is None or basis is None:
        raise DataError(
            message(
                f"structure {structure.name!r}",
                "no Hamiltonian",
                "blocks, edges and a basis",
                "Use a data set of Hamiltonians.",
            )
        )
    atoms = structure.atoms
    if isinstance(table, AugmentedOverlapTable):
        matrix = compute_augmented_overlaps(atoms, table, basis)
        union, wanted = (
            list_pairs(matrix.edge_index, matrix.edge_cell_shift),
            list_pairs(edges, shifts),
        )
        rows = find_pairs(union, wanted)
        found = np.where((rows >= 0)[:, None, None], matrix.blocks[rows], 0.0)
        return replace(structure, overlap_blocks=found)
    source, target = edges
    vectors = atoms.positions[source] + shifts @ atoms.cell.array - atoms.positions[target]
    blocks = compute_overlap_blocks(table, atoms.numbers, edges, vectors, basis.max_orbitals)
    return replace(structure, overlap_blocks=blocks)


def measure_augmented_errors(
    table: AugmentedOverlapTable, structures: Iterable[LabelledStructure]
) -> OverlapErrors:
    """Compare a table with the overlaps of structures.

    Args:
        table: of orbitals and projectors.
        structures: with overlaps, and their ``k_mesh`` in the provenance where they come from one.

    Raises:
        DataError: a structure has no overlaps.
    """
    by_pair: dict[ElementPair, float] = {}
    squares, n_values, n_blocks, worst, worst_distance = 0.0, 0, 0, 0.0, 0.0
    for structure in structures:
        edges, shifts, errors = _compare_folded(table, structure)
        largest = np.abs(errors).max(axis=(1, 2), initial=0.0)
        elements = np.sort(structure.atoms.numbers[edges], axis=0)
        for first, second in np.unique(elements.T, axis=0).tolist():
            chosen = (elements[0] == first) & (elements[1] == second)
            one = float(largest[chosen].max())
            by_pair[first, second] = max(by_pair.get((first, second), 0.0), one)
        squares += float((errors**2).sum())
        n_values, n_blocks = n_values + errors.size, n_blocks + len(errors)
        if largest.max(initial=0.0) > worst:
            lengths = np.linalg.norm(find_bonds(structure.atoms, edges, shifts).vectors, axis=1)
            worst, worst_distance = float(largest.max()), float(lengths[largest.argmax()])
    rms = float(np.sqrt(squares / max(n_values, 1)))
    return OverlapErrors(worst, rms, by_pair, worst_distance, n_blocks, 0)


def _compare_folded(
    table: AugmentedOverlapTable, structure: LabelledStructure
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return edges, their shifts, and how far the table is off there, (n_edges, p, p).

    Overlaps from a mesh of k-points are those of its supercell, into which what reaches further is
    folded, and shared by equally near images; so is what the table gives.
    """
    edges, shifts, basis = structure.edge_index, structure.edge_cell_shift, structure.basis
    if edges is None or shifts is None or basis is None or structure.overlap_blocks is None:
        got, fix = "no overlaps", "Compare structures that have S."
        raise DataError(message(f"structure {structure.name!r}", got, "overlap blocks", fix))
    matrix = compute_augmented_overlaps(structure.atoms, table, basis)
    theirs = list_pairs(edges, shifts)
    mine = list_pairs(matrix.edge_index, matrix.edge_cell_shift)
    mesh = structure.provenance.get("k_mesh", structure.provenance.get("mesh"))
    if mesh is not None:
        theirs[:, 2:] %= mesh
        mine[:, 2:] %= mesh
    union = unite_pairs([theirs, mine])
    places = find_pairs(union, theirs)
    folded = np.zeros((len(union), *matrix.blocks.shape[1:]))
    np.add.at(folded, find_pairs(union, mine), matrix.blocks)
    images = np.bincount(places, minlength=len(union))[places]
    size = basis.max_orbitals
    errors = folded[places] / images[:, None, None] - structure.overlap_blocks[:, :size, :size]
    return edges, shifts, errors
