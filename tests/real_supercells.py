"""A supercell with DFT blocks: large enough that states are followed from k-point to k-point."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from hamiltonian_samples import real_sample

from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure

REAL_SUPERCELL = (3, 3, 1)


def real_supercell():
    """DFT blocks of tests/data/openmx_slide.npz in a 3×3 cell with perturbed bonds.

    288 orbitals, an ill-conditioned overlap. Returns the primitive atoms, H and S of the primitive
    cell, and H and S of the supercell.
    """
    sample = real_sample()
    basis = OrbitalBasis({6: (0, 0, 1, 1)}, {6: 3.2}, {6: "C6.0-s2p2"})
    internal = np.ix_(*[basis.permutation(6, "openmx")] * 2)
    j, i, shift = sample.pairs[:, 4], sample.pairs[:, 3], sample.pairs[:, :3]
    blocks = [
        np.array(x)[:, internal[0], internal[1]] for x in (sample.hamiltonian, sample.overlap)
    ]
    primitive = [BlockMatrix(sample.numbers, basis, np.stack([j, i]), shift, x) for x in blocks]
    cells = cell_major_map(4, REAL_SUPERCELL).cells[::4]
    target = np.concatenate([4 * n + i for n in range(9)])
    reached = np.concatenate([shift + cell for cell in cells])
    home = np.mod(reached, REAL_SUPERCELL)
    edge_index = np.stack([4 * (home[:, 0] * 3 + home[:, 1]) + np.tile(j, 9), target])
    edge_shift = reached // np.array(REAL_SUPERCELL)
    factors = 1.0 + 0.002 * np.random.default_rng(0).normal(size=(len(target), 1, 1))
    numbers = np.tile(sample.numbers, 9)
    h = BlockMatrix(
        numbers, basis, edge_index, edge_shift, np.tile(blocks[0], (9, 1, 1)) * factors
    ).symmetrised()
    s = BlockMatrix(numbers, basis, edge_index, edge_shift, np.tile(blocks[1], (9, 1, 1)))
    return Atoms(sample.numbers, sample.positions, cell=sample.cell, pbc=True), primitive, h, s


def real_labels(kpoint):
    """The primitive cell of ``real_supercell`` as labels, its Fermi energy between levels at k."""
    atoms, (h, s), _, _ = real_supercell()
    levels = solve_bands(h.dense(kpoint), s.dense(kpoint))
    return LabelledStructure(
        name="slide",
        atoms=atoms,
        basis=h.basis,
        edge_index=h.edge_index,
        edge_cell_shift=h.edge_cell_shift,
        hamiltonian_blocks=h.blocks,
        overlap_blocks=s.blocks,
        fermi_energy=float(levels[7:9].mean()),
    )
