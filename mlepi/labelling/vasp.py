"""VASP: energies and forces, of plane waves; no H and S.

The POTCAR is put together from the user's own files and removed when the run has ended: it is under
VASP's licence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase import Atoms

from mlepi.errors import DataError, NotConvergedError, message
from mlepi.labelling.code import Calculation
from mlepi.labelling.program_code import (
    ProgramCode,
    check_positive,
    describe_files,
    find_element_files,
    join_files,
    require_file,
)
from mlepi.labelling.returned import return_labels
from mlepi.structures import LabelledStructure, VaspSettings, read_forces_dataset
from mlepi.structures.vasp_convergence import NOT_REACHED, REACHED
from mlepi.structures.vasp_input import build_vasp_input, sort_by_element
from mlepi.units import BOLTZMANN

POTCAR = "POTCAR"


class Vasp(ProgramCode):
    """VASP 5 or 6.

    Args:
        command: see ``ProgramCode``, likewise all that are not here.
        hours: h.
        potential_folder: with a folder per pseudopotential.
        potentials: chemical symbol → its folder there, such as N_s.
        cutoff: of plane waves (ENCUT), eV.
        electronic_temperature: K, of Fermi's occupations (ISMEAR = -1).
        criterion: of self-consistency (EDIFF), eV.
        k_spacing: 1/Å.
        vacuum: Å.
        steps: at most (NELM).
        mixing: AMIX, 0 to 1.
        incar: further tags, tag → value.
    """

    title = "VASP"
    version = r"vasp\.(\d[\w.]*)"
    gives_matrices = False

    def __init__(
        self,
        *,
        command: str,
        hours: float,
        potential_folder: str | None,
        potentials: Mapping[str, str],
        cutoff: float,
        electronic_temperature: float,
        criterion: float,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
        incar: Mapping[str, str | int | float | bool],
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
            cutoff=cutoff, electronic_temperature=electronic_temperature, criterion=criterion
        )
        self._folder = potential_folder
        self._potentials = {symbol: f"{name}/{POTCAR}" for symbol, name in potentials.items()}
        self._given = dict(incar)
        self._tags: dict[str, str | int | float | bool] = {
            "PREC": "Accurate",
            "ENCUT": cutoff,
            "EDIFF": f"{criterion:.1E}",
            "ISMEAR": -1,
            "SIGMA": round(BOLTZMANN * electronic_temperature, 10),
            "NSW": 0,
            "IBRION": -1,
            "LREAL": False,
            "LWAVE": False,
            "LCHARG": False,
        }

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return POSCAR, INCAR and KPOINTS of a structure, one below the other.

        Raises:
            ConfigError: an element has no pseudopotential.
        """
        find_element_files("dft.potentials", self._folder, self._potentials, atoms)
        steps, mixing = self.soften(attempt)
        tags = {**self._tags, "NELM": steps, "AMIX": mixing, **self._given}
        settings = VaspSettings(incar=tags, primitive_kgrid=(1, 1, 1))
        return join_files(build_vasp_input("label", atoms, settings, self.choose_mesh(atoms)))

    def _describe(self) -> dict[str, Any]:
        return {
            "potential": describe_files(self._folder, self._potentials),
            "keywords": {key: str(value) for key, value in {**self._tags, **self._given}.items()},
        }

    def _prepare(self, calculation: Calculation) -> None:
        """Join the pseudopotentials in the order of the POSCAR."""
        files = find_element_files(
            "dft.potentials", self._folder, self._potentials, calculation.atoms
        )
        joined = b"".join(files[symbol].read_bytes() for symbol in sorted(files))
        (calculation.folder / POTCAR).write_bytes(joined)

    def _version_files(self, folder: Path) -> list[Path]:
        return [folder / "OUTCAR"]

    def compute(self, calculation: Calculation) -> LabelledStructure:
        """Run VASP and read what it has written; whatever happens, the POTCAR does not stay."""
        try:
            return super().compute(calculation)
        finally:
            (calculation.folder / POTCAR).unlink(missing_ok=True)

    def _read(self, calculation: Calculation) -> LabelledStructure:
        check_convergence(require_file(calculation.folder / "OUTCAR", self.title))
        path = require_file(calculation.folder / "vasprun.xml", self.title)
        labels = read_forces_dataset(path)
        if len(labels) != 1:
            got, fix = f"{len(labels)} steps of atoms", "Leave NSW as it is."
            raise DataError(message(str(path), got, "one", fix))
        return return_labels(labels[0], calculation.atoms, sort_by_element(calculation.atoms))


def check_convergence(path: Path) -> None:
    """Refuse a run whose electronic loop has ended otherwise than by reaching EDIFF.

    Args:
        path: OUTCAR.

    Raises:
        NotConvergedError: it has not converged.
    """
    with path.open("rb") as file:
        ends = [REACHED in line for line in file if REACHED in line or NOT_REACHED in line]
    if not ends or not ends[-1]:
        got = "'EDIFF was not reached'" if ends else "no line 'EDIFF is reached'"
        fix = "Raise dft.steps or lower dft.mixing; look at the distances of the atoms."
        raise NotConvergedError(message(str(path), got, "a converged electronic loop", fix))
