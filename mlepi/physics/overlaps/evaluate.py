"""Overlap blocks of a structure from radial tables, differentiable in the positions.

Block e = ⟨i, 0 | j, R⟩: rows are the orbitals of i = ``edge_index[1]``, columns those of j =
``edge_index[0]``, and the vector points from i to j. Orbital order is the internal one (m = −l…l).
The work is vectorised over edges; loops run over pairs of elements and shells.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, StructureError, message
from mlepi.physics.overlaps.angular import coupled_momenta, coupling_matrix, solid_harmonics
from mlepi.physics.overlaps.table import OverlapTable

ONSITE_DISTANCE = 1e-8
"""Edges shorter than this, Å, are on-site."""

_COVERAGE_TOLERANCE = 1e-6  # Å, rounding allowed at the ends of a fitted interval
_CHUNK = 65536  # edges evaluated at once, which bounds the memory of large structures


def compute_overlap_blocks(
    table: OverlapTable,
    numbers: NDArray[np.integer],
    edge_index: NDArray[np.integer],
    vectors: NDArray[np.float64],
    max_orbitals: int | None = None,
) -> NDArray[np.float64]:
    """Compute the overlap blocks of edges, on-site ones (zero vectors) included.

    Args:
        table: radial overlap functions.
        numbers: (n_atoms,) atomic numbers.
        edge_index: (2, n_edges), source j and target i.
        vectors: (n_edges, 3), from i to j, Å.
        max_orbitals: padded size p of a block; by default the largest number of orbitals in the
            table.

    Returns:
        (n_edges, p, p), dimensionless, rows = orbitals of i, zero-padded.

    Raises:
        StructureError: an element has no orbitals in the table, or the blocks do not fit
            ``max_orbitals``.
        PhysicsError: a fitted table has not seen one of the distances.
    """
    p = table.max_orbitals if max_orbitals is None else max_orbitals
    blocks = np.zeros((edge_index.shape[1], p, p))
    atoms = torch.from_numpy(np.asarray(numbers, dtype=np.int64))
    edges = torch.from_numpy(np.asarray(edge_index, dtype=np.int64))
    r = torch.from_numpy(np.asarray(vectors, dtype=np.float64))
    with torch.no_grad():
        for start in range(0, max(len(blocks), 1), _CHUNK):
            part = slice(start, start + _CHUNK)
            blocks[part] = compute_overlap_blocks_torch(
                table, atoms, edges[:, part], r[part], p
            ).numpy()
    return blocks


def compute_overlap_blocks_torch(
    table: OverlapTable,
    numbers: torch.Tensor,
    edge_index: torch.Tensor,
    vectors: torch.Tensor,
    max_orbitals: int | None = None,
) -> torch.Tensor:
    """Compute overlap blocks as ``compute_overlap_blocks`` does, differentiably on tensors.

    Args:
        table: radial overlap functions.
        numbers: (n_atoms,) int, atomic numbers.
        edge_index: (2, n_edges) int.
        vectors: (n_edges, 3), from i to j, Å, float64.
        max_orbitals: padded size p of a block.

    Returns:
        (n_edges, p, p), of the dtype and device of ``vectors``.
    """
    p = table.max_orbitals if max_orbitals is None else max_orbitals
    if p < table.max_orbitals:
        raise StructureError(
            message(
                "max_orbitals",
                f"{p}",
                f"≥ {table.max_orbitals}",
                "Use the basis of the overlap table.",
            )
        )
    missing = sorted(set(numbers.unique().tolist()) - set(table.shells))
    if missing:
        raise StructureError(
            message(
                "structure",
                f"atomic numbers {missing}",
                f"elements of the overlap table, {list(table.shells)}",
                "Extend the table.",
            )
        )
    rows, columns = numbers[edge_index[1]], numbers[edge_index[0]]
    blocks = vectors.new_zeros((edge_index.shape[1], p, p))
    for z1, z2 in table.values:
        for first, second in {(z1, z2), (z2, z1)}:
            edges = torch.nonzero((rows == first) & (columns == second)).squeeze(1)
            if not len(edges):
                continue
            swapped = first != z1  # only z1 ≤ z2 is tabulated: S_ij(R) = S_ji(−R)ᵀ
            pair = _compute_pair_blocks(
                table, z1, z2, -vectors[edges] if swapped else vectors[edges]
            )
            pair = pair.transpose(1, 2) if swapped else pair
            blocks[edges, : pair.shape[1], : pair.shape[2]] = pair
    return blocks


def _compute_pair_blocks(
    table: OverlapTable, z1: int, z2: int, vectors: torch.Tensor
) -> torch.Tensor:
    """Compute the blocks of one element pair: (n_edges, n_orbitals_1, n_orbitals_2)."""
    radial = _evaluate_radial(table, z1, z2, vectors)
    harmonics = {
        total: solid_harmonics(total, vectors)
        for total in {c.total for c in table.channels(z1, z2)}
    }
    shells_1, shells_2 = table.shells[z1], table.shells[z2]
    start_1 = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells_1])])
    start_2 = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells_2])])
    blocks = vectors.new_zeros((len(vectors), int(start_1[-1]), int(start_2[-1])))
    channel = 0
    for a, l1 in enumerate(shells_1):
        for b, l2 in enumerate(shells_2):
            if z1 == z2 and b < a:
                continue
            momenta = coupled_momenta(l1, l2)
            terms = [
                radial[:, channel + n, None] * harmonics[total] for n, total in enumerate(momenta)
            ]
            coupling = coupling_matrix(l1, l2).to(vectors)
            values = (torch.cat(terms, dim=1) @ coupling).reshape(-1, 2 * l1 + 1, 2 * l2 + 1)
            blocks[:, start_1[a] : start_1[a + 1], start_2[b] : start_2[b + 1]] = values
            if z1 == z2 and a != b:  # parity of Y_L is that of l1 + l2
                mirrored = values.transpose(1, 2) * (-1) ** (l1 + l2)
                blocks[:, start_2[b] : start_2[b + 1], start_1[a] : start_1[a + 1]] = mirrored
            channel += len(momenta)
    return blocks


def _evaluate_radial(table: OverlapTable, z1: int, z2: int, vectors: torch.Tensor) -> torch.Tensor:
    """Evaluate the radial functions of one element pair: (n_edges, n_channels).

    They are exactly zero at and beyond the cutoff.
    """
    cutoff = table.cutoff(z1, z2)
    coefficients = torch.from_numpy(table.spline_coefficients(z1, z2)).to(vectors)
    square = (vectors**2).sum(dim=1)
    onsite = square < ONSITE_DISTANCE**2
    # t is even in R: no slope at zero, where the root has none either
    distance = torch.where(onsite, 1.0, square).sqrt()
    distance = torch.where(onsite, 0.0, distance)
    _check_coverage(table, z1, z2, distance.detach())
    step = cutoff / len(coefficients)
    interval = (distance.detach() / step).long().clamp(max=len(coefficients) - 1)
    offset = (distance - interval.to(distance) * step)[:, None]
    c = coefficients[interval]
    values = ((c[..., 0] * offset + c[..., 1]) * offset + c[..., 2]) * offset + c[..., 3]
    return torch.where((distance < cutoff)[:, None], values, 0.0)


def _check_coverage(table: OverlapTable, z1: int, z2: int, distances: torch.Tensor) -> None:
    """Refuse distances that the data of a fitted table did not cover."""
    if (z1, z2) not in table.fitted_intervals:
        return
    intervals = torch.from_numpy(table.fitted_intervals[z1, z2]).to(distances)
    inside = (distances[:, None] >= intervals[:, 0] - _COVERAGE_TOLERANCE) & (
        distances[:, None] <= intervals[:, 1] + _COVERAGE_TOLERANCE
    )
    bad = distances[(distances > 0.0) & (distances < table.cutoff(z1, z2)) & ~inside.any(dim=1)]
    if len(bad):
        ranges = ", ".join(f"{low:.3f}–{high:.3f}" for low, high in intervals.tolist())
        raise PhysicsError(
            message(
                f"fitted overlap table of elements {z1}, {z2}",
                f"{len(bad)} distances outside its data, "
                f"{float(bad.min()):.3f}–{float(bad.max()):.3f} Å",
                f"distances within {ranges} Å",
                "Use a table computed from the orbitals, or fit with more structures.",
            )
        )
