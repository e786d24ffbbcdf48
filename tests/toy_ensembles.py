"""Ensembles without files: tight-binding supercells with random displacements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from toys import honeycomb, tight_binding

from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.vibrations.samplers import Sampler
from mlepi.pipeline import Ensemble, Equilibrium, Networks, Settings
from mlepi.pipeline.sources import Source
from mlepi.structures.basis import OrbitalBasis

BASIS = OrbitalBasis({6: (0,)}, {6: 2.0}, {6: "toy"})


def matrices(atoms, overlap=0.1, onsite=0.2, stagger=0.0):
    """H and S.

    ``stagger`` raises the first and lowers the second sublattice: a gap of twice as much at K of a
    monolayer.
    """
    edge_index, shifts, h, s, _ = tight_binding(atoms, overlap=overlap, onsite=onsite)
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    sites = (edge_index[0] == edge_index[1]) & ~np.any(shifts, axis=1)
    h = h + np.where(sites, stagger * (-1.0) ** edge_index[0], 0.0)[:, None, None]
    return tuple(BlockMatrix(numbers, BASIS, edge_index, shifts, blocks) for blocks in (h, s))


class ToyElectron:
    """An electron model by ``matrices``."""

    def __init__(self, **electrons):
        self.electrons = electrons

    def hamiltonian(self, atoms, *, device="cpu", dtype="float64"):
        return matrices(atoms, **self.electrons)[0]

    def overlap(self, atoms):
        return matrices(atoms, **self.electrons)[1]


class RandomShifts(Sampler):
    """Independent normal displacements, twice as large at 300 K as at 0 K."""

    def __init__(self, amplitude):
        self.amplitude = amplitude

    def displacements(self, ensemble, temperature, indices, seed):
        scale = self.amplitude * (1 + temperature / 300.0)
        shape = (self.n_atoms, 3)
        return np.array([scale * np.random.default_rng(i).normal(size=shape) for i in indices])

    def design(self, ensemble, n_samples):
        return SampleDesign.independent(n_samples)


class OneGroup(Sampler):
    """The snapshots of another sampler, none of them independent of the others."""

    def __init__(self, sampler):
        self._sampler = sampler

    def displacements(self, ensemble, temperature, indices, seed):
        return self._sampler.displacements(ensemble, temperature, indices, seed)

    def design(self, ensemble, n_samples):
        return SampleDesign(np.zeros(n_samples, dtype=np.int64))


def toy_settings(supercell=(3, 3, 1), temperatures=(0.0, 300.0), n_samples=3, **changes):
    """Settings whose sources are never asked."""
    sources = {key: Source(key, None) for key in ("structure", "phonon", "electron")}
    return Settings(
        temperatures=tuple(temperatures),
        n_samples=n_samples,
        seed=0,
        supercell=tuple(supercell),
        dtype="float64",
        **{**sources, **changes},
    )


def toy_ensemble(
    amplitude,
    temperatures=(0.0, 300.0),
    n_samples=3,
    supercell=(3, 3, 1),
    bilayer=True,
    electron=None,
    folder=Path(),
    **electrons,
):
    """An ensemble of honeycombs; ``electron`` is a model of one's own, else ``electrons``."""
    atoms = honeycomb(bilayer=bilayer)
    sampler = RandomShifts(amplitude)
    sampler.n_atoms = len(atoms) * int(np.prod(supercell))
    settings = toy_settings(supercell, temperatures, n_samples, sampler=sampler)
    networks = Networks(settings, own_electron=electron or ToyElectron(**electrons))
    return Ensemble(
        equilibrium=Equilibrium(atoms, *networks.predict(atoms)),
        primitive=atoms,
        distribution=None,  # random shifts do not ask for it
        sampler=sampler,
        supercell=settings.supercell,
        temperatures=settings.temperatures,
        n_samples=n_samples,
        seed=0,
        networks=networks,
        folder=folder,
    )


def evaluate(stage, ensemble, prepared=None):
    """Return what a stage finds in every sample, in order."""
    prepared = stage.prepare(ensemble) if prepared is None else prepared
    return [
        (sample.key, stage.evaluate(prepared, sample))
        for key in ensemble.sample_keys()
        for sample in ensemble.predict([key])
    ]


def compute(stage, ensemble):
    """Run a sampled stage from its beginning to its record."""
    prepared = stage.prepare(ensemble)
    return stage.finish(prepared, ensemble, evaluate(stage, ensemble, prepared))
