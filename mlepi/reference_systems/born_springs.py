"""Springs between the atoms of any crystal as it stands: force constants without a calculator.

Every pair is a spring of Born and von Kármán about the given distance d,

    E = ½ Σ_pairs [ (k − k') (r̂·Δu)² + k' |Δu|² ],

a sum of squares, so that no mode is imaginary, whatever the crystal. Bonds (distances below a
tolerance times the covalent radii) have k = ``BOND`` e²/(4πε₀d³) and k' = ``BEND`` k, other pairs
k = ``WEAK`` e²/(4πε₀d³) and k' = 0. The three numbers are those of bilayer graphene, with the
optical modes of a layer at 1,580 and 860 cm⁻¹ and breathing layers at 90 cm⁻¹; elsewhere they give
the order of magnitude. k' makes layers stiffer against long bending waves than any real layer is.

References:
    Born, Huang, Dynamical Theory of Crystal Lattices (1954), Secs. 11 and 25.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.physics.vibrations.force_constants import ForceConstants
from mlepi.physics.vibrations.phonopy_order import cell_index
from mlepi.structures.layers import TOLERANCE
from mlepi.units import COULOMB

BOND, BEND, WEAK = 6.2, 0.17, 0.07
"""Stiffness of bonds and of other pairs, in e²/(4πε₀d³), and the transverse part of bonds."""
REACH = 5.0
"""Å, of pairs that are not bonded."""


def build_born_constants(
    atoms: Atoms,
    supercell: Sequence[int],
    *,
    bond: float = BOND,
    bend: float = BEND,
    weak: float = WEAK,
    reach: float = REACH,
) -> ForceConstants:
    """Return the force constants of springs between all pairs of a crystal.

    Args:
        atoms: primitive cell, Å.
        supercell: number of cells along each lattice vector; pairs beyond it act on an image.
        bond: stiffness of bonds, e²/(4πε₀d³).
        bend: transverse stiffness of bonds, over that along them.
        weak: stiffness of other pairs, e²/(4πε₀d³).
        reach: Å, of other pairs.

    Raises:
        StructureError: an atom has no neighbour.
    """
    repeats = (int(supercell[0]), int(supercell[1]), int(supercell[2]))
    radii = covalent_radii[atoms.numbers]
    longest = max(reach, 2.0 * TOLERANCE * float(radii.max()))
    i, j, shifts, vectors = neighbor_list("ijSD", atoms, longest)
    lengths = np.linalg.norm(vectors, axis=1)
    bonded = lengths < TOLERANCE * (radii[i] + radii[j])
    near = bonded | (lengths < reach)
    i, j, shifts, vectors = i[near], j[near], shifts[near], vectors[near]
    lengths, bonded = lengths[near], bonded[near]
    alone = np.flatnonzero(np.bincount(i, minlength=len(atoms)) == 0)
    if len(alone):
        got, fix = f"no atom within {longest:.1f} Å of atom {alone[0]}", "Check the file."
        raise StructureError(message("springs", got, "a crystal", fix))
    stiffness = COULOMB / lengths**3 * np.where(bonded, bond, weak)
    matrices = _build_springs(vectors / lengths[:, None], stiffness, np.where(bonded, bend, 0.0))
    n = len(atoms)
    values = np.zeros((n, n * int(np.prod(repeats)), 3, 3))
    column = cell_index(shifts.astype(np.int64), repeats) * n + j
    np.add.at(values, (i, column), -matrices)
    np.add.at(values, (i, i), matrices)
    return ForceConstants(atoms.copy(), repeats, values)


def _build_springs(
    directions: NDArray[np.float64], stiffness: NDArray[np.float64], bend: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return k r̂r̂ᵀ + k' (1 − r̂r̂ᵀ) of every pair: (n_pairs, 3, 3), eV/Å²."""
    along = directions[:, :, None] * directions[:, None, :]
    both = along + bend[:, None, None] * (np.eye(3) - along)
    return np.asarray(stiffness[:, None, None] * both)
