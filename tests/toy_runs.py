"""A run without files.

Tight-binding supercells with random displacements, and what a stage asks of a run.
"""

from __future__ import annotations

import numpy as np
from toys import honeycomb, tight_binding

from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.averages.statistics import SampleDesign
from mlepi.pipeline.stage import SampleKey
from mlepi.structures.basis import OrbitalBasis

BASIS = OrbitalBasis({6: (0,)}, {6: 2.0}, {6: "toy"})


def matrices(atoms, overlap=0.1, onsite=0.2, stagger=0.0):
    """H and S; ``stagger`` raises the first and lowers the second sublattice.

    A gap of twice as much at K of a monolayer.
    """
    edge_index, shifts, h, s, _ = tight_binding(atoms, overlap=overlap, onsite=onsite)
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    sites = (edge_index[0] == edge_index[1]) & ~np.any(shifts, axis=1)
    h = h + np.where(sites, stagger * (-1.0) ** edge_index[0], 0.0)[:, None, None]
    return tuple(BlockMatrix(numbers, BASIS, edge_index, shifts, blocks) for blocks in (h, s))


class ToyRun:
    """An equilibrium, displaced supercells and a place for warnings."""

    def __init__(
        self,
        amplitude,
        temperatures=(0.0, 300.0),
        n_samples=3,
        supercell=(3, 3, 1),
        bilayer=True,
        **electrons,
    ):
        self.atoms = honeycomb(bilayer=bilayer)
        self.supercell, self.temperatures, self.n_samples = supercell, temperatures, n_samples
        self.amplitude, self.electrons, self.device = amplitude, electrons, "cpu"
        self.design = SampleDesign.independent(n_samples)
        self.warnings: list[str] = []

    def equilibrium(self):
        return (self.atoms, *self.matrices(self.atoms))

    def matrices(self, atoms):
        return matrices(atoms, **self.electrons)

    def displaced(self, key):
        atoms = self.atoms.repeat(self.supercell)
        scale = self.amplitude * (1 + key.temperature / 300.0)
        atoms.positions += scale * np.random.default_rng(key.sample).normal(size=(len(atoms), 3))
        return atoms

    def sample_keys(self):
        return [SampleKey(n, t) for n in range(self.n_samples) for t in self.temperatures]

    def compute(self, stage):
        """Run a sampled stage from its beginning to its record."""
        stage.begin(self)
        results = [
            (key, stage.evaluate(key, *self.matrices(self.displaced(key))))
            for key in self.sample_keys()
        ]
        return stage.finish(self, results)
