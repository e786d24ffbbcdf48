"""A honeycomb with springs and one orbital per atom.

Everything that a pipeline needs, without any network.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from mlepi.errors import PhysicsError
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.pipeline import SampledStage
from mlepi.results import unit
from mlepi.structures.basis import OrbitalBasis

BASIS = OrbitalBasis({6: (0,)}, {6: 1.5}, {6: "toy"})


def build_honeycomb(a: float = 2.46) -> Atoms:
    cell = [[a, 0, 0], [a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 12.0]]
    return Atoms(
        "C2", scaled_positions=[[1 / 3, 1 / 3, 0.5], [2 / 3, 2 / 3, 0.5]], cell=cell, pbc=True
    )


class HoneycombSprings(Calculator):
    """Bonds that resist stretching and, by a flat reference, motion out of line."""

    implemented_properties: ClassVar = ["energy", "forces", "stress"]

    def __init__(
        self, d0: float = 1.42, stiffness: float = 30.0, second: float = 8.0, normal: float = 5.0
    ):
        super().__init__()
        self.d0, self.stiffness, self.second, self.normal = d0, stiffness, second, normal

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        i, _, vectors, lengths = neighbor_list("ijDd", self.atoms, 2.8)
        near = lengths < 2.0
        rest = np.where(near, self.d0, self.d0 * np.sqrt(3))
        k = np.where(near, self.stiffness, self.second)
        flat = np.where(near, self.normal, 0.0)
        stretch = lengths - rest
        energy = 0.25 * np.sum(k * stretch**2 + flat * vectors[:, 2] ** 2)
        pull = (k * stretch / lengths)[:, None] * vectors
        pull[:, 2] += flat * vectors[:, 2]
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, pull)
        virial = 0.5 * np.einsum("ea,eb->ab", pull, vectors) / self.atoms.get_volume()
        stress = virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        self.results = {"energy": float(energy), "forces": forces, "stress": stress}


class ToyElectron:
    """H = −2.7 exp(1 − d) between neighbours, S a tenth of it without the sign."""

    def __init__(self, overlap: float = 0.1):
        self.strength = overlap
        self.basis = replace(BASIS, valence_electrons={6: 4})

    def hamiltonian(self, atoms, *, device="cpu", dtype="float64"):
        return self._matrix(atoms, -2.7, 0.0)

    def overlap(self, atoms):
        return self._matrix(atoms, self.strength, 1.0)

    def _matrix(self, atoms, strength, onsite):
        i, j, shifts, lengths = neighbor_list("ijSd", atoms, 2.0)
        n = len(atoms)
        edge_index = np.concatenate([np.tile(np.arange(n), (2, 1)), np.stack([j, i])], axis=1)
        shift = np.concatenate([np.zeros((n, 3), dtype=np.int64), shifts.astype(np.int64)])
        blocks = np.concatenate([np.full(n, onsite), strength * np.exp(1.42 - lengths)])
        return BlockMatrix(
            np.asarray(atoms.numbers, dtype=np.int64),
            BASIS,
            edge_index,
            shift,
            blocks[:, None, None],
        )


class SilentToy(ToyElectron):
    """Does not tell its orbitals."""

    def __init__(self):
        self.strength = 0.1


class BatchedToy(ToyElectron):
    """Counts how many structures it sees at once."""

    sizes: ClassVar = []

    def hamiltonians(self, structures, *, device="cpu", dtype="float64"):
        self.sizes.append(len(structures))
        return [self.hamiltonian(atoms) for atoms in structures]

    def overlaps(self, structures):
        return [self.overlap(atoms) for atoms in structures]


class FailingToy(ToyElectron):
    """Knows the primitive cell alone."""

    def hamiltonian(self, atoms, *, device="cpu", dtype="float64"):
        if len(atoms) > 2:
            raise PhysicsError("network: a failure on purpose")
        return super().hamiltonian(atoms)


class TwistedElectron(ToyElectron):
    """The toy with hopping between the layers, 0.3 exp(3.35 − d)."""

    def _matrix(self, atoms, strength, onsite):
        i, j, shifts, vectors = neighbor_list("ijSD", atoms, 4.2)
        lengths = np.linalg.norm(vectors, axis=1)
        between = np.abs(vectors[:, 2]) > 1.0
        kept = between | (lengths < 2.0)
        scale = np.where(
            between,
            -0.11 * strength * np.exp(3.0 * (3.35 - lengths)),
            strength * np.exp(1.42 - lengths),
        )[kept]
        n = len(atoms)
        index = np.concatenate([np.tile(np.arange(n), (2, 1)), np.stack([j, i])[:, kept]], axis=1)
        shift = np.concatenate([np.zeros((n, 3), dtype=np.int64), shifts[kept].astype(np.int64)])
        blocks = np.concatenate([np.full(n, onsite), scale])[:, None, None]
        return BlockMatrix(np.asarray(atoms.numbers, dtype=np.int64), BASIS, index, shift, blocks)


@dataclass(frozen=True)
class LevelsRecord:
    mean: np.ndarray = field(metadata=unit("eV"))
    errors: np.ndarray = field(metadata=unit("eV"))
    equilibrium: np.ndarray = field(metadata=unit("eV"))
    n_results: int = field(default=0, metadata=unit("1"))
    counts: np.ndarray = field(default_factory=lambda: np.empty(0), metadata=unit("1"))
    centred: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), metadata=unit("eV"))


@dataclass(frozen=True, kw_only=True)
class LevelsStage(SampledStage):
    """Mean of one level at Γ of every displaced supercell; ``seen`` counts evaluations by name."""

    name: ClassVar = "levels"
    record: ClassVar = LevelsRecord
    targets: ClassVar = ("level",)
    least_samples: ClassVar = 1
    uneven: ClassVar = True
    seen: ClassVar = {}

    level: int = 0
    fail_at: int = -1
    pause: float = 0.0  # s, of every sample

    def inputs(self, settings):
        return self.sample_inputs(settings)

    def sample_inputs(self, settings):
        return {"level": self.level}

    def begin(self, ensemble):
        return levels(*ensemble.equilibrium[1:])

    def evaluate(self, prepared, sample):
        if sample.key.sample == self.fail_at:
            raise PhysicsError("sample: a failure on purpose")
        self.seen.setdefault(self.name, []).append(sample.key)
        time.sleep(self.pause)
        return {"levels": levels(sample.hamiltonian, sample.overlap)}

    def finish(self, prepared, ensemble, results):
        values = [(key, arrays["levels"][self.level]) for key, arrays in results]
        assert [key for key, _ in results] == ensemble.sample_keys()  # may be gone through again
        by_t = [[v for key, v in values if key.temperature == t] for t in ensemble.temperatures]
        errors = [np.std(some) / np.sqrt(len(some)) for some in by_t]
        means = [np.mean(some) for some in by_t]
        counts = np.array([len(some) for some in by_t])
        centred = np.zeros((ensemble.n_samples, len(by_t)))  # of absent samples: the mean
        for column, some in enumerate(by_t):
            centred[: len(some), column] = np.array(some) - means[column]
        return LevelsRecord(
            np.array(means), np.array(errors), prepared, len(values), counts, centred
        )

    def summarize(self, record):
        return f"{record.n_results} results"

    def error_bars(self, record):
        return {"level": record.errors}

    def target_values(self, record):
        return {"level": record.mean}

    def contributions(self, record):
        return {"level": record.mean + record.centred}


@dataclass(frozen=True, kw_only=True)
class NoisyStage(LevelsStage):
    """Normal numbers around 1 in place of levels, common to all temperatures: sd 0.01 to 0.02."""

    def evaluate(self, prepared, sample):
        super().evaluate(prepared, sample)
        noise = np.random.default_rng(sample.key.sample).normal()
        return {"levels": np.array([1.0 + 0.01 * (1.0 + sample.key.temperature / 300.0) * noise])}


@dataclass(frozen=True, kw_only=True)
class OtherLevelsStage(LevelsStage):
    """The same under another name."""

    name: ClassVar = "other_levels"


@dataclass(frozen=True, kw_only=True)
class DyingStage(LevelsStage):
    """The same, but one sample kills its process: always, or until a file is there."""

    name: ClassVar = "dying"

    kills: int = -1
    mark: str = ""

    def evaluate(self, prepared, sample):
        if sample.key.sample == self.kills and not (self.mark and Path(self.mark).exists()):
            if self.mark:
                Path(self.mark).touch()
            time.sleep(0.3)  # the scheduler shall know who has begun what
            os.kill(os.getpid(), signal.SIGKILL)
        return super().evaluate(prepared, sample)


def levels(hamiltonian, overlap):
    import scipy.linalg

    gamma = np.zeros(3)
    return scipy.linalg.eigh(
        hamiltonian.dense(gamma).real, overlap.dense(gamma).real, eigvals_only=True
    )
