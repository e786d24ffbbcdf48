"""Electrons of the layers on a mesh of k-points, and the potentials between layers that follow.

In a semimetal the k-mesh decides how many electrons stand on which layer: whether it contains the
touching point of the bands or passes it by. Charge δN on layers at heights z makes their potential
energies

    φ_i = Σ_j U_ij δN_j,   U_ij = −e²|z_i − z_j|/(2ε₀A)   (charged planes, A the area of the cell),

and φ moves charge back, δN = N(dense) − N(mesh) + χφ. A self-consistent H of the mesh, continued to
a dense one, therefore lacks

    φ = (1 − Uχ)⁻¹ U [N(dense) − N(mesh)],   δH = Σ_i φ_i (P_i S + S P_i)/2,

with N by Mulliken from H and S of the mesh, χ_ij = ∂N_i/∂φ_j at a fixed number of electrons
(first-order perturbation theory), and P_i the orbitals of a layer. Nothing is fitted. For two
layers a distance d apart the difference is φ₀ − φ₁ = (e²d/ε₀A) δN₀, screened by 1/(1 − Uχ).

Reference:
    McCann, Phys. Rev. B 74, 161403 (2006), doi:10.1103/PhysRevB.74.161403 (screening of the
    asymmetry between the layers of bilayer graphene, planes as here).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.graphs.band_sums import solve_at
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import align_matrices
from mlepi.physics.bands.lattice import build_k_mesh
from mlepi.physics.bands.optics import fermi_occupations
from mlepi.physics.eigenstates.bloch import SPIN_DEGENERACY, fermi_energy_from_eigenvalues
from mlepi.units import BOLTZMANN, COULOMB

SAME_LEVEL = 1e-5
"""eV; closer levels have the slope of the occupation in the place of its difference quotient."""


@dataclass(frozen=True)
class LayerCharges:
    """Electrons by layer.

    Attributes:
        electrons: (n_layers,), Mulliken, per cell.
        response: (n_layers, n_layers), χ_ij = ∂N_i/∂φ_j at a fixed total, electrons/eV; rows and
            columns add up to zero.
        fermi_energy: eV.
    """

    electrons: NDArray[np.float64]
    response: NDArray[np.float64]
    fermi_energy: float


def count_layer_charges(
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    layers: Sequence[int],
    mesh: Sequence[int],
    n_electrons: float,
    temperature: float,
) -> LayerCharges:
    """Count the electrons of every layer on a Γ-centred mesh, and how they respond to potentials.

    Args:
        hamiltonian: eV; not modified.
        overlap: of the same orbitals.
        layers: (n_atoms,), the layer of every atom, from 0 without gaps.
        mesh: divisions along the three reciprocal vectors.
        n_electrons: per cell.
        temperature: of the electrons, K; > 0.

    Raises:
        ConfigError: a division is not positive.
        PhysicsError: the temperature is not positive, the bands cannot hold the electrons, or the
            overlap is not positive definite.
    """
    kpoints, weights = build_k_mesh(mesh)
    metric = overlap.lay_out()
    of_orbital = np.repeat(np.asarray(layers), np.diff(hamiltonian.offsets))
    inside = [of_orbital == layer for layer in range(int(of_orbital.max()) + 1)]
    solved = solve_at(hamiltonian, overlap, kpoints)
    levels = np.array([energies for energies, _ in solved])
    fermi = fermi_energy_from_eigenvalues(levels, weights, n_electrons, temperature)
    electrons = np.zeros(len(inside))
    bare = np.zeros((len(inside), len(inside)))
    slopes = np.zeros(1 + len(inside))  # Σ f′, and Σ f′ q of every layer
    for kpoint, weight, (energies, states) in zip(kpoints, weights, solved, strict=True):
        filling = fermi_occupations(energies, fermi, temperature)
        slope = -filling * (1.0 - filling) / (BOLTZMANN * temperature)
        mapped = metric.at(kpoint) @ states
        # c†(P S + S P)c/2 of every layer
        parts = [states[own].conj().T @ mapped[own] for own in inside]
        shares = [0.5 * (part + part.conj().T) for part in parts]
        diagonals = np.array([share.diagonal().real for share in shares])
        electrons += SPIN_DEGENERACY * weight * (diagonals @ filling)
        slopes += SPIN_DEGENERACY * weight * np.append(slope.sum(), diagonals @ slope)
        quotients = _difference_quotients(energies, filling, slope)
        for i, share in enumerate(shares):
            for j, other in enumerate(shares):
                products = (share * other.conj()).real
                bare[i, j] += SPIN_DEGENERACY * weight * float((quotients * products).sum())
    # the chemical potential moves so that the total stays
    response = bare - np.outer(slopes[1:], slopes[1:]) / slopes[0]
    return LayerCharges(electrons, response, fermi)


def plane_interaction(atoms: Atoms, layers: Sequence[int]) -> NDArray[np.float64]:
    """Return U of charged planes at the mean heights of the layers: (n_layers, n_layers), eV.

    Args:
        atoms: structure, Å; layers span its first two lattice vectors.
        layers: (n_atoms,), the layer of every atom.
    """
    normal = np.cross(*atoms.cell.array[:2])
    area = float(np.linalg.norm(normal))
    heights, numbers = atoms.positions @ (normal / area), np.asarray(layers)
    means = np.array([heights[numbers == n].mean() for n in range(int(numbers.max()) + 1)])
    strength = 2.0 * np.pi * COULOMB / area  # e²/(2ε₀) = 2π e²/(4πε₀)
    return np.asarray(-strength * np.abs(means[:, None] - means[None, :]))


def screened_potentials(
    interaction: NDArray[np.float64], mesh: LayerCharges, dense: LayerCharges
) -> NDArray[np.float64]:
    """Return what a self-consistent H on a mesh lacks of that on a dense one, by layer.

    Args:
        interaction: (n_layers, n_layers), eV, of ``plane_interaction``.
        mesh: charges on the mesh that H was made with.
        dense: charges of the same H on the dense one.

    Returns:
        (n_layers,) eV, their mean zero: φ of the module.
    """
    change = interaction @ (dense.electrons - mesh.electrons)
    screening = np.eye(len(change)) - interaction @ dense.response
    potentials = np.linalg.solve(screening, change)
    return np.asarray(potentials - potentials.mean())


def site_energies(matrix: BlockMatrix) -> NDArray[np.float64]:
    """Return the trace of every on-site block of H over its size, (n_atoms,) eV."""
    source, target = matrix.edge_index
    own = (source == target) & np.all(matrix.edge_cell_shift == 0, axis=1)
    sites = source[own]
    means = np.einsum("nii->n", matrix.blocks[own]) / np.diff(matrix.offsets)[sites]
    return np.asarray(means[np.argsort(sites)])


def add_layer_potentials(
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    layers: Sequence[int],
    potentials: NDArray[np.float64],
) -> BlockMatrix:
    """Return H + Σ_i φ_i (P_i S + S P_i)/2.

    Args:
        hamiltonian: eV; not modified.
        overlap: of the same atoms.
        layers: (n_atoms,), the layer of every atom.
        potentials: (n_layers,), φ, eV.
    """
    edge_index, edge_cell_shift, (plain, overlaps) = align_matrices([hamiltonian, overlap])
    of_atom = np.asarray(potentials)[np.asarray(layers)]
    means = 0.5 * (of_atom[edge_index[0]] + of_atom[edge_index[1]])
    return BlockMatrix(
        hamiltonian.numbers,
        hamiltonian.basis,
        edge_index,
        edge_cell_shift,
        plain + means[:, None, None] * overlaps,
    )


def _difference_quotients(
    energies: NDArray[np.float64], filling: NDArray[np.float64], slope: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (f_n − f_m)/(ε_n − ε_m), (n, n), 1/eV; the slope where levels are the same."""
    gaps = energies[:, None] - energies[None, :]
    same = np.abs(gaps) < SAME_LEVEL
    means = 0.5 * (slope[:, None] + slope[None, :])
    quotients = (filling[:, None] - filling[None, :]) / np.where(same, 1.0, gaps)
    return np.where(same, means, quotients)
