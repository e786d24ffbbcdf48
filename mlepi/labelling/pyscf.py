"""PySCF: Gaussian orbitals and pseudopotentials of Goedecker, Teter and Hutter, for small cells.

H(R) and S(R) are those of the mesh of k-points: what does not fit into the supercell that the mesh
stands for is folded into it. PySCF's own bands beside the mesh measure that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.labelling.program_code import check_positive
from mlepi.labelling.python_code import PythonCode
from mlepi.structures.k_density import shift_half_grid
from mlepi.units import BOLTZMANN, HARTREE


class Pyscf(PythonCode):
    """PySCF's Kohn–Sham for crystals.

    Args:
        python: that has PySCF; None: this one. See ``PythonCode``, likewise what is not here.
        hours: h.
        basis: of all elements or chemical symbol → basis set, such as gth-dzvp-molopt-sr.
        potential: likewise of the pseudopotential, such as gth-pbe.
        functional: xc.
        cutoff: of the grid, Ry.
        electronic_temperature: K.
        criterion: of the energy, Hartree.
        largest_band_error: eV, between bands of H(R), S(R) beside the mesh and PySCF's own.
        k_spacing: 1/Å.
        vacuum: Å.
        steps: at most.
        mixing: 0 to 1.
    """

    package = "pyscf"
    install = "pip install 'mlepi[pyscf]', or name a Python that has it."

    def __init__(
        self,
        *,
        python: str | None,
        hours: float,
        basis: str | Mapping[str, str],
        potential: str | Mapping[str, str],
        functional: str,
        cutoff: float,
        electronic_temperature: float,
        criterion: float,
        largest_band_error: float,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
    ) -> None:
        super().__init__(
            python=python or sys.executable,
            hours=hours,
            k_spacing=k_spacing,
            vacuum=vacuum,
            steps=steps,
            mixing=mixing,
            largest_band_error=largest_band_error,
        )
        check_positive(
            cutoff=cutoff, electronic_temperature=electronic_temperature, criterion=criterion
        )
        self._settings: dict[str, Any] = {
            "basis": basis if isinstance(basis, str) else dict(basis),
            "potential": potential if isinstance(potential, str) else dict(potential),
            "functional": functional,
            "cutoff": cutoff,
            "electronic_temperature": electronic_temperature,
            "criterion": criterion,
        }

    def choose_noise_shift(self, atoms: Atoms) -> NDArray[np.float64] | None:
        """Return half a grid spacing along every lattice vector."""
        return shift_half_grid(atoms, self._settings["cutoff"])

    def _describe(self) -> dict[str, Any]:
        return dict(self._settings)

    def _choose(self, atoms: Atoms) -> dict[str, Any]:
        settings = dict(self._settings)
        settings["cutoff"] /= 2.0  # Hartree
        settings["width"] = BOLTZMANN * settings.pop("electronic_temperature") / HARTREE
        return settings
