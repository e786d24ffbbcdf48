"""Energy of the occupied bands on a mesh of k-points, and the density matrices that go with it.

E = Σ_k w_k Σ_n 2 f(ε_n) ε_n, whose derivative with respect to anything x that moves the blocks is

    dE/dx = Σ_R Tr[P(R)ᵀ ∂H(R)/∂x − W(R)ᵀ ∂S(R)/∂x],
    P(R) = Σ_k w_k Re e^{2πi k·R} Σ_n 2 f_n c_n* c_nᵀ,   W(R) the same with 2 f_n ε_n,

at fixed occupations (Pulay 1969; the entropy term makes up for their change). In a self-consistent
calculation E of the same Hamiltonian on a denser mesh, minus that on the mesh it was made with, is
the change of the total energy to first order in the change of the density matrix: the energy is
stationary in the density (Harris 1985).

References:
    Pulay, Mol. Phys. 17, 197 (1969), doi:10.1080/00268976900100941.
    Harris, Phys. Rev. B 31, 1770 (1985), doi:10.1103/PhysRevB.31.1770.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh

from mlepi.errors import PhysicsError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.bands.lattice import build_k_mesh
from mlepi.physics.bands.optics import fermi_occupations
from mlepi.physics.eigenstates.bloch import SPIN_DEGENERACY, fermi_energy_from_eigenvalues


@dataclass(frozen=True)
class BandSum:
    """Occupied bands of one structure on a mesh.

    Attributes:
        energy: Σ 2 f ε, eV per cell.
        fermi_energy: eV.
        density: P on the edges of H, electrons.
        energy_density: W on the edges of S, eV.
    """

    energy: float
    fermi_energy: float
    density: BlockMatrix
    energy_density: BlockMatrix


def sum_bands(
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    mesh: Sequence[int],
    n_electrons: float,
    temperature: float,
) -> BandSum:
    """Sum the occupied bands on a Γ-centred mesh.

    Args:
        hamiltonian: eV; not modified.
        overlap: of the same orbitals; its blocks may be others than those of H.
        mesh: divisions along the three reciprocal vectors.
        n_electrons: per cell.
        temperature: of the electrons, K; > 0.

    Raises:
        ConfigError: a division is not positive.
        PhysicsError: the temperature is not positive, the bands cannot hold the electrons, or the
            overlap is not positive definite.
    """
    kpoints, weights = build_k_mesh(mesh)
    levels, vectors = zip(*solve_at(hamiltonian, overlap, kpoints), strict=True)
    eigenvalues = np.array(levels)
    fermi = fermi_energy_from_eigenvalues(eigenvalues, weights, n_electrons, temperature)
    occupied = SPIN_DEGENERACY * fermi_occupations(eigenvalues, fermi, temperature)
    picks = [_elements(matrix) for matrix in (hamiltonian, overlap)]
    sums = [np.zeros(matrix.blocks.shape) for matrix in (hamiltonian, overlap)]
    for kpoint, weight, filling, energies, states in zip(
        kpoints, weights, occupied, eigenvalues, vectors, strict=True
    ):
        some = filling > 0.0
        kept = states[:, some]
        for matrix, pick, total, factors in zip(
            (hamiltonian, overlap), picks, sums, (filling, filling * energies), strict=True
        ):
            density = (kept.conj() * factors[some]) @ kept.T
            phases = np.exp(2j * np.pi * matrix.edge_cell_shift @ kpoint)
            total += weight * (density[pick.rows, pick.columns] * phases[:, None, None]).real
    density, energy_density = (
        replace(matrix, blocks=total * pick.real)
        for matrix, total, pick in zip((hamiltonian, overlap), sums, picks, strict=True)
    )
    energy = float((weights[:, None] * occupied * eigenvalues).sum())
    return BandSum(energy, fermi, density, energy_density)


def solve_at(
    hamiltonian: BlockMatrix, overlap: BlockMatrix, kpoints: NDArray[np.float64]
) -> list[tuple[NDArray[np.float64], NDArray[Any]]]:
    """Return all levels (n,), eV, and states (n, n), c†Sc = 1, at every k-point.

    Args:
        hamiltonian: eV.
        overlap: of the same orbitals.
        kpoints: (n_k, 3) fractional.

    Raises:
        PhysicsError: the overlap is not positive definite.
    """
    layouts, found = (hamiltonian.lay_out(), overlap.lay_out()), []
    for kpoint in kpoints:
        try:
            solution = eigh(
                *(layout.at(kpoint) for layout in layouts), check_finite=False, driver="gvd"
            )
        except LinAlgError as error:
            raise PhysicsError(
                message(
                    f"overlap at k = {np.round(kpoint, 4).tolist()}",
                    str(error),
                    "a positive definite matrix",
                    "Check the structure and the overlaps of its orbitals.",
                )
            ) from error
        found.append(solution)
    return found


@dataclass(frozen=True)
class _Elements:
    """Where the elements of padded blocks stand in the dense matrix, and which of them exist."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    real: NDArray[np.float64]


def _elements(matrix: BlockMatrix) -> _Elements:
    offsets, size = matrix.offsets, matrix.basis.max_orbitals
    inside = np.arange(size)
    source, target = matrix.edge_index
    present = inside < np.diff(offsets)[:, None]
    first = np.where(present, offsets[:-1, None] + inside, 0)
    real = present[target][:, :, None] & present[source][:, None, :]
    return _Elements(first[target][:, :, None], first[source][:, None, :], real.astype(np.float64))
