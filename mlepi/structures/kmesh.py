"""From H(k) and S(k) on a mesh of k-points to blocks in real space, and what a mesh cannot tell.

M(R) = 1/N Σ_k e^{−2πi k·R} M(k) is periodic in R with the mesh: of the images of a pair the nearest
is meant, and images at equal distance share it. Where blocks at the border of the mesh have not
decayed the mesh is too coarse.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.pair_lists import BlockList

EQUAL_DISTANCE = 1e-4
"""Å; images of a pair closer in length than this share the block."""

IMAGINARY = 1e-6
"""Largest imaginary part of M(R), relative to the largest element: rounding of the code."""

NEGLIGIBLE = 1e-8
"""Blocks without a larger element are left out, in their unit."""


def list_mesh(mesh: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the k-points of a Γ-centred mesh, the last axis fastest: (n, 3) fractional."""
    grids = np.meshgrid(*(np.arange(n) / n for n in mesh), indexing="ij")
    return np.stack(grids, axis=-1).reshape(-1, 3)


def transform_to_cells(
    where: str,
    matrices: NDArray[np.complex128],
    mesh: tuple[int, int, int],
    atoms: Atoms,
    counts: NDArray[np.int64],
) -> tuple[BlockList, float]:
    """Transform Bloch sums of the lattice gauge to blocks.

    Args:
        where: file, for messages.
        matrices: (n_kpoints, n, n), in the order of ``list_mesh``, any unit.
        mesh: divisions.
        atoms: structure, Å.
        counts: (n_atoms,) int, orbitals of every atom.

    Returns:
        Blocks of the nearest images, and the largest element at the border of the mesh, where
        several images are equally near.

    Raises:
        DataError: the matrices are not Hermitian, or their sums are not real.
    """
    hermitian = np.abs(matrices - matrices.conj().transpose(0, 2, 1)).max()
    scale = float(np.abs(matrices).max())
    if not hermitian <= 1e-4 * scale:
        got = f"matrices that are not Hermitian by {hermitian:.2g}"
        raise DataError(message(where, got, "H(k) = H(k)†", "The file is damaged."))
    cells = np.fft.fftn(matrices.reshape(*mesh, *matrices.shape[1:]), axes=(0, 1, 2)) / len(
        matrices
    )
    imaginary = float(np.abs(cells.imag).max())
    if imaginary > IMAGINARY * scale:
        raise DataError(
            message(
                where,
                f"matrices in real space with imaginary parts up to {imaginary:.2g}",
                f"less than {IMAGINARY * scale:.1g}",
                "The order of the k-points or the gauge is another: give them in the order of "
                f"{mesh}, Γ first, the last axis fastest, phases of cells alone. In runs of mlepi "
                "label the real-space grid is too coarse (dft.cutoff, dft.grid_spacing).",
            )
        )
    pairs, blocks, border = [], [], 0.0
    ends = np.concatenate([[0], np.cumsum(counts)])
    for i, j in product(range(len(atoms)), repeat=2):
        rows, columns = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        offset = atoms.positions[j] - atoms.positions[i]
        for place in np.ndindex(*mesh):
            block = cells.real[place][rows, columns]
            largest = float(np.abs(block).max())
            if largest > NEGLIGIBLE or (i == j and not any(place)):
                images = _nearest(np.array(place), mesh, atoms, offset)
                border = max(border, largest if len(images) > 1 else 0.0)
                pairs += [[*image, i, j] for image in images.tolist()]
                blocks += [block / len(images)] * len(images)
    boundaries = np.concatenate([[0], np.cumsum([block.size for block in blocks])])
    values = np.concatenate([block.ravel() for block in blocks])
    return BlockList(np.array(pairs, dtype=np.int64), values, boundaries.astype(np.int64)), border


def _nearest(
    cell: NDArray[np.int64],
    mesh: tuple[int, int, int],
    atoms: Atoms,
    offset: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return the images of a cell, modulo the mesh, that are nearest: (n, 3) int."""
    steps = [(-2, -1, 0, 1) if n > 1 else (0,) for n in mesh]
    images = cell + np.array(list(product(*steps))) * np.array(mesh)
    lengths = np.linalg.norm(images @ atoms.cell.array + offset, axis=1)
    return np.asarray(images[lengths < lengths.min() + EQUAL_DISTANCE])
