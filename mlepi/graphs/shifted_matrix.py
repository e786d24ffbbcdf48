"""The level shift of soft directions, applied to the Hamiltonian of a structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlepi.errors import DataError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import align_matrices
from mlepi.physics.eigenstates.level_shift import (
    DENSE_ORBITALS,
    LevelShift,
    pair_window,
    shift_blocks,
)

if TYPE_CHECKING:
    from ase import Atoms


def shift_matrix(
    atoms: Atoms, overlap: BlockMatrix, shift: LevelShift, device: str = "cpu"
) -> BlockMatrix:
    """Return what the level shift adds to the Hamiltonian, eV, on the pairs of the overlap.

    Args:
        atoms: structure, Å.
        overlap: of it.
        shift: parameters.
        device: where S(k) is filtered.

    Raises:
        DataError: the overlap is of other atoms.
        PhysicsError: the overlap is not positive definite.
    """
    if not np.array_equal(atoms.numbers, overlap.numbers):
        raise DataError(
            message(
                "level shift",
                f"an overlap of {len(overlap.numbers)} atoms for {len(atoms)}",
                "the same atoms",
                "Pass the overlap of this structure.",
            )
        )
    source, target = overlap.edge_index
    cell = atoms.cell.array
    vectors = atoms.positions[source] + overlap.edge_cell_shift @ cell - atoms.positions[target]
    radii = np.array([overlap.basis.radii[int(z)] for z in overlap.numbers])
    # rounded: a pair and its reverse have one window exactly
    distances = np.round(np.linalg.norm(vectors, axis=1), 10)
    window = pair_window(distances, radii[source] + radii[target])
    blocks = shift_blocks(overlap, shift, cell, atoms.positions, window, device)
    added = BlockMatrix(
        overlap.numbers, overlap.basis, overlap.edge_index, overlap.edge_cell_shift, blocks
    )
    return added if overlap.n_orbitals <= DENSE_ORBITALS else added.symmetrised()


def shift_hamiltonian(
    atoms: Atoms,
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    shift: LevelShift | None,
    device: str = "cpu",
) -> BlockMatrix:
    """Return H′ = H + λF − μS, which is to be diagonalised in the place of H.

    Args:
        atoms: structure, Å.
        hamiltonian: as predicted, eV; it is not modified.
        overlap: of the same structure.
        shift: parameters; None returns H itself.
        device: where S(k) is filtered.

    Raises:
        DataError: the matrices are of other atoms.
        PhysicsError: the overlap is not positive definite.
    """
    if shift is None:
        return hamiltonian
    added = shift_matrix(atoms, overlap, shift, device)
    edge_index, edge_cell_shift, blocks = align_matrices([hamiltonian, added])
    return BlockMatrix(
        hamiltonian.numbers, hamiltonian.basis, edge_index, edge_cell_shift, blocks[0] + blocks[1]
    )
