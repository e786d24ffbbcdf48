"""Predicted H and S as labels of a structure, exactly Hermitian, and their Fermi energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.block_pairs import align_matrices
from mlepi.physics.eigenstates.bloch import count_valence_electrons, fermi_energy_from_eigenvalues
from mlepi.physics.eigenstates.dense_bloch import solve_many
from mlepi.structures.block_checks import remove_rounding
from mlepi.structures.labelled_structure import LabelledStructure

if TYPE_CHECKING:
    from numpy.typing import NDArray

KPOINT_SPACING = 0.12
"""1/Å between the k-points at which the Fermi energy is found, along axes with neighbours."""

FERMI_TEMPERATURE = 300.0
"""K, of the electrons whose chemical potential is called the Fermi energy."""


def collect_labels(
    name: str,
    atoms: Atoms,
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    fermi_energy: float | None = None,
) -> LabelledStructure:
    """Put H and S on the union of their pairs, each block the exact transpose of its reverse.

    Pairs that only one of the two has get a zero block in the other.

    Args:
        name: of the structure.
        atoms: Å.
        hamiltonian: eV, Hermitian but for rounding.
        overlap: of the same atoms and orbitals.
        fermi_energy: eV, where it is known; H is not shifted to it.

    Raises:
        DataError: the blocks are not Hermitian by more than rounding.
    """
    edge_index, shift, blocks = align_matrices([hamiltonian, overlap])
    return remove_rounding(
        LabelledStructure(
            name=name,
            atoms=atoms,
            basis=hamiltonian.basis,
            edge_index=edge_index,
            edge_cell_shift=shift,
            hamiltonian_blocks=blocks[0],
            overlap_blocks=blocks[1],
            fermi_energy=fermi_energy,
        )
    )


def find_fermi_energy(labels: LabelledStructure, valence: Mapping[int, float]) -> float:
    """Find the energy up to which the neutral structure is filled.

    Args:
        labels: with H and S.
        valence: atomic number → valence electrons.

    Returns:
        Chemical potential at 300 K on a mesh of k-points with ``KPOINT_SPACING``, eV; in a gap,
        somewhere inside it.

    Raises:
        PhysicsError: an element without valence electrons, or an overlap that is not positive
            definite.
    """
    hamiltonian, overlap = block_matrices(labels)
    divisions = choose_mesh(labels, KPOINT_SPACING)
    points = list_kpoints(divisions)
    eigenvalues = solve_many(hamiltonian.lay_out(), overlap.lay_out(), points)
    n_electrons = count_valence_electrons(labels.atoms.numbers, valence)
    return fermi_energy_from_eigenvalues(
        eigenvalues, np.ones(len(points)), n_electrons, FERMI_TEMPERATURE
    )


def choose_mesh(labels: LabelledStructure, spacing: float) -> tuple[int, int, int]:
    """Return divisions of the reciprocal vectors, one along axes that no pair crosses.

    Args:
        labels: with pairs of atoms.
        spacing: largest distance of k-points, 1/Å (with the factor 2π).
    """
    lengths = 2.0 * np.pi * np.linalg.norm(labels.atoms.cell.reciprocal(), axis=1)
    crossed = np.any(np.asarray(labels.edge_cell_shift) != 0, axis=0)
    divisions = np.where(crossed, np.ceil(lengths / spacing), 1).astype(int)
    return int(divisions[0]), int(divisions[1]), int(divisions[2])


def list_kpoints(divisions: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the points of a mesh that contains Γ: (n_kpoints, 3) fractional, C order."""
    axes = np.meshgrid(*(np.arange(n) / n for n in divisions), indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, 3)
