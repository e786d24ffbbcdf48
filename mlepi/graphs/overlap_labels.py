"""Overlap labels from radial tables, for data sets that store Hamiltonians alone."""

from __future__ import annotations

from dataclasses import replace

from mlepi.errors import DataError, message
from mlepi.physics.overlaps import OverlapTable, compute_overlap_blocks
from mlepi.structures.labelled_structure import LabelledStructure


def complete_overlaps(structure: LabelledStructure, table: OverlapTable) -> LabelledStructure:
    """Return a structure with overlap blocks on the edges of its Hamiltonian.

    Overlaps are two-centre integrals of the orbitals, so a table of radial functions gives them as
    exactly as it was made; a structure that has overlaps keeps them.

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
    source, target = edges
    vectors = atoms.positions[source] + shifts @ atoms.cell.array - atoms.positions[target]
    blocks = compute_overlap_blocks(table, atoms.numbers, edges, vectors, basis.max_orbitals)
    return replace(structure, overlap_blocks=blocks)
