"""SIESTA: numerical atomic orbitals, H and S of its ``.HSX``, forces of its ``.FA``.

Energies are those of its text: the free energy, whose derivatives the forces are.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, NotConvergedError, message
from mlepi.labelling.code import Calculation
from mlepi.labelling.job import INPUT
from mlepi.labelling.program_code import (
    OUTPUT,
    ProgramCode,
    check_positive,
    describe_files,
    find_element_files,
    require_file,
)
from mlepi.labelling.returned import return_labels
from mlepi.structures import LabelledStructure
from mlepi.structures.k_density import shift_half_grid
from mlepi.structures.siesta import read_siesta
from mlepi.structures.siesta_input import SiestaSettings, build_siesta_input
from mlepi.untrusted import read_text

NAME = "label"
"""SystemLabel: the beginning of the names of files that SIESTA writes."""


class Siesta(ProgramCode):
    """SIESTA 5.

    Args:
        command: see ``ProgramCode``, likewise all that are not here.
        hours: h.
        potential_folder: of the pseudopotentials.
        potentials: chemical symbol → file of the pseudopotential, ``.psml`` or ``.psf``.
        basis_size: SZ, DZ, SZP, DZP … of all elements, unless ``blocks`` has PAO.Basis.
        energy_shift: PAO.EnergyShift, by which orbitals are confined, eV.
        functional: XC.functional and XC.authors in one, such as "GGA PBE".
        grid_cutoff: of the real-space grid, Ry.
        electronic_temperature: K.
        criterion: of the density matrix (SCF.DM.Tolerance).
        k_spacing: 1/Å.
        vacuum: Å.
        steps: at most.
        mixing: 0 to 1.
        fdf: further labels, label → value.
        blocks: further blocks, name → lines.
    """

    title = "SIESTA"
    version = r"(?im)^\s*(?:siesta )?version\s*:\s*(\S+)"
    arguments = (INPUT,)
    infers_radii = True  # ORB_INDX prints three decimals of Bohr, of the orbitals that are there

    def __init__(
        self,
        *,
        command: str,
        hours: float,
        potential_folder: str | None,
        potentials: Mapping[str, str],
        basis_size: str,
        energy_shift: float,
        functional: str,
        grid_cutoff: float,
        electronic_temperature: float,
        criterion: float,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
        fdf: Mapping[str, str | int | float | bool],
        blocks: Mapping[str, str],
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
            energy_shift=energy_shift,
            grid_cutoff=grid_cutoff,
            electronic_temperature=electronic_temperature,
            criterion=criterion,
        )
        self._folder, self._potentials = potential_folder, dict(potentials)
        self._grid_cutoff, self._given = grid_cutoff, dict(fdf)
        kind, _, authors = functional.partition(" ")
        self._fdf: dict[str, str | int | float | bool] = {
            "PAO.BasisSize": basis_size,
            "PAO.EnergyShift": f"{energy_shift:g} eV",
            "XC.functional": kind,
            "XC.authors": authors or kind,
            "Mesh.Cutoff": f"{grid_cutoff:g} Ry",
            "ElectronicTemperature": f"{electronic_temperature:g} K",
            "SCF.DM.Tolerance": f"{criterion:.1e}",
            "SCF.MustConverge": True,
            "WriteForces": True,
            "MD.Steps": 0,
        }
        self._blocks = dict(blocks)

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return the input of a structure.

        Raises:
            ConfigError: an element has no pseudopotential.
            StructureError: it has no cell.
        """
        find_element_files("dft.potentials", self._folder, self._potentials, atoms)
        steps, mixing = self.soften(attempt)
        labels = {
            **self._fdf,
            "Max.SCF.Iterations": steps,
            "SCF.Mixer.Weight": mixing,
            **self._given,
        }
        settings = SiestaSettings(fdf=labels, primitive_kgrid=(1, 1, 1), blocks=self._blocks)
        return build_siesta_input(NAME, atoms, settings, self.choose_mesh(atoms))

    def choose_noise_shift(self, atoms: Atoms) -> NDArray[Any] | None:
        """Return half a spacing of the real-space grid."""
        return shift_half_grid(atoms, self._grid_cutoff)

    def _describe(self) -> dict[str, Any]:
        return {
            "potential": describe_files(self._folder, self._potentials),
            "keywords": {key: str(value) for key, value in {**self._fdf, **self._given}.items()},
            "blocks": dict(self._blocks),
        }

    def _prepare(self, calculation: Calculation) -> None:
        """Copy pseudopotentials under the names of the species, where SIESTA looks for them."""
        files = find_element_files(
            "dft.potentials", self._folder, self._potentials, calculation.atoms
        )
        for symbol, path in files.items():
            shutil.copyfile(path, calculation.folder / f"{symbol}{path.suffix}")

    def _read(self, calculation: Calculation) -> LabelledStructure:
        output = calculation.folder / OUTPUT
        energy = read_energy(output)
        labels = read_siesta(
            require_file(calculation.folder / f"{NAME}.HSX", self.title), calculation.name
        )
        if labels.forces is None:
            got, fix = f"no {NAME}.FA", "Leave WriteForces and MD.Steps as they are."
            raise DataError(message(str(calculation.folder), got, "forces", fix))
        return return_labels(replace(labels, energy=energy), calculation.atoms)


def read_energy(output: Path) -> float:
    """Return the free energy of a run that has converged, eV.

    Args:
        output: file of what SIESTA has printed.

    Raises:
        NotConvergedError: self-consistency was not reached.
        DataError: the text ends too early.
    """
    text = read_text(output)
    if "SCF cycle converged" not in text:
        is_told = re.search(r"SCF_NOT_CONV|SCF did not converge", text)
        got = "no line 'SCF cycle converged'" + (", but that it did not" if is_told else "")
        fix = "Raise dft.steps or lower dft.mixing; look at the end of the file."
        error = NotConvergedError if is_told or "scf:" in text else DataError
        raise error(message(str(output), got, "self-consistency", fix))
    energies = re.findall(r"^siesta: FreeEng\s*=\s*(\S+)", text, re.MULTILINE)
    try:
        return float(energies[-1])
    except (IndexError, ValueError) as error:
        fix = "It must be the text of SIESTA's whole run."
        raise DataError(message(str(output), "no FreeEng", "a free energy", fix)) from error
