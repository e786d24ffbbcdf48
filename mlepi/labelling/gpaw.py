"""GPAW with atomic orbitals, in its own Python: under the GPL, it is never imported here.

Its S is that of projector-augmented waves, which a third atom changes: the table of a set holds
orbitals and projectors, whose overlaps are two-centre.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.labelling.program_code import check_positive
from mlepi.labelling.python_code import PythonCode
from mlepi.structures import OrbitalBasis, programs
from mlepi.structures.child_process import run_program
from mlepi.units import BOLTZMANN

if TYPE_CHECKING:
    from mlepi.physics.overlaps import AugmentedOverlapTable

ORBITALS = Path(programs.__file__).with_name("gpaw_orbitals.py")
"""Tells orbitals and projectors, in GPAW's Python."""

MULTIPLE = 4
"""Of the numbers of grid points, for the grids on which GPAW solves Poisson's equation."""


class Gpaw(PythonCode):
    """GPAW in mode lcao.

    Args:
        python: of GPAW's environment; see ``PythonCode``, likewise all that are not here.
        hours: h.
        basis: of all elements or chemical symbol → basis, such as dzp or sz(dzp).
        functional: xc.
        grid_spacing: Å; grids have as many points in every cell of a multiple of its length.
        electronic_temperature: K.
        criterion: of the density, electrons per valence electron.
        largest_band_error: eV, between bands of H(R), S(R) beside the mesh and GPAW's own.
        k_spacing: 1/Å.
        vacuum: Å.
        steps: at most.
        mixing: 0 to 1.
    """

    package = "gpaw"
    install = "In an environment of its own: pip install gpaw (docs/label.md)."

    def __init__(
        self,
        *,
        python: str,
        hours: float,
        basis: str | Mapping[str, str],
        functional: str,
        grid_spacing: float,
        electronic_temperature: float,
        criterion: float,
        largest_band_error: float,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
    ) -> None:
        super().__init__(
            python=python,
            hours=hours,
            k_spacing=k_spacing,
            vacuum=vacuum,
            steps=steps,
            mixing=mixing,
            largest_band_error=largest_band_error,
        )
        check_positive(
            grid_spacing=grid_spacing,
            electronic_temperature=electronic_temperature,
            criterion=criterion,
        )
        self._grid_spacing = grid_spacing
        self._settings: dict[str, Any] = {
            "basis": basis if isinstance(basis, str) else dict(basis),
            "functional": functional,
            "electronic_temperature": electronic_temperature,
            "criterion": criterion,
        }

    def choose_grid(self, atoms: Atoms) -> tuple[int, int, int]:
        """Return the grid points along the lattice vectors: a multiple of four along each.

        A cell m times as long as one of n points has m·n, if its length is a multiple of four
        spacings: a spacing that divides the cell by a multiple of four gives all cells one grid.
        """
        lengths = 1.0 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)
        a, b, c = (
            MULTIPLE * max(1, math.ceil(length / (MULTIPLE * self._grid_spacing) - 1e-6))
            for length in lengths
        )
        return a, b, c

    def tabulate_overlaps(self, basis: OrbitalBasis) -> AugmentedOverlapTable:
        """Return the overlaps of GPAW's orbitals and projectors, which it is asked for.

        Args:
            basis: of the labelled structures.

        Raises:
            DataError: it does not tell them.
        """
        from mlepi.physics.overlaps import read_augmented_orbitals

        given = {
            "symbols": [chemical_symbols[z] for z in basis.elements],
            "basis": self._settings["basis"],
            "functional": self._settings["functional"],
        }
        with tempfile.TemporaryDirectory(prefix="mlepi_gpaw_") as folder:
            source = Path(folder) / "input.json"
            source.write_text(json.dumps(given), encoding="utf-8")
            fix = f"Try it by hand: {' '.join(self._python)} {ORBITALS} INPUT FOLDER."
            run_program("dft=gpaw", [*self._python, ORBITALS, source, folder], fix)
            return read_augmented_orbitals(Path(folder) / "orbitals.json")

    def choose_noise_shift(self, atoms: Atoms) -> NDArray[np.float64] | None:
        """Return half a grid spacing along every lattice vector."""
        steps = atoms.cell.array / np.array(self.choose_grid(atoms))[:, None]
        shift: NDArray[np.float64] = 0.5 * steps.sum(axis=0)
        return shift

    def _describe(self) -> dict[str, Any]:
        return {**self._settings, "grid_spacing": self._grid_spacing}

    def _choose(self, atoms: Atoms) -> dict[str, Any]:
        width = BOLTZMANN * self._settings["electronic_temperature"]
        return {
            "basis": self._settings["basis"],
            "functional": self._settings["functional"],
            "criterion": self._settings["criterion"],
            "grid": list(self.choose_grid(atoms)),
            "width": width,
        }
