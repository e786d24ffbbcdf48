"""pw.x of Quantum ESPRESSO: energies and forces, of plane waves; no H and S."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
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
)
from mlepi.labelling.returned import return_labels
from mlepi.structures import LabelledStructure
from mlepi.structures.espresso_input import Namelists, build_espresso_input
from mlepi.structures.k_density import shift_half_grid
from mlepi.units import BOLTZMANN, RYDBERG
from mlepi.untrusted import guard, read_text

POTENTIALS = "ESPRESSO_PSEUDO"
"""Environment variable that pw.x takes the folder of pseudopotentials from."""


class Espresso(ProgramCode):
    """pw.x, version 6 or 7.

    Args:
        command: see ``ProgramCode``, likewise all that are not here.
        hours: h.
        potential_folder: of the pseudopotentials.
        potentials: chemical symbol → file of the pseudopotential.
        cutoff: of plane waves (ecutwfc), Ry.
        density_cutoff: of the density (ecutrho), Ry.
        dispersion: vdw_corr, such as grimme-d3; None for none.
        electronic_temperature: K, of Fermi's occupations.
        criterion: of self-consistency (conv_thr), Ry.
        k_spacing: 1/Å.
        vacuum: Å.
        steps: at most.
        mixing: 0 to 1.
        system: further variables of the namelist SYSTEM.
        electrons: further variables of the namelist ELECTRONS.
    """

    title = "Quantum ESPRESSO"
    version = r"Program PWSCF v\.(\S+)"
    arguments = ("-in", INPUT)
    gives_matrices = False

    def __init__(
        self,
        *,
        command: str,
        hours: float,
        potential_folder: str | None,
        potentials: Mapping[str, str],
        cutoff: float,
        density_cutoff: float,
        dispersion: str | None,
        electronic_temperature: float,
        criterion: float,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
        system: Mapping[str, str | int | float | bool],
        electrons: Mapping[str, str | int | float | bool],
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
            cutoff=cutoff,
            density_cutoff=density_cutoff,
            electronic_temperature=electronic_temperature,
            criterion=criterion,
        )
        self._folder, self._potentials = potential_folder, dict(potentials)
        self._density_cutoff, self._criterion = density_cutoff, criterion
        self._electrons = dict(electrons)
        self._system: dict[str, str | int | float | bool] = {
            "ecutwfc": cutoff,
            "ecutrho": density_cutoff,
            "occupations": "smearing",
            "smearing": "fermi-dirac",
            "degauss": round(BOLTZMANN * electronic_temperature / RYDBERG, 12),
            **({} if dispersion is None else {"vdw_corr": dispersion}),
            **dict(system),
        }

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return the input of a structure.

        Raises:
            ConfigError: an element has no pseudopotential.
            StructureError: it has no cell.
        """
        find_element_files("dft.potentials", self._folder, self._potentials, atoms)
        steps, mixing = self.soften(attempt)
        namelists: Namelists = {
            "CONTROL": {
                "calculation": "scf",
                "prefix": "label",
                "outdir": "./out",
                "disk_io": "nowf",
                "tprnfor": True,
            },
            "SYSTEM": self._system,
            "ELECTRONS": {
                "conv_thr": self._criterion,
                "electron_maxstep": steps,
                "mixing_beta": mixing,
                **self._electrons,
            },
        }
        return build_espresso_input(atoms, namelists, self._potentials, self.choose_mesh(atoms))

    def choose_noise_shift(self, atoms: Atoms) -> NDArray[np.float64] | None:
        """Return half a spacing of the grid of the density."""
        return shift_half_grid(atoms, self._density_cutoff)

    def _describe(self) -> dict[str, Any]:
        return {
            "potential": describe_files(self._folder, self._potentials),
            "keywords": {key: str(value) for key, value in self._system.items()},
            "criterion": self._criterion,
        }

    def _environment(self) -> dict[str, str]:
        return {POTENTIALS: str(Path(self._folder or "").resolve())}

    def _read(self, calculation: Calculation) -> LabelledStructure:
        labels = read_espresso(calculation.folder / OUTPUT, calculation.name)
        return return_labels(labels, calculation.atoms)


@guard("the output of pw.x")
def read_espresso(path: Path, name: str) -> LabelledStructure:
    """Read what pw.x has printed of one self-consistent calculation.

    Args:
        path: text.
        name: of the structure.

    Returns:
        Structure, energy (with the entropy of the occupations, to which the forces belong), forces
        and Fermi energy where it is printed. ASE converts by CODATA 2006, 9e-8 from ours.

    Raises:
        NotConvergedError: self-consistency was not reached.
        DataError: the text is damaged or ends too early.
    """
    text = read_text(path)
    if "convergence NOT achieved" in text:
        steps = re.findall(r"convergence NOT achieved after\s+(\d+)", text)
        got = f"no convergence after {steps[-1] if steps else '?'} steps"
        fix = "Raise dft.steps or lower dft.mixing; look at the distances of the atoms."
        raise NotConvergedError(message(str(path), got, "self-consistency", fix))
    if "convergence has been achieved" not in text or "JOB DONE." not in text:
        told = re.search(r"%%%+\n\s*(.*\n.*)\n\s*%%%+", text)
        words = " ".join(told[1].split()) if told else "a text that ends too early"
        fix = "Look at the end of the file."
        raise DataError(message(str(path), words[:200], "JOB DONE.", fix))
    try:
        (atoms,) = ase.io.iread(path, index=-1, format="espresso-out")
        results = atoms.calc.results if atoms.calc else {}
        energy, forces = float(results["energy"]), np.asarray(results["forces"])
    except Exception as error:  # ASE's parsers raise anything
        got = f"no energy and forces ({type(error).__name__}: {error})"
        fix = "It must be the text of one calculation with tprnfor."
        raise DataError(message(str(path), got, "both", fix)) from error
    fermi = re.findall(r"the Fermi energy is\s+(\S+) ev", text)
    return LabelledStructure(
        name=name,
        atoms=Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True),
        energy=energy,
        forces=forces,
        fermi_energy=float(fermi[-1]) if fermi else None,
        provenance={"code": "Quantum ESPRESSO"},
    )
