"""How blocks of a crystal change when one atom of one cell moves, summed at any k and k + q.

With D^{κα}_{ij}(A, B) = ∂⟨i, cell A|H|j, cell B⟩/∂u_{κα, cell 0} and the lattice gauge of
``mlepi.physics.eigenstates.bloch``, a wave u_{κα, cell P} = e^{2πi q·P} couples the Bloch sums at k
to those at k + q by

    ∂H_{ij}(k + q, k)/∂u_{κα} = Σ_{AB} e^{−2πi (k+q)·A} e^{2πi k·B} D^{κα}_{ij}(A, B)
                             = Σ_R e^{2πi k·R} Σ_A e^{−2πi q·A} D^{κα}_{ij}(A, A + R)

(Giustino, Rev. Mod. Phys. 89, 015003 (2017), doi:10.1103/RevModPhys.89.015003, Sec. III.C, in the
lattice gauge). D comes from a supercell in which an atom moves together with its periodic images.
At q commensurate with the supercell the sums are exact. At other q, A is taken where the pair is
nearest to the moved atom, summed |r_i − r_κ| + |r_j − r_κ|, and shared equally among images as
near: Fourier interpolation, good when D has decayed within half the supercell.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import PhysicsError, message
from mlepi.physics.bands.unfolding import FOLD_TOLERANCE, AtomMap
from mlepi.physics.eigenstates.dense_bloch import unique_rows

IMAGE_TOLERANCE = 1e-3
"""Å; images of a pair whose distances differ by less are equally near."""

IMAGES = (-2, -1, 0, 1)
"""Periodic images of the supercell among which the nearest one is looked for, along each axis with
more than one cell."""


@dataclass(frozen=True)
class CellResponse:
    """Derivatives of the blocks of a real-space matrix with respect to the atoms of cell 0.

    Attributes:
        supercell: number of cells along each lattice vector.
        cells: (n_cells, 3) int, the cells A, in the order of ``ase.Atoms.repeat``.
        offsets: (n_atoms + 1,) int, first matrix row of every primitive atom, matrix size last.
        pairs: (n_pairs, 2) int, primitive atoms i (rows) and j (columns).
        shifts: (n_pairs, 3) int, R, the cell of j minus that of i.
        values: (n_atoms, n_pairs, n_cells, 3, p, p), [κ, (i j R), A, α] = ∂⟨i, A|·|j, A +
            R⟩/∂u_{κα, cell 0}, eV/Å or 1/Å.
        images: (n_images, 3) int, periodic images in supercell lattice vectors.
        shares: (n_atoms, n_pairs, n_cells, n_images), share of each image; they sum to one.
    """

    supercell: tuple[int, int, int]
    cells: NDArray[np.int64]
    offsets: NDArray[np.int64]
    pairs: NDArray[np.int64]
    shifts: NDArray[np.int64]
    values: NDArray[np.float64]
    images: NDArray[np.int64]
    shares: NDArray[np.float64]

    def wave(self, qpoint: ArrayLike) -> NDArray[np.complex128]:
        """Sum over the cells A for a wave of displacements.

        Args:
            qpoint: (3,) fractional, of the primitive cell.

        Returns:
            (3 n_atoms, n_pairs, p, p): blocks whose Bloch sum at k couples k to k + q.
        """
        q = np.asarray(qpoint, dtype=np.float64)
        n_atoms, n_pairs, n_cells, _, size, _ = self.values.shape
        phases = np.exp(-2j * np.pi * (self.cells @ q))
        if self.is_commensurate(q):
            phases = np.broadcast_to(phases, (n_atoms, n_pairs, n_cells))
        else:
            phases = phases * (
                self.shares @ np.exp(-2j * np.pi * (self.images @ (np.array(self.supercell) * q)))
            )
        parts = np.stack([phases.real, phases.imag], axis=2)
        sums = (parts @ self.values.reshape(n_atoms, n_pairs, n_cells, -1)).reshape(
            n_atoms, n_pairs, 2, 3, size, size
        )
        result = np.moveaxis(sums[:, :, 0] + 1j * sums[:, :, 1], 2, 1)
        return np.ascontiguousarray(result).reshape(3 * n_atoms, n_pairs, size, size)

    def is_commensurate(self, qpoint: ArrayLike) -> bool:
        """Tell whether the supercell holds a whole number of wave lengths."""
        turns = np.asarray(qpoint, dtype=np.float64) * np.array(self.supercell)
        return bool(np.max(np.abs(turns - np.round(turns))) < FOLD_TOLERANCE)

    def couple(self, wave: NDArray[np.complex128], kpoints: ArrayLike) -> NDArray[np.complex128]:
        """Sum the blocks of a wave to matrices between k and k + q.

        Args:
            wave: (3 n_atoms, n_pairs, p, p), of ``wave(q)``.
            kpoints: (n_k, 3) fractional.

        Returns:
            (n_k, 3 n_atoms, n_orbitals, n_orbitals): rows at k + q, columns at k.
        """
        points = np.asarray(kpoints, dtype=np.float64).reshape(-1, 3)
        shifts, shift_of_pair = unique_rows(self.shifts)
        n_orbitals, size = int(self.offsets[-1]), wave.shape[-1]
        counts = np.diff(self.offsets)
        n_atoms = len(counts)
        padded = np.zeros(
            (len(shifts), len(wave), n_atoms, size, n_atoms, size), dtype=np.complex128
        )
        padded[shift_of_pair, :, self.pairs[:, 0], :, self.pairs[:, 1], :] = wave.swapaxes(0, 1)
        by_shift: NDArray[np.complex128] = padded.reshape(
            len(shifts), len(wave), n_atoms * size, n_atoms * size
        )
        if not np.all(counts == size):
            rows = np.flatnonzero((np.arange(size) < counts[:, None]).reshape(-1))
            by_shift = by_shift[:, :, rows[:, None], rows]
        phases = np.exp(2j * np.pi * (points @ shifts.T))
        return np.asarray(phases @ by_shift.reshape(len(shifts), -1)).reshape(
            len(points), len(wave), n_orbitals, n_orbitals
        )

    def translation_residual(self) -> float:
        """Return max |Σ_κP ∂⟨i, 0|·|j, R⟩/∂u_{κα, P}|.

        Zero when a rigid shift of the crystal changes no block.
        """
        return float(np.abs(self.values.sum(axis=(0, 2))).max())

    def border_share(self) -> float:
        """Return the share of Σ|derivative|² in pairs as near to several images of the atom."""
        squares = np.sum(self.values**2, axis=(3, 4, 5))
        shared = self.shares.max(axis=3) < 1.0 - 1e-9
        return float(squares[shared].sum() / squares.sum())


def collect_response(
    atom_map: AtomMap,
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    derivatives: NDArray[np.floating],
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    offsets: NDArray[np.integer],
) -> CellResponse:
    """Sort the derivatives of a supercell's blocks by primitive pairs and cells.

    Args:
        atom_map: atoms of the supercell, cell-major.
        edge_index: (2, n_edges) int, source and target, of the supercell.
        edge_cell_shift: (n_edges, 3) int, in supercell lattice vectors.
        derivatives: (3 n_atoms, n_edges, p, p), with respect to x, y, z of every atom of cell 0,
            eV/Å or 1/Å.
        positions: (n_atoms, 3), of the primitive cell, Å.
        cell: (3, 3) rows, of the primitive cell, Å.
        offsets: (n_atoms + 1,) int, first matrix row of every primitive atom, matrix size last.

    Returns:
        The response.

    Raises:
        PhysicsError: not one derivative per coordinate of the primitive cell and edge.
    """
    n_atoms, n_edges = len(positions), edge_index.shape[1]
    if derivatives.ndim != 4 or derivatives.shape[:2] != (3 * n_atoms, n_edges):
        raise PhysicsError(
            message(
                "derivatives of blocks",
                f"shape {derivatives.shape}",
                f"({3 * n_atoms}, {n_edges}, p, p): x, y, z of every primitive atom by edges",
                "Move one atom of cell 0 at a time.",
            )
        )
    cells = atom_map.cells[::n_atoms]
    source, target = edge_index
    shift = (
        atom_map.cells[source]
        + np.asarray(edge_cell_shift) * np.array(atom_map.supercell)
        - atom_map.cells[target]
    )
    pair_rows = np.concatenate([atom_map.primitive_atoms[edge_index[::-1]].T, shift], axis=1)
    pairs, pair_of_edge = unique_rows(pair_rows)
    size = derivatives.shape[-1]
    values = np.zeros((n_atoms, len(pairs), len(cells), 3, size, size))
    by_edge = derivatives.reshape(n_atoms, 3, n_edges, size, size)
    values[:, pair_of_edge, target // n_atoms] = by_edge.swapaxes(1, 2)
    images, shares = nearest_images(atom_map.supercell, cells, pairs, positions, cell)
    return CellResponse(
        atom_map.supercell,
        cells,
        np.asarray(offsets, dtype=np.int64),
        pairs[:, :2],
        pairs[:, 2:],
        values,
        images,
        shares,
    )


def nearest_images(
    supercell: tuple[int, int, int],
    cells: NDArray[np.integer],
    pairs: NDArray[np.integer],
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the periodic images of every pair of atoms that are nearest to each atom of cell 0.

    Args:
        supercell: number of cells along each lattice vector.
        cells: (n_cells, 3) int, A.
        pairs: (n_pairs, 5) int, atoms i and j and the cell R of j relative to i; i = j and R = 0
            stands for a single atom.
        positions: (n_atoms, 3), of the primitive cell, Å.
        cell: (3, 3) rows, of the primitive cell, Å.

    Returns:
        images (n_images, 3) int, in supercell lattice vectors, and shares (n_atoms, n_pairs,
        n_cells, n_images).
    """
    images = np.array(
        list(product(*(IMAGES if n > 1 else (0,) for n in supercell))), dtype=np.int64
    )
    lattice = (cells[:, None] + images[None] * np.array(supercell)) @ cell
    first = positions[pairs[:, 0]][:, None, None] + lattice
    second = positions[pairs[:, 1]][:, None, None] + pairs[:, 2:][:, None, None] @ cell + lattice
    shares = np.empty((len(positions), len(pairs), len(cells), len(images)))
    for atom, position in enumerate(positions):
        distances = np.linalg.norm(first - position, axis=-1) + np.linalg.norm(
            second - position, axis=-1
        )
        near = distances < distances.min(axis=-1, keepdims=True) + IMAGE_TOLERANCE
        shares[atom] = near / near.sum(axis=-1, keepdims=True)
    return images, shares
