"""The structure stage: the crystal at rest, as given or relaxed with the phonon network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.sources import load_structure
from mlepi.pipeline.stage import check_choice
from mlepi.pipeline.stages.structure.record import StructureRecord, format_layer_forces
from mlepi.pipeline.stages.structure.relaxation import (
    measure_forces,
    measure_spacings,
    relax_structure,
)

RELAXATIONS = ("none", "positions", "positions_and_cell")
TOLD_EVERY = 60.0
"""s between two lines about a relaxation."""


@dataclass(frozen=True, kw_only=True)
class StructureStage(PlainStage):
    """Read or build the structure, and relax it if asked.

    Attributes:
        relax: "none", "positions", or "positions_and_cell" for the in-plane cell as well (z must be
            the stacking direction).
        hold_layers: keep the mean height of every layer while all else relaxes, so that spacings
            stay as they were built; what this holds back is recorded.
        max_force: eV/Å (and eV per unit strain), at which a relaxation is done.
        max_steps: of the relaxation.
        note: why this structure, for the record and the report.

    Raises:
        ConfigError: an unknown relaxation.
    """

    name: ClassVar[str] = "structure"
    requires: ClassVar[tuple[str, ...]] = ()
    record: ClassVar[type] = StructureRecord

    relax: Literal["none", "positions", "positions_and_cell"] = "none"
    hold_layers: bool = False
    max_force: float = 1e-3
    max_steps: int = 500
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse an unknown relaxation."""
        check_choice("stage.structure.relax", self.relax, RELAXATIONS)

    def sources(self) -> set[str]:
        """Return what it cannot do without: a relaxation needs forces."""
        return {"structure"} if self.relax == "none" else {"structure", "phonon"}

    def inputs(self, settings: Settings) -> dict[str, Any]:
        """Return the structure's source and, for a relaxation, its settings and the network."""
        structure = settings.structure.fingerprint()
        inputs: dict[str, Any] = {"structure": structure, "relax": self.relax, "note": self.note}
        if self.relax != "none":
            inputs |= {"max_force": self.max_force, "max_steps": self.max_steps}
            if self.hold_layers:  # records from before this setting stay what they are
                inputs["hold_layers"] = True
            inputs |= settings.describe_phonon()
        return inputs

    def compute(self, run: Run, line: StageLine) -> StructureRecord:
        """Return the structure with its layers.

        Raises:
            PhysicsError: the relaxation did not converge.
        """
        atoms = load_structure(run.settings.structure, run.settings.check_units)
        source = run.settings.structure.describe()
        if self.relax == "none":
            return StructureRecord(atoms, source, spacings=measure_spacings(atoms), note=self.note)
        told = time.monotonic()

        def tell(step: int, force: float) -> None:
            nonlocal told
            if time.monotonic() - told > TOLD_EVERY:
                told = time.monotonic()
                line.tell(
                    f"step {step} of at most {self.max_steps}, largest force {force:.1e} of "
                    f"{self.max_force:.0e} eV/Å"
                )

        n_steps = relax_structure(
            atoms,
            run.networks.calculator,
            in_plane_cell=self.relax == "positions_and_cell",
            max_force=self.max_force,
            max_steps=self.max_steps,
            hold_layers=self.hold_layers,
            watch=tell,
        )
        energy, left = float(atoms.get_potential_energy()), measure_forces(atoms)
        atoms.calc = None
        return StructureRecord(
            atoms,
            source,
            self.relax,
            n_steps,
            energy,
            left.max_force,
            spacings=measure_spacings(atoms),
            note=self.note,
            held_layers=self.hold_layers,
            residual_force=left.residual_force if self.hold_layers else left.max_force,
            layer_forces=left.layer_forces,
            in_plane_stress=left.in_plane_stress,
        )

    def summarize(self, record: StructureRecord) -> str:
        """Say in a few words what was found."""
        n_layers = len(record.spacings) + 1
        spacings = (
            f" {'/'.join(f'{s:.3f}' for s in record.spacings)} Å apart" if n_layers > 1 else ""
        )
        relaxed = f"relaxed: {record.relaxation}"
        if record.residual_force is not None:
            relaxed += f", {record.n_steps} steps, {record.residual_force:.1e} eV/Å left"
        elif record.max_force is not None:
            relaxed += f", {record.n_steps} steps, {record.max_force:.1e} eV/Å"
        if record.held_layers:
            relaxed += f", layers held against {format_layer_forces(record)} eV/Å per atom"
        note = f" ({record.note})" if record.note else ""
        return (
            f"{record.atoms.get_chemical_formula()}, {n_layers} "
            f"layer{'s' * (n_layers > 1)}{spacings}, {relaxed}{note}"
        )
