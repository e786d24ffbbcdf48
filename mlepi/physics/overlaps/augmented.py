"""Overlaps of orbitals in the projector-augmented-wave method, which third atoms change.

S = Θ + Σ_a P_a† ΔO_a P_a with Θ = ⟨φ̃_μ|φ̃_ν⟩ and P_aiμ = ⟨p̃_ai|φ̃_μ⟩, both two-centre integrals,
and ΔO_a = ⟨φ_i|φ_j⟩ − ⟨φ̃_i|φ̃_j⟩ of the partial waves, a constant of the element (Blöchl 1994,
doi:10.1103/PhysRevB.50.17953, eq. 20; Larsen et al. 2009, doi:10.1103/PhysRevB.80.195112). So Θ and
P are tabulated as overlaps are, and S of any structure follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.physics.overlaps.evaluate import compute_overlap_blocks
from mlepi.physics.overlaps.table import OverlapTable

PROJECTORS = 1000
"""Added to the atomic number of an element: what its projectors are called in a table."""

SYMMETRIC = 1e-6
"""Largest relative asymmetry of what is symmetric or antisymmetric."""

_CHUNK = 16384  # terms summed at once, which bounds the memory of large structures


@dataclass(frozen=True)
class AugmentedOverlapTable:
    """Radial functions of orbitals and projectors, and what augmentation adds to their overlaps.

    Attributes:
        table: of orbitals (atomic number) and projectors (``PROJECTORS`` + atomic number).
        corrections: atomic number → (n_projectors, n_projectors), ΔO, dimensionless.
        slopes: atomic number → (3, n_projectors, n_projectors), ⟨φ_i|∇φ_j⟩ − ⟨φ̃_i|∇φ̃_j⟩, 1/Å,
            Cartesian; antisymmetric.
    """

    table: OverlapTable
    corrections: Mapping[int, NDArray[np.float64]]
    slopes: Mapping[int, NDArray[np.float64]]

    def __post_init__(self) -> None:
        """Refuse corrections that do not fit the projectors."""
        elements = [z for z in self.table.shells if z < PROJECTORS]
        owners = [z - PROJECTORS for z in self.table.shells if z >= PROJECTORS]
        groups = {frozenset(x) for x in (elements, owners, *self._parts())}
        if not elements or len(groups) > 1:
            got = f"orbitals of {elements}, projectors of {owners}, corrections of "
            got += f"{sorted(self.corrections)}, slopes of {sorted(self.slopes)}"
            fix = "Make the table again."
            raise DataError(message("augmented overlap table", got, "one set of elements", fix))
        for z in elements:
            n = _count_orbitals(self.table.shells[PROJECTORS + z])
            _check_matrix(f"ΔO of element {z}", self.corrections[z], (n, n), 1.0)
            _check_matrix(f"slopes of element {z}", self.slopes[z], (3, n, n), -1.0)

    def _parts(self) -> tuple[Mapping[int, NDArray[np.float64]], ...]:
        return self.corrections, self.slopes

    @property
    def shells(self) -> dict[int, tuple[int, ...]]:
        """Atomic number → angular momenta of the shells of its orbitals."""
        return {z: shells for z, shells in self.table.shells.items() if z < PROJECTORS}

    @property
    def radii(self) -> dict[int, float]:
        """Atomic number → radius of its orbitals, Å; S reaches beyond the sum of two."""
        return {z: radius for z, radius in self.table.radii.items() if z < PROJECTORS}

    @property
    def max_orbitals(self) -> int:
        """Largest number of orbitals of any element: the padded size of a block."""
        return max(_count_orbitals(shells) for shells in self.shells.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain data and float64 arrays from which ``from_dict`` rebuilds the table."""
        parts = (
            {str(z): np.asarray(v, dtype=np.float64) for z, v in sorted(part.items())}
            for part in self._parts()
        )
        return {**self.table.to_dict(), **dict(zip(("corrections", "slopes"), parts, strict=True))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AugmentedOverlapTable:
        """Rebuild a table from ``to_dict``; the arrays may be anything that numpy converts.

        Raises:
            DataError: a part is missing or does not fit the others.
        """
        try:
            corrections, slopes = (
                {int(z): np.asarray(v, dtype=np.float64) for z, v in data[part].items()}
                for part in ("corrections", "slopes")
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            got, fix = f"data without valid {error}", "Make the table again."
            text = message("augmented overlap table", got, "what to_dict returns", fix)
            raise DataError(text) from error
        return cls(OverlapTable.from_dict(data), corrections, slopes)


RadialOverlaps = OverlapTable | AugmentedOverlapTable
"""What checkpoints and files hold: S of any structure follows from either."""


def rebuild_overlaps(data: Mapping[str, Any]) -> RadialOverlaps:
    """Rebuild a table of either kind from its ``to_dict``.

    Raises:
        DataError: a part is missing or does not fit the basis.
    """
    kind = AugmentedOverlapTable if "corrections" in data else OverlapTable
    return kind.from_dict(data)


class AugmentedPairs(NamedTuple):
    """Pairs of atoms between which S is not zero, and the projectors by which they are joined.

    Attributes:
        edge_index: (2, n_edges) int, source j and target i of the blocks of S, on-site included.
        edge_cell_shift: (n_edges, 3) int.
        vectors: (n_edges, 3), from i to j, Å.
        projector_index: (2, n_projections) int, atom of the orbitals and atom of the projectors.
        projector_vectors: (n_projections, 3), from projectors to orbitals, Å.
        terms: (3, n_terms) int: projections of the orbitals of i and of j on the same projectors,
            and the block of S to which they add.
    """

    edge_index: NDArray[np.int64]
    edge_cell_shift: NDArray[np.int64]
    vectors: NDArray[np.float64]
    projector_index: NDArray[np.int64]
    projector_vectors: NDArray[np.float64]
    terms: NDArray[np.int64]


def compute_augmented_blocks(
    table: AugmentedOverlapTable,
    numbers: NDArray[np.integer],
    pairs: AugmentedPairs,
    max_orbitals: int,
) -> NDArray[np.float64]:
    """Compute the overlap blocks of a structure.

    Args:
        table: of its orbitals and projectors.
        numbers: (n_atoms,) atomic numbers.
        pairs: all pairs of the structure, so that no third atom is missing.
        max_orbitals: padded size p of a block.

    Returns:
        (n_edges, p, p), dimensionless, rows = orbitals of i, zero-padded.

    Raises:
        StructureError: an element has no orbitals in the table.
    """
    size = table.table.max_orbitals
    blocks = compute_overlap_blocks(table.table, numbers, pairs.edge_index, pairs.vectors, size)
    projections = compute_projections(table, numbers, pairs)
    corrections = spread_corrections(table, numbers)
    blocks += sum_terms(corrections, pairs, projections, projections)
    return fit_blocks(blocks, max_orbitals)


def compute_projections(
    table: AugmentedOverlapTable, numbers: NDArray[np.integer], pairs: AugmentedPairs
) -> NDArray[np.float64]:
    """Compute ⟨p̃_i|φ̃_μ⟩: (n_projections, q, q), rows = projectors, zero-padded."""
    return compute_overlap_blocks(
        table.table, name_species(numbers), index_species(numbers, pairs), pairs.projector_vectors
    )


def name_species(numbers: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return what orbitals, then projectors of every atom are called in a table: (2·n_atoms,)."""
    orbitals = np.asarray(numbers, dtype=np.int64)
    return np.concatenate([orbitals, PROJECTORS + orbitals])


def index_species(numbers: NDArray[np.integer], pairs: AugmentedPairs) -> NDArray[np.int64]:
    """Return the projections as edges between the species of ``name_species``: (2, n)."""
    source, target = pairs.projector_index
    return np.stack([source, target + len(numbers)])


def spread_corrections(
    table: AugmentedOverlapTable, numbers: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return ΔO of every atom: (n_atoms, q, q), zero-padded."""
    size = table.table.max_orbitals
    result = np.zeros((len(numbers), size, size))
    for z, values in table.corrections.items():
        result[np.asarray(numbers) == z, : len(values), : len(values)] = values
    return result


def spread_slopes(
    table: AugmentedOverlapTable,
    numbers: NDArray[np.integer],
    directions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return what a moving atom's own partial waves add to ⟨χ_μ|∂χ_ν⟩, −u·(⟨φ|∇φ⟩ − ⟨φ̃|∇φ̃⟩).

    Args:
        table: with the slopes.
        numbers: (n_atoms,) atomic numbers.
        directions: (n_atoms, 3).

    Returns:
        (n_atoms, q, q), 1/Å for a direction without unit, zero-padded.
    """
    size = table.table.max_orbitals
    result = np.zeros((len(numbers), size, size))
    for z, values in table.slopes.items():
        chosen, n = np.asarray(numbers) == z, values.shape[1]
        result[chosen, :n, :n] = -np.tensordot(directions[chosen], values, axes=1)
    return result


def sum_terms(
    middle: NDArray[np.float64],
    pairs: AugmentedPairs,
    left: NDArray[np.float64],
    right: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sum L_aμ† M_a R_aν over the projectors a that both orbitals see.

    Args:
        middle: (n_atoms, q, q), M of every atom.
        pairs: with the terms.
        left: (n_projections, q, q), rows = projectors.
        right: the same.

    Returns:
        (n_edges, q, q).
    """
    result = np.zeros((pairs.edge_index.shape[1], *left.shape[1:]))
    right = middle[pairs.projector_index[1]] @ right
    present = [np.any(x != 0.0, axis=(1, 2)) for x in (left, right)]
    terms = pairs.terms[:, present[0][pairs.terms[0]] & present[1][pairs.terms[1]]]
    for start in range(0, terms.shape[1], _CHUNK):
        first, second, block = terms[:, start : start + _CHUNK]
        np.add.at(result, block, left[first].transpose(0, 2, 1) @ right[second])
    return result


def fit_blocks(blocks: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Cut or pad blocks, (…, q, q), to another size: (…, p, p)."""
    kept = min(size, blocks.shape[-1])
    result = np.zeros((*blocks.shape[:-2], size, size))
    result[..., :kept, :kept] = blocks[..., :kept, :kept]
    return result


def _check_matrix(
    what: str, values: NDArray[np.float64], shape: tuple[int, ...], sign: float
) -> None:
    """Refuse what is not symmetric, or with sign −1 antisymmetric, in its last two axes."""
    if values.shape == shape and bool(np.isfinite(values).all()):
        scale = max(1.0, float(np.abs(values).max()))
        if np.abs(values - sign * values.swapaxes(-1, -2)).max() <= SYMMETRIC * scale:
            return
    kind = "a symmetric" if sign > 0.0 else "an antisymmetric"
    got, fix = f"shape {values.shape}, another symmetry or no numbers", "Make the table again."
    where = f"augmented overlap table, {what}"
    raise DataError(message(where, got, f"{kind} matrix of shape {shape}", fix))


def _count_orbitals(shells: tuple[int, ...]) -> int:
    return sum(2 * l + 1 for l in shells)
