"""Tight-binding toys with known answers.

Honeycomb mono- and AB bilayer, one p_z orbital per atom, optional overlap.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

LATTICE_CONSTANT = 2.46  # Å
HOPPING = 2.7  # eV, so that v_F = √3·a·t/2ħ = 8.74e5 m/s
GAMMA_1 = 0.38  # eV
SPACING = 3.35  # Å
VELOCITY = np.sqrt(3.0) / 2.0 * LATTICE_CONSTANT * HOPPING  # ħv, eV·Å


def honeycomb(bilayer: bool = False, angle: int = 120) -> Atoms:
    """Graphene or AB bilayer graphene; the B atom of layer 0 lies under the A atom of layer 1."""
    a = LATTICE_CONSTANT
    second = [-a / 2, a * np.sqrt(3) / 2, 0] if angle == 120 else [a / 2, a * np.sqrt(3) / 2, 0]
    cell = np.array([[a, 0, 0], second, [0, 0, 18.0]])
    third = np.array([1, 2, 0]) / 3 if angle == 120 else np.array([1, 1, 0]) / 3
    scaled = [[0, 0, 0], third]
    if bilayer:
        scaled += [third, 2 * third]
    positions = np.array(scaled) @ cell
    positions[2:, 2] += SPACING
    atoms = Atoms("C" * len(positions), positions=positions, cell=cell, pbc=True)
    atoms.arrays["layer"] = np.repeat([0, 1], 2)[: len(atoms)]
    return atoms


def tight_binding(
    atoms: Atoms,
    decay: float = 3.37,
    overlap: float = 0.0,
    onsite: float = 0.0,
    images: tuple = (1, 1, 0),
):
    """Blocks of −t·exp[−decay(d/d0−1)] in the layer and γ₁·exp[…] straight between layers.

    Returns:
        edge_index (2, n), edge_cell_shift (n, 3), hamiltonian_blocks (n, 1, 1), overlap_blocks (n,
        1, 1), offsets.
    """
    bond = LATTICE_CONSTANT / np.sqrt(3)
    n = len(atoms)
    ranges = [range(-m, m + 1) for m in images]
    shifts = np.array([(x, y, z) for x in ranges[0] for y in ranges[1] for z in ranges[2]])
    # i, j, shift
    vectors = (
        atoms.positions[None, :, None]
        + (shifts @ atoms.cell.array)[None, None]
        - atoms.positions[:, None, None]
    )
    lengths = np.linalg.norm(vectors, axis=-1)
    layer = atoms.arrays["layer"]
    same = (layer[:, None] == layer[None, :])[:, :, None]
    lateral = np.linalg.norm(vectors[..., :2], axis=-1)
    onsite_pair = lengths < 1e-9
    bonded = same & (lengths < 1.3 * bond) & ~onsite_pair
    stacked = ~same & (lateral < 0.7) & (lengths < 1.2 * SPACING)
    i, j, s = np.nonzero(onsite_pair | bonded | stacked)
    d = lengths[i, j, s]
    factor = np.exp(-decay * (d / np.where(bonded[i, j, s], bond, SPACING) - 1.0))
    h = np.where(
        onsite_pair[i, j, s], onsite, np.where(bonded[i, j, s], -HOPPING, GAMMA_1) * factor
    )
    ratio = np.where(bonded[i, j, s], overlap, -0.3 * overlap)
    o = np.where(onsite_pair[i, j, s], 1.0, ratio * factor)
    return np.array([j, i]), shifts[s], h[:, None, None], o[:, None, None], np.arange(n + 1)


def cone_energies(distances, hbar_velocity, gamma_1, dirac_energy=0.0):
    """Low valence and conduction band, (n_k,) eV each, of McCann and Koshino's hyperbola.

    ``distances`` are |k − K| in Å⁻¹, ħv in eV·Å; γ₁ = 0 gives the linear cone.
    """
    half = 0.5 * (np.sqrt(gamma_1**2 + 4.0 * (hbar_velocity * distances) ** 2) - gamma_1)
    return dirac_energy - half, dirac_energy + half
