"""The out-of-plane acoustic branch of a layered crystal, defined without following any branch.

It is the rigid out-of-plane wave of the whole stack of layers at every in-plane wave vector q, Γ
excepted,

    t_z(q) = √(m_κ/M) e^{2πi q·τ_κ} n̂,   n̂ normal to the first two lattice vectors, τ_κ fractional
    positions,

with q in the first Brillouin zone. Q(q) is the projector on it; on the boundary of the zone, where
several q + G are equally short, it is the average of their projectors.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

EQUALLY_SHORT = 1e-6
"""1/Å, within which representatives of a wave vector are equally short."""


def flexural_projectors(atoms: Atoms, qpoints: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the projector Q(q) on the rigid out-of-plane wave of the whole stack of layers.

    Args:
        atoms: one cell; the layers lie along its first two lattice vectors.
        qpoints: (n_qpoints, 3), fractional.

    Returns:
        Q, (n_qpoints, 3 n_atoms, 3 n_atoms), phase e^{2πi q·R}; of trace one, zero at Γ (a
        translation) and where q_z ≠ 0.
    """
    masses = np.array(atoms.get_masses(), dtype=np.float64)
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    rigid = np.sqrt(masses / masses.sum())[:, None] * (normal / np.linalg.norm(normal))
    sites = atoms.cell.scaled_positions(atoms.positions)
    reciprocal = np.linalg.inv(atoms.cell.array).T
    axes = np.meshgrid(*(np.arange(-2, 3),) * 2, [0], indexing="ij")
    around = np.stack(axes, axis=-1).reshape(-1, 3)
    projectors = np.zeros((len(qpoints), rigid.size, rigid.size), dtype=np.complex128)
    for q, projector in zip(np.asarray(qpoints), projectors, strict=True):
        if q[2] != 0 or not q.any():
            continue
        images = q - np.round(q) + around
        lengths = np.linalg.norm(images @ reciprocal, axis=1)
        shortest = images[lengths < lengths.min() + EQUALLY_SHORT]
        phases = np.exp(2j * np.pi * shortest @ sites.T)
        waves = (phases[:, :, None] * rigid).reshape(len(shortest), -1)
        projector += waves.T @ waves.conj() / len(shortest)
    return projectors
