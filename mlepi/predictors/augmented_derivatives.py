"""Derivatives of the overlaps of augmented waves: the product rule over orbitals and projectors.

S = Θ + Σ_a P_a† ΔO_a P_a, so that ∂S = ∂Θ + Σ_a (∂P_a† ΔO_a P_a + P_a† ΔO_a ∂P_a), the motion of
third atoms included. Θ and P are differentiated as other tables are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.overlaps import AugmentedOverlapTable, AugmentedPairs
from mlepi.physics.overlaps.augmented import (
    compute_projections,
    fit_blocks,
    index_species,
    name_species,
    spread_corrections,
    spread_slopes,
    sum_terms,
)
from mlepi.predictors.forward_mode import differentiate_overlaps


def differentiate_augmented(
    table: AugmentedOverlapTable,
    numbers: NDArray[np.integer],
    pairs: AugmentedPairs,
    size: int,
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Differentiate the overlap blocks of a structure along motions of its atoms.

    Args:
        table: of orbitals and projectors.
        numbers: (n_atoms,) atomic numbers.
        pairs: all of the structure, at rest.
        size: p, of the padded blocks.
        first: (n_directions, n_atoms, 3).
        second: the same, for mixed second derivatives.

    Returns:
        (n_directions, n_edges, p, p), 1/Å or 1/Å².
    """
    at_rest = compute_projections(table, numbers, pairs)
    corrections = spread_corrections(table, numbers)
    result = np.zeros((len(first), pairs.edge_index.shape[1], size, size))
    for n, direction in enumerate(first):
        other = None if second is None else second[n]
        blocks = _differentiate(table, numbers, pairs.edge_index, pairs.vectors, direction, other)
        moved = _differentiate_projections(table, numbers, pairs, direction, other)
        blocks += sum_terms(corrections, pairs, moved, at_rest)
        blocks += sum_terms(corrections, pairs, at_rest, moved)
        if other is not None:
            along, across = (
                _differentiate_projections(table, numbers, pairs, one) for one in (direction, other)
            )
            blocks += sum_terms(corrections, pairs, along, across)
            blocks += sum_terms(corrections, pairs, across, along)
        result[n] = fit_blocks(blocks, size)
    return result


def differentiate_augmented_kets(
    table: AugmentedOverlapTable,
    numbers: NDArray[np.integer],
    pairs: AugmentedPairs,
    size: int,
    directions: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Differentiate ⟨χ_μ|χ_ν⟩ where only the augmented orbital on the right follows the atoms.

    It follows in both ways, |∂χ_ν⟩ = ∂|T φ̃_ν⟩: with its own atom, and with the partial waves of
    all atoms whose projectors it meets, P_a† (ΔO_a ∂P_a − u_a·N_a P_a), N = ⟨φ|∇φ⟩ − ⟨φ̃|∇φ̃⟩.

    Args:
        table: of orbitals and projectors.
        numbers: (n_atoms,) atomic numbers.
        pairs: all of the structure, at rest.
        size: p, of the padded blocks.
        directions: (n_directions, n_atoms, 3).

    Returns:
        (n_directions, n_edges, p, p), 1/Å; with its reverse transposed it adds up to ∂S.
    """
    at_rest = compute_projections(table, numbers, pairs)
    corrections = spread_corrections(table, numbers)
    source = pairs.edge_index[0]
    result = np.zeros((len(directions), pairs.edge_index.shape[1], size, size))
    for n, direction in enumerate(directions):
        blocks = differentiate_overlaps(
            table.table,
            numbers,
            pairs.edge_index,
            pairs.vectors,
            table.table.max_orbitals,
            direction[None, source],
        )[0]
        moved = _differentiate_projections(table, numbers, pairs, direction)
        blocks += sum_terms(corrections, pairs, at_rest, moved)
        waves = spread_slopes(table, numbers, direction)
        blocks += sum_terms(waves, pairs, at_rest, at_rest)
        result[n] = fit_blocks(blocks, size)
    return result


def _differentiate(
    table: AugmentedOverlapTable,
    species: NDArray[np.integer],
    edges: NDArray[np.int64],
    vectors: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Differentiate two-centre integrals along one motion or two, (n_species, 3)."""
    size, other = table.table.max_orbitals, None
    if second is not None:
        other = (second[edges[0]] - second[edges[1]])[None]
    change = (first[edges[0]] - first[edges[1]])[None]
    return differentiate_overlaps(table.table, species, edges, vectors, size, change, other)[0]


def _differentiate_projections(
    table: AugmentedOverlapTable,
    numbers: NDArray[np.integer],
    pairs: AugmentedPairs,
    first: NDArray[np.float64],
    second: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Differentiate P, whose projectors move with their atoms: (n_projections, q, q)."""
    edges, vectors = index_species(numbers, pairs), pairs.projector_vectors
    both = np.concatenate([first, first])
    other = None if second is None else np.concatenate([second, second])
    return _differentiate(table, name_species(numbers), edges, vectors, both, other)
