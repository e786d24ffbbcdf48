"""What a level shift adds to the Hamiltonians of a batch, laid out as their blocks are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlepi.graphs import fields
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.build import number_structures
from mlepi.graphs.shifted_matrix import shift_matrix
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.structures.basis import OrbitalBasis
from mlepi.training.bloch_sums import ONSITE


def add_by_part(
    overlap: Mapping[str, Tensor], graph: Any, basis: OrbitalBasis, shift: LevelShift
) -> dict[str, Tensor]:
    """Return λF − μS of every structure of a batch.

    Args:
        overlap: "onsite" (n_atoms, p, p) and relation → (n_edges, p, p), both directions.
        graph: batch that they belong to.
        basis: of the labels.
        shift: parameters.

    Returns:
        Float64 tensors of the same shapes on the same device, eV.

    Raises:
        PhysicsError: an overlap is not positive definite.
    """
    parts, edges, shifts = list(overlap), [], []
    atoms, structure = graph[fields.ATOM], number_structures(graph).cpu().numpy()
    for name in parts:
        if name == ONSITE:
            edges.append(np.tile(np.arange(len(structure)), (2, 1)))
            shifts.append(np.zeros((len(structure), 3), dtype=np.int64))
        else:
            store = graph[fields.edge_type(name)]
            edges.append(store[fields.EDGE_INDEX].cpu().numpy())
            shifts.append(store[fields.EDGE_CELL_SHIFT].cpu().numpy().astype(np.int64))
    edge_index, cell_shift = np.concatenate(edges, axis=1), np.concatenate(shifts)
    blocks = np.concatenate([_to_numpy(overlap[name]) for name in parts])
    numbers, positions = atoms[fields.NUMBERS].cpu().numpy(), _to_numpy(atoms[fields.POSITIONS])
    added = np.zeros_like(blocks)
    for number, cell in enumerate(_to_numpy(graph[fields.CELL])):
        own = np.flatnonzero(structure == number)
        chosen = np.flatnonzero(structure[edge_index[1]] == number)
        matrix = BlockMatrix(
            numbers[own], basis, edge_index[:, chosen] - own[0], cell_shift[chosen], blocks[chosen]
        )
        crystal = Atoms(numbers[own], positions[own], cell=cell)
        added[chosen] = shift_matrix(crystal, matrix, shift).blocks
    ends = np.cumsum([len(overlap[name]) for name in parts])[:-1]
    device = overlap[ONSITE].device
    return {
        name: torch.from_numpy(part).to(device)
        for name, part in zip(parts, np.split(added, ends), strict=True)
    }


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float64)
