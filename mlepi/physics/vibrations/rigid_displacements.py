"""Frequencies of two layers that move rigidly against each other by finite steps.

Displacements u of one layer as a whole give ω² = k/μ with k = −[F(u) − F(−u)]/2u, F the force on
the layer per cell and μ the reduced mass of both layers per cell. Between van der Waals layers k is
so small that steps of 0.01 Å drown in the noise of a calculation; steps of 0.05 to 0.1 Å do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.units import FORCE_CONSTANT_TO_THZ


def list_rigid_modes(atoms: Atoms) -> dict[str, NDArray[np.float64]]:
    """Return the directions in which a layer moves in each rigid mode of two layers.

    Args:
        atoms: one cell, stacked along the normal of its first two vectors.

    Returns:
        "shear" → (2, 3), along the first lattice vector and across it in the plane; "breathing" →
        (1, 3), the normal; unit vectors.
    """
    first, second = atoms.cell.array[:2]
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal)
    along = first / np.linalg.norm(first)
    return {"shear": np.array([along, np.cross(normal, along)]), "breathing": normal[None]}


def compute_rigid_frequency(
    atoms: Atoms, calculator: Calculator, direction: Sequence[float], step: float
) -> float:
    """Compute the frequency of two layers that move rigidly against each other.

    Args:
        atoms: two layers, with the layer of each atom; not modified.
        calculator: forces, eV/Å.
        direction: (3,), unit vector.
        step: displacement of the upper layer, Å.

    Returns:
        THz, negative where the force pulls away.

    Raises:
        StructureError: there are not two layers.
    """
    layers = np.asarray(atoms.arrays.get("layer", np.zeros(len(atoms), dtype=np.int64)))
    if set(layers.tolist()) != {0, 1}:
        raise StructureError(
            message(
                "rigid layers",
                f"{len(set(layers.tolist()))} layer(s)",
                "two layers, which move against each other",
                "Leave out stage.phonon_reference.rigid_layers.",
            )
        )
    along, upper = np.array(direction, dtype=float), layers == 1
    pulls = []
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.positions[upper] += sign * step * along
        moved.calc = calculator
        # both layers: a calculator's own net force drops out
        forces = moved.get_forces() @ along
        pulls.append(0.5 * (forces[upper].sum() - forces[~upper].sum()))
    stiffness = -(pulls[0] - pulls[1]) / (2.0 * step)
    masses = atoms.get_masses()
    reduced = masses[upper].sum() * masses[~upper].sum() / masses.sum()
    return float(np.sign(stiffness) * np.sqrt(abs(stiffness) / reduced) * FORCE_CONSTANT_TO_THZ)
