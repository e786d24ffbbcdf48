"""OpenMX: numerical atomic orbitals, H and S of its ``.scfout``, energy and forces of its ``.out``.

OpenMX ends in the same way whether or not it has converged: the table of the steps of
self-consistency in its ``.out`` tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mlepi.errors import ConfigError, DataError, NotConvergedError, message
from mlepi.labelling.code import Calculation
from mlepi.labelling.job import INPUT
from mlepi.labelling.program_code import ProgramCode, check_positive, require_file
from mlepi.labelling.returned import return_labels
from mlepi.structures import LabelledStructure, OpenmxSettings, read_openmx
from mlepi.structures.k_density import choose_even_mesh, shift_half_grid
from mlepi.structures.openmx_input import build_openmx_input
from mlepi.untrusted import read_text

NAME = "label"
"""System.Name: the beginning of the names of files that OpenMX writes."""
GRID_ORIGIN = "scf.fixed.grid"
"""Keyword: where the real-space grid begins."""


class Openmx(ProgramCode):
    """OpenMX 3.9 or 4.0.

    Args:
        command: see ``ProgramCode``, likewise all that are not here.
        hours: h.
        data_folder: DATA.PATH, with PAO and VPS; None leaves it to OpenMX.
        bases: chemical symbol → orbitals, such as B7.0-s2p2d1.
        valence_electrons: chemical symbol → electrons of the pseudopotential.
        pseudopotentials: chemical symbol → name, such as B_PBE19; None: those of 2019.
        functional: scf.XcType.
        grid_cutoff: of the real-space grid, Ry.
        electronic_temperature: K.
        criterion: of self-consistency, Hartree.
        dispersion: add Grimme's D2 to energy and forces.
        k_spacing: 1/Å.
        vacuum: Å.
        steps: at most.
        mixing: 0 to 1.
        keywords: further ones, keyword → value.
    """

    title = "OpenMX"
    version = r"performed by OpenMX Ver\. (\S+)"
    arguments = (INPUT,)

    def __init__(
        self,
        *,
        command: str,
        hours: float,
        data_folder: str | None,
        bases: Mapping[str, str],
        valence_electrons: Mapping[str, float],
        pseudopotentials: Mapping[str, str] | None,
        functional: str,
        grid_cutoff: float,
        electronic_temperature: float,
        criterion: float,
        dispersion: bool,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
        keywords: Mapping[str, str | int | float],
    ) -> None:
        super().__init__(
            command=command,
            hours=hours,
            k_spacing=k_spacing,
            vacuum=vacuum,
            steps=steps,
            mixing=mixing,
        )
        check_positive(
            grid_cutoff=grid_cutoff,
            electronic_temperature=electronic_temperature,
            criterion=criterion,
        )
        self._data_folder, self._keywords = data_folder, dict(keywords)
        names = {atomic_numbers.get(symbol, 0): name for symbol, name in bases.items()}
        electrons = {atomic_numbers.get(s, 0): float(n) for s, n in valence_electrons.items()}
        settings = OpenmxSettings(
            bases=names,
            pseudopotentials=None
            if pseudopotentials is None
            else {atomic_numbers.get(s, 0): name for s, name in pseudopotentials.items()},
            valence_electrons=electrons,
            functional=functional,
            grid_cutoff=grid_cutoff,
            electronic_temperature=electronic_temperature,
            criterion=criterion,
            dispersion=dispersion,
            primitive_kgrid=(1, 1, 1),
        )
        complete = settings.complete({}, {})
        if not names or 0 in names or complete is None:
            got = f"bases {dict(bases)} with functional {functional}"
            fix = "Name orbitals, electrons and, of other functionals, dft.pseudopotentials."
            expected = "orbitals of every element, such as {B: B7.0-s2p2d1}"
            raise ConfigError(message("dft.bases", got, expected, fix))
        self._settings = complete

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return the input of a structure.

        Raises:
            StructureError: it has an element without a basis, or no cell.
        """
        steps, mixing = self.soften(attempt)
        data = {"DATA.PATH": self._data_folder} if self._data_folder else {}
        further: dict[str, object] = {
            **data,
            "scf.maxIter": steps,
            "scf.Init.Mixing.Weight": f"{mixing:g}",
            "scf.Max.Mixing.Weight": f"{mixing:g}",
            **self._keywords,
        }
        return build_openmx_input(NAME, atoms, self._settings, self.choose_mesh(atoms), further)

    def choose_mesh(self, atoms: Atoms) -> tuple[int, int, int]:
        """Return even divisions: those of OpenMX lie beside Γ then, in every cell."""
        return choose_even_mesh(atoms, self._k_spacing, self._vacuum)

    def choose_noise_shift(self, atoms: Atoms) -> NDArray[np.float64] | None:
        """Return half a spacing of the real-space grid where the grid stays, else None.

        Unless scf.fixed.grid is among the keywords, the grid of OpenMX follows the mean position
        of the atoms: a shift of all of them changes nothing and tells nothing.
        """
        if GRID_ORIGIN not in {keyword.lower() for keyword in self._keywords}:
            return None
        return shift_half_grid(atoms, self._settings.grid_cutoff)

    def _describe(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "basis": {str(z): name for z, name in (settings.bases or {}).items()},
            "potential": {str(z): name for z, name in (settings.pseudopotentials or {}).items()},
            "functional": settings.functional,
            "dispersion": "D2" if settings.dispersion else None,
            "cutoff": settings.grid_cutoff,
            "electronic_temperature": settings.electronic_temperature,
            "criterion": settings.criterion,
            "keywords": {key: str(value) for key, value in self._keywords.items()},
        }

    def _version_files(self, folder: Path) -> list[Path]:
        return [folder / f"{NAME}.out"]

    def _read(self, calculation: Calculation) -> LabelledStructure:
        out = require_file(calculation.folder / f"{NAME}.out", self.title)
        check_convergence(out, self._settings.criterion)
        scfout = require_file(calculation.folder / f"{NAME}.scfout", self.title)
        return return_labels(read_openmx(scfout, out, calculation.name), calculation.atoms)


def check_convergence(path: Path, criterion: float) -> None:
    """Refuse a run whose last two energies of occupied states differ by more than its criterion.

    OpenMX compares the change of Uele, Hartree, with scf.criterion.

    Args:
        path: ``.out``.
        criterion: Hartree.

    Raises:
        NotConvergedError: they do.
        DataError: the file tells nothing of the steps.
    """
    found = re.findall(r"SCF=\s*\d+\s+NormRD=\s*\S+\s+Uele=\s*(\S+)", read_text(path))
    try:
        energies = [float(word) for word in found]
    except ValueError:
        energies = []
    if len(energies) < 2:
        got, fix = f"{len(energies)} steps of self-consistency", "OpenMX has broken off."
        raise DataError(message(str(path), got, "the table of a finished run", fix))
    change = abs(energies[-1] - energies[-2])
    if not change <= criterion:
        got = f"a last change of {change:.2g} Hartree in step {len(energies)}"
        fix = "Raise dft.steps or lower dft.mixing; look at the distances of the atoms."
        raise NotConvergedError(message(str(path), got, f"at most {criterion:g}", fix))
