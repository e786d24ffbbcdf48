"""The equilibrium structure of a run: as given, or relaxed with the phonon network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.pipeline.sources import load_structure
from mlepi.results import StructureRecord

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

    from mlepi.pipeline.run import Run

RELAXATIONS = ("none", "positions", "positions_and_cell")
IN_PLANE = (1, 1, 0, 0, 0, 1)
"""Strains xx, yy, zz, yz, xz, xy that a layered cell with vacuum along z may follow."""


class StructureStage:
    """Read or build the structure, and relax it if asked.

    Args:
        relax: "none", "positions", or "positions_and_cell" for the in-plane cell as well (z must be the stacking direction).
        max_force: eV/Å (and eV per unit strain), at which a relaxation is done.
        max_steps: of the relaxation.
    """

    name: ClassVar[str] = "structure"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ()
    record: ClassVar[type] = StructureRecord

    def __init__(
        self,
        *,
        relax: Literal["none", "positions", "positions_and_cell"] = "none",
        max_force: float = 1e-3,
        max_steps: int = 500,
    ) -> None:
        if relax not in RELAXATIONS:
            raise ConfigError(message("stage.structure.relax", repr(relax), f"one of {list(RELAXATIONS)}", "Choose one of them."))
        self.relax = relax
        self.max_force = max_force
        self.max_steps = max_steps

    def inputs(self, run: Run) -> Mapping[str, Any]:
        """Return the structure's source and, for a relaxation, its settings and the network."""
        inputs: dict[str, Any] = {"structure": run.structure.fingerprint(), "relax": self.relax}
        if self.relax != "none":
            inputs |= {"max_force": self.max_force, "max_steps": self.max_steps, "phonon": run.phonon.fingerprint()}
        return inputs

    def compute(self, run: Run) -> StructureRecord:
        """Return the structure with its layers.

        Raises:
            PhysicsError: the relaxation did not converge.
        """
        atoms = load_structure(run.structure)
        source = run.structure.describe()
        if self.relax == "none":
            return StructureRecord(atoms, source)
        n_steps = relax_structure(
            atoms,
            run.calculator,
            in_plane_cell=self.relax == "positions_and_cell",
            max_force=self.max_force,
            max_steps=self.max_steps,
        )
        energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
        atoms.calc = None
        return StructureRecord(atoms, source, self.relax, n_steps, energy, float(np.linalg.norm(forces, axis=1).max()))

    def summarize(self, record: StructureRecord) -> str:
        """Say in a few words what was found."""
        n_layers = len(set(record.atoms.arrays["layer"].tolist()))
        text = f"{record.atoms.get_chemical_formula()}, {n_layers} layer{'s' * (n_layers > 1)}, relaxed: {record.relaxation}"
        return text if record.max_force is None else f"{text}, {record.n_steps} steps, {record.max_force:.1e} eV/Å"


def relax_structure(atoms: Atoms, calculator: Calculator, *, in_plane_cell: bool, max_force: float, max_steps: int) -> int:
    """Relax a structure in place.

    Args:
        atoms: Å; gets the calculator.
        calculator: energies, forces and, for the cell, stress.
        in_plane_cell: let the cell follow in-plane strains.
        max_force: eV/Å.
        max_steps: of BFGS.

    Returns:
        Number of steps taken.

    Raises:
        PhysicsError: not converged within ``max_steps``.
    """
    atoms.calc = calculator
    target: Any = FrechetCellFilter(atoms, mask=IN_PLANE) if in_plane_cell else atoms
    optimizer = BFGS(target, logfile=None)
    if not optimizer.run(fmax=max_force, steps=max_steps):
        force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        raise PhysicsError(
            message(
                "relaxation",
                f"{force:.1e} eV/Å after {max_steps} steps",
                f"at most {max_force:.1e} eV/Å",
                "Raise stage.structure.max_steps or max_force, or start from a better structure.",
            )
        )
    return int(optimizer.nsteps)
