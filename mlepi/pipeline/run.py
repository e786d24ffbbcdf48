"""A run: what all stages share, and the records of the stages before."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlepi.errors import DataError, message
from mlepi.physics.averages.statistics import SampleDesign
from mlepi.physics.vibrations.normal_modes import compute_modes
from mlepi.physics.vibrations.samplers import MonteCarlo, Sampler
from mlepi.physics.vibrations.thermal import HarmonicEnsemble
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.sources import (
    BatchedElectronModel,
    ElectronModel,
    Source,
    load_calculator,
    load_electron,
)
from mlepi.results import (
    HamiltonianRecord,
    PhononRecord,
    ResultsStore,
    SamplingRecord,
    read_hamiltonian,
)

if TYPE_CHECKING:
    import numpy as np
    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import NDArray

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.stage import SampledStage, SampleKey, Stage


@dataclass
class Run:
    """The settings at the top of ``conf/infer.yaml``, the store, and what is loaded when it is first needed.

    Attributes:
        store: records of this run folder.
        stages: all stages by name.
        temperatures: K.
        n_samples: snapshots per temperature.
        seed: of the ensemble.
        supercell: cells along each lattice vector.
        sampler: how snapshots are chosen.
        structure: file or builder.
        phonon: checkpoint or calculator.
        electron: checkpoint or model.
        overlap: files with the overlaps of the orbitals, instead of the checkpoint's own table.
        dtype: arithmetic of the electron network; forces are always computed in float64.
        device: of the networks in this process.
        batch_size: samples that the electron network sees at once; None takes 1 on a processor and
            more on a GPU.
        prefetch: predict the next samples in a thread while one is diagonalised; None does so with
            a GPU only.
        compiled: run the kernels of the networks compiled.
        tf32: let a GPU round the factors of float32 products.
        config: the resolved config, for provenance.
        warnings: texts that a stage wants the user to see; the runner shows them when the stage is
            done.
        line: where a stage tells its progress.
    """

    store: ResultsStore
    stages: Mapping[str, Stage | SampledStage]
    temperatures: tuple[float, ...]
    n_samples: int
    seed: int
    supercell: tuple[int, int, int]
    structure: Source
    phonon: Source
    electron: Source
    sampler: Sampler = field(default_factory=MonteCarlo)
    overlap: tuple[Path, ...] = ()
    dtype: str = "float32"
    device: str = "cpu"
    batch_size: int | None = None
    prefetch: bool | None = None
    compiled: bool = False
    tf32: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    line: StageLine = field(default_factory=lambda: StageLine(None, ""), repr=False)
    _records: dict[str, tuple[str | None, Any]] = field(default_factory=dict, repr=False)
    _ensembles: dict[tuple[str | None, str | None], HarmonicEnsemble] = field(
        default_factory=dict, repr=False
    )

    def read(self, stage: str) -> Any:
        """Return the record of an earlier stage.

        Raises:
            DataError: it has not run in this folder, or the file is damaged.
        """
        content = self.store.content(stage)
        if stage not in self._records or self._records[stage][0] != content:
            self._records[stage] = (content, self.store.read(stage, self.stages[stage].record))
        return self._records[stage][1]

    def content(self, stage: str) -> str:
        """Return the digest of the record of an earlier stage.

        Raises:
            DataError: it has not run in this folder.
        """
        content = self.store.content(stage)
        if content is None:
            raise DataError(
                message(
                    str(self.store.path),
                    f"no record {stage!r}",
                    "the record of an earlier stage",
                    f"Run stage={stage} first.",
                )
            )
        return content

    @contextmanager
    def limited_to(self, n_samples: int) -> Generator[None]:
        """Make the run look as if it had only its first samples."""
        whole, self.n_samples = self.n_samples, n_samples
        try:
            yield
        finally:
            self.n_samples = whole

    def equilibrium(self) -> tuple[Atoms, BlockMatrix, BlockMatrix]:
        """Return the undisplaced primitive cell with its Hamiltonian (eV) and overlap."""
        record: HamiltonianRecord = self.read("hamiltonian")
        return read_hamiltonian(self.store.folder / record.file)

    def ensemble(self) -> HarmonicEnsemble:
        """Return the thermal distribution that the sampling stage has settled."""
        phonon: PhononRecord = self.read("phonon")
        sampling: SamplingRecord = self.read("sampling")
        key = (self.store.content("phonon"), self.store.content("sampling"))
        if key not in self._ensembles:
            self._ensembles[key] = HarmonicEnsemble(
                compute_modes(phonon.build_force_constants()),
                tuple(sampling.temperatures),
                sampling.statistics,  # type: ignore[arg-type]
                sampling.imaginary,  # type: ignore[arg-type]
                sampling.floor_frequency,
                sampling.project_out,  # type: ignore[arg-type]
                self.device,
            )
        return self._ensembles[key]

    def displaced(self, key: SampleKey) -> Atoms:
        """Return one displaced supercell, atoms in the order of ``atoms.repeat(supercell)``."""
        phonon: PhononRecord = self.read("phonon")
        atoms = phonon.atoms.repeat(phonon.supercell)
        # one at a time: the last digits must not depend on the others
        atoms.positions += self.displacements(key.temperature, [key.sample])[0]
        return atoms

    def displacements(self, temperature: float, indices: Sequence[int]) -> NDArray[np.float64]:
        """Return the displacements of any snapshots, also beyond ``n_samples``.

        (n_samples, n_supercell, 3), Å.
        """
        return self.sampler.displacements(self.ensemble(), temperature, indices, self.seed)

    @property
    def design(self) -> SampleDesign:
        """How the samples belong together, for averages and error bars."""
        return self.sampler.design(self.ensemble(), self.n_samples)

    def predict(self, atoms: Atoms) -> tuple[BlockMatrix, BlockMatrix]:
        """Return Hamiltonian (eV) and overlap of a structure from the electron network."""
        return self.electron_model.hamiltonian(
            atoms, device=self.device, dtype=self.dtype
        ), self.electron_model.overlap(atoms)

    def predict_many(self, structures: Sequence[Atoms]) -> list[tuple[BlockMatrix, BlockMatrix]]:
        """Return Hamiltonian and overlap of several structures, in one evaluation where the model can."""
        model = self.electron_model
        if len(structures) < 2 or not isinstance(model, BatchedElectronModel):
            return [self.predict(atoms) for atoms in structures]
        hamiltonians = model.hamiltonians(structures, device=self.device, dtype=self.dtype)
        return list(zip(hamiltonians, model.overlaps(structures), strict=True))

    @property
    def on_gpu(self) -> bool:
        """Whether the networks run on a GPU."""
        return self.device.startswith("cuda")

    @cached_property
    def calculator(self) -> Calculator:
        """The ASE calculator of the phonon source: eV, eV/Å."""
        return load_calculator(self.phonon, self.device, self.compiled)

    @cached_property
    def electron_model(self) -> ElectronModel:
        """The electron network."""
        return load_electron(self.electron, self.overlap, self.compiled)
