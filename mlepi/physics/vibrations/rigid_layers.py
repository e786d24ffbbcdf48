"""Layers that move as a whole against each other: shear and breathing of a layered crystal.

A rigid translation of layer ℓ is t_{ℓα} ∝ √m on its atoms in mass-scaled coordinates. What of these
3n translations of n layers is orthogonal to the three of the whole crystal spans the 3(n − 1)
rigid-layer modes of Γ, and P is the projector on it. Between van der Waals layers they are so soft
that in a small supercell, where Γ is one of few wave vectors, they carry most of the motion of the
layers against each other: their share of it falls with one over the number of cells.

The relative motion is measured cell by cell: d is the displacement of the centre of mass of a layer
in one cell less that of the layer below it.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message


def count_layers(atoms: Atoms) -> int:
    """Return the number of layers; 1 where the atoms are not assigned to any."""
    return int(np.max(atoms.arrays["layer"])) + 1 if "layer" in atoms.arrays else 1


def interlayer_projectors(atoms: Atoms, qpoints: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the projector P on the rigid-layer modes of Γ.

    Args:
        atoms: one cell, with the layer of each atom.
        qpoints: (n_qpoints, 3), fractional.

    Returns:
        (n_qpoints, 3 n_atoms, 3 n_atoms), mass-scaled: of trace 3(n_layers − 1) at Γ, zero at every
        other wave vector.

    Raises:
        ConfigError: the atoms are not assigned to layers.
    """
    if "layer" not in atoms.arrays:
        raise ConfigError(
            message(
                "stage.sampling.project_out",
                "'interlayer_gamma' for atoms without layers",
                "the layer of each atom in atoms.arrays['layer']",
                "Assign them with mlepi.structures.assign_layers, or project out none.",
            )
        )
    masses = np.array(atoms.get_masses(), dtype=np.float64)
    layers = np.asarray(atoms.arrays["layer"])
    own = layers[:, None] == np.arange(count_layers(atoms))
    total = own * np.sqrt(masses)[:, None]
    total = total / np.linalg.norm(total, axis=0)
    whole = np.sqrt(masses / masses.sum())
    rigid = np.kron(total @ total.T - np.outer(whole, whole), np.eye(3))
    projectors = np.zeros((len(qpoints), *rigid.shape), dtype=np.complex128)
    projectors[~np.any(np.asarray(qpoints), axis=1)] = rigid
    return projectors


def relative_motion(atoms: Atoms) -> NDArray[np.float64]:
    """Return what turns mass-scaled displacements of one cell into relative motion of its layers.

    Args:
        atoms: one cell, with the layer of each atom, numbered from bottom to top.

    Returns:
        (n_layers − 1, 3, 3 n_atoms), 1/√amu: centre of mass of a layer less that of the one below
        it, along two directions in the plane of the first two lattice vectors and along its normal.
    """
    masses = np.array(atoms.get_masses(), dtype=np.float64)
    layers = np.asarray(atoms.arrays.get("layer", np.zeros(len(atoms), dtype=np.int64)))
    own = (layers == np.arange(count_layers(atoms))[:, None]) * np.sqrt(masses)
    centres = own / (own @ np.sqrt(masses))[:, None]
    first = atoms.cell[0] / np.linalg.norm(atoms.cell[0])
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    normal = normal / np.linalg.norm(normal)
    axes = np.stack([first, np.cross(normal, first), normal])
    differences = np.diff(centres, axis=0)
    return np.einsum("pa,dx->pdax", differences, axes).reshape(len(differences), 3, masses.size * 3)


def mean_square_motion(
    atoms: Atoms, vectors: NDArray[np.complex128], variances: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ⟨d²⟩ of neighbouring layers, mean over the cells.

    Args:
        atoms: one cell, with the layer of each atom.
        vectors: (n_qpoints, 3 n_atoms, n_modes), mass-scaled, columns are modes.
        variances: (n_temperatures, n_qpoints, n_modes), amu·Å².

    Returns:
        (n_temperatures, n_layers − 1, 2), Å²: shear ⟨d_x² + d_y²⟩ and spacing ⟨d_z²⟩.
    """
    moved = np.abs(np.einsum("pdi,qim->qpdm", relative_motion(atoms), vectors, optimize=True)) ** 2
    squares = np.einsum("tqm,qpdm->tpd", variances, moved, optimize=True) / len(vectors)
    return np.stack([squares[..., 0] + squares[..., 1], squares[..., 2]], axis=-1)
