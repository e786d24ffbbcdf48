"""A structure with the energy, forces, Hamiltonian and overlap that DFT computed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.basis import OrbitalBasis


@dataclass(frozen=True)
class LabelledStructure:
    """Labels of one structure in internal units and orbital order.

    Blocks follow the package convention: ``edge_index[0]`` = source j, ``edge_index[1]`` = target
    i, block e = ⟨i, cell 0 | · | j, cell R⟩ with R = ``edge_cell_shift[e]``, rows = orbitals of i.
    Both directions and the on-site blocks (i = j, R = 0) are present. Blocks are zero-padded to
    ``basis.max_orbitals``.

    Attributes:
        name: unique name in its data set.
        atoms: structure, Å; layer of each atom in ``atoms.arrays["layer"]``.
        basis: orbital basis of the blocks, or None when there are no blocks.
        edge_index: (2, n_edges) int.
        edge_cell_shift: (n_edges, 3) int.
        hamiltonian_blocks: (n_edges, max_orbitals, max_orbitals), eV.
        overlap_blocks: (n_edges, max_orbitals, max_orbitals), dimensionless.
        fermi_energy: eV; the Hamiltonian is not shifted to it.
        energy: total energy, eV.
        forces: (n_atoms, 3), eV/Å.
        provenance: how the labels were made; plain Python data.
        stress: (3, 3), eV/Å³, symmetric, positive where the cell pulls itself together (ASE's
            sign).
    """

    name: str
    atoms: Atoms
    basis: OrbitalBasis | None = None
    edge_index: NDArray[np.int64] | None = None
    edge_cell_shift: NDArray[np.int64] | None = None
    hamiltonian_blocks: NDArray[np.floating] | None = None
    overlap_blocks: NDArray[np.floating] | None = None
    fermi_energy: float | None = None
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    stress: NDArray[np.float64] | None = None


def subtract_fermi_energy(structure: LabelledStructure) -> LabelledStructure:
    """Return a structure whose energies are counted from its Fermi energy: H − E_F·S.

    Args:
        structure: with Hamiltonian and overlap blocks.

    Raises:
        DataError: it has no Fermi energy, or no blocks.
    """
    where, energy = f"structure {structure.name!r}", structure.fermi_energy
    if structure.hamiltonian_blocks is None or structure.overlap_blocks is None:
        fix = "Use a data set of Hamiltonians."
        raise DataError(message(where, "no blocks", "Hamiltonian and overlap blocks", fix))
    if energy is None:
        fix = "Set data.energy_zero=as_computed."
        raise DataError(message(where, "no Fermi energy", "one for every structure", fix))
    blocks = structure.hamiltonian_blocks - energy * structure.overlap_blocks
    return replace(structure, hamiltonian_blocks=blocks, fermi_energy=0.0)


def reverse_edges(
    edge_index: NDArray[np.int64], edge_cell_shift: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Find, for every edge (j → i, R), the position of its reverse (i → j, −R).

    Args:
        edge_index: (2, n_edges) int, source and target atoms.
        edge_cell_shift: (n_edges, 3) int.

    Returns:
        (n_edges,) int; on-site edges are their own reverse.

    Raises:
        DataError: some edge has no reverse, or an edge occurs twice.
    """
    forward = np.concatenate([edge_index, edge_cell_shift.T]).astype(np.int64)
    backward = np.concatenate([edge_index[::-1], -edge_cell_shift.T]).astype(np.int64)
    forward_order, backward_order = np.lexsort(forward), np.lexsort(backward)
    ordered = forward[:, forward_order]
    if forward.shape[1] > 1 and bool(np.any(np.all(ordered[:, 1:] == ordered[:, :-1], axis=0))):
        raise DataError(
            message(
                "edge list",
                "an edge twice",
                "every (source, target, shift) once",
                "Check the reader.",
            )
        )
    if not np.array_equal(ordered, backward[:, backward_order]):
        raise DataError(
            message(
                "edge list",
                "edges without a reverse",
                "both directions of every pair",
                "Check the reader.",
            )
        )
    reverse = np.empty(forward.shape[1], dtype=np.int64)
    reverse[backward_order] = forward_order
    return reverse
