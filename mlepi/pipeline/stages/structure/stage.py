"""The structure stage: the crystal at rest, as given or relaxed with the phonon network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, LBFGS
from numpy.typing import NDArray

from mlepi.errors import PhysicsError, message
from mlepi.pipeline.plain_stage import PlainStage
from mlepi.pipeline.progress import StageLine
from mlepi.pipeline.run import Run
from mlepi.pipeline.settings import Settings
from mlepi.pipeline.sources import load_structure
from mlepi.pipeline.stage import check_choice
from mlepi.pipeline.stages.structure.record import StructureRecord

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

RELAXATIONS = ("none", "positions", "positions_and_cell")
IN_PLANE = (1, 1, 0, 0, 0, 1)
"""Strains xx, yy, zz, yz, xz, xy that a layered cell with vacuum along z may follow."""

LARGE = 300
"""Atoms from which on a relaxation keeps no Hessian matrix, which would be too large to diagonalise
at every step."""
TOLD_EVERY = 30.0
"""s between two lines about a relaxation."""


@dataclass(frozen=True, kw_only=True)
class StructureStage(PlainStage):
    """Read or build the structure, and relax it if asked.

    Attributes:
        relax: "none", "positions", or "positions_and_cell" for the in-plane cell as well (z must be
            the stacking direction).
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
            inputs["phonon"] = settings.phonon.fingerprint()
        return inputs

    def compute(self, run: Run, line: StageLine) -> StructureRecord:
        """Return the structure with its layers.

        Raises:
            PhysicsError: the relaxation did not converge.
        """
        atoms = load_structure(run.settings.structure)
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
            watch=tell,
        )
        energy, max_force = float(atoms.get_potential_energy()), _largest_force(atoms)
        atoms.calc = None
        return StructureRecord(
            atoms,
            source,
            self.relax,
            n_steps,
            energy,
            max_force,
            spacings=measure_spacings(atoms),
            note=self.note,
        )

    def summarize(self, record: StructureRecord) -> str:
        """Say in a few words what was found."""
        n_layers = len(record.spacings) + 1
        spacings = (
            f" {'/'.join(f'{s:.3f}' for s in record.spacings)} Å apart" if n_layers > 1 else ""
        )
        relaxed = f"relaxed: {record.relaxation}"
        if record.max_force is not None:
            relaxed += f", {record.n_steps} steps, {record.max_force:.1e} eV/Å"
        note = f" ({record.note})" if record.note else ""
        return (
            f"{record.atoms.get_chemical_formula()}, {n_layers} "
            f"layer{'s' * (n_layers > 1)}{spacings}, {relaxed}{note}"
        )


def measure_spacings(atoms: Atoms) -> NDArray[np.float64]:
    """Measure the distances between the mean planes of neighbouring layers.

    Args:
        atoms: Å, with the layer of each atom, numbered from bottom to top along c.

    Returns:
        (n_layers − 1,), Å, along the normal of the plane of a and b.
    """
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    period = float(atoms.cell[2] @ normal / np.linalg.norm(normal))
    heights = atoms.positions @ normal / np.linalg.norm(normal)
    layer = atoms.arrays["layer"]
    planes = []
    for number in range(int(layer.max()) + 1):
        own = heights[layer == number]
        # atoms of one layer may be stored in different periods of c
        planes.append(own[0] + np.mean(own - own[0] - period * np.rint((own - own[0]) / period)))
    return np.mod(np.diff(planes), period)


def relax_structure(
    atoms: Atoms,
    calculator: Calculator,
    *,
    in_plane_cell: bool,
    max_force: float,
    max_steps: int,
    watch: Callable[[int, float], None] | None = None,
) -> int:
    """Relax a structure in place, by BFGS, or by LBFGS where there are many atoms.

    Args:
        atoms: Å; gets the calculator.
        calculator: energies, forces and, for the cell, stress.
        in_plane_cell: let the cell follow in-plane strains.
        max_force: eV/Å.
        max_steps: of the optimiser.
        watch: called at every step with its number and the largest force, eV/Å.

    Returns:
        Number of steps taken.

    Raises:
        PhysicsError: not converged within ``max_steps``.
    """
    atoms.calc = calculator
    target: Any = FrechetCellFilter(atoms, mask=IN_PLANE) if in_plane_cell else atoms
    method: Any = LBFGS if len(atoms) >= LARGE else BFGS
    optimizer = method(target, logfile=None)
    if watch is not None:
        optimizer.attach(lambda: watch(optimizer.nsteps, _largest_force(atoms)))
    if not optimizer.run(fmax=max_force, steps=max_steps):
        raise PhysicsError(
            message(
                "relaxation",
                f"{_largest_force(atoms):.1e} eV/Å after {max_steps} steps",
                f"at most {max_force:.1e} eV/Å",
                "Raise stage.structure.max_steps or max_force, or start from a better structure.",
            )
        )
    return int(optimizer.nsteps)


def _largest_force(atoms: Atoms) -> float:
    """Return the largest force on an atom by the atoms' calculator, eV/Å."""
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())
