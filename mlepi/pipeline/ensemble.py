"""The thermal ensemble of a run: the crystal at rest, its displaced supercells, H and S of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.bands.unfolding import AtomMap, cell_major_map, check_atom_map
from mlepi.physics.vibrations.samplers import Sampler
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.pipeline.ghosts import lowest_level

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.networks import Networks


GHOST_MARGIN = 1.0
"""eV, default of ``stage.hamiltonian.ghost_margin``: more than thermal motion moves levels."""


class SampleKey(NamedTuple):
    """Identity of one displaced supercell; it does not depend on how many others there are.

    Attributes:
        sample: number of the snapshot.
        temperature: K.
    """

    sample: int
    temperature: float


@dataclass(frozen=True)
class Sample:
    """One displaced supercell.

    Attributes:
        key: its identity.
        atoms: Å, in the order of ``Atoms.repeat``.
        hamiltonian: eV, with the level shift: what is to be diagonalised.
        overlap: of the same orbitals.
        plain: the Hamiltonian as it was predicted, where the level shift has changed it.
        ghosts: what ``count_ghosts`` finds below the ghost energy of the ensemble, once it has.
    """

    key: SampleKey
    atoms: Atoms
    hamiltonian: BlockMatrix
    overlap: BlockMatrix
    plain: BlockMatrix | None = None
    ghosts: NDArray[np.int64] | None = None

    @property
    def predicted(self) -> BlockMatrix:
        """The Hamiltonian without the level shift."""
        return self.hamiltonian if self.plain is None else self.plain


class Equilibrium(NamedTuple):
    """The undisplaced primitive cell.

    Attributes:
        atoms: Å.
        hamiltonian: eV, with the level shift.
        overlap: of the same orbitals.
    """

    atoms: Atoms
    hamiltonian: BlockMatrix
    overlap: BlockMatrix


@dataclass(frozen=True)
class Ensemble:
    """All that a stage may know of the samples and of the crystal that they surround.

    Attributes:
        equilibrium: the undisplaced primitive cell with H and S.
        primitive: the same cell as the phonons know it, with its masses; its repetition is
            displaced.
        distribution: harmonic, at the temperatures of the run.
        sampler: how snapshots are chosen.
        supercell: cells along each lattice vector.
        temperatures: K.
        n_samples: snapshots per temperature, those that are left out not counted.
        seed: of the ensemble.
        networks: of the run.
        folder: of the run, for the files of a stage.
        ghost_margin: eV; states further below all levels at rest than this are ghosts.
        left_out: snapshots that no average contains, by their numbers among all; samples are
            numbered without them.
        fewer: K → samples, of temperatures that have fewer than ``n_samples``, the first ones.
    """

    equilibrium: Equilibrium
    primitive: Atoms
    distribution: HarmonicEnsemble
    sampler: Sampler
    supercell: tuple[int, int, int]
    temperatures: tuple[float, ...]
    n_samples: int
    seed: int
    networks: Networks
    folder: Path
    ghost_margin: float = GHOST_MARGIN
    left_out: tuple[int, ...] = ()
    fewer: Mapping[float, int] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, ...]:
        """Samples of every temperature, (n_temperatures,)."""
        return tuple(
            min(self.n_samples, self.fewer.get(t, self.n_samples)) for t in self.temperatures
        )

    @property
    def device(self) -> str:
        """Where networks and eigenproblems run."""
        return self.networks.settings.device

    @cached_property
    def atom_map(self) -> AtomMap:
        """Atoms of the supercell by primitive atom and cell."""
        return cell_major_map(len(self.equilibrium.atoms), self.supercell)

    @cached_property
    def design(self) -> SampleDesign:
        """How the samples belong together, for averages and error bars."""
        whole = self.sampler.design(self.distribution, self.n_samples + len(self.left_out))
        uneven = min(self.counts) < self.n_samples
        if not self.left_out and not uneven:
            return whole
        kept = np.setdiff1d(np.arange(whole.n_samples), self.left_out)
        return SampleDesign(whole.groups[kept], whole.weights[kept], uneven)

    @cached_property
    def ghost_energy(self) -> float:
        """Energy below which a state is a ghost, eV."""
        return lowest_level(*self.equilibrium[1:]) - self.ghost_margin

    def first(self, counts: int | Sequence[int]) -> Ensemble:
        """Return the ensemble of the first samples alone, so many at every temperature."""
        if isinstance(counts, int):
            return replace(self, n_samples=counts)
        most = max(counts)
        fewer = {t: n for t, n in zip(self.temperatures, counts, strict=True) if n < most}
        return replace(self, n_samples=most, fewer=fewer)

    def without(self, left_out: Sequence[int]) -> Ensemble:
        """Return the ensemble that averages are taken over, the others numbered without gaps."""
        if not left_out:
            return self
        fewer = {t: n - sum(i < n for i in left_out) for t, n in self.fewer.items()}
        return replace(
            self,
            n_samples=self.n_samples - len(left_out),
            left_out=tuple(sorted(left_out)),
            fewer=fewer,
        )

    def sample_keys(self) -> list[SampleKey]:
        """Return all samples, in the order of snapshots and, within one, of temperatures."""
        counts = tuple(zip(self.temperatures, self.counts, strict=True))
        return [SampleKey(n, t) for n in range(self.n_samples) for t, most in counts if n < most]

    def displacements(self, temperature: float, indices: Sequence[int]) -> NDArray[np.float64]:
        """Return the displacements of any snapshots: (n_samples, n_supercell, 3), Å.

        Snapshots beyond ``n_samples`` are there too.
        """
        numbers = [self.snapshot(index) for index in indices]
        return self.sampler.displacements(self.distribution, temperature, numbers, self.seed)

    def snapshot(self, index: int) -> int:
        """Return the number of a snapshot among all, from that among those not left out."""
        for omitted in sorted(self.left_out):
            index += int(omitted <= index)
        return index

    def displaced(self, key: SampleKey) -> Atoms:
        """Return one displaced supercell, atoms in the order of ``atoms.repeat(supercell)``."""
        atoms = self.primitive.repeat(self.supercell)
        # one at a time: the last digits must not depend on the others
        atoms.positions += self.displacements(key.temperature, [key.sample])[0]
        return atoms

    def predict(self, keys: Sequence[SampleKey]) -> list[Sample]:
        """Predict H and S of several samples; each is what it would be without the others."""
        structures = [self.displaced(key) for key in keys]
        predicted = self.networks.predict_many(structures)
        return [
            self.build_sample(key, atoms, *matrices)
            for key, atoms, matrices in zip(keys, structures, predicted, strict=True)
        ]

    def build_sample(
        self, key: SampleKey, atoms: Atoms, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> Sample:
        """Apply the level shift of the run to a predicted Hamiltonian, eV."""
        shifted = self.networks.shift(atoms, hamiltonian, overlap)
        plain = None if shifted is hamiltonian else hamiltonian
        return Sample(key, atoms, shifted, overlap, plain)

    def check_atoms(self) -> None:
        """Refuse atoms in another order than that of ``Atoms.repeat``.

        Raises:
            StructureError: an atom of the first sample is not near its site.
        """
        atoms = self.equilibrium.atoms
        sample = self.displaced(SampleKey(0, self.temperatures[0]))
        cells = (atoms.cell.array, sample.cell.array)
        check_atom_map(self.atom_map, atoms.positions, cells[0], sample.positions, cells[1])
