"""Lists of pairs as files hold them: what is wrong, listed twice, in one direction, or missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.block_checks import check_atom_indices, check_finite
from mlepi.structures.pair_search import search_pairs

ARTICLE = {"Hamiltonian": "a Hamiltonian", "overlap": "an overlap"}

NEGLIGIBLE_OVERLAP = 1e-4
"""Missing pairs whose overlaps are smaller by their distance are not remarked."""

NEGLIGIBLE_HAMILTONIAN = 0.1
"""eV; Hamiltonian blocks without an overlap that are smaller are not remarked."""

FARTHEST_CELL = 1000
"""Lattice vectors between the two atoms of a pair."""

LONGEST_PAIR = 40.0
"""Å; the orbitals of DFT codes end before 10."""

EQUAL_BLOCKS = 1e-6
"""Largest difference of two blocks of one pair that counts as none."""


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


def clean_list(
    where: str, quantity: str, blocks: BlockList, counts: NDArray[np.int64]
) -> tuple[BlockList, dict[str, float]]:
    """Check atom indices, sizes and values of the blocks; keep every pair once.

    Args:
        where: file or folder, for messages.
        quantity: "Hamiltonian" or "overlap".
        blocks: as the file lists them.
        counts: (n_atoms,) int, orbitals of every atom.

    Returns:
        The list without repetitions, and remarks.

    Raises:
        DataError: indices or sizes do not fit, a value is not finite, or two blocks of one pair
            differ.
    """
    check_atom_indices(where, blocks.pairs[:, 3:], len(counts), base=0)
    _check_sizes(where, quantity, blocks, counts)
    farthest = int(np.abs(blocks.pairs[:, :3]).max(initial=0))
    if farthest > FARTHEST_CELL:
        got, fix = f"a pair with R = {farthest}", "The file is damaged, or its layout another."
        raise DataError(message(where, got, f"cells up to ±{FARTHEST_CELL}", fix))
    check_finite(where, quantity, blocks.values)
    _check_onsite(where, quantity, blocks.pairs, len(counts))
    (numbers,) = number_pairs(blocks.pairs)
    unique, first, places = np.unique(numbers, return_index=True, return_inverse=True)
    n_repeated = len(blocks.pairs) - len(unique)
    if not n_repeated:
        return blocks, {}
    sizes = np.diff(blocks.boundaries)
    for again in np.setdiff1d(np.arange(len(blocks.pairs)), first):
        original = first[places[again]]
        one, other = (
            blocks.values[blocks.boundaries[k] : blocks.boundaries[k] + sizes[k]]
            for k in (original, again)
        )
        worst = float(np.abs(one - other).max(initial=0.0))
        if worst > EQUAL_BLOCKS:
            *shift, i, j = (int(v) for v in blocks.pairs[again])
            raise DataError(
                message(
                    where,
                    f"{ARTICLE[quantity]} pair listed twice, R = {shift}, i = {i}, j = {j} "
                    f"(counted from 0), with blocks that differ by {worst:.2g}",
                    "every pair once",
                    "Write the file again.",
                )
            )
    kept = np.sort(first)
    values = np.concatenate(
        [blocks.values[blocks.boundaries[k] : blocks.boundaries[k + 1]] for k in kept]
    )
    ends = np.concatenate([[0], np.cumsum(sizes[kept])])
    return BlockList(blocks.pairs[kept], values, ends), {"duplicate_pairs": float(n_repeated)}


def _check_onsite(where: str, quantity: str, pairs: NDArray[np.int64], n_atoms: int) -> None:
    """Check that the on-site pair of every atom is listed."""
    onsite = pairs[(pairs[:, 3] == pairs[:, 4]) & ~pairs[:, :3].any(axis=1), 3]
    missing = np.setdiff1d(np.arange(n_atoms), onsite)
    if missing.size:
        raise DataError(
            message(
                where,
                f"{ARTICLE[quantity]} with no on-site block for {missing.size} atoms (first: atom "
                f"{missing[0]}, counted from 0)",
                "one block with i = j and R = 0 per atom",
                "Write the blocks again, on-site pairs included.",
            )
        )


def complete_directions(
    pairs: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Append the reverse of every pair that lacks it.

    Args:
        pairs: (n, 5) int, unique, [R1, R2, R3, i, j].

    Returns:
        All pairs, (m, 5) int, and for those appended, (m − n,) int, which pair is their reverse.
    """
    reverse = np.column_stack([-pairs[:, :3], pairs[:, 4], pairs[:, 3]])
    keys, reverse_keys = number_pairs(pairs, reverse)
    lonely = np.flatnonzero(~np.isin(reverse_keys, keys))
    return np.concatenate([pairs, reverse[lonely]]), lonely


def judge_missing(
    where: str, atoms: Atoms, pairs: NDArray[np.int64], overlap: NDArray[np.float64]
) -> dict[str, float]:
    """Remark pairs closer than the longest of their elements that are not listed.

    What they would hold is estimated by the largest block at this distance and beyond.

    Args:
        where: file or folder, for messages.
        atoms: structure, Å.
        pairs: (n, 5) int.
        overlap: (n, p, p), zero where S does not list the pair.
    """
    sizes = np.abs(overlap).max(axis=(1, 2))
    listed = sizes > 0.0
    distances = pair_distances(atoms, pairs)
    longest = _by_elements(atoms, pairs[listed], distances[listed])
    if not longest:
        return {}
    reach = max(float(d.max()) for d in longest.values())
    if reach < 0.1:
        return {}
    if reach > LONGEST_PAIR:
        got, expected = f"a pair of atoms {reach:.4g} Å apart", f"at most {LONGEST_PAIR:g} Å"
        raise DataError(message(where, got, expected, "Check cell indices and units."))
    i, j, shifts, lengths = search_pairs(atoms.positions, atoms.cell.array, reach)
    near = np.column_stack([shifts, i, j])
    known, wanted = number_pairs(pairs[listed], near)
    absent = ~np.isin(wanted, known)
    worst = 0.0
    blocks = _by_elements(atoms, pairs[listed], sizes[listed])
    for key, lengths_of in _by_elements(atoms, near[absent], lengths[absent]).items():
        if key in longest:
            order = np.argsort(longest[key])
            beyond = np.maximum.accumulate(blocks[key][order][::-1])[::-1]
            place = np.searchsorted(longest[key][order], lengths_of.min() - 1e-6)
            worst = max(worst, float(beyond[place]) if place < len(beyond) else 0.0)
    return {"missing_pairs": worst} if worst > NEGLIGIBLE_OVERLAP else {}


def judge_lists(lists: Mapping[str, BlockList]) -> dict[str, float]:
    """Remark Hamiltonian blocks, eV, on pairs that the overlap does not list."""
    if "Hamiltonian" not in lists:
        return {}
    blocks = lists["Hamiltonian"]
    known, wanted = number_pairs(lists["overlap"].pairs, blocks.pairs)
    worst = 0.0
    for k in np.flatnonzero(~np.isin(wanted, known)):
        values = blocks.values[blocks.boundaries[k] : blocks.boundaries[k + 1]]
        worst = max(worst, float(np.abs(values).max(initial=0.0)))
    return {"h_pairs_without_s": worst} if worst > NEGLIGIBLE_HAMILTONIAN else {}


def pair_distances(atoms: Atoms, pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the lengths of pairs (n, 5): (n,), Å."""
    shifts = pairs[:, :3] @ atoms.cell.array
    vectors = atoms.positions[pairs[:, 4]] + shifts - atoms.positions[pairs[:, 3]]
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1)
    return lengths


def number_pairs(*tables: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Give equal pairs of several lists, (n, 5) each, equal numbers, (n,) each.

    Numbers are in the order of the rows, the first column deciding first.
    """
    every = np.concatenate(tables)
    lowest, width = every.min(axis=0), np.ptp(every, axis=0) + 1
    return [np.ravel_multi_index(tuple((table - lowest).T), tuple(width)) for table in tables]


def _by_elements(
    atoms: Atoms, pairs: NDArray[np.int64], values: NDArray[np.float64]
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Divide numbers of pairs by ordered pair of elements."""
    numbers = atoms.numbers
    elements = sorted({int(z) for z in numbers})
    a, b = numbers[pairs[:, 3]], numbers[pairs[:, 4]]
    found = {(x, y): values[(a == x) & (b == y)] for x, y in product(elements, elements)}
    return {key: part for key, part in found.items() if part.size}


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
