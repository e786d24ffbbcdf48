"""Checks of arrays that foreign files hold: indices, finite numbers, shapes, Hermiticity."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, StructureError, message
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges
from mlepi.structures.pair_search import search_pairs

HAMILTONIAN_HERMITICITY = 1e-4
"""Largest accepted |H_ij(R) − H_ji(−R)ᵀ| of a foreign file, eV; codes reach 1e-8, single precision
1e-6."""

LEAST_VOLUME, LEAST_HEIGHT = 0.2, 0.3
"""Å³ per atom, twenty times denser than diamond, and Å between lattice planes."""

FARTHEST, CLOSEST = 1e5, 0.2
"""Å, largest coordinate of an atom, and distance of two atoms."""

SEARCHED = 1.0
"""Å within which pairs are listed: a search of ``CLOSEST`` divides a cell into a hundred times as
many boxes and takes as much longer, 20 ms a structure."""

SMALL, MOST_PADDED = 2**22, 64
"""Numbers that blocks may be padded to without further question, and beyond that for every value:
blocks of 5 orbitals beside an element of 40."""

OVERLAP_HERMITICITY = 1e-5
"""Largest accepted |S_ij(R) − S_ji(−R)ᵀ| of a foreign file, dimensionless."""


ROUNDING = 1e-6
"""Largest difference of a block from its transposed reverse that is written, relative to the
largest element: rounding of single precision."""


def symmetrise_blocks(
    where: str,
    quantity: str,
    blocks: NDArray[np.float64],
    reverse: NDArray[np.int64],
    tolerance: float,
) -> NDArray[np.float64]:
    """Average every block with its transposed reverse, if they agree to begin with.

    Args:
        where: file or folder, for the message.
        quantity: "Hamiltonian" or "overlap", for the message.
        blocks: (n_edges, p, p).
        reverse: (n_edges,) int, from ``reverse_edges``.
        tolerance: largest accepted difference, in the unit of the blocks.

    Returns:
        (n_edges, p, p); block e is bitwise the transpose of block reverse[e].

    Raises:
        DataError: some block differs from its transposed reverse by more than the tolerance.
    """
    transposed = blocks[reverse].transpose(0, 2, 1)
    deviation = np.abs(blocks - transposed).max(axis=(1, 2), initial=0.0)
    worst = float(deviation.max(initial=0.0))
    if not worst <= tolerance:
        raise DataError(
            message(
                where,
                f"{quantity} blocks that differ from their transposed reverse by up to {worst:.3g}",
                f"at most {tolerance:g}",
                "The file is damaged or its pair convention is not ⟨i,0|·|j,R⟩ with rows i.",
            )
        )
    return 0.5 * (blocks + transposed)


def remove_rounding(structure: LabelledStructure) -> LabelledStructure:
    """Average blocks with their transposed reverse: sums of a network differ by their rounding.

    Args:
        structure: with pairs in both directions.

    Raises:
        DataError: blocks differ by more than rounding, or there are no pairs.
    """
    edge_index, shift = structure.edge_index, structure.edge_cell_shift
    if edge_index is None or shift is None:
        fix = "Give labels with blocks."
        raise DataError(message(structure.name, "no pairs of atoms", "edges and blocks", fix))
    reverse = reverse_edges(edge_index, shift)
    exact: list[NDArray[np.float64] | None] = []
    for quantity, blocks in (
        ("Hamiltonian", structure.hamiltonian_blocks),
        ("overlap", structure.overlap_blocks),
    ):
        if blocks is None:
            exact.append(None)
            continue
        tolerance = ROUNDING * max(1.0, float(np.abs(blocks).max()))
        values = np.asarray(blocks)
        exact.append(symmetrise_blocks(structure.name, quantity, values, reverse, tolerance))
    return replace(structure, hamiltonian_blocks=exact[0], overlap_blocks=exact[1])


def check_blocks(
    where: str, quantity: str, blocks: NDArray[np.floating], padding: NDArray[np.bool_]
) -> None:
    """Check that blocks are finite, of the shape of their padding, and zero in it."""
    if blocks.shape != padding.shape:
        raise DataError(
            message(
                where,
                f"{quantity} blocks of shape {blocks.shape}",
                f"{padding.shape}",
                "Pad blocks to basis.max_orbitals.",
            )
        )
    check_finite(where, quantity, blocks)
    if np.any(blocks[padding] != 0.0):
        raise DataError(
            message(
                where,
                f"{quantity} values in padded orbitals",
                "zeros there",
                "Check the basis of each element.",
            )
        )


def check_geometry(where: str, atoms: Atoms) -> None:
    """Refuse atoms that are none, and a cell in which neighbours could not be counted.

    Args:
        where: file or structure, for the message.
        atoms: with three lattice vectors, Å.

    Raises:
        StructureError: an atomic number of no element, an atom or the end of a lattice vector
            farther away than ``FARTHEST``, two atoms closer than ``CLOSEST``, less than
            ``LEAST_VOLUME`` per atom, or lattice planes closer than ``LEAST_HEIGHT``.
    """
    numbers, volume = atoms.numbers, float(atoms.cell.volume)
    a, b, c = atoms.cell.array
    heights = volume / np.linalg.norm(np.cross([b, c, a], [c, a, b]), axis=1)
    height, longest = float(heights.min()), float(np.linalg.norm([a, b, c], axis=1).max())
    farthest = float(np.abs(atoms.positions).max(initial=0.0))
    got = ""
    if len(atoms) and not 0 < numbers.min() <= numbers.max() < len(chemical_symbols):
        got = f"atomic numbers {numbers.min()} to {numbers.max()}"
    elif not farthest < FARTHEST:
        got = f"an atom at {farthest:.4g} Å"
    elif not longest < FARTHEST:
        got = f"a lattice vector of {longest:.4g} Å"
    elif volume < LEAST_VOLUME * len(atoms) or not height >= LEAST_HEIGHT:
        got = f"{len(atoms)} atoms in a cell of {volume:.3g} Å³ and {height:.3g} Å height"
    else:
        first, second, _, distance = search_pairs(
            atoms.positions, atoms.cell.array, SEARCHED, both_ways=False
        )
        if len(first) and distance.min() < CLOSEST:
            k = distance.argmin()
            got = f"atoms {first[k]} and {second[k]} (counted from 0) in one place"
    if got:
        expected = "atoms of elements, apart from each other, in a cell that has room for them"
        raise StructureError(message(where, got, expected, "Check the file and its units."))


def check_padding(where: str, n_blocks: int, size: int, n_values: int) -> None:
    """Refuse blocks that would need far more memory padded to one size than they have values.

    Args:
        where: file or structure, for the message.
        n_blocks: number of blocks.
        size: rows and columns to which they are padded.
        n_values: that all blocks have together.

    Raises:
        DataError: they would.
    """
    padded = n_blocks * size**2
    if padded > SMALL and padded > MOST_PADDED * n_values:
        got = f"{n_values} values in {n_blocks} blocks padded to {size} × {size}"
        raise DataError(message(where, got, "elements of similar size", "Check the basis."))


def check_atom_indices(where: str, indices: NDArray[np.integer], n_atoms: int, base: int) -> None:
    """Check that the atom indices of a file lie in base … n_atoms − 1 + base."""
    if indices.size and (int(indices.min()) < base or int(indices.max()) > n_atoms - 1 + base):
        raise DataError(
            message(
                where,
                f"atom indices from {int(indices.min())} to {int(indices.max())} for {n_atoms} "
                "atoms",
                f"indices {base} … {n_atoms - 1 + base} (counted from {base})",
                "The pair list belongs to another structure or counts atoms from another base.",
            )
        )


def check_finite(where: str, quantity: str, values: NDArray[np.floating]) -> None:
    """Raise ``DataError`` when a value is NaN or infinite."""
    n_bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if n_bad:
        raise DataError(
            message(
                where,
                f"{n_bad} {quantity} values that are NaN or infinite",
                "finite numbers",
                "Repeat the calculation.",
            )
        )


def onsite_edges(
    where: str, edge_index: NDArray[np.int64], edge_cell_shift: NDArray[np.int64], n_atoms: int
) -> NDArray[np.int64]:
    """Find the on-site edge (i = j, R = 0) of every atom: (n_atoms,) int.

    Raises:
        DataError: one is missing.
    """
    candidates = np.flatnonzero(
        (edge_index[0] == edge_index[1]) & np.all(edge_cell_shift == 0, axis=1)
    )
    position = np.full(n_atoms, -1, dtype=np.int64)
    position[edge_index[1, candidates]] = candidates
    missing = np.flatnonzero(position < 0)
    if missing.size:
        raise DataError(
            message(
                where,
                f"no on-site block for {missing.size} atoms (first: atom {missing[0]}, counted "
                "from 0)",
                "one block with i = j and R = 0 per atom",
                "Write the blocks again, on-site pairs included.",
            )
        )
    return position
