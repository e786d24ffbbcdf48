"""From the pair lists of other codes to labels in internal order, for all Hamiltonian readers.

A reader delivers what its file holds (pairs, flat blocks, foreign orbital order, already in eV);
``assemble_labels`` permutes, pads, completes, symmetrises and validates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges
from mlepi.structures.validation import (
    HAMILTONIAN_HERMITICITY,
    OVERLAP_HERMITICITY,
    check_atom_indices,
    check_finite,
    check_hamiltonian_labels,
    check_spectrum,
    check_two_centre_overlap,
    symmetrise_blocks,
)

ARTICLE = {"Hamiltonian": "a Hamiltonian", "overlap": "an overlap"}


@dataclass(frozen=True)
class BlockList:
    """Blocks of one real-space matrix as a file lists them.

    Attributes:
        pairs: (n_pairs, 5) int, [R1, R2, R3, i, j] with atoms counted from 0: the block ⟨i, cell 0
            | · | j, cell R⟩.
        values: flat, block after block, each row-major with rows = orbitals of i in the foreign
            order; eV or dimensionless.
        boundaries: (n_pairs + 1,) int, where each block begins in ``values``.
    """

    pairs: NDArray[np.int64]
    values: NDArray[np.float64]
    boundaries: NDArray[np.int64]


def assemble_labels(
    where: str,
    name: str,
    atoms: Atoms,
    basis: OrbitalBasis,
    *,
    order: str,
    overlap: BlockList,
    hamiltonian: BlockList | None = None,
    fermi_energy: float | None = None,
    energy: float | None = None,
    forces: NDArray[np.float64] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> LabelledStructure:
    """Build validated labels in internal order from foreign pair lists.

    The edges are the union of the pairs of both matrices, sorted by target, source and cell; a pair
    that one matrix does not list is zero in it. Each matrix is made exactly Hermitian (the average
    with the transposed reverse), provided that it was so within the tolerances of ``validation``.

    Args:
        where: file or folder, for messages.
        name: name of the structure.
        atoms: structure, Å.
        basis: orbital basis; shells in the order of the file.
        order: orbital order of the file inside a shell, a name in ``basis.ORBITAL_ORDERS``.
        overlap: overlap blocks, dimensionless.
        hamiltonian: Hamiltonian blocks, eV, or None for overlap-only data.
        fermi_energy: eV.
        energy: total energy, eV.
        forces: (n_atoms, 3), eV/Å.
        provenance: how the labels were made; plain Python data.

    Returns:
        Labels that pass every check of ``validation``.

    Raises:
        DataError: the file breaks one of the invariants; the message says which.
    """
    lists = {"overlap": overlap} | ({"Hamiltonian": hamiltonian} if hamiltonian is not None else {})
    for quantity, blocks in lists.items():
        _check_list(where, quantity, blocks, basis.counts(atoms.numbers))
    edge_index, shift, padded = _unite_pairs(where, lists, atoms.numbers, basis, order)
    structure = LabelledStructure(
        name=name,
        atoms=atoms,
        basis=basis,
        edge_index=edge_index,
        edge_cell_shift=shift,
        hamiltonian_blocks=padded.get("Hamiltonian"),
        overlap_blocks=padded["overlap"],
        fermi_energy=fermi_energy,
        energy=energy,
        forces=forces,
        provenance=dict(provenance or {}),
    )
    check_hamiltonian_labels(structure, where)
    check_two_centre_overlap(structure, where)
    check_spectrum(structure, where)
    return structure


def _check_list(where: str, quantity: str, blocks: BlockList, counts: NDArray[np.int64]) -> None:
    """Check atom indices, sizes and values of the blocks, and that no pair comes twice."""
    check_atom_indices(where, blocks.pairs[:, 3:], len(counts), base=0)
    _check_sizes(where, quantity, blocks, counts)
    check_finite(where, quantity, blocks.values)
    if len(np.unique(blocks.pairs, axis=0)) != len(blocks.pairs):
        raise DataError(
            message(
                where,
                f"{ARTICLE[quantity]} pair listed twice",
                "every pair once",
                "Write the file again.",
            )
        )


def _unite_pairs(
    where: str,
    lists: Mapping[str, BlockList],
    numbers: NDArray[np.integer],
    basis: OrbitalBasis,
    order: str,
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return edges and shifts of the union of all pairs, and Hermitian blocks by matrix."""
    keys = [blocks.pairs[:, [3, 4, 0, 1, 2]] for blocks in lists.values()]
    edges, rows = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    edge_index = np.ascontiguousarray(edges[:, [1, 0]].T)
    shift = np.ascontiguousarray(edges[:, 2:])
    try:
        reverse = reverse_edges(edge_index, shift)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    tolerances = {"Hamiltonian": HAMILTONIAN_HERMITICITY, "overlap": OVERLAP_HERMITICITY}
    padded: dict[str, NDArray[np.float64]] = {}
    start = 0
    for quantity, blocks in lists.items():
        values = np.zeros((len(edges), basis.max_orbitals, basis.max_orbitals))
        chosen = rows.ravel()[start : start + len(blocks.pairs)]
        values[chosen] = _pad_blocks(blocks, numbers, basis, order)
        start += len(blocks.pairs)
        padded[quantity] = symmetrise_blocks(where, quantity, values, reverse, tolerances[quantity])
    return edge_index, shift, padded


def infer_radii(atoms: Atoms, pairs: NDArray[np.int64]) -> dict[int, float]:
    """Estimate orbital radii from the longest listed pairs, for formats that do not hold them.

    Half the longest pair of equal elements; an element without such a pair gets what the longest
    pair with another element leaves. The result is a lower bound of the true radius (a finite
    structure need not have a pair at exactly the sum of two radii) and differs between structures
    of one data set: give the radii where they are known.

    Args:
        atoms: structure, Å.
        pairs: (n_pairs, 5) int, as in ``BlockList``.

    Returns:
        Atomic number → radius, Å; together the radii cover every pair of the list.
    """
    numbers = atoms.numbers
    vectors = (
        atoms.positions[pairs[:, 4]]
        + pairs[:, :3] @ atoms.cell.array
        - atoms.positions[pairs[:, 3]]
    )
    distances = np.linalg.norm(vectors, axis=1)
    elements = sorted({int(z) for z in numbers})
    longest = {
        (a, b): float(
            distances[(numbers[pairs[:, 3]] == a) & (numbers[pairs[:, 4]] == b)].max(initial=0.0)
        )
        for a in elements
        for b in elements
    }
    radii = {a: longest[a, a] / 2.0 for a in elements if longest[a, a] > 0.0}
    known = dict(radii)
    for a in (z for z in elements if z not in known):
        radii[a] = max(
            [longest[a, b] - r for b, r in known.items()]
            or [max(longest[a, b] for b in elements) / 2.0]
        )
    for a in elements:
        for b in elements:
            excess = max(0.0, longest[a, b] - radii[a] - radii[b])
            if a != b:
                radii[a], radii[b] = radii[a] + excess / 2.0, radii[b] + excess / 2.0
    return radii


def _check_sizes(where: str, quantity: str, blocks: BlockList, counts: NDArray[np.int64]) -> None:
    """Check that every block has as many values as the orbitals of its two atoms demand."""
    sizes = np.diff(blocks.boundaries)
    expected = counts[blocks.pairs[:, 3]] * counts[blocks.pairs[:, 4]]
    wrong = np.flatnonzero(sizes != expected)
    if wrong.size:
        *shift, i, j = (int(v) for v in blocks.pairs[wrong[0]])
        raise DataError(
            message(
                where,
                f"{ARTICLE[quantity]} block of {sizes[wrong[0]]} values for pair R = {shift}, i = "
                f"{i}, j = {j} (counted from 0)",
                f"{counts[i]} × {counts[j]} values, the orbitals of its atoms",
                "The basis given with the file does not belong to its matrices.",
            )
        )
    if int(blocks.boundaries[0]) != 0 or int(blocks.boundaries[-1]) != len(blocks.values):
        raise DataError(
            message(
                where,
                f"{len(blocks.values)} {quantity} values",
                f"{int(blocks.boundaries[-1])}",
                "The file is damaged.",
            )
        )


def _pad_blocks(
    blocks: BlockList, numbers: NDArray[np.integer], basis: OrbitalBasis, order: str
) -> NDArray[np.float64]:
    """Cut the values into zero-padded blocks in internal order: (n_pairs, max, max orbitals)."""
    padded = np.zeros((len(blocks.pairs), basis.max_orbitals, basis.max_orbitals))
    target, source = numbers[blocks.pairs[:, 3]], numbers[blocks.pairs[:, 4]]
    for a in sorted({int(z) for z in numbers}):
        for b in sorted({int(z) for z in numbers}):
            chosen = np.flatnonzero((target == a) & (source == b))
            n_a, n_b = basis.n_orbitals(a), basis.n_orbitals(b)
            places = blocks.boundaries[chosen][:, None] + np.arange(n_a * n_b)
            cut = blocks.values[places].reshape(-1, n_a, n_b)
            permuted = cut[:, basis.permutation(a, order)][:, :, basis.permutation(b, order)]
            padded[chosen, :n_a, :n_b] = permuted
    return padded


def element_number(where: str, symbol: str) -> int:
    """Translate a chemical symbol to its atomic number.

    Args:
        where: file, for the message.
        symbol: such as "C".

    Raises:
        DataError: it is none.
    """
    if symbol not in chemical_symbols[1:]:
        raise DataError(
            message(
                where,
                f"element {symbol!r}",
                "a chemical symbol",
                "Write the symbol of an element, such as C.",
            )
        )
    return chemical_symbols.index(symbol)
