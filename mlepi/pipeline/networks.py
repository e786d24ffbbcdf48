"""The two networks of a run, loaded when they are first needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlepi.graphs.shifted_matrix import shift_hamiltonian
from mlepi.physics.eigenstates.level_shift import LevelShift
from mlepi.pipeline.sources import (
    BatchedElectronModel,
    ElectronModel,
    Source,
    load_calculator,
    load_electron,
)
from mlepi.results import check_unchanged
from mlepi.results.source_code import modules_of

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.settings import Settings


@dataclass(frozen=True)
class Networks:
    """Forces, and H and S, of any structure.

    Attributes:
        settings: where the networks come from, on which device and in which arithmetic they run.
        own_calculator: serves in place of the phonon source.
        own_electron: serves in place of the electron source.
    """

    settings: Settings
    own_calculator: Calculator | None = None
    own_electron: ElectronModel | None = None

    @cached_property
    def calculator(self) -> Calculator:
        """The ASE calculator of the phonon source: eV, eV/Å."""
        if self.own_calculator is not None:
            return self.own_calculator
        settings = self.settings
        return load_calculator(
            settings.phonon, settings.device, settings.compiled, settings.radial_tables
        )

    @cached_property
    def electron(self) -> ElectronModel:
        """The electron network."""
        if self.own_electron is not None:
            return self.own_electron
        return self._load_electron(self.settings.electron)

    @cached_property
    def electron_members(self) -> tuple[ElectronModel, ...]:
        """Every electron network that the run was given, also where the first one drives."""
        model, settings = self.electron, self.settings
        if self.own_electron is not None or not settings.electron.is_committee:
            return (model,)
        further = (self._load_electron(member) for member in settings.electron.members[1:])
        return getattr(model, "members", None) or (model, *further)

    def _load_electron(self, source: Source) -> ElectronModel:
        """Load a model, with overlaps that are those whose digests are recorded."""
        digests, settings = self.settings.overlap_digests, self.settings
        model = load_electron(source, settings.overlap, settings.compiled, settings.overlap_program)
        check_unchanged(digests)
        return model

    @cached_property
    def phonon_members(self) -> tuple[Calculator, ...]:
        """The calculator of every phonon network that the run was given."""
        calculator, settings = self.calculator, self.settings
        if self.own_calculator is not None or not settings.phonon.is_committee:
            return (calculator,)
        further = (
            load_calculator(member, settings.device, settings.compiled, settings.radial_tables)
            for member in settings.phonon.members[1:]
        )
        return getattr(calculator, "members", None) or (calculator, *further)

    @cached_property
    def level_shift(self) -> LevelShift | None:
        """The level shift of this run; that of the checkpoint unless the settings say another."""
        chosen = self.settings.level_shift
        if chosen == "auto":
            own: LevelShift | None = getattr(self.electron, "level_shift", None)
            return own
        return chosen if isinstance(chosen, LevelShift) else None

    def describe_shift(self) -> dict[str, Any]:
        """Return what of the level shift decides results, as plain data; nothing without one."""
        shift = self.level_shift
        return {} if shift is None else {"level_shift": shift.to_dict()}

    def shift(self, atoms: Atoms, hamiltonian: BlockMatrix, overlap: BlockMatrix) -> BlockMatrix:
        """Return the Hamiltonian that is to be diagonalised, eV: with the level shift of the run.

        It is the given one, the same object, without a shift.
        """
        device = self.settings.device
        return shift_hamiltonian(atoms, hamiltonian, overlap, self.level_shift, device)

    def predict_shifted(self, atoms: Atoms) -> tuple[BlockMatrix, BlockMatrix]:
        """Return Hamiltonian (eV) with the level shift, and overlap of a structure."""
        hamiltonian, overlap = self.predict(atoms)
        return self.shift(atoms, hamiltonian, overlap), overlap

    def shifted_electron(self, step: float) -> ElectronModel:
        """Return the electron model with the level shift, for derivatives.

        Args:
            step: Å, of central differences where the model has no derivatives.
        """
        shift = self.level_shift
        if shift is None:
            return self.electron
        from mlepi.predictors.shifted import ShiftedModel

        return ShiftedModel(self.electron, shift, step)

    def predict(self, atoms: Atoms) -> tuple[BlockMatrix, BlockMatrix]:
        """Return Hamiltonian (eV), without the level shift, and overlap of a structure."""
        device, dtype = self.settings.device, self.settings.dtype
        hamiltonian = self.electron.hamiltonian(atoms, device=device, dtype=dtype)
        return hamiltonian, self.electron.overlap(atoms)

    def predict_many(self, structures: Sequence[Atoms]) -> list[tuple[BlockMatrix, BlockMatrix]]:
        """Return plain H (eV) and S of several structures, in one evaluation if the model can."""
        model = self.electron
        if len(structures) < 2 or not isinstance(model, BatchedElectronModel):
            return [self.predict(atoms) for atoms in structures]
        device, dtype = self.settings.device, self.settings.dtype
        hamiltonians = model.hamiltonians(structures, device=device, dtype=dtype)
        return list(zip(hamiltonians, model.overlaps(structures), strict=True))

    def modules(self, needed: Sequence[str]) -> set[str]:
        """Return the modules whose code makes the predictions.

        Args:
            needed: "phonon", "electron" or both.
        """
        makers: list[object] = []
        if "phonon" in needed:
            makers.append(self.calculator)
        if "electron" in needed:
            makers.append(self.electron)
        makers += [member for maker in makers for member in getattr(maker, "members", ())]
        return set().union(*map(modules_of, makers))
