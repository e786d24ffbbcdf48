"""Derivatives of the toy's blocks by high-order differences, and all that linear response takes."""

from __future__ import annotations

import numpy as np
from spring_model import SHELLS, SpringCalculator
from toys import honeycomb, tight_binding

from mlepi.physics.bands.unfolding import cell_major_map
from mlepi.physics.coupling.cell_response import collect_response
from mlepi.physics.coupling.linear_response import BlockResponses
from mlepi.physics.eigenstates.bloch import solve_bands
from mlepi.physics.eigenstates.dense_bloch import bloch_sum
from mlepi.physics.vibrations.force_constants import compute_force_constants

LAYERED = [*SHELLS, (3.0, 0.0, 0.0, 0.0), (3.8, 1.0, 0.3, 0.2)]
"""Springs of ``spring_model`` with weak ones between layers."""

STEPS = (-2, -1, 1, 2)
FIRST = (1 / 12, -2 / 3, 2 / 3, -1 / 12)  # error of fourth order


class Toy:
    """AB bilayer or monolayer with one orbital per atom, optional overlap, and springs."""

    def __init__(self, repeats=(2, 2, 1), bilayer=True, overlap=0.1):
        self.atoms = honeycomb(bilayer=bilayer)
        self.repeats, self.overlap = repeats, overlap
        self.supercell = self.atoms.repeat(repeats)
        self.map = cell_major_map(len(self.atoms), repeats)
        self.n = len(self.atoms)

    def blocks(self, supercell):
        """Both matrices stacked: edges, shifts, (2, n_edges, 1, 1)."""
        edges, shift, h, s, _ = tight_binding(
            supercell, overlap=self.overlap, onsite=0.3, images=(1, 1, 0)
        )
        return edges, shift, np.stack([h, s])

    def moved(self, displacement):
        supercell = self.supercell.copy()
        supercell.positions += displacement
        return self.blocks(supercell)

    def derivative(self, direction, step=1e-3):
        values = [
            weight * self.moved(n * step * direction)[2]
            for n, weight in zip(STEPS, FIRST, strict=True)
        ]
        return sum(values) / step

    def mixed(self, first, second, step=2e-3):
        """∂²/∂first∂second by two nested first differences."""
        total = 0.0
        for n, weight in zip(STEPS, FIRST, strict=True):
            for m, other in zip(STEPS, FIRST, strict=True):
                total = total + weight * other * self.moved(step * (n * first + m * second))[2]
        return total / step**2

    def unit(self, coordinate):
        direction = np.zeros((len(self.supercell), 3))
        direction[coordinate // 3, coordinate % 3] = 1.0
        return direction

    def responses(self):
        edges, shift, _ = self.blocks(self.supercell)
        parts = np.array([self.derivative(self.unit(c)) for c in range(3 * self.n)])
        moved = np.arange(3 * self.n)[:, None] // 3
        # an orbital on the right moves where the source is the moved atom
        ket = parts[:, 1] * ((edges[0] == moved) & (edges[1] != moved))[:, :, None, None]
        return BlockResponses(
            *(self.collect(edges, shift, values) for values in (parts[:, 0], parts[:, 1], ket))
        )

    def collect(self, edges, shift, values):
        return collect_response(
            self.map,
            edges,
            shift,
            values,
            self.atoms.positions,
            self.atoms.cell.array,
            np.arange(self.n + 1),
        )

    def states(self, kpoints):
        edges, shift, h, s, offsets = tight_binding(self.atoms, overlap=self.overlap, onsite=0.3)
        matrices = [bloch_sum(blocks, edges, shift, offsets, kpoints) for blocks in (h, s)]
        return solve_bands(*matrices, vectors=True)

    def supercell_levels(self, displacement, kpoint):
        edges, shift, values = self.moved(displacement)
        offsets = np.arange(len(self.supercell) + 1)
        h, s = (bloch_sum(blocks, edges, shift, offsets, kpoint[None])[0] for blocks in values)
        return solve_bands(h, s)

    def force_constants(self):
        return compute_force_constants(
            self.atoms, SpringCalculator(self.supercell, LAYERED), self.repeats, symmetrize=False
        )
