"""f(S) of large cells in real space, from overlapping clusters of atoms.

f(S) decays within some 10 Å, so that its rows at a few atoms follow from the overlaps of the atoms
around them. Memory and time grow with the number of atoms, not with its square and cube.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.physics.eigenstates.sparse.pencil import RealSpaceBlocks

CORE = 7.5
"""Å, edge of the boxes whose atoms are treated together."""

HALO = 8.5
"""Å around a box, whose atoms belong to its cluster."""


@dataclass(frozen=True)
class _Cluster:
    """Atoms around a box.

    Attributes:
        atoms: (n,) int, of the cell; those of the box come first.
        shifts: (n, 3) int, their cells.
        n_core: atoms of the box.
    """

    atoms: NDArray[np.int64]
    shifts: NDArray[np.int64]
    n_core: int


def filter_in_tiles(
    overlap: RealSpaceBlocks,
    threshold: float,
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return f(S) = [τ(S + τ)⁻¹]⁴ on the pairs of S: (n_edges, p, p).

    Row by row: a pair and its reverse come from different clusters and differ a little.

    Args:
        overlap: of the structure.
        threshold: τ.
        positions: (n_atoms, 3), Å, those that the cell shifts refer to.
        cell: (3, 3) rows, Å.
    """
    blocks = np.asarray(overlap.blocks, dtype=np.float64)
    source, target = np.asarray(overlap.edge_index, dtype=np.int64)
    shifts = np.asarray(overlap.edge_cell_shift, dtype=np.int64)
    size = blocks.shape[-1]
    counts = np.diff(np.asarray(overlap.offsets, dtype=np.int64))
    order = np.argsort(target, kind="stable")
    first = np.searchsorted(target[order], np.arange(len(counts) + 1))
    result = np.zeros_like(blocks)
    for cluster in _find_clusters(positions, cell, np.any(shifts != 0, axis=0)):
        lengths = first[cluster.atoms + 1] - first[cluster.atoms]
        rows = np.repeat(np.arange(len(cluster.atoms)), lengths)
        begins = np.repeat(first[cluster.atoms] - np.append(0, np.cumsum(lengths)[:-1]), lengths)
        edges = order[np.arange(len(rows)) + begins]
        columns = _locate(cluster, source[edges], cluster.shifts[rows] + shifts[edges])
        inside = columns >= 0
        rows, columns, edges = rows[inside], columns[inside], edges[inside]
        matrix = np.zeros((len(cluster.atoms), size, len(cluster.atoms), size), dtype=np.float32)
        matrix[rows, :, columns, :] = blocks[edges]
        absent = np.arange(size) >= counts[cluster.atoms][:, None]  # of smaller atoms: decoupled
        places = np.nonzero(absent)
        matrix[places[0], places[1], places[0], places[1]] = 1.0
        core = rows < cluster.n_core
        filtered = _filter_rows(matrix, cluster.n_core, threshold)
        found = filtered[columns[core], :, rows[core], :].swapaxes(1, 2)
        there = ~absent[rows[core]][:, :, None] & ~absent[columns[core]][:, None, :]
        result[edges[core]] = np.where(there, found, 0.0)
    return result


def _filter_rows(matrix: NDArray[np.float32], n_core: int, threshold: float) -> NDArray[np.float32]:
    """Return the columns of f(S) at the first atoms: (n, p, n_core, p)."""
    n, size = matrix.shape[:2]
    flat = matrix.reshape(n * size, n * size)
    flat[np.diag_indices(n * size)] += threshold
    factor = scipy.linalg.cho_factor(flat.T, lower=True, overwrite_a=True, check_finite=False)
    columns = np.eye(n * size, n_core * size, dtype=np.float32)
    for _ in range(4):
        columns = scipy.linalg.cho_solve(factor, threshold * columns, check_finite=False)
    return columns.reshape(n, size, n_core, size)


def _find_clusters(
    positions: NDArray[np.float64], cell: NDArray[np.float64], repeated: NDArray[np.bool_]
) -> Iterator[_Cluster]:
    """Cut the cell into boxes and yield each with the atoms around it."""
    fractional = np.linalg.solve(cell.T, positions.T).T
    home = np.where(repeated, np.floor(fractional), 0.0)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    divisions = np.where(repeated, np.maximum(1, np.round(heights / CORE)), 1).astype(np.int64)
    boxes = np.floor((fractional - home) * divisions).astype(np.int64) % divisions
    number = np.ravel_multi_index(tuple(boxes.T), tuple(divisions))
    reach = np.where(repeated, np.ceil((HALO + CORE) / heights) + 1, 0).astype(np.int64)
    grid = np.stack(
        np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), axis=-1
    ).reshape(-1, 3)
    for box in np.unique(number):
        core = np.flatnonzero(number == box)
        folded = positions[core] - home[core] @ cell
        middle = folded.mean(axis=0)
        radius = np.linalg.norm(folded - middle, axis=1).max() + HALO
        atoms, cells = [core], [-home[core].astype(np.int64)]
        for image in grid:
            moved = positions + (image - home) @ cell
            near = np.flatnonzero(np.linalg.norm(moved - middle, axis=1) <= radius)
            if not image.any():
                near = np.setdiff1d(near, core)
            atoms.append(near)
            cells.append(image - home[near].astype(np.int64))
        yield _Cluster(np.concatenate(atoms), np.concatenate(cells), len(core))


def _locate(
    cluster: _Cluster, atoms: NDArray[np.int64], shifts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where atoms in cells stand in a cluster, −1 where they do not: (n,)."""
    both = np.concatenate([cluster.shifts, shifts])
    lowest, ranges = both.min(axis=0), np.ptp(both, axis=0) + 1

    def key(some: NDArray[np.int64], cells: NDArray[np.int64]) -> NDArray[np.int64]:
        x, y, z = (cells - lowest).T
        return np.asarray(((some * ranges[0] + x) * ranges[1] + y) * ranges[2] + z)

    own = key(cluster.atoms, cluster.shifts)
    order = np.argsort(own)
    wanted = key(atoms, shifts)
    place = np.minimum(np.searchsorted(own[order], wanted), len(own) - 1)
    found = order[place]
    return np.where(own[found] == wanted, found, -1)
