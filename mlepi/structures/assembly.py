"""From the pair lists of other codes to labels in internal order, for all Hamiltonian readers.

A reader delivers what its file holds (pairs, flat blocks, foreign orbital order, already in eV);
``assemble_labels`` permutes, pads, completes, symmetrises and validates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.block_checks import (
    HAMILTONIAN_HERMITICITY,
    OVERLAP_HERMITICITY,
    check_geometry,
    check_padding,
    symmetrise_blocks,
)
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges
from mlepi.structures.pair_lists import (
    BlockList,
    clean_list,
    complete_directions,
    judge_lists,
    judge_missing,
    number_pairs,
    pair_distances,
)
from mlepi.structures.remarks import UNUSUAL, tell
from mlepi.structures.validation import (
    check_hamiltonian_labels,
    check_spectrum,
    check_two_centre_overlap,
)


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
    half: bool = False,
) -> LabelledStructure:
    """Build validated labels in internal order from foreign pair lists.

    The edges are the union of the pairs of both matrices, sorted by target, source and cell; a pair
    that one matrix does not list is zero in it, one listed in one direction only is completed. Each
    matrix is made exactly Hermitian (the average with the transposed reverse), provided that it was
    so within the tolerances of ``block_checks``.

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
        half: the format lists one direction of every pair, which is then nothing unusual.

    Returns:
        Labels that pass every check of ``validation``; what is unusual about them stands in the
        provenance, ``remarks.UNUSUAL``, and is told as warnings.

    Raises:
        DataError: the file breaks one of the invariants; the message says which.
    """
    check_geometry(where, atoms)
    given = {"overlap": overlap} | ({"Hamiltonian": hamiltonian} if hamiltonian is not None else {})
    remarks: dict[str, float] = {}
    lists: dict[str, BlockList] = {}
    for quantity, blocks in given.items():
        lists[quantity], found = clean_list(where, quantity, blocks, basis.counts(atoms.numbers))
        remarks |= found
    edge_index, shift, padded, found, asymmetry = _unite_pairs(where, lists, atoms, basis, order)
    if half:
        found.pop("one_direction", None)
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
        provenance={**(provenance or {}), "hermiticity": asymmetry},
    )
    check_hamiltonian_labels(structure, where)
    remarks |= found | judge_lists(lists)
    remarks |= check_two_centre_overlap(structure, where) | check_spectrum(structure, where)
    if not remarks:
        return structure
    tell(where, remarks)
    return replace(structure, provenance={**structure.provenance, UNUSUAL: remarks})


def add_remark(
    where: str, structure: LabelledStructure, kind: str, amount: float
) -> LabelledStructure:
    """Tell what is unusual about a structure beyond its blocks, and add it to the provenance.

    Args:
        where: file, for the message.
        structure: as it was read.
        kind: of ``remarks.KINDS``.
        amount: how much.
    """
    tell(where, {kind: amount})
    remarks = {**structure.provenance.get(UNUSUAL, {}), kind: amount}
    return replace(structure, provenance={**structure.provenance, UNUSUAL: remarks})


def _unite_pairs(
    where: str,
    lists: Mapping[str, BlockList],
    atoms: Atoms,
    basis: OrbitalBasis,
    order: str,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.int64],
    dict[str, NDArray[np.float64]],
    dict[str, float],
    dict[str, float],
]:
    """Return edges, shifts, Hermitian blocks, remarks, and how far blocks were from Hermitian."""
    asymmetry: dict[str, float] = {}
    remarks: dict[str, float] = {}
    complete: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    for quantity, blocks in lists.items():
        padded = _pad_blocks(where, blocks, atoms.numbers, basis, order)
        pairs, lonely = complete_directions(blocks.pairs)
        if lonely.size:
            remarks["one_direction"] = max(remarks.get("one_direction", 0.0), float(lonely.size))
            padded = np.concatenate([padded, padded[lonely].transpose(0, 2, 1)])
        complete[quantity] = pairs, padded
    keys = [pairs[:, [3, 4, 0, 1, 2]] for pairs, _ in complete.values()]
    numbers = np.concatenate(number_pairs(*keys))
    _, first, rows = np.unique(numbers, return_index=True, return_inverse=True)
    edges = np.concatenate(keys)[first]
    edge_index = np.ascontiguousarray(edges[:, [1, 0]].T)
    shift = np.ascontiguousarray(edges[:, 2:])
    reverse = reverse_edges(edge_index, shift)
    tolerances = {"Hamiltonian": HAMILTONIAN_HERMITICITY, "overlap": OVERLAP_HERMITICITY}
    result: dict[str, NDArray[np.float64]] = {}
    start = 0
    for quantity, (pairs, padded) in complete.items():
        values = np.zeros((len(edges), basis.max_orbitals, basis.max_orbitals))
        values[rows[start : start + len(pairs)]] = padded
        start += len(pairs)
        difference = values - values[reverse].transpose(0, 2, 1)
        asymmetry[quantity] = float(np.abs(difference).max(initial=0.0))
        result[quantity] = symmetrise_blocks(where, quantity, values, reverse, tolerances[quantity])
    remarks |= judge_missing(where, atoms, edges[:, [2, 3, 4, 0, 1]], result["overlap"])
    return edge_index, shift, result, remarks, asymmetry


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
    distances = pair_distances(atoms, pairs)
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


def _pad_blocks(
    where: str, blocks: BlockList, numbers: NDArray[np.integer], basis: OrbitalBasis, order: str
) -> NDArray[np.float64]:
    """Cut the values into zero-padded blocks in internal order: (n_pairs, max, max orbitals)."""
    check_padding(where, len(blocks.pairs), basis.max_orbitals, len(blocks.values))
    padded = np.zeros((len(blocks.pairs), basis.max_orbitals, basis.max_orbitals))
    target, source = numbers[blocks.pairs[:, 3]], numbers[blocks.pairs[:, 4]]
    for a in sorted({int(z) for z in numbers}):
        for b in sorted({int(z) for z in numbers}):
            chosen = np.flatnonzero((target == a) & (source == b))
            n_a, n_b = basis.n_orbitals(a), basis.n_orbitals(b)
            places = blocks.boundaries[chosen][:, None] + np.arange(n_a * n_b)
            cut = blocks.values[places].reshape(-1, n_a, n_b)
            permuted = cut[:, basis.permutation(a, order)][:, :, basis.permutation(b, order)]
            signs = basis.signs(a, order)[:, None] * basis.signs(b, order)
            padded[chosen, :n_a, :n_b] = signs * permuted
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
