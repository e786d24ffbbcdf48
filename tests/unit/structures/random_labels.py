"""Hand-made Hamiltonian labels of two elements with different shells."""

from __future__ import annotations

import numpy as np
import vesin
from ase import Atoms

from mlepi.structures import LabelledStructure, OrbitalBasis
from mlepi.structures.ragged import restore_both_directions, select_one_direction

BASIS = OrbitalBasis(
    shells={5: (0,), 7: (0, 1)}, radii={5: 1.2, 7: 1.4}, names={5: "B-s1", 7: "N-s1p1"}
)


def build_labels(
    name: str, seed: int, n_atoms: int = 4, overlap: bool = True, **changes
) -> LabelledStructure:
    """Random blocks, exact in float32, of a random structure of B (1 orbital) and N (4)."""
    rng = np.random.default_rng(seed)
    atoms = Atoms("BN" * n_atoms, cell=[3.0, 3.1, 3.2], pbc=True)[:n_atoms]
    atoms.set_scaled_positions(rng.uniform(0, 1, (n_atoms, 3)))
    atoms.set_array("layer", np.zeros(n_atoms, dtype=np.int64))
    i, j, shifts = vesin.NeighborList(cutoff=2.8, full_list=True).compute(
        points=atoms.positions, box=atoms.cell.array, periodic=True, quantities="ijS"
    )
    edges = np.concatenate(
        [np.stack([j, i]).astype(np.int64), np.tile(np.arange(n_atoms), (2, 1))], axis=1
    )
    shifts = np.concatenate([shifts.astype(np.int64), np.zeros((n_atoms, 3), dtype=np.int64)])
    keep = select_one_direction(edges, shifts)
    edges, shifts = edges[:, keep], shifts[keep]
    mask = BASIS.mask(atoms.numbers)
    exists = mask[edges[1]][:, :, None] & mask[edges[0]][:, None, :]
    blocks = [
        (rng.standard_normal(exists.shape).astype(np.float32) * exists).astype(np.float64)
        for _ in range(2)
    ]
    onsite = (edges[0] == edges[1]) & ~shifts.any(axis=1)
    blocks[0][onsite] = np.round(
        blocks[0][onsite] + blocks[0][onsite].transpose(0, 2, 1), 1
    ).astype(np.float32)
    blocks[1][onsite] = np.eye(4)[None] * mask[edges[1][onsite]][:, None, :]
    edges, shifts, blocks = restore_both_directions(edges, shifts, *blocks)
    fields = {
        "name": name,
        "atoms": atoms,
        "basis": BASIS,
        "edge_index": edges,
        "edge_cell_shift": shifts,
        "hamiltonian_blocks": blocks[0],
        "overlap_blocks": blocks[1] if overlap else None,
        "fermi_energy": -1.25,
        "energy": -1 / 3,
        "forces": rng.standard_normal((n_atoms, 3)),
        "provenance": {"kind": "random", "seed": seed},
    }
    return LabelledStructure(**{**fields, **changes})
