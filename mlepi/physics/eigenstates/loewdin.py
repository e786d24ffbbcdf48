"""Löwdin's orthogonal orbitals: H(k) → S(k)^{-1/2} H(k) S(k)^{-1/2}, in real space.

Of all orthonormal orbitals they are the nearest to the given ones (Löwdin, J. Chem. Phys. 18, 365
(1950), doi:10.1063/1.1747632), and they keep their symmetry and centres. Levels are the same at the
k-points of the mesh; between them matrices are interpolated (Fourier), with an error that falls
exponentially with the mesh, the slower the more singular S is. Convention as in
``mlepi.physics.eigenstates.bloch``: H(k) = Σ_R e^{2πi k·R} H(R), k fractional.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import PhysicsError, message

SAME_LENGTH = 1e-4
"""Å; lattice vectors whose lengths differ by less are equally long."""

IMAGES = (-2, -1, 0, 1, 2)
"""Images of a lattice vector among which the shortest ones are looked for."""


@dataclass(frozen=True)
class OrthogonalMatrix:
    """A real-space matrix of orthonormal orbitals on the lattice vectors of a Wigner–Seitz cell.

    Attributes:
        cells: (n_cells, 3) int, R.
        degeneracies: (n_cells,) int, how many equally short images share the matrix of R.
        blocks: (n_cells, n_orbitals, n_orbitals), ⟨m, cell 0| · |n, cell R⟩, not yet divided by
            the degeneracy, as Wannier90 has them.
    """

    cells: NDArray[np.int64]
    degeneracies: NDArray[np.int64]
    blocks: NDArray[np.float64]

    def at_many(self, kpoints: ArrayLike) -> NDArray[np.complex128]:
        """Return Σ_R e^{2πi k·R} H(R)/degeneracy: (n_k, n_orbitals, n_orbitals)."""
        points = np.asarray(kpoints, dtype=np.float64).reshape(-1, 3)
        phases = np.exp(2j * np.pi * (points @ self.cells.T)) / self.degeneracies
        size = self.blocks.shape[-1]
        return np.asarray(phases @ self.blocks.reshape(len(self.cells), -1)).reshape(-1, size, size)


def orthogonalise(
    hamiltonian_k: NDArray[np.complexfloating], overlap_k: NDArray[np.complexfloating]
) -> NDArray[np.complex128]:
    """Return S^{-1/2} H S^{-1/2} at every k.

    Args:
        hamiltonian_k: (n_k, n, n) Hermitian, eV.
        overlap_k: (n_k, n, n) Hermitian.

    Raises:
        PhysicsError: an overlap matrix is not positive definite.
    """
    values, vectors = np.linalg.eigh(overlap_k)
    if values.min() <= 0.0:
        got, fix = f"smallest eigenvalue {values.min():.1e}", "Check structure and overlap table."
        raise PhysicsError(message("overlap matrix", got, "a positive definite matrix", fix))
    root = (vectors / np.sqrt(values)[:, None, :]) @ vectors.conj().swapaxes(1, 2)
    orthogonal = root @ hamiltonian_k @ root
    return np.asarray(0.5 * (orthogonal + orthogonal.conj().swapaxes(1, 2)))


def transform_to_cells(
    matrices_k: NDArray[np.complexfloating], divisions: Sequence[int], cell: NDArray[np.float64]
) -> OrthogonalMatrix:
    """Return the real-space matrix of Hermitian matrices on a mesh of k-points.

    Args:
        matrices_k: (n_k, n, n) on the mesh i/n₁, j/n₂, k/n₃ in C order, with M(−k) = M(k)*.
        divisions: n₁, n₂, n₃.
        cell: (3, 3) rows, Å, whose metric makes the Wigner–Seitz cell.
    """
    size = matrices_k.shape[-1]
    on_mesh = matrices_k.reshape(*divisions, size, size)
    by_cell = np.fft.fftn(on_mesh, axes=(0, 1, 2), norm="forward").real.reshape(-1, size, size)
    cells, degeneracies, origins = list_wigner_seitz(divisions, cell)
    return OrthogonalMatrix(cells, degeneracies, by_cell[origins])


def list_wigner_seitz(
    divisions: Sequence[int], cell: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """List the shortest lattice vectors of each class modulo a supercell, all where several are.

    Args:
        divisions: cells of the supercell along each lattice vector.
        cell: (3, 3) rows, Å.

    Returns:
        Lattice vectors (n_cells, 3) int; of how many each is one, (n_cells,) int; and its class,
        (n_cells,) int, in C order of the supercell.
    """
    axes = np.meshgrid(*(np.arange(n) for n in divisions), indexing="ij")
    classes = np.stack(axes, axis=-1).reshape(-1, 3)
    images = np.array(list(product(*(IMAGES if n > 1 else (0,) for n in divisions))))
    vectors = classes[:, None] + images * np.asarray(divisions)
    lengths = np.linalg.norm(vectors @ cell, axis=-1)
    shortest = lengths < lengths.min(axis=1, keepdims=True) + SAME_LENGTH
    origins, image = np.nonzero(shortest)
    return vectors[origins, image], shortest.sum(axis=1)[origins], origins
