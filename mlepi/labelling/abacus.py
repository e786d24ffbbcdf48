"""ABACUS with numerical atomic orbitals: H and S of its ``.csr``, energy and forces of its log."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import DataError, NotConvergedError, message
from mlepi.labelling.code import Calculation
from mlepi.labelling.program_code import (
    OUTPUT,
    ProgramCode,
    check_positive,
    describe_files,
    find_element_files,
    join_files,
    require_file,
)
from mlepi.labelling.returned import return_labels
from mlepi.structures import LabelledStructure
from mlepi.structures.abacus import read_abacus
from mlepi.structures.abacus_input import (
    SUFFIX,
    build_abacus_input,
    group_by_element,
    place_in_cell,
)
from mlepi.structures.k_density import shift_half_grid
from mlepi.units import BOLTZMANN, RYDBERG
from mlepi.untrusted import read_text

FOLDER, LOG = f"OUT.{SUFFIX}", "running_scf.log"


class Abacus(ProgramCode):
    """ABACUS 3.

    Args:
        command: see ``ProgramCode``, likewise all that are not here.
        hours: h.
        potential_folder: of the pseudopotentials.
        potentials: chemical symbol → file of the pseudopotential.
        orbital_folder: of the orbitals.
        orbitals: chemical symbol → file of the orbitals, such as B_gga_8au_100Ry_2s2p1d.orb.
        functional: dft_functional.
        dispersion: vdw_method, such as d3_bj; None for none.
        cutoff: of plane waves, Ry; the grid of the density has four times as much.
        electronic_temperature: K.
        criterion: of the density (scf_thr).
        k_spacing: 1/Å.
        vacuum: Å.
        steps: at most.
        mixing: 0 to 1.
        keywords: further ones of INPUT.
    """

    title = "ABACUS"
    version = r"ABACUS\s+v(\d[\w.]*)"
    infers_radii = True

    def __init__(
        self,
        *,
        command: str,
        hours: float,
        potential_folder: str | None,
        potentials: Mapping[str, str],
        orbital_folder: str | None,
        orbitals: Mapping[str, str],
        functional: str,
        dispersion: str | None,
        cutoff: float,
        electronic_temperature: float,
        criterion: float,
        k_spacing: float,
        vacuum: float,
        steps: int,
        mixing: float,
        keywords: Mapping[str, str | int | float | bool],
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
        self._folders = {"potentials": potential_folder, "orbitals": orbital_folder}
        self._names = {"potentials": dict(potentials), "orbitals": dict(orbitals)}
        self._cutoff, self._given = cutoff, dict(keywords)
        sigma = BOLTZMANN * electronic_temperature / RYDBERG
        self._keywords: dict[str, str | int | float | bool] = {
            "dft_functional": functional,
            **({} if dispersion is None else {"vdw_method": dispersion}),
            "ecutwfc": f"{cutoff:g}",
            "smearing_method": "fd",
            "smearing_sigma": f"{sigma:.10f}",
            "scf_thr": f"{criterion:.1e}",
            "mixing_type": "broyden",
        }

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return INPUT, STRU and KPT of a structure, one below the other.

        Raises:
            ConfigError: an element has no pseudopotential or orbitals.
            StructureError: it has no cell.
        """
        self._find_files(atoms)
        steps, mixing = self.soften(attempt)
        keywords = {**self._keywords, "scf_nmax": steps, "mixing_beta": f"{mixing:g}"}
        return join_files(
            build_abacus_input(
                atoms,
                {**keywords, **self._given},
                {symbol: Path(name).name for symbol, name in self._names["potentials"].items()},
                {symbol: Path(name).name for symbol, name in self._names["orbitals"].items()},
                self.choose_mesh(atoms),
            )
        )

    def choose_noise_shift(self, atoms: Atoms) -> NDArray[Any] | None:
        """Return half a spacing of the grid of the density."""
        return shift_half_grid(atoms, 4.0 * self._cutoff)

    def _describe(self) -> dict[str, Any]:
        return {
            "basis": describe_files(self._folders["orbitals"], self._names["orbitals"]),
            "potential": describe_files(self._folders["potentials"], self._names["potentials"]),
            "keywords": {k: str(x) for k, x in {**self._keywords, **self._given}.items()},
        }

    def _find_files(self, atoms: Atoms) -> list[Path]:
        return [
            path
            for kind, folder in self._folders.items()
            for path in find_element_files(f"dft.{kind}", folder, self._names[kind], atoms).values()
        ]

    def _prepare(self, calculation: Calculation) -> None:
        """Copy pseudopotentials and orbitals, for which ABACUS looks in the folder."""
        for path in self._find_files(calculation.atoms):
            shutil.copyfile(path, calculation.folder / path.name)

    def _version_files(self, folder: Path) -> list[Path]:
        return [folder / FOLDER / LOG, folder / OUTPUT]

    def _read(self, calculation: Calculation) -> LabelledStructure:
        atoms, folder = calculation.atoms, calculation.folder / FOLDER
        check_convergence(require_file(folder / LOG, self.title))
        labels = read_abacus(folder, calculation.name)
        order = group_by_element(atoms)
        placed = place_in_cell(atoms) @ atoms.cell.array
        shift = _find_shift(atoms, placed)
        return return_labels(labels, atoms, order, shift)


def _find_shift(atoms: Atoms, placed: NDArray[Any]) -> NDArray[Any]:
    """Return the common part of the shifts of the input, (3,) Å; the rest are lattice vectors."""
    shift: NDArray[Any] = placed[0] - atoms.positions[0]
    return shift


def check_convergence(log: Path) -> None:
    """Refuse a run that has not converged, as its log says in the words of versions 3.0 to 3.9.

    Raises:
        NotConvergedError: it has not.
        DataError: the log ends before it says so.
    """
    text = read_text(log)
    fix = "Raise dft.steps or lower dft.mixing; look at the distances of the atoms."
    if re.search(r"convergence has not been achieved|SCF IS NOT CONVERGED", text, re.IGNORECASE):
        got = "'convergence has not been achieved'"
        raise NotConvergedError(message(str(log), got, "self-consistency", fix))
    if not re.search(r"density convergence is achieved|#SCF IS CONVERGED#", text):
        raise DataError(message(str(log), "a log that ends too early", "its end", fix))
