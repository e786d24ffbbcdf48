"""Bloch sums of the blocks of a batch, differentiable and on its device.

Convention as in ``mlepi.physics.eigenstates.bloch``: M(k) = Σ_R e^{2πi k·R} M(R), k fractional,
rows of a block = orbitals of the target atom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mlepi.graphs import fields
from mlepi.graphs.build import number_structures

ONSITE = "onsite"
"""Name of the blocks of atoms with themselves, beside those of ``fields.RELATIONS``."""


def bloch_sums(
    blocks: Mapping[str, Tensor], graph: Any, exists: Tensor, kpoints: Tensor
) -> list[Tensor]:
    """Sum real-space blocks to one dense matrix per structure.

    Args:
        blocks: "onsite" (n_atoms, p, p) and relation → (n_edges, p, p), both directions.
        graph: batch that they belong to.
        exists: (n_atoms, p) bool, orbitals of every atom.
        kpoints: (n_graphs, 3) fractional, one per structure.

    Returns:
        (n_orbitals, n_orbitals) complex of every structure, in the unit of the blocks.
    """
    dtype = blocks[ONSITE].dtype
    n_atoms, n_functions = exists.shape
    batch = number_structures(graph)
    counts = torch.bincount(batch, minlength=len(kpoints))
    first = counts.cumsum(0) - counts
    first_slot = counts.square().cumsum(0) - counts.square()
    n_slots = int(counts.square().sum())
    onsite = torch.arange(n_atoms, device=batch.device)
    real = blocks[ONSITE].new_zeros(n_slots, n_functions, n_functions)
    imaginary = torch.zeros_like(real)
    for name, part in blocks.items():
        if name == ONSITE:
            source, target, angle = onsite, onsite, None
        else:
            store = graph[fields.edge_type(name)]
            source, target = store[fields.EDGE_INDEX]
            turns = (store[fields.EDGE_CELL_SHIFT].to(torch.float64) * kpoints[batch[target]]).sum(
                1
            )
            angle = 2.0 * math.pi * turns
        structure = batch[target]
        slot = (
            first_slot[structure]
            + (target - first[structure]) * counts[structure]
            + (source - first[structure])
        )
        if angle is None:
            real = real.index_add(0, slot, part)
            continue
        cosine, sine = (wave(angle).to(dtype)[:, None, None] for wave in (torch.cos, torch.sin))
        real = real.index_add(0, slot, cosine * part)
        imaginary = imaginary.index_add(0, slot, sine * part)
    matrices = []
    for number, count in enumerate(counts.tolist()):
        begin, slots = int(first[number]), int(first_slot[number])
        rows = torch.nonzero(exists[begin : begin + count].reshape(-1)).reshape(-1)
        laid_out = [
            part[slots : slots + count * count]
            .reshape(count, count, n_functions, n_functions)
            .transpose(1, 2)
            .reshape(count * n_functions, count * n_functions)
            for part in (real, imaginary)
        ]
        matrix = torch.complex(laid_out[0], laid_out[1])
        whole = len(rows) == count * n_functions
        matrices.append(matrix if whole else matrix[rows[:, None], rows])
    return matrices
