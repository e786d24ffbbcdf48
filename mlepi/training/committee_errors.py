"""Errors of several networks on labelled structures, element by element.

H is compared up to its energy zero: of every difference the multiple of S that reduces it most is
taken away. Levels are those of the eigenproblems that inference solves, with the level shift. They
are compared up to a shift of each structure, the median of their differences, and paired by band
index; a k-point at which any network has a ghost all the same, which displaces the index, is left
out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.graphs.block_matrix import BlockMatrix, block_matrices
from mlepi.graphs.block_pairs import align_matrices
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.predictors import ElectronPredictor, PhononPredictor
from mlepi.predictors.committee import average_matrices
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.level_errors import (
    GHOST_DEPTH,
    WINDOWS,
    choose_kpoints,
    predict_levels,
    select_errors,
)

BLOCK_TYPES = ("onsite", "intra", "inter")
N_KPOINTS = 3


class MemberErrors(NamedTuple):
    """Predictions less labels of one quantity of one structure.

    Attributes:
        each: (n_networks, n_elements).
        together: (n_elements,), of the prediction that the networks make together.
    """

    each: NDArray[np.float64]
    together: NDArray[np.float64]


def measure_force_errors(
    members: Sequence[PhononPredictor], structure: LabelledStructure
) -> dict[str, MemberErrors]:
    """Compare phonon networks with the labels of one structure.

    Returns:
        "forces", eV/Å, and "energy", eV per atom.

    Raises:
        DataError: the structure has no energy or no forces.
    """
    if structure.energy is None or structure.forces is None:
        raise _unlabelled(structure, "energy and forces")
    energies, forces = [], []
    for member in members:
        energy, force = member.energy_and_forces([structure.atoms])
        energies.append((energy - structure.energy) / len(structure.atoms))
        forces.append((force[0] - structure.forces).ravel())
    found = {"forces": np.array(forces), "energy": np.array(energies)}
    return {name: MemberErrors(values, values.mean(axis=0)) for name, values in found.items()}


def measure_block_errors(
    members: Sequence[BlockMatrix], structure: LabelledStructure
) -> dict[str, MemberErrors]:
    """Compare Hamiltonians with the label of one structure.

    Args:
        members: predictions of several networks, eV.
        structure: with Hamiltonian and overlap.

    Returns:
        "hamiltonian" for the existing elements of all blocks, and "onsite", "intra" and "inter" for
        those of one type; eV.
    """
    labelled, overlap = block_matrices(structure)
    (source, target), shift, aligned = align_matrices([labelled, overlap, *members])
    label, s = aligned[:2]
    difference = np.array(aligned[2:]) - label
    shifts = np.sum(difference * s, axis=(1, 2, 3)) / np.sum(s * s)
    difference -= shifts[:, None, None, None] * s
    exists = labelled.basis.mask(labelled.numbers)
    real = exists[target][:, :, None] & exists[source][:, None, :]
    layer = structure.atoms.arrays["layer"]
    onsite = (source == target) & ~shift.any(axis=1)
    same = layer[source] == layer[target]
    chosen = (onsite, same & ~onsite, ~same)
    found = {"hamiltonian": difference[:, real]}
    for name, rows in zip(BLOCK_TYPES, chosen, strict=True):
        values = difference[:, rows][:, real[rows]]
        if values.size:
            found[name] = values
    return {name: MemberErrors(values, values.mean(axis=0)) for name, values in found.items()}


def measure_level_errors(
    members: Sequence[BlockMatrix],
    overlap: BlockMatrix,
    structure: LabelledStructure,
    shift: LevelShift | None = None,
) -> tuple[dict[str, MemberErrors], int]:
    """Compare the levels within 2 eV of the Fermi energy with those of the label.

    Args:
        members: predictions of several networks, eV.
        overlap: that they are solved with.
        structure: with Hamiltonian, overlap and Fermi energy.
        shift: of the eigenproblem, for the predictions; None for none.

    Returns:
        "bands", eV; together: of the mean Hamiltonian. Nothing where there is no level. And the
        number of k-points with ghosts.

    Raises:
        DataError: the structure has no Fermi energy.
    """
    if structure.fermi_energy is None:
        raise _unlabelled(structure, "Fermi energy")
    kpoints = choose_kpoints(structure.atoms.cell.array, N_KPOINTS)
    labelled, its_overlap = block_matrices(structure)
    reference = predict_levels(labelled.dense_many(kpoints), its_overlap.dense_many(kpoints))
    s = overlap.dense_many(kpoints)
    added = None
    if shift is not None:
        added = shift_matrix(structure.atoms, overlap, shift).dense_many(kpoints)
    levels = np.array(
        [
            predict_levels(matrix.dense_many(kpoints), s, added)
            for matrix in (*members, average_matrices(members))
        ]
    )
    haunted = (levels[:, :, 0] < reference.min() - GHOST_DEPTH).any(axis=0)
    errors = []
    for found in levels[:, ~haunted]:
        inside = select_errors(found, reference[~haunted], structure.fermi_energy, WINDOWS["2ev"])
        errors.append(inside - np.median(inside) if inside.size else inside)
    n_haunted = int(haunted.sum())
    if not errors[0].size:
        return {}, n_haunted
    return {"bands": MemberErrors(np.array(errors[:-1]), errors[-1])}, n_haunted


def measure_electron_errors(
    members: Sequence[ElectronPredictor],
    structure: LabelledStructure,
    shift: LevelShift | None = None,
) -> tuple[dict[str, MemberErrors], int]:
    """Compare electron networks with the labels of one structure.

    Args:
        members: the networks.
        structure: with Hamiltonian, overlap and Fermi energy.
        shift: of the eigenproblem, for the predictions; None for none.

    Returns:
        Of ``measure_block_errors`` and ``measure_level_errors``, in float32 as inference computes;
        and the number of k-points with ghosts.
    """
    matrices = [member.hamiltonian(structure.atoms) for member in members]
    overlap = members[0].overlap(structure.atoms)
    levels, n_haunted = measure_level_errors(matrices, overlap, structure, shift)
    return {**measure_block_errors(matrices, structure), **levels}, n_haunted


def _unlabelled(structure: LabelledStructure, what: str) -> DataError:
    return DataError(
        message(f"structure {structure.name!r}", f"no {what}", what, "Label the structure.")
    )
