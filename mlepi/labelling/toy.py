"""The tight binding and the springs of graphene layers in the place of DFT: the loop in seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ase import Atoms

from mlepi.errors import ConfigError, NotConvergedError, message
from mlepi.labelling.code import Calculation, Code, InterruptedCalculationError
from mlepi.reference_systems.generate import label_structure
from mlepi.reference_systems.springs import HoneycombSprings
from mlepi.reference_systems.tight_binding import TightBinding
from mlepi.structures import LabelledStructure, OrbitalBasis

if TYPE_CHECKING:
    from mlepi.physics.overlaps import OverlapTable


class Fake(Code):
    """Labels of the reference system, of carbon only.

    Args:
        orbitals: "s" or "sp".
        orthogonal: no overlap between atoms.
        seconds: that a calculation takes at least.
        fails: parts of the names of structures that fail at every attempt.
        fails_once: parts of the names of structures that fail at the first.

    Raises:
        ConfigError: the orbital set is unknown, or ``seconds`` is negative.
    """

    def __init__(
        self,
        *,
        orbitals: str,
        orthogonal: bool,
        seconds: float,
        fails: Sequence[str],
        fails_once: Sequence[str],
    ) -> None:
        if not seconds >= 0.0:
            fix = "Set dft.seconds=0."
            raise ConfigError(message("dft.seconds", f"{seconds}", "a number of seconds", fix))
        self._model = TightBinding(orbitals=orbitals, orthogonal=orthogonal)
        self._orthogonal, self._seconds = orthogonal, seconds
        self._fails, self._fails_once = tuple(fails), tuple(fails_once)

    def find_version(self) -> str:
        """Return what computes."""
        return "mlepi.reference_systems"

    def describe(self) -> dict[str, Any]:
        """Return the orbitals."""
        return {
            "model": "tight binding and springs of graphene layers",
            "orbitals": self._model.orbitals,
            "overlap": "none" if self._orthogonal else "between first neighbours",
        }

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return the structure as JSON.

        Raises:
            StructureError: an atom is not carbon, or atoms are too close.
        """
        self._model.find_edges(atoms)
        content = {"cell": atoms.cell.tolist(), "positions": atoms.positions.tolist()}
        return json.dumps({**content, "attempt": attempt})

    def compute(self, calculation: Calculation) -> LabelledStructure:
        """Label a structure, or fail as was asked for."""
        if calculation.stop.wait(self._seconds):
            raise InterruptedCalculationError(calculation.name)
        (calculation.folder / "output.txt").write_text(f"{time.ctime()}\n", encoding="utf-8")
        bad = self._fails if calculation.attempt > 1 else (*self._fails, *self._fails_once)
        if any(part in calculation.name for part in bad):
            fix = "Take another structure."
            got = "a calculation that was asked to fail"
            raise NotConvergedError(message(calculation.name, got, "self-consistency", fix))
        springs = (
            HoneycombSprings()
        )  # calculators keep their last structure, threads must not share
        return label_structure(calculation.name, calculation.atoms, self._model, springs)

    def tabulate_overlaps(self, basis: OrbitalBasis) -> OverlapTable | None:
        """Return the overlaps of the model."""
        return self._model.overlap_table()
