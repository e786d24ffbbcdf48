"""⟨φ|∂φ⟩ of orbitals on one atom: what the overlap owes to an orbital that moves on its own.

On-site blocks of S do not change when an atom moves, because both orbitals move. The part of the
one on the right, ⟨φ_μ|∂φ_ν⟩, is the slope of the two-centre overlap at zero distance, of the atom
with a copy of itself displaced by d. That overlap is antisymmetric in μ and ν where it is odd in d,
and at zero it is the on-site block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import MlepiError
from mlepi.physics.overlaps import OverlapTable
from mlepi.predictors.forward_mode import differentiate_overlaps

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix

SMALL_STEP = 1e-3
"""Å, distance of the copy."""

ROOM = 40.0
"""Å, edge of the cell in which an atom and its copy are alone."""

CONTINUOUS = 1e-2
"""Largest difference of the on-site block from what the overlap of copies goes to at zero distance:
beyond it there are no orbitals behind the numbers, and their slopes are not known."""


def find_orbital_slopes(
    model: Any, overlap: BlockMatrix, element: int
) -> NDArray[np.float64] | None:
    """Return ⟨φ_μ|∂φ_ν⟩ of the orbitals of an element, by whatever way its model offers.

    From its overlap table; zero where the orbitals overlap with nothing, or have one parity;
    otherwise by differences of the overlap of an atom with a displaced copy of itself.

    Args:
        model: of S; an attribute or a method ``overlap_table`` is used.
        overlap: of any structure with the element.
        element: atomic number.

    Returns:
        (3, p, p), 1/Å, rows the orbitals at rest; None where the model does not tell.
    """
    size = overlap.blocks.shape[1]
    # a model may lend out the method of another one, which then has the table
    owner = getattr(model.overlap, "__self__", model)
    table = getattr(model, "overlap_table", getattr(owner, "overlap_table", None))
    table = table() if callable(table) else table
    if isinstance(table, OverlapTable) and element in table.shells:
        at_rest, index = np.zeros((1, 3)), np.zeros((2, 1), dtype=np.int64)
        axes = np.eye(3)[:, None]
        return differentiate_overlaps(table, np.array([element]), index, at_rest, size, axes)[:, 0]
    shells = overlap.basis.shells[element]
    if len({momentum % 2 for momentum in shells}) == 1 or _is_orthogonal(overlap):
        return np.zeros((3, size, size))
    return _differentiate_copies(model, overlap, element)


def _is_orthogonal(overlap: BlockMatrix) -> bool:
    """Tell whether orbitals of different atoms have no overlap at all."""
    source, target = overlap.edge_index
    apart = (source != target) | np.any(overlap.edge_cell_shift, axis=1)
    return not np.any(overlap.blocks[apart])


def _differentiate_copies(
    model: Any, overlap: BlockMatrix, element: int
) -> NDArray[np.float64] | None:
    """Differentiate the overlap of an atom with a copy of itself: (3, p, p), 1/Å.

    None where a model refuses atoms so close, or goes to something else than its on-site block:
    there are no orbitals behind its numbers.
    """
    own = int(np.flatnonzero(overlap.numbers == element)[0])
    source, target = overlap.edge_index
    at_home = (source == own) & (target == own) & ~np.any(overlap.edge_cell_shift, axis=1)
    onsite = overlap.blocks[at_home][0]
    try:
        blocks = np.array(
            [_overlap_with_copy(model, element, SMALL_STEP * axis) for axis in np.eye(3)]
        )
    except (MlepiError, LookupError):
        return None
    turned = blocks.swapaxes(1, 2)  # the copy on the other side
    if np.abs(0.5 * (blocks + turned) - onsite).max() > CONTINUOUS:
        return None
    return np.asarray(0.5 * (blocks - turned) / SMALL_STEP)


def _overlap_with_copy(
    model: Any, element: int, displacement: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ⟨φ_μ(0)|φ_ν(d)⟩ of an atom and a displaced copy: (p, p).

    Raises:
        LookupError: the model has no block for the pair.
    """
    middle = np.full(3, 0.5 * ROOM)
    pair = Atoms([element] * 2, [middle, middle + displacement], cell=[ROOM] * 3, pbc=True)
    found = model.overlap(pair)
    source, target = found.edge_index
    row = np.flatnonzero((source == 1) & (target == 0) & ~np.any(found.edge_cell_shift, axis=1))
    if len(row) != 1:
        raise LookupError("no block between an atom and its copy")
    return np.asarray(found.blocks[row[0]])
