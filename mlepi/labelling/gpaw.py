"""GPAW with atomic orbitals, in its own Python: under the GPL, it is never imported here.

Its S is that of projector-augmented waves, which a third atom changes: there is no table of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.labelling.program_code import check_positive
from mlepi.labelling.python_code import PythonCode
from mlepi.units import BOLTZMANN

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
