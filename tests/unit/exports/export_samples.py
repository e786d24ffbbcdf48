"""Labels whose levels are known from the test's own plain Bloch sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.linalg
from foreign_files import bloch_sum
from random_labels import build_labels

from mlepi.exports import collect_labels
from mlepi.reference_systems import TightBinding
from mlepi.structures import build_graphene
from mlepi.structures.labelled_structure import LabelledStructure


def sound_labels(fermi_energy: float | None = -1.25) -> LabelledStructure:
    """Random H of B and N, and an overlap that is positive definite at every k."""
    labels = build_labels("random", 3)
    onsite = (labels.edge_index[0] == labels.edge_index[1]) & ~labels.edge_cell_shift.any(axis=1)
    overlap = np.where(onsite[:, None, None], labels.overlap_blocks, 0.004 * labels.overlap_blocks)
    return replace(labels, overlap_blocks=overlap, fermi_energy=fermi_energy)


def graphene_labels() -> LabelledStructure:
    """Two-centre H and S of s and p orbitals, which tell when a reader takes another order."""
    atoms, model = build_graphene(), TightBinding(orthogonal=False)
    atoms.rattle(0.05, seed=1)
    return collect_labels("AB", atoms, model.hamiltonian(atoms), model.overlap(atoms), -1.25)


def levels(labels: LabelledStructure, kpoint: np.ndarray) -> np.ndarray:
    """Eigenvalues of H c = E S c, eV."""
    blocks = labels.hamiltonian_blocks, labels.overlap_blocks
    return scipy.linalg.eigvalsh(*(bloch_sum(labels, b, np.asarray(kpoint)) for b in blocks))


KPOINTS = np.array([[0.0, 0.0, 0.0], [0.13, -0.21, 0.4], [0.5, 0.5, 0.0]])
