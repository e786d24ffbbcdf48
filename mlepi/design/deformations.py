"""Slides, spacings and strains of a primitive cell, each as it is asked for."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.design.material import STACKING, Material


def slide_layers(material: Material, slides: NDArray[np.float64]) -> Material:
    """Move layers as a whole in their plane.

    Args:
        material: layered.
        slides: (n_layers, 2), in lattice vectors a and b.
    """
    atoms = material.atoms.copy()
    atoms.positions += np.asarray(slides)[atoms.arrays["layer"]] @ atoms.cell.array[:STACKING]
    return _replace(material, atoms)


def space_layers(material: Material, changes: NDArray[np.float64]) -> Material:
    """Change the distances between neighbouring layers.

    In a bulk crystal the last one is that of the uppermost layer to the image of the lowest, and
    the cell grows with all of them.

    Args:
        material: layered.
        changes: (n_gaps,), Å, from bottom to top.
    """
    atoms = material.atoms.copy()
    lifts = np.concatenate([[0.0], np.cumsum(changes)])
    atoms.positions += lifts[atoms.arrays["layer"], None] * material.normal
    if not material.has_vacuum:
        cell = atoms.cell.array.copy()
        cell[STACKING] += lifts[-1] * material.normal
        atoms.set_cell(cell)
    return _replace(material, atoms)


def strain_cell(atoms: Atoms, strain: NDArray[np.float64]) -> Atoms:
    """Strain a structure with its cell, x → (1 + ε) x.

    Args:
        atoms: Å; not changed.
        strain: (3, 3), symmetric.
    """
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return strained


def draw_strain(
    material: Material, largest: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw a strain of the periodic directions.

    Args:
        material: whose periodic directions span a line, a plane or space.
        largest: every component is uniform in ± this.
        generator: of random numbers; six are taken.

    Returns:
        (3, 3), symmetric; nothing is strained across vacuum.
    """
    upper = largest * generator.uniform(-1.0, 1.0, 6)
    tensor = np.zeros((3, 3))
    tensor[np.triu_indices(3)] = upper
    tensor = tensor + np.triu(tensor, 1).T
    frame = np.linalg.qr(material.atoms.cell.array[list(material.axes)].T)[0]
    inside = frame @ frame.T
    return np.asarray(inside @ tensor @ inside)


def _replace(material: Material, atoms: Atoms) -> Material:
    return Material(atoms, material.axes, material.n_layers)
