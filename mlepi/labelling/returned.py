"""Labels as a program returns them: its atoms may be sorted, wrapped and rounded; ours are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures import LabelledStructure

TOLERANCE = 1e-3
"""Å, by which a program may round positions and cell."""


def return_labels(
    labels: LabelledStructure,
    atoms: Atoms,
    order: NDArray[np.int64] | None = None,
    shift: NDArray[np.float64] | None = None,
) -> LabelledStructure:
    """Return labels of the atoms as they were given: in their order, R counted between them.

    With atom a of the program at r_a + n_a, n_a a lattice vector, R between its atoms i and j is
    R + n_j − n_i between those that were given.

    Args:
        labels: read from the files of a program.
        atoms: as given, Å.
        order: (n_atoms,) int; atom k of the program is atom ``order[k]``. None: as given.
        shift: (3,) Å, by which all were shifted together. None: not at all.

    Raises:
        DataError: they are labels of another structure.
    """
    sequence = np.arange(len(atoms)) if order is None else order
    moved = _find_moves(labels, atoms[sequence], np.zeros(3) if shift is None else shift)
    forces = labels.forces
    if forces is not None:
        forces = np.empty_like(forces)
        forces[sequence] = labels.forces
    given = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    returned = replace(labels, atoms=given, forces=forces)
    edges, cells = labels.edge_index, labels.edge_cell_shift
    if edges is None or cells is None:
        return returned
    counted = cells + moved[edges[0]] - moved[edges[1]]
    return replace(returned, edge_index=sequence[edges], edge_cell_shift=counted)


def _find_moves(
    labels: LabelledStructure, expected: Atoms, shift: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return the lattice vectors by which the program has moved its atoms, (n_atoms, 3) int."""
    found = labels.atoms
    expected_fix = "Report it: the reader of this code takes atoms for others."
    if not np.array_equal(found.numbers, expected.numbers):
        got = f"labels of {found.get_chemical_formula(mode='reduce')}"
        wanted = expected.get_chemical_formula(mode="reduce")
        raise DataError(message(labels.name, got, wanted, expected_fix))
    difference = found.positions - (expected.positions + shift)
    moved = np.round(expected.cell.scaled_positions(difference)).astype(np.int64)
    apart = float(np.abs(difference - moved @ expected.cell.array).max())
    apart = max(apart, float(np.abs(found.cell.array - expected.cell.array).max()))
    if not apart <= TOLERANCE:
        got = f"labels of a structure that differs by {apart:.2g} Å"
        raise DataError(message(labels.name, got, f"at most {TOLERANCE:g} Å", expected_fix))
    return moved
