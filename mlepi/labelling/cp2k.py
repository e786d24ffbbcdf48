"""CP2K: Gaussian orbitals on plane-wave grids, run as a program.

Its orbitals are analytic, so that S follows from tables of its basis set; H(R) and S(R) are written
as they are, with forces, in one run. Tested with 2023.1, ``apt-get install cp2k cp2k-data``.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import ConfigError, DataError, message
from mlepi.labelling.code import Calculation, Code
from mlepi.labelling.job import INPUT
from mlepi.labelling.program import ask_program, run_to_end
from mlepi.physics.overlaps import (
    RadialOrbitals,
    find_k_max,
    read_gaussians,
    tabulate_overlaps,
)
from mlepi.structures import LabelledStructure, OrbitalBasis
from mlepi.structures.cp2k import read_cp2k
from mlepi.structures.cp2k_input import (
    Cp2kSettings,
    build_cp2k_input,
    place_atoms,
)
from mlepi.structures.cp2k_output import OUTPUT
from mlepi.structures.k_density import choose_mesh, shift_half_grid

if TYPE_CHECKING:
    from mlepi.physics.overlaps import OverlapTable

DATA_FOLDER = "CP2K_DATA_DIR"
"""Environment variable that CP2K looks for its data folder in."""


class Cp2k(Code):
    """CP2K as a program.

    Args:
        command: program, with arguments such as those of mpirun before it; no shell reads it.
        data_folder: of basis sets and pseudopotentials; None takes CP2K's own.
        hours: that one attempt may take.
        basis: see ``Cp2kSettings``, likewise all that follow.
        potential: pseudopotential.
        basis_file: of CP2K's data folder.
        potential_file: likewise.
        functional: section of XC_FUNCTIONAL.
        dispersion: TYPE of PAIR_POTENTIAL, or None.
        dispersion_reach: Å.
        cutoff: Ry.
        relative_cutoff: Ry.
        k_spacing: 1/Å.
        vacuum: Å.
        electronic_temperature: K.
        criterion: of self-consistency.
        accuracy: EPS_DEFAULT.
        orbital_threshold: EPS_PGF_ORB.
        steps: at most.
        mixing: 0 to 1.

    Raises:
        ConfigError: a number that is not positive, or a name that is none.
    """

    def __init__(
        self,
        *,
        command: str,
        data_folder: str | None,
        hours: float,
        basis: str | Mapping[str, str],
        potential: str | Mapping[str, str],
        basis_file: str,
        potential_file: str,
        functional: str,
        dispersion: str | None,
        dispersion_reach: float,
        cutoff: float,
        relative_cutoff: float,
        k_spacing: float,
        vacuum: float,
        electronic_temperature: float,
        criterion: float,
        accuracy: float,
        orbital_threshold: float,
        steps: int,
        mixing: float,
    ) -> None:
        if not hours > 0.0 or not command.split():
            got, fix = f"hours={hours}, command={command!r}", "See conf/dft/cp2k.yaml."
            raise ConfigError(message("dft", got, "a positive number, and a program", fix))
        self._command, self._hours = shlex.split(command), hours
        self._given_folder = data_folder
        self.settings = Cp2kSettings(
            basis=basis,
            potential=potential,
            basis_file=basis_file,
            potential_file=potential_file,
            functional=functional,
            dispersion=dispersion,
            dispersion_reach=dispersion_reach,
            cutoff=cutoff,
            relative_cutoff=relative_cutoff,
            k_spacing=k_spacing,
            vacuum=vacuum,
            electronic_temperature=electronic_temperature,
            criterion=criterion,
            accuracy=accuracy,
            orbital_threshold=orbital_threshold,
            steps=steps,
            mixing=mixing,
        )

    @cached_property
    def _banner(self) -> str:
        """What the program says of itself, without its line breaks."""
        return re.sub(r"\n +", "", ask_program(self._command, "--version"))

    @cached_property
    def data_folder(self) -> Path:
        """Where basis sets and pseudopotentials are.

        Raises:
            ConfigError: they are not there.
        """
        built = re.search(r'__DATA_DIR="([^"]+)"', self._banner) if not self._given_folder else None
        given = self._given_folder or os.environ.get(DATA_FOLDER) or (built[1] if built else "")
        folder = Path(given)
        needed = [self.settings.basis_file, self.settings.potential_file]
        absent = [name for name in needed if not given or not (folder / name).is_file()]
        if absent:
            got, fix = f"{given!r} without {', '.join(absent)}", "Name the folder of CP2K's data."
            expected = "a folder with the basis sets and pseudopotentials"
            raise ConfigError(message("dft.data_folder", got, expected, fix))
        return folder

    def find_version(self) -> str:
        """Return CP2K's version.

        Raises:
            ConfigError: it cannot be started, or the program is another one.
        """
        found = re.search(r"CP2K version \S+?(?=Source|\s|$)", self._banner)
        if found is None:
            got = f"{self._command[0]!r}, which does not name a version of CP2K"
            fix = "Name CP2K by dft.command=…; with MPI, 'mpirun -np N cp2k'."
            raise ConfigError(message("dft.command", got, "CP2K", fix))
        return found[0]

    def describe(self) -> dict[str, Any]:
        """Return the settings that decide labels."""
        settings = asdict(self.settings)
        for name in ("steps", "mixing"):  # how a solution is found, not which
            del settings[name]
        return {key: dict(x) if isinstance(x, Mapping) else x for key, x in settings.items()}

    def write_input(self, atoms: Atoms, attempt: int) -> str:
        """Return the input of a structure.

        Raises:
            StructureError: it has no cell.
            ConfigError: an element has no basis set or pseudopotential.
        """
        self.build_basis(atoms.numbers)
        mesh = choose_mesh(atoms, self.settings.k_spacing, self.settings.vacuum)
        return build_cp2k_input(atoms, self.settings, mesh, attempt) + "\n"

    def compute(self, calculation: Calculation) -> LabelledStructure:
        """Run CP2K and read what it has written."""
        run_to_end(
            calculation,
            [*self._command, "-i", INPUT],
            hours=self._hours,
            printed=OUTPUT,
            environment={DATA_FOLDER: str(self.data_folder)},
        )
        atoms = calculation.atoms
        basis = self.build_basis(atoms.numbers)
        labels = read_cp2k(calculation.folder, calculation.name, atoms, place_atoms(atoms), basis)
        mesh = choose_mesh(atoms, self.settings.k_spacing, self.settings.vacuum)
        return replace(labels, provenance={**labels.provenance, "k_mesh": list(mesh)})

    def build_basis(self, numbers: Sequence[int] | NDArray[np.integer]) -> OrbitalBasis:
        """Return shells, electrons and (uncut) radii of elements, from CP2K's data.

        Raises:
            ConfigError: an element has no basis set or pseudopotential.
        """
        orbitals = self._read_orbitals(sorted({int(z) for z in numbers}))
        return OrbitalBasis(
            {z: one.shells for z, one in orbitals.items()},
            {z: one.radius for z, one in orbitals.items()},
            {z: self.settings.name_basis(chemical_symbols[z]) for z in orbitals},
            {z: self._count_electrons(chemical_symbols[z]) for z in orbitals},
        )

    def tabulate_overlaps(self, basis: OrbitalBasis) -> OverlapTable | None:
        """Return the overlaps of the basis sets, cut where CP2K cuts them."""
        orbitals = list(self._read_orbitals(basis.elements, basis.radii).values())
        return tabulate_overlaps(orbitals, k_max=find_k_max(orbitals))

    def choose_noise_shift(self, atoms: Atoms) -> NDArray[np.float64] | None:
        """Return half a grid spacing along every lattice vector."""
        return shift_half_grid(atoms, self.settings.cutoff)

    def _read_orbitals(
        self, elements: Sequence[int], radii: Mapping[int, float] | None = None
    ) -> dict[int, RadialOrbitals]:
        """Read basis sets: atomic number → radial functions, up to given radii (Å) or whole."""
        path = self.data_folder / self.settings.basis_file
        cut = radii or {}
        try:
            return {
                z: read_gaussians(path, symbol, self.settings.name_basis(symbol), cut.get(z))
                for z, symbol in ((z, chemical_symbols[z]) for z in elements)
            }
        except DataError as error:
            raise ConfigError(f"dft.basis: {error}") from error

    def _count_electrons(self, symbol: str) -> float:
        """Return the electrons that a pseudopotential leaves: a line of numbers below its title."""
        name = self.settings.name_potential(symbol)
        path = self.data_folder / self.settings.potential_file
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        titles = [re.split("[#!]", line)[0].split() for line in lines]
        for number, words in enumerate(titles[:-1]):
            if words[:1] == [symbol] and name in words[1:]:
                return float(sum(int(word) for word in titles[number + 1]))
        known = sorted({w for words in titles if words[:1] == [symbol] for w in words[1:]})
        expected, fix = f"one of {known}", "Name it by dft.potential."
        raise ConfigError(message("dft.potential", f"{name!r} for {symbol}", expected, fix))
