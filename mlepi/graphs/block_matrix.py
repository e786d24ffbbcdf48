"""Hamiltonian and overlap as real-space matrices in local orbitals, their Bloch sums and bands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import DataError, message
from mlepi.physics.bands.velocity_matrices import lay_out_derivatives
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks, bloch_sum, lay_out_blocks
from mlepi.physics.eigenstates.sparse import bloch_sum_sparse
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class BlockMatrix:
    """Blocks ⟨i, cell 0 | · | j, cell R⟩ of a periodic matrix.

    On-site blocks and both directions of every pair are included.

    Attributes:
        numbers: (n_atoms,) int, atomic numbers.
        basis: shells of every element.
        edge_index: (2, n_edges) int, row 0 = source j (columns), row 1 = target i (rows).
        edge_cell_shift: (n_edges, 3) int, R.
        blocks: (n_edges, max_orbitals, max_orbitals), zero-padded; eV (Hamiltonian) or
            dimensionless (overlap).
    """

    numbers: NDArray[np.int64]
    basis: OrbitalBasis
    edge_index: NDArray[np.int64]
    edge_cell_shift: NDArray[np.int64]
    blocks: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse arrays whose shapes do not belong together."""
        n_edges, size = self.edge_index.shape[1], self.basis.max_orbitals
        if self.edge_cell_shift.shape != (n_edges, 3) or self.blocks.shape != (n_edges, size, size):
            raise DataError(
                message(
                    "BlockMatrix",
                    f"shifts {self.edge_cell_shift.shape} and blocks {self.blocks.shape}",
                    f"({n_edges}, 3) and ({n_edges}, {size}, {size})",
                    "Check the edge list and the basis.",
                )
            )

    @property
    def offsets(self) -> NDArray[np.int64]:
        """First row of every atom and the matrix size last: (n_atoms + 1,) int."""
        return self.basis.offsets(self.numbers)

    @property
    def n_orbitals(self) -> int:
        """Size of the matrix."""
        return int(self.offsets[-1])

    def dense(self, kpoint: ArrayLike, order: str = "e3nn") -> NDArray[np.complex128]:
        """Return the Bloch sum Σ_R e^{2πi k·R} M(R) at one k-point.

        Args:
            kpoint: (3,) fractional.
            order: orbital order of rows and columns, "e3nn" (internal) or a foreign one such as
                "openmx".

        Returns:
            (n_orbitals, n_orbitals) complex, Hermitian.
        """
        matrix = self.dense_many(np.asarray(kpoint, dtype=float)[None])[0]
        return matrix if order == "e3nn" else self._reorder(matrix, order)

    def dense_many(self, kpoints: ArrayLike) -> NDArray[np.complex128]:
        """Return the Bloch sums at several k-points: (n_k, n_orbitals, n_orbitals)."""
        points = np.atleast_2d(np.asarray(kpoints, dtype=float))
        return bloch_sum(self.blocks, self.edge_index, self.edge_cell_shift, self.offsets, points)

    def lay_out(self) -> DenseBlocks:
        """Lay out the matrix once, for its Bloch sums at many k-points."""
        return lay_out_blocks(self.blocks, self.edge_index, self.edge_cell_shift, self.offsets)

    def lay_out_derivatives(
        self,
        cell: ArrayLike,
        positions: NDArray[np.floating] | None = None,
        direction: ArrayLike | None = None,
    ) -> tuple[DenseBlocks, ...]:
        """Lay out ∂/∂k of the Bloch sums once, for ``derivatives_at`` at many k-points.

        Args:
            cell: (3, 3) rows, Å.
            positions: (n_atoms, 3), Å, for the atomic gauge; None for the lattice gauge.
            direction: (3,) unit vector, Cartesian, along which the one derivative is taken; None
                takes ∂/∂k_x and ∂/∂k_y.
        """
        return lay_out_derivatives(
            self.blocks,
            self.edge_index,
            self.edge_cell_shift,
            self.offsets,
            cell,
            positions,
            direction=direction,
        )

    def sparse(self, kpoint: ArrayLike) -> csr_array:
        """Return the sparse Bloch sum at one k-point, (n_orbitals, n_orbitals), internal order."""
        return bloch_sum_sparse(self, kpoint)

    def symmetrised(self) -> BlockMatrix:
        """Average with the transposed reverse blocks, so that H_ij(R) = H_ji(−R)ᵀ exactly."""
        reverse = reverse_edges(self.edge_index, self.edge_cell_shift)
        blocks = 0.5 * (self.blocks + np.swapaxes(self.blocks[reverse], 1, 2))
        return BlockMatrix(self.numbers, self.basis, self.edge_index, self.edge_cell_shift, blocks)

    def _reorder(self, matrix: NDArray[np.complex128], order: str) -> NDArray[np.complex128]:
        offsets = self.offsets
        rows = np.empty(self.n_orbitals, dtype=np.int64)
        for atom, number in enumerate(self.numbers):
            rows[offsets[atom] + self.basis.permutation(int(number), order)] = np.arange(
                offsets[atom], offsets[atom + 1]
            )
        return matrix[np.ix_(rows, rows)]


def block_matrices(labels: LabelledStructure) -> tuple[BlockMatrix, BlockMatrix]:
    """Return the labelled Hamiltonian and overlap of a structure as block matrices.

    Raises:
        DataError: the structure carries no Hamiltonian or no overlap.
    """
    if (
        labels.basis is None
        or labels.edge_index is None
        or labels.edge_cell_shift is None
        or labels.hamiltonian_blocks is None
        or labels.overlap_blocks is None
    ):
        raise DataError(
            message(
                f"structure {labels.name!r}",
                "no blocks",
                "Hamiltonian and overlap blocks",
                "Read labels with both.",
            )
        )
    numbers = np.asarray(labels.atoms.numbers, dtype=np.int64)
    hamiltonian, overlap = (
        BlockMatrix(
            numbers,
            labels.basis,
            labels.edge_index,
            labels.edge_cell_shift,
            np.asarray(blocks, dtype=np.float64),
        )
        for blocks in (labels.hamiltonian_blocks, labels.overlap_blocks)
    )
    return hamiltonian, overlap


def compute_bands(
    hamiltonian: BlockMatrix, overlap: BlockMatrix, kpoints: ArrayLike
) -> NDArray[np.float64]:
    """Solve H(k) c = E S(k) c at every k-point.

    Args:
        hamiltonian: eV.
        overlap: of the same structure and basis.
        kpoints: (n_k, 3) fractional.

    Returns:
        (n_k, n_orbitals) eigenvalues, ascending, eV.

    Raises:
        DataError: the two matrices belong to different structures or bases.
        PhysicsError: the overlap is not positive definite.
    """
    if hamiltonian.basis != overlap.basis or not np.array_equal(
        hamiltonian.numbers, overlap.numbers
    ):
        raise DataError(
            message(
                "compute_bands",
                "a Hamiltonian and an overlap of different atoms or bases",
                "the same",
                "Pass a matching pair.",
            )
        )
    points = np.atleast_2d(np.asarray(kpoints, dtype=float))
    layouts = hamiltonian.lay_out(), overlap.lay_out()
    return np.stack(
        [np.asarray(solve_bands(*(layout.at(k) for layout in layouts))) for k in points]
    )
