"""H(k) and S(k) as one sparse pencil, summed from real-space blocks chunk by chunk.

No array as large as all elements exists beside the blocks and the result. Convention of
``mlepi.physics.eigenstates.bloch``: lattice gauge, H(k) = Σ_R e^{2πi k·R} H(R); rows
belong to the target atom of an edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import StructureError, message
from mlepi.physics.eigenstates.bloch import bloch_phases

CHUNK = 8192
"""Pairs of atoms summed at once; 64 elements each in a basis of eight orbitals."""


MAX_ELEMENTS = 2**31 - 1
"""Elements that 32-bit indices can number."""


class RealSpaceBlocks(Protocol):
    """Blocks of a periodic matrix; ``mlepi.graphs.block_matrix.BlockMatrix`` is one.

    Attributes:
        edge_index: (2, n_edges) int, source (columns) and target (rows); on-site edges included.
        edge_cell_shift: (n_edges, 3) int.
        blocks: (n_edges, p, p), zero-padded.
        offsets: (n_atoms + 1,) int, first row of every atom, matrix size last.
    """

    @property
    def edge_index(self) -> NDArray[np.int64]: ...  # noqa: D102

    @property
    def edge_cell_shift(self) -> NDArray[np.int64]: ...  # noqa: D102

    @property
    def blocks(self) -> NDArray[np.float64]: ...  # noqa: D102

    @property
    def offsets(self) -> NDArray[np.int64]: ...  # noqa: D102


@dataclass(frozen=True)
class SparsePencil:
    """Upper triangles of H(k) and S(k) on one pattern, in compressed rows.

    Real where k is time-reversal invariant.

    Attributes:
        starts: (n + 1,) int32, where the rows begin.
        columns: (n_elements,) int32, ascending in every row, the diagonal first.
        hamiltonian: (n_elements,) float64 or complex128, eV.
        overlap: (n_elements,) of the same dtype.
    """

    starts: NDArray[np.int32]
    columns: NDArray[np.int32]
    hamiltonian: NDArray[Any]
    overlap: NDArray[Any]

    @property
    def n_orbitals(self) -> int:
        """Size of the matrices."""
        return len(self.starts) - 1

    @property
    def is_real(self) -> bool:
        """Whether k was time-reversal invariant."""
        return not np.iscomplexobj(self.hamiltonian)

    def shifted(self, shift: float) -> NDArray[Any]:
        """Return the elements of H − σS: (n_elements,), eV; ``shift`` is σ, eV."""
        values = self.overlap * (-shift)
        values += self.hamiltonian
        return values

    def multiply_hamiltonian(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return H times the columns of a block: (n, m), eV."""
        return self._multiply(self.hamiltonian, block)

    def multiply_overlap(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return S times the columns of a block: (n, m)."""
        return self._multiply(self.overlap, block)

    def triangle(self, values: NDArray[Any]) -> Any:
        """Return elements on this pattern as ``scipy.sparse.csr_array``; shares their memory."""
        n = self.n_orbitals
        return scipy.sparse.csr_array((values, self.columns, self.starts), shape=(n, n))

    def _multiply(self, values: NDArray[Any], block: NDArray[Any]) -> NDArray[Any]:
        """Multiply U + (U − D)† by a block, with U the upper triangle and D its diagonal."""
        upper = self.triangle(values)
        block = np.ascontiguousarray(block)
        product = upper @ block
        if self.is_real and not np.iscomplexobj(block):
            product += upper.T @ block
        else:
            product += np.conj(upper.T @ np.conj(block))
        product -= values[self.starts[:-1], None] * block
        return product


def build_pencil(
    hamiltonian: RealSpaceBlocks, overlap: RealSpaceBlocks, kpoint: ArrayLike
) -> SparsePencil:
    """Sum H and S at one k-point, without the elements that vanish in both.

    Args:
        hamiltonian: eV, Hermitian: H_ij(R) = H_ji(−R)ᵀ; only one of the two is looked at.
        overlap: of the same atoms and orbitals.
        kpoint: (3,) fractional.

    Returns:
        The pencil.

    Raises:
        StructureError: the matrices have different atoms, or blocks and edges do not belong
            together.
    """
    if not np.array_equal(hamiltonian.offsets, overlap.offsets):
        raise StructureError(
            message(
                "sparse pencil",
                "H and S of different sizes",
                "the same atoms and orbitals",
                "Predict both for one structure.",
            )
        )
    starts, columns, (h, s) = _sum((hamiltonian, overlap), kpoint, upper=True)
    return SparsePencil(starts, columns, h, s)


def bloch_sum_sparse(matrix: RealSpaceBlocks, kpoint: ArrayLike) -> Any:
    """Sum one matrix at one k-point, without vanishing elements.

    Args:
        matrix: real-space blocks.
        kpoint: (3,) fractional.

    Returns:
        ``scipy.sparse.csr_array`` (n_orbitals, n_orbitals), real where k is time-reversal
        invariant, else complex.

    Raises:
        StructureError: blocks and edges do not belong together.
    """
    starts, columns, (values,) = _sum((matrix,), kpoint, upper=False)
    n = len(starts) - 1
    return scipy.sparse.csr_array((values, columns, starts), shape=(n, n))


def _sum(
    matrices: Sequence[RealSpaceBlocks], kpoint: ArrayLike, upper: bool
) -> tuple[NDArray[np.int32], NDArray[np.int32], list[NDArray[Any]]]:
    """Sum matrices on their common pattern.

    Returns:
        Starts (n + 1,), columns (n_elements,), and the elements of each matrix.
    """
    offsets = np.asarray(matrices[0].offsets, dtype=np.int64)
    counts, size = np.diff(offsets), max(matrix.blocks.shape[-1] for matrix in matrices)
    edges = [_SortedEdges(matrix, len(counts), kpoint, upper) for matrix in matrices]
    pairs = np.unique(np.concatenate([sorted_edges.pairs for sorted_edges in edges]))
    dtype = np.result_type(*(sorted_edges.phases.dtype for sorted_edges in edges))
    exists = np.arange(size) < counts[:, None]
    # of a padded row or column
    orbital = np.where(exists, offsets[:-1, None] + np.arange(size), -1).reshape(-1)
    n_elements = int(np.sum(counts[pairs // len(counts)] * counts[pairs % len(counts)]))
    if n_elements > MAX_ELEMENTS:
        raise StructureError(
            message(
                "sparse sum",
                f"{n_elements} elements",
                f"at most {MAX_ELEMENTS}",
                "Use a smaller cell or a shorter cutoff.",
            )
        )
    # the tail that dropped elements leave unused is never touched, so it costs no memory
    columns = np.empty(n_elements, dtype=np.int32)
    values = [np.empty(n_elements, dtype=dtype) for _ in matrices]
    lengths, filled = np.zeros(int(offsets[-1]), dtype=np.int64), 0
    for begin, end in _chunks(pairs // len(counts)):
        sums = [sorted_edges.sum(pairs[begin:end], size) for sorted_edges in edges]
        rows, places, elements = _expand(pairs[begin:end], sums, len(counts))
        rows, places = orbital[rows], orbital[places]
        keep = np.any([part != 0 for part in elements], axis=0) | (rows == places)
        keep &= (rows >= 0) & (places >= 0)
        if upper:
            keep &= places >= rows
        n_kept = int(np.count_nonzero(keep))
        columns[filled : filled + n_kept] = places[keep]
        for target, part in zip(values, elements, strict=True):
            target[filled : filled + n_kept] = part[keep]
        lengths += np.bincount(rows[keep], minlength=len(lengths))
        filled += n_kept
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return starts, columns[:filled], [part[:filled] for part in values]


class _SortedEdges:
    """Edges of one matrix in the order of their pairs of atoms.

    Attributes:
        pairs: (n_edges,) int, target·n_atoms + source, ascending.
        phases: (n_edges,) e^{2πi k·R} in the same order.
    """

    def __init__(
        self, matrix: RealSpaceBlocks, n_atoms: int, kpoint: ArrayLike, upper: bool
    ) -> None:
        source, target = np.asarray(matrix.edge_index, dtype=np.int64)
        if (
            matrix.blocks.ndim != 3
            or len(matrix.blocks) != source.size
            or (source.size and source.max() >= n_atoms)
        ):
            raise StructureError(
                message(
                    "blocks",
                    f"shape {matrix.blocks.shape} for {source.size} edges among {n_atoms} atoms",
                    "(n_edges, p, p), one block per edge",
                    "Pass the edges of these blocks.",
                )
            )
        wanted = np.flatnonzero(source >= target) if upper else np.arange(source.size)
        pairs = target[wanted] * n_atoms + source[wanted]
        order = np.argsort(pairs, kind="stable")
        self.pairs, self._edges, self._blocks = pairs[order], wanted[order], matrix.blocks
        self.phases = bloch_phases(np.asarray(matrix.edge_cell_shift)[self._edges], kpoint)

    def sum(self, pairs: NDArray[np.int64], size: int) -> NDArray[Any]:
        """Sum the blocks of some neighbouring pairs: (n_pairs, size, size)."""
        begin = np.searchsorted(self.pairs, pairs[0])
        end = np.searchsorted(self.pairs, pairs[-1], side="right")
        sums = np.zeros((len(pairs), size, size), dtype=self.phases.dtype)
        if end > begin:
            p = self._blocks.shape[-1]
            phased = self._blocks[self._edges[begin:end]] * self.phases[begin:end, None, None]
            first = np.flatnonzero(np.diff(self.pairs[begin:end], prepend=-1))
            sums[np.searchsorted(pairs, self.pairs[begin:end][first]), :p, :p] = np.add.reduceat(
                phased, first, axis=0
            )
        return sums


def _chunks(targets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut the sorted targets of all pairs into pieces of about ``CHUNK``, between atoms."""
    begin = 0
    while begin < len(targets):
        last = min(begin + CHUNK, len(targets)) - 1
        end = int(np.searchsorted(targets, targets[last], side="right"))
        yield begin, end
        begin = end


def _expand(
    pairs: NDArray[np.int64], sums: Sequence[NDArray[Any]], n_atoms: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[Any]]]:
    """Lay blocks out row by row.

    Returns:
        Padded rows and columns of the elements, (n,) each, and the elements of every matrix.
    """
    targets, sources = np.divmod(pairs, n_atoms)
    size, first = sums[0].shape[-1], int(targets[0])
    begins = np.searchsorted(targets, np.arange(first, int(targets[-1]) + 2))
    shape = (size * (len(begins) - 1), size * n_atoms)
    parts = [scipy.sparse.bsr_array((part, sources, begins), shape=shape).tocsr() for part in sums]
    rows = np.repeat(np.arange(shape[0]), np.diff(parts[0].indptr)) + size * first
    return rows, parts[0].indices, [part.data for part in parts]
