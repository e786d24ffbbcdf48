"""What is in labels: the numbers of a data card, of Hamiltonians and of forces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy.linalg
from ase import Atoms
from numpy.typing import NDArray

from mlepi.structures.definiteness import sum_bloch
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.pair_search import search_pairs
from mlepi.structures.remarks import UNUSUAL

MESH = 6
"""Divisions of the k-mesh along every axis that has neighbours, for small structures."""

MESH_LIMIT, GAMMA_LIMIT = 120, 3000
"""Orbitals up to which S is diagonalised on the mesh, and up to which at Γ."""

OUTLIER = 6.0
"""Energies per atom, largest forces, levels this many times the usual spread away are outliers."""

LONGEST = 200.0
"""Å, up to which the nearest atoms are looked for."""


@dataclass(frozen=True)
class HamiltonianCard:
    """Numbers of one structure with H and S.

    Attributes:
        name: of the structure.
        formula: of the cell.
        n_atoms: in it.
        n_orbitals: in it.
        shells: of every element, in words, with radius (Å).
        n_pairs: listed, both directions.
        longest: Å.
        shortest: Å, of two atoms.
        asymmetry: largest difference of blocks from their transposed reverse as read, by matrix.
        fermi_energy: eV, or None.
        distances: (n_pairs,) Å.
        sizes: (n_pairs, 2), largest element of H (eV) and S of every pair.
        overlap_eigenvalues: (n_kpoints, n_orbitals), ascending; empty for large structures.
        levels: (n_orbitals,) eV, at Γ; empty for large structures.
        remarks: kind → how much.
    """

    name: str
    formula: str
    n_atoms: int
    n_orbitals: int
    shells: dict[str, str]
    n_pairs: int
    longest: float
    shortest: float
    asymmetry: dict[str, float]
    fermi_energy: float | None
    distances: NDArray[np.float64]
    sizes: NDArray[np.float64]
    overlap_eigenvalues: NDArray[np.float64]
    levels: NDArray[np.float64]
    remarks: dict[str, float]


@dataclass(frozen=True)
class ForcesCard:
    """Numbers of structures with energies and forces.

    Attributes:
        n_structures: how many.
        formulas: formula → how many.
        n_atoms: smallest and largest.
        energies: (n,) eV per atom, less the mean of its formula.
        forces: (n,) eV/Å, largest component of every structure.
        net_forces: (n,) eV/Å, largest component of the sum.
        shortest: Å, of two atoms, over all.
        outliers: names.
        duplicates: pairs of names with equal positions.
        remarks: kind → how much.
    """

    n_structures: int
    formulas: dict[str, int]
    n_atoms: tuple[int, int]
    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    net_forces: NDArray[np.float64]
    shortest: float
    outliers: list[str]
    duplicates: list[tuple[str, str]]
    remarks: dict[str, float]


def describe_hamiltonian(structure: LabelledStructure) -> HamiltonianCard:
    """Compute the card of one structure; it must have H, S, basis and edges.

    Raises:
        ValueError: it has not.
    """
    basis, edges, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    blocks = structure.hamiltonian_blocks, structure.overlap_blocks
    if basis is None or edges is None or shift is None or blocks[0] is None:
        raise ValueError(f"{structure.name} has no Hamiltonian")
    atoms = structure.atoms
    counts = basis.counts(atoms.numbers)
    vectors = atoms.positions[edges[0]] + shift @ atoms.cell.array - atoms.positions[edges[1]]
    distances = np.linalg.norm(vectors, axis=1)
    sizes = [
        np.abs(part).max(axis=(1, 2)) if part is not None else np.zeros(len(distances))
        for part in blocks
    ]
    n_orbitals, overlap = int(counts.sum()), blocks[1]
    spectrum, levels = np.zeros((0, n_orbitals)), np.zeros(0)
    if overlap is not None and n_orbitals <= GAMMA_LIMIT:
        mask = basis.mask(atoms.numbers)
        sums = [sum_bloch(edges, shift, overlap, mask, k) for k in _mesh(shift, n_orbitals)]
        spectrum = np.array([scipy.linalg.eigvalsh(matrix) for matrix in sums])
        gamma = sum_bloch(edges, shift, blocks[0], mask, np.zeros(3))
        levels = scipy.linalg.eigvalsh(gamma, sums[0])
    symbols = {
        int(z): str(s) for z, s in zip(atoms.numbers, atoms.get_chemical_symbols(), strict=True)
    }
    words = {
        symbol: f"{' '.join('spdfghi'[l] for l in basis.shells[z])} ({basis.radii[z]:.3f} Å)"
        for z, symbol in symbols.items()
    }
    off_site = distances[distances > 0.1]
    return HamiltonianCard(
        structure.name,
        atoms.get_chemical_formula(),
        len(atoms),
        n_orbitals,
        words,
        len(distances),
        float(distances.max()),
        float(off_site.min(initial=np.inf)),
        dict(structure.provenance.get("hermiticity", {})),
        structure.fermi_energy,
        distances,
        np.stack(sizes, axis=1),
        spectrum,
        levels,
        dict(structure.provenance.get(UNUSUAL, {})),
    )


def _mesh(shift: NDArray[np.int64], n_orbitals: int) -> list[NDArray[np.float64]]:
    """Return k-points, Γ first: a mesh along axes with neighbours, or Γ alone."""
    if n_orbitals > MESH_LIMIT:
        return [np.zeros(3)]
    axes = [np.arange(MESH if shift[:, axis].any() else 1) / MESH for axis in range(3)]
    return [np.array(kpoint) for kpoint in product(*axes)]


def describe_forces(structures: Sequence[LabelledStructure]) -> ForcesCard:
    """Compute the card of structures with energies and forces."""
    formulas = [structure.atoms.get_chemical_formula() for structure in structures]
    sizes = [len(structure.atoms) for structure in structures]
    per_atom = np.array([(s.energy or 0.0) / n for s, n in zip(structures, sizes, strict=True)])
    energies = per_atom.copy()
    for formula in set(formulas):
        mine = np.array([f == formula for f in formulas])
        energies[mine] -= per_atom[mine].mean()
    forces = [s.forces if s.forces is not None else np.zeros((1, 3)) for s in structures]
    largest = np.array([np.abs(f).max() for f in forces])
    net = np.array([np.abs(f.sum(axis=0)).max() for f in forces])
    outliers = [
        structure.name
        for structure, *far in zip(structures, _far(energies), _far(largest), strict=True)
        if any(far)
    ]
    merged: dict[str, float] = {}
    for structure in structures:
        merged |= structure.provenance.get(UNUSUAL, {})
    return ForcesCard(
        len(structures),
        {formula: formulas.count(formula) for formula in sorted(set(formulas))},
        (min(sizes), max(sizes)),
        energies,
        largest,
        net,
        min(find_shortest(structure.atoms) for structure in structures),
        outliers,
        find_duplicates(structures),
        merged,
    )


def find_duplicates(structures: Sequence[LabelledStructure]) -> list[tuple[str, str]]:
    """Return pairs of names of structures with equal atoms, positions and cells (1e-5 Å)."""
    seen: dict[bytes, str] = {}
    duplicates: list[tuple[str, str]] = []
    for structure in structures:
        atoms = structure.atoms
        lengths = np.concatenate([atoms.positions, atoms.cell.array])
        key = (np.round(lengths, 5) + 0.0).tobytes() + atoms.numbers.tobytes()
        if key in seen:
            duplicates.append((seen[key], structure.name))
        seen.setdefault(key, structure.name)
    return duplicates


def find_outliers(cards: Sequence[HamiltonianCard]) -> dict[str, str]:
    """Find structures unlike the others of their formula.

    Returns:
        Name → which of lowest level, Fermi energy and smallest eigenvalue of S is far from the
        others'; at least five are compared.
    """
    found: dict[str, str] = {}
    for formula in {card.formula for card in cards}:
        mine = [card for card in cards if card.formula == formula]
        figures = {
            "lowest level": [card.levels[0] if card.levels.size else None for card in mine],
            "Fermi energy": [card.fermi_energy for card in mine],
            "S": [
                np.log(max(card.overlap_eigenvalues.min(), 1e-12))
                if card.overlap_eigenvalues.size
                else None
                for card in mine
            ],
        }
        for what, values in figures.items():
            if None in values:
                continue
            far = _far(np.array(values, dtype=np.float64))
            found |= {card.name: what for card, odd in zip(mine, far, strict=True) if odd}
    return found


def _far(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark values far from the median in units of the usual spread (median deviation)."""
    deviation = np.abs(values - np.median(values))
    spread = 1.4826 * float(np.median(deviation)) + 1e-9
    marked: NDArray[np.bool_] = (deviation > OUTLIER * spread) & (len(values) > 4)
    return marked


def find_shortest(atoms: Atoms) -> float:
    """Return the shortest distance of two atoms, images included, Å."""
    reach = float(np.cbrt(atoms.cell.volume / len(atoms)))
    while reach < LONGEST:
        lengths = search_pairs(atoms.positions, atoms.cell.array, reach, both_ways=False).lengths
        if len(lengths):
            return float(lengths.min())
        reach *= 2.0
    return float("inf")
