"""Dense H(k) at many k-points of one cell.

Real elements laid out once, multiplied by one phase per pair of atoms at each k.

Convention as in ``mlepi.physics.eigenstates.bloch``. A pair of atoms that meets in several periodic
images has one layer per image; cells wider than twice the range of the matrix have a single layer,
and H(k) is then one pass over memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import StructureError, message
from mlepi.physics.eigenstates.bloch import bloch_phases, solve_bands

MANY_ELEMENTS = 1 << 20
"""Elements of H(k), over all k, that are summed at once."""


@dataclass(frozen=True)
class DenseBlocks:
    """Blocks of a real-space matrix in the layout of H(k).

    Attributes:
        elements: (n_layers, n_orbitals, n_orbitals), real, in the unit of the blocks.
        shift_of_pair: (n_layers, n_atoms, n_atoms) int, position in ``shifts``; any where a pair
            has no block.
        shifts: (n_shifts, 3) int, the different cell shifts.
        counts: (n_atoms,) int, orbitals of every atom.
    """

    elements: NDArray[np.float64]
    shift_of_pair: NDArray[np.int64]
    shifts: NDArray[np.int64]
    counts: NDArray[np.int64]

    def at(self, kpoint: ArrayLike, out: NDArray[np.complex128] | None = None) -> NDArray[Any]:
        """Return Σ_R e^{2πi k·R} H(R).

        Args:
            kpoint: (3,) fractional.
            out: (n_orbitals, n_orbitals) complex, overwritten and returned, unless H(k) is real.

        Returns:
            (n_orbitals, n_orbitals), complex; real at time-reversal invariant k.
        """
        phases = bloch_phases(self.shifts, kpoint)
        if not np.iscomplexobj(phases):
            out = None
        total = None
        for elements, shift_of_pair in zip(self.elements, self.shift_of_pair, strict=True):
            term = self._multiply(elements, phases[shift_of_pair], out if total is None else None)
            total = term if total is None else np.add(total, term, out=total)
        return np.zeros(self.elements.shape[1:], dtype=phases.dtype) if total is None else total

    def at_many(self, kpoints: ArrayLike) -> NDArray[np.complex128]:
        """Return the Bloch sums at many k-points of a small cell, by one matrix product.

        (n_k, n_orbitals, n_orbitals).
        """
        points = np.asarray(kpoints, dtype=np.float64).reshape(-1, 3)
        n_orbitals = self.elements.shape[1]
        of_shift = np.zeros((len(self.shifts), n_orbitals, n_orbitals))
        rows, columns = np.ogrid[:n_orbitals, :n_orbitals]
        for elements, shift_of_pair in zip(self.elements, self.shift_of_pair, strict=True):
            shift = np.repeat(np.repeat(shift_of_pair, self.counts, axis=0), self.counts, axis=1)
            of_shift[shift, rows, columns] += elements
        phases = np.exp(2j * np.pi * (points @ self.shifts.T))
        sums: NDArray[np.complex128] = (phases @ of_shift.reshape(len(self.shifts), -1)).reshape(
            -1, n_orbitals, n_orbitals
        )
        return sums

    def _multiply(
        self, elements: NDArray[np.float64], phases: NDArray[Any], out: NDArray[Any] | None
    ) -> NDArray[Any]:
        """Multiply every block by the phase of its pair; ``phases`` is (n_atoms, n_atoms)."""
        result = np.empty(elements.shape, dtype=phases.dtype) if out is None else out
        columns = np.repeat(phases, self.counts, axis=1)
        count = int(self.counts[0])
        if np.all(self.counts == count):
            blocked = (len(self.counts), count, elements.shape[1])
            np.multiply(elements.reshape(blocked), columns[:, None], out=result.reshape(blocked))
            return result
        return np.multiply(elements, np.repeat(columns, self.counts, axis=0), out=result)


def lay_out_blocks(
    blocks: NDArray[np.floating],
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    offsets: NDArray[np.integer],
) -> DenseBlocks:
    """Lay out the blocks of a real-space matrix for ``DenseBlocks.at``.

    Args:
        blocks: (n_edges, p, p), zero-padded, both directions and the on-site blocks present.
        edge_index: (2, n_edges) int, source (columns) and target (rows).
        edge_cell_shift: (n_edges, 3) int.
        offsets: (n_atoms + 1,) int, first matrix row of every atom, matrix size last.

    Raises:
        StructureError: an edge names an atom that does not exist, an atom has more orbitals than
            the blocks hold, or there is not one block per edge.
    """
    first = np.asarray(offsets, dtype=np.int64)
    counts = first[1:] - first[:-1]
    n_atoms, size = len(counts), blocks.shape[-1]
    source, target = np.asarray(edge_index, dtype=np.int64)
    _check_blocks(blocks, source, target, counts)
    pair = target * n_atoms + source
    order = np.argsort(pair, kind="stable")
    ordered = pair[order]
    layer = np.empty_like(pair)
    layer[order] = np.arange(len(pair)) - np.searchsorted(ordered, ordered)
    shifts, shift_of_edge = unique_rows(np.asarray(edge_cell_shift, dtype=np.int64).reshape(-1, 3))
    n_layers = int(layer.max()) + 1 if len(pair) else 0
    padded = np.zeros((n_layers, n_atoms, size, n_atoms, size))
    padded[layer, target, :, source, :] = blocks
    elements = padded.reshape(n_layers, n_atoms * size, n_atoms * size)
    if not np.all(counts == size):
        rows = np.flatnonzero((np.arange(size) < counts[:, None]).reshape(-1))
        elements = np.ascontiguousarray(elements[:, rows[:, None], rows])
    shift_of_pair = np.zeros((n_layers, n_atoms, n_atoms), dtype=np.int64)
    shift_of_pair[layer, target, source] = shift_of_edge
    return DenseBlocks(elements, shift_of_pair, shifts, counts)


def _check_blocks(
    blocks: NDArray[np.floating],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> None:
    """Raise ``StructureError`` where edges, blocks and orbitals do not belong together."""
    if blocks.ndim != 3 or len(blocks) != len(source):
        shape, fix = f"({len(source)}, p, p), one per edge", "Pass the edges of these blocks."
        raise StructureError(message("blocks", f"shape {blocks.shape}", shape, fix))
    largest = int(max(source.max(), target.max())) if len(source) else -1
    if largest >= len(counts):
        known, fix = f"atoms below {len(counts)}", "Pass edges of this structure."
        raise StructureError(message("edge_index", f"atom {largest}", known, fix))
    if len(counts) and counts.max() > blocks.shape[-1]:
        needed = f"at least {counts.max()} orbitals per atom"
        fix = "Pad the blocks to the largest basis."
        raise StructureError(message("blocks", f"size {blocks.shape[-1]}", needed, fix))


def bloch_sum(
    blocks: NDArray[np.floating],
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    offsets: NDArray[np.integer],
    kpoints: ArrayLike,
) -> NDArray[np.complex128]:
    """Sum real-space blocks to dense matrices, H(k) = Σ_R e^{2πi k·R} H(R).

    Args:
        blocks: (n_edges, p, p), zero-padded; both directions and the on-site blocks present.
        edge_index: (2, n_edges) int.
        edge_cell_shift: (n_edges, 3) int.
        offsets: (n_atoms + 1,) int.
        kpoints: (n_k, 3) fractional.

    Returns:
        (n_k, n_orbitals, n_orbitals) complex, in the unit of the blocks.
    """
    layout = lay_out_blocks(blocks, edge_index, edge_cell_shift, offsets)
    points = np.asarray(kpoints, dtype=np.float64).reshape(-1, 3)
    sums = np.array([layout.at(k) for k in points], dtype=np.complex128)
    return sums.reshape(len(points), *layout.elements.shape[1:])


def solve_many(
    hamiltonian: DenseBlocks, overlap: DenseBlocks, kpoints: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Solve H(k) c = E S(k) c of a small cell at many k-points.

    Args:
        hamiltonian: eV.
        overlap: of the same orbitals.
        kpoints: (n_k, 3) fractional.

    Returns:
        (n_k, n_orbitals) eigenvalues, ascending, eV.

    Raises:
        PhysicsError: the overlap is not positive definite.
    """
    chunk = max(1, MANY_ELEMENTS // hamiltonian.elements.shape[1] ** 2)
    parts = [kpoints[start : start + chunk] for start in range(0, len(kpoints), chunk)]
    return np.concatenate(
        [solve_bands(hamiltonian.at_many(part), overlap.at_many(part)) for part in parts]
    )


def unique_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the different rows of an integer matrix, and where every row stands among them.

    The rows become single integers first, which sorts ten times faster than
    ``np.unique(rows, axis=0)``.

    Args:
        rows: (n_rows, n_columns), with a product of ranges below 2⁶³.

    Returns:
        (n_unique, n_columns), ascending, and (n_rows,).
    """
    if len(rows) == 0:
        return rows, np.empty(0, dtype=np.int64)
    lowest = rows.min(axis=0)
    ranges = rows.max(axis=0) - lowest + 1
    places = np.append(np.cumprod(ranges[:0:-1])[::-1], 1)
    keys, inverse = np.unique((rows - lowest) @ places, return_inverse=True)
    return (keys[:, None] // places) % ranges + lowest, inverse.reshape(-1)
