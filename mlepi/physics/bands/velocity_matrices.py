"""Derivatives of Bloch sums with respect to k, and the velocities that follow from them.

k is Cartesian here, Å⁻¹, so that derivatives of H are in eV·Å; divided by ħ they are velocities.
Two gauges:

- lattice gauge (that of ``mlepi.physics.eigenstates.bloch``, no positions in the phase):
    ∂M/∂k = Σ_R i R e^{ik·R} M(R);
- atomic gauge, M^a_ij = Σ_R e^{ik·(R + τ_j − τ_i)} M_ij(R): ∂M^a/∂k = Σ_R i (R + τ_j − τ_i)
    e^{ik·(R + τ_j − τ_i)} M_ij(R).

With positions the functions below return the second derivative *with the phases of the first*, D
∂M^a/∂k D† with D = diag(e^{ik·τ}), because it then takes eigenvectors of the lattice gauge as they
are. Velocities of single bands are the same in both gauges; matrix elements between different bands
mean something in the atomic gauge only.

In a non-orthogonal basis that moves with k, ħv_mn = c_m†(∂H − E_n ∂S)c_n + i(E_m − E_n) c_m†Ξc_n
with the dipoles Ξ_ij = ⟨i| r − R − τ_j |j R⟩ (Lee et al., Phys. Rev. B 98, 115115 (2018),
doi:10.1103/PhysRevB.98.115115). Their anti-Hermitian part is fixed by S, (Ξ − Ξ†) = i ∂S, which
leaves

    ħv_mn = c_m†[∂H − ½(E_m + E_n) ∂S]c_n + i(E_m − E_n) c_m†Ξ⁰c_n,   Ξ⁰_ij = ⟨i| r − ½(τ_i + R +
    τ_j) |j R⟩.

Ξ⁰ vanishes by inversion about the middle of the bond where both orbitals have the same shape (one
p_z on each atom), and is **neglected** here: the dipoles between different orbitals, such as s–p on
one atom, are not in the data. The diagonal, and hence every band velocity, is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks, lay_out_blocks


def derivative_blocks(
    blocks: NDArray[np.floating],
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    cell: ArrayLike,
    positions: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Multiply every block by its vector: i times their Bloch sums are ∂M/∂k_x, ∂M/∂k_y, ∂M/∂k_z.

    Args:
        blocks: (n_edges, p, p), real.
        edge_index: (2, n_edges) int, source (columns) and target (rows).
        edge_cell_shift: (n_edges, 3) int.
        cell: (3, 3) rows, Å.
        positions: (n_atoms, 3), Å, for the atomic gauge; None for the lattice gauge.

    Returns:
        (3, n_edges, p, p), Å times the unit of the blocks; antisymmetric, M_ij(R) = −M_ji(−R)ᵀ,
        where the blocks are symmetric.
    """
    vectors = np.asarray(edge_cell_shift, dtype=np.float64) @ np.asarray(cell, dtype=np.float64)
    if positions is not None:
        vectors = vectors + positions[edge_index[0]] - positions[edge_index[1]]
    weighted: NDArray[np.float64] = (
        vectors.T[:, :, None, None] * np.asarray(blocks, dtype=np.float64)[None]
    )
    return weighted


def lay_out_derivatives(
    blocks: NDArray[np.floating],
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    offsets: NDArray[np.integer],
    cell: ArrayLike,
    positions: NDArray[np.floating] | None = None,
    axes: tuple[int, ...] = (0, 1),
    direction: ArrayLike | None = None,
) -> tuple[DenseBlocks, ...]:
    """Lay out the derivatives of a real-space matrix once, for ``derivatives_at``.

    Args:
        blocks: (n_edges, p, p), real.
        edge_index: (2, n_edges) int, source (columns) and target (rows).
        edge_cell_shift: (n_edges, 3) int.
        offsets: (n_atoms + 1,) int, first matrix row of every atom, matrix size last.
        cell: (3, 3) rows, Å.
        positions: (n_atoms, 3), Å, for the atomic gauge; None for the lattice gauge.
        axes: Cartesian directions wanted.
        direction: (3,) unit vector, Cartesian; then the derivative along it is the only one.
    """
    if direction is not None:
        # vectors whose first component is that along the direction, the only one that counts
        unit, first = np.asarray(direction, dtype=np.float64), [1.0, 0.0, 0.0]
        cell, axes = np.outer(np.asarray(cell) @ unit, first), (0,)
        positions = None if positions is None else np.outer(positions @ unit, first)
    weighted = derivative_blocks(blocks, edge_index, edge_cell_shift, cell, positions)
    return tuple(
        lay_out_blocks(weighted[axis], edge_index, edge_cell_shift, offsets) for axis in axes
    )


def derivatives_at(layouts: tuple[DenseBlocks, ...], kpoint: ArrayLike) -> NDArray[np.complex128]:
    """Return ∂M/∂k at one k-point.

    (n_axes, n_orbitals, n_orbitals), Hermitian, Å times the unit of M.

    Args:
        layouts: of ``lay_out_derivatives``.
        kpoint: (3,) fractional.
    """
    return np.array([1j * layout.at(kpoint) for layout in layouts])


def derivatives_at_many(
    layouts: tuple[DenseBlocks, ...], kpoints: ArrayLike
) -> NDArray[np.complex128]:
    """Return ∂M/∂k of a small cell at many k-points: (n_axes, n_k, n_orbitals, n_orbitals).

    Arguments as ``derivatives_at``.
    """
    return np.array([1j * layout.at_many(kpoints) for layout in layouts])


def band_velocities(
    eigenvalues: NDArray[np.float64],
    vectors: NDArray[Any],
    hamiltonian_derivatives: NDArray[Any],
    overlap_derivatives: NDArray[Any],
) -> NDArray[np.float64]:
    """Return ħv_n = ∂E_n/∂k = c_n†(∂H/∂k − E_n ∂S/∂k)c_n, exact in either gauge.

    States of a degenerate level have velocities only once degenerate perturbation theory has chosen
    them.

    Args:
        eigenvalues: (n_states,), eV.
        vectors: (n_orbitals, n_states), lattice gauge, c†Sc = 1.
        hamiltonian_derivatives: (n_axes, n_orbitals, n_orbitals), eV·Å.
        overlap_derivatives: (n_axes, n_orbitals, n_orbitals), Å.

    Returns:
        (n_axes, n_states), eV·Å.

    Raises:
        PhysicsError: the arrays do not belong together.
    """
    _require_shapes(eigenvalues, vectors, hamiltonian_derivatives, overlap_derivatives)
    slopes = [
        np.sum(vectors.conj() * (dh @ vectors - (ds @ vectors) * eigenvalues), axis=0).real
        for dh, ds in zip(hamiltonian_derivatives, overlap_derivatives, strict=True)
    ]
    return np.array(slopes)


def velocity_matrices(
    eigenvalues: NDArray[np.float64],
    vectors: NDArray[Any],
    hamiltonian_derivatives: NDArray[Any],
    overlap_derivatives: NDArray[Any],
) -> NDArray[np.complex128]:
    """Return ħv_mn = c_m†[∂H/∂k − ½(E_m + E_n) ∂S/∂k]c_n, dipoles Ξ⁰ neglected (see above).

    Args:
        eigenvalues: (n_states,), eV.
        vectors: (n_orbitals, n_states), lattice gauge, c†Sc = 1.
        hamiltonian_derivatives: (n_axes, n_orbitals, n_orbitals), eV·Å, of the atomic gauge (made
            with positions).
        overlap_derivatives: (n_axes, n_orbitals, n_orbitals), Å, likewise.

    Returns:
        (n_axes, n_states, n_states) Hermitian, eV·Å; new phases, or a new basis of a degenerate
        level, turn it as an operator.

    Raises:
        PhysicsError: the arrays do not belong together.
    """
    _require_shapes(eigenvalues, vectors, hamiltonian_derivatives, overlap_derivatives)
    middle = 0.5 * (eigenvalues[:, None] + eigenvalues[None, :])
    left = vectors.conj().T
    matrices = [
        left @ (dh @ vectors) - middle * (left @ (ds @ vectors))
        for dh, ds in zip(hamiltonian_derivatives, overlap_derivatives, strict=True)
    ]
    return np.array(matrices)


def _require_shapes(
    eigenvalues: NDArray[np.float64],
    vectors: NDArray[Any],
    hamiltonian: NDArray[Any],
    overlap: NDArray[Any],
) -> None:
    n_orbitals, n_states = vectors.shape
    if (
        eigenvalues.shape != (n_states,)
        or hamiltonian.shape != overlap.shape
        or hamiltonian.shape[1:] != (n_orbitals,) * 2
    ):
        raise PhysicsError(
            message(
                "velocities",
                f"{eigenvalues.shape} eigenvalues, {vectors.shape} states, derivatives "
                f"{hamiltonian.shape} and {overlap.shape}",
                "(n_states,), (n_orbitals, n_states) and twice (n_axes, n_orbitals, n_orbitals)",
                "Pass the derivatives of H and S of the same structure and k-point.",
            )
        )
