"""Berry curvature and quantum metric of bands in a basis that is not orthogonal.

The geometric tensor of a set of bands, Q_ab = Σ_{n in, m out} r^a_nm r^b_mn with r_nm = iħv_nm/(E_n
− E_m), holds both: the metric g = Re Q and the curvature Ω = −2 Im Q_xy, Å². States and velocities
are those of Löwdin-orthonormalised orbitals, H̃(k) = S^{-1/2} H S^{-1/2} in the atomic gauge, each
of which is taken as a point at its atom: the bands then live in one fixed space, curvatures
integrate to Berry phases and integers, the metric is positive, and adding a multiple of S to H
changes nothing. What the orbitals' own extent adds (dipoles, and the weight that S^{-1/2} puts on
neighbours) is neglected; ``velocity_matrices`` neglects less between single pairs of bands, but its
bands have no common space.

References:
    Provost and Vallee, Commun. Math. Phys. 76, 289 (1980), doi:10.1007/BF02193559 (metric). Fukui,
    Hatsugai and Suzuki, J. Phys. Soc. Jpn. 74, 1674 (2005), doi:10.1143/JPSJ.74.1674 (links).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.bands.unfolding import loewdin_root
from mlepi.physics.bands.velocity_matrices import derivatives_at, lay_out_derivatives
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks, lay_out_blocks

TOUCHING = 1e-5
"""eV; where the chosen bands come closer than this to the others, their geometry is not defined."""


def geometric_tensor(
    eigenvalues: NDArray[np.float64],
    velocities: NDArray[np.complexfloating],
    chosen: NDArray[np.bool_],
) -> NDArray[np.complex128]:
    """Sum Q_ab = ħv^a_nm ħv^b_mn/(E_n − E_m)² over chosen bands n and all others m.

    Args:
        eigenvalues: (n_bands,), eV, of all bands.
        velocities: (2, n_bands, n_bands), ħv between them, eV·Å.
        chosen: (n_bands,).

    Returns:
        (2, 2) Hermitian, Å²; NaN where a chosen band touches another.
    """
    gaps = eigenvalues[chosen][:, None] - eigenvalues[~chosen][None, :]
    if gaps.size and np.abs(gaps).min() < TOUCHING:
        return np.full((2, 2), complex(np.nan, np.nan))
    positions = velocities[:, chosen][:, :, ~chosen] / gaps
    tensor: NDArray[np.complex128] = np.einsum("anm,bnm->ab", positions, positions.conj())
    return tensor


def berry_curvature(tensor: NDArray[np.complexfloating]) -> NDArray[np.float64]:
    """Return Ω = −2 Im Q_xy, Å², of tensors (…, 2, 2)."""
    return np.asarray(-2.0 * tensor[..., 0, 1].imag)


def quantum_metric(tensor: NDArray[np.complexfloating]) -> NDArray[np.float64]:
    """Return g = Re Q, (…, 2, 2), Å²; tr g ≥ |Ω| and, for one of two bands, det g = Ω²/4."""
    return np.asarray(tensor.real)


def inverse_root_slopes(
    overlap: NDArray[Any], overlap_slopes: NDArray[Any]
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return S^{-1/2} and its derivatives.

    From divided differences of s^{-1/2} in the eigenbasis of S (Daleckii and Krein).

    Args:
        overlap: (n, n) Hermitian positive definite.
        overlap_slopes: (n_axes, n, n), ∂S.

    Returns:
        (n, n) and (n_axes, n, n).

    Raises:
        PhysicsError: S is not positive definite.
    """
    _, inverse_root = loewdin_root(overlap)
    values, vectors = np.linalg.eigh(overlap)
    roots = np.sqrt(values)
    # (s_i^{-1/2} − s_j^{-1/2})/(s_i − s_j) without cancellation
    differences = -1.0 / (np.outer(roots, roots) * (roots[:, None] + roots[None, :]))
    inner = vectors.conj().T @ overlap_slopes @ vectors
    return inverse_root, vectors @ (differences * inner) @ vectors.conj().T


@dataclass(frozen=True)
class BlochGeometry:
    """A primitive cell whose bands have a geometry.

    Attributes:
        hamiltonian: eV.
        overlap: dimensionless.
        hamiltonian_slopes: ∂H/∂k_x and ∂H/∂k_y in the atomic gauge.
        overlap_slopes: likewise.
        sites: (n_orbitals, 3), fractional coordinates of the atoms that hold the orbitals.
    """

    hamiltonian: DenseBlocks
    overlap: DenseBlocks
    hamiltonian_slopes: tuple[DenseBlocks, ...]
    overlap_slopes: tuple[DenseBlocks, ...]
    sites: NDArray[np.float64]

    def orthonormalise(self, kpoint: ArrayLike) -> NDArray[np.complex128]:
        """Return H̃ = S^{-1/2} H S^{-1/2} and its slopes along k_x and k_y at one k-point.

        Lattice gauge; slopes are those of the atomic gauge.

        Returns:
            (3, n_orbitals, n_orbitals): H̃, eV, ∂_xH̃ and ∂_yH̃, eV·Å.
        """
        hamiltonian = self.hamiltonian.at(kpoint)
        inverse_root, root_slopes = inverse_root_slopes(
            self.overlap.at(kpoint), derivatives_at(self.overlap_slopes, kpoint)
        )
        half = root_slopes @ hamiltonian @ inverse_root
        slopes = (
            half
            + half.conj().swapaxes(1, 2)
            + inverse_root @ derivatives_at(self.hamiltonian_slopes, kpoint) @ inverse_root
        )
        return np.concatenate([(inverse_root @ hamiltonian @ inverse_root)[None], slopes])

    def orthonormal_hamiltonian(self, kpoint: ArrayLike) -> NDArray[np.complex128]:
        """Return H̃ alone, (n_orbitals, n_orbitals), eV."""
        _, inverse_root = loewdin_root(self.overlap.at(kpoint))
        matrix: NDArray[np.complex128] = inverse_root @ self.hamiltonian.at(kpoint) @ inverse_root
        return matrix


def tensor_of(
    matrices: NDArray[np.complexfloating], chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Compute the geometric tensor of chosen bands of one H̃, or of an average of several.

    Args:
        matrices: (3, n_orbitals, n_orbitals), of ``BlochGeometry.orthonormalise``.
        chosen: (n_bands,).

    Returns:
        All energies, (n_bands,) eV, and the tensor, (2, 2) Å².
    """
    values, vectors = np.linalg.eigh(matrices[0])
    velocities = vectors.conj().T @ matrices[1:] @ vectors
    return values, geometric_tensor(values, velocities, chosen)


def link(
    step: ArrayLike, left: NDArray[Any], right: NDArray[Any], sites: NDArray[np.float64]
) -> complex:
    """Return det⟨u_m(k)|u_n(k')⟩.

    Args:
        step: (3,) fractional, k' − k.
        left: (n_orbitals, n_states), orthonormal states at k with the phases of the lattice gauge.
        right: (n_orbitals, n_states), the same at k'.
        sites: (n_orbitals, 3), fractional coordinates of the atoms that hold the orbitals.
    """
    phases = np.exp(-2j * np.pi * (sites @ np.asarray(step, dtype=np.float64)))
    return complex(np.linalg.det(left.conj().T @ (phases[:, None] * right)))


def loop_phase(
    kpoints: NDArray[np.float64],
    matrices: NDArray[np.complexfloating],
    chosen: NDArray[np.bool_],
    sites: NDArray[np.float64],
) -> float:
    """Return the Berry phase of a closed path inside the zone, γ = ∮A·dk in (−π, π].

    Args:
        kpoints: (n_k, 3) fractional, in order; the last one is connected to the first.
        matrices: (n_k, n_orbitals, n_orbitals), H̃ there, eV.
        chosen: (n_bands,).
        sites: (n_orbitals, 3), fractional coordinates of the atoms that hold the orbitals.
    """
    states = np.linalg.eigh(matrices)[1][:, :, chosen]
    following = np.roll(np.arange(len(kpoints)), -1)
    links = [
        link(kpoints[j] - kpoints[i], states[i], states[j], sites) for i, j in enumerate(following)
    ]
    return float(-np.angle(np.prod([z / abs(z) for z in links])))


def build_geometry(
    hamiltonian_blocks: NDArray[np.floating],
    overlap_blocks: NDArray[np.floating],
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    offsets: NDArray[np.integer],
    cell: ArrayLike,
    positions: NDArray[np.floating],
) -> BlochGeometry:
    """Prepare a primitive cell.

    Args:
        hamiltonian_blocks: (n_edges, p, p), eV.
        overlap_blocks: (n_edges, p, p), of the same edges.
        edge_index: (2, n_edges) int, source (columns) and target (rows).
        edge_cell_shift: (n_edges, 3) int.
        offsets: (n_atoms + 1,) int, first matrix row of every atom, matrix size last.
        cell: (3, 3) rows, Å.
        positions: (n_atoms, 3), Å.

    Returns:
        The cell.

    Raises:
        PhysicsError: the two matrices do not have the same edges.
    """
    if hamiltonian_blocks.shape != overlap_blocks.shape:
        raise PhysicsError(
            message(
                "band geometry",
                f"blocks {hamiltonian_blocks.shape} and {overlap_blocks.shape}",
                "H and S on the same edges",
                "Give both the union of their edges.",
            )
        )
    where = (edge_index, edge_cell_shift, offsets)
    sites = np.linalg.solve(
        np.asarray(cell, dtype=np.float64).T, np.asarray(positions, dtype=np.float64).T
    ).T
    return BlochGeometry(
        lay_out_blocks(hamiltonian_blocks, *where),
        lay_out_blocks(overlap_blocks, *where),
        lay_out_derivatives(hamiltonian_blocks, *where, cell, positions),
        lay_out_derivatives(overlap_blocks, *where, cell, positions),
        np.repeat(sites, np.diff(offsets), axis=0),
    )
