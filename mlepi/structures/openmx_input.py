"""OpenMX input of one self-consistent calculation that writes H, S, energy and forces.

Keywords are those of OpenMX 3.9 and 4.0 (https://www.openmx-square.org/openmx_man3.9/node21.html).
Positions and lattice vectors are in Å, with ten decimals; orbitals and pseudopotentials are looked
for where the installation has them (DATA.PATH is not set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import ConfigError, StructureError, message
from mlepi.structures.k_density import check_kgrid
from mlepi.structures.openmx_text import is_openmx_name, parse_pao_name


@dataclass(frozen=True, kw_only=True)
class OpenmxSettings:
    """Settings of a calculation.

    Attributes:
        bases: atomic number → basis, such as C6.0-s2p2; None leaves the material open, see
            ``complete``.
        pseudopotentials: atomic number → pseudopotential, such as C_PBE19; None likewise.
        valence_electrons: atomic number → electrons of the pseudopotential; None likewise.
        functional: scf.XcType.
        grid_cutoff: of the real-space grid, Ry.
        electronic_temperature: K.
        criterion: of self-consistency, Hartree.
        dispersion: add Grimme's D2 to energy and forces.
        primitive_kgrid: k-points for a primitive cell; a supercell gets as many fewer, even where
            there are several.
    """

    bases: Mapping[int, str] | None
    pseudopotentials: Mapping[int, str] | None
    valence_electrons: Mapping[int, float] | None
    functional: str
    grid_cutoff: float
    electronic_temperature: float
    criterion: float
    dispersion: bool
    primitive_kgrid: Sequence[int]

    def __post_init__(self) -> None:
        """Refuse numbers out of range, incomplete elements, and names that are no basis."""
        check_kgrid("openmx.primitive_kgrid", self.primitive_kgrid)
        for name in ("grid_cutoff", "electronic_temperature", "criterion"):
            value = getattr(self, name)
            if not value > 0:
                fix = "See conf/stage/domain.yaml."
                raise ConfigError(message(f"openmx.{name}", f"{value}", "a positive number", fix))
        known = [
            set(map(int, table))
            for table in (self.bases, self.pseudopotentials, self.valence_electrons)
            if table is not None
        ]
        if any(elements != known[0] for elements in known):
            raise ConfigError(
                message(
                    "openmx",
                    f"elements {[sorted(table) for table in known]}",
                    "the same in all three tables",
                    "Complete them.",
                )
            )
        for name in (self.bases or {}).values():
            parse_pao_name("openmx.bases", name)

    def complete(
        self, names: Mapping[int, str], electrons: Mapping[int, float]
    ) -> OpenmxSettings | None:
        """Fill in what is open for a material.

        Args:
            names: atomic number → name of its orbitals.
            electrons: atomic number → valence electrons.

        Returns:
            Settings that leave nothing open; None where orbitals are not those of OpenMX, or
            electrons are not known.
        """
        bases = self.bases
        if bases is None:
            if not names or not all(is_openmx_name(z, name) for z, name in names.items()):
                return None
            bases = dict(names)
        tag = FUNCTIONALS.get(self.functional)
        potentials = self.pseudopotentials
        if potentials is None:
            if tag is None:
                return None
            potentials = {int(z): _name_potential(int(z), name, tag) for z, name in bases.items()}
        valence = self.valence_electrons
        if valence is None:
            if any(int(z) not in electrons for z in bases):
                return None
            valence = {int(z): electrons[int(z)] for z in bases}
        return replace(self, bases=bases, pseudopotentials=potentials, valence_electrons=valence)


FUNCTIONALS = {"GGA-PBE": "PBE19", "LDA": "CA19"}
"""scf.XcType → its part of the names of pseudopotentials of 2019."""


def _name_potential(number: int, basis: str, tag: str) -> str:
    """Return the pseudopotential of a basis: Fe_PBE19H for Fe5.5H-s3p2d1."""
    suffix = basis.split("-")[0][-1]
    return f"{chemical_symbols[number]}_{tag}{suffix if suffix in 'HS' else ''}"


def reduce_kgrid(primitive_kgrid: Sequence[int], supercell: Sequence[int]) -> tuple[int, int, int]:
    """Return a k mesh of a supercell that is at least as dense.

    Divisions above one are even, so that they miss K and Γ alike.
    """
    divisions = [-(-int(n) // int(m)) for n, m in zip(primitive_kgrid, supercell, strict=True)]
    even = [
        n if n == 1 and full == 1 else n + n % 2
        for n, full in zip(divisions, primitive_kgrid, strict=True)
    ]
    return even[0], even[1], even[2]


def write_openmx_input(
    path: str | Path, atoms: Atoms, settings: OpenmxSettings, kgrid: Sequence[int]
) -> None:
    """Write an input file; the name of the calculation is the stem of the file.

    Args:
        path: file to write, ``*.dat``.
        atoms: structure with three lattice vectors, Å.
        settings: of the calculation.
        kgrid: k-points along the three reciprocal vectors.

    Raises:
        StructureError: an element that the settings do not know, or no cell with a volume.
    """
    path = Path(path)
    text = build_openmx_input(path.stem, atoms, settings, kgrid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def build_openmx_input(
    name: str,
    atoms: Atoms,
    settings: OpenmxSettings,
    kgrid: Sequence[int],
    further: Mapping[str, object] | None = None,
) -> str:
    """Return the text of an input file.

    Args:
        name: of the calculation, with which the names of its files begin.
        atoms: structure with three lattice vectors, Å.
        settings: of the calculation.
        kgrid: k-points along the three reciprocal vectors.
        further: keyword → value; those that are written here anyway are replaced.

    Raises:
        StructureError: an element that the settings do not know, or no cell with a volume.
    """
    missing = sorted(set(atoms.numbers.tolist()) - {int(z) for z in settings.bases or {}})
    if missing or atoms.cell.rank < 3:
        got = (
            f"elements {missing} without a basis"
            if missing
            else f"a cell of rank {atoms.cell.rank}"
        )
        expected = "elements of the settings in a periodic cell"
        fix = "Complete the settings or the structure."
        raise StructureError(message(f"{name}.dat", got, expected, fix))
    species, rows = _describe_atoms(atoms, settings)
    keywords: dict[str, object] = {
        "System.CurrrentDirectory": "./",
        "System.Name": name,
        "level.of.stdout": 1,
        "level.of.fileout": 0,
        "HS.fileout": "on",
        "Species.Number": len(species),
        "<Definition.of.Atomic.Species": species,
        "Atoms.Number": len(atoms),
        "Atoms.SpeciesAndCoordinates.Unit": "Ang",
        "<Atoms.SpeciesAndCoordinates": rows,
        "Atoms.UnitVectors.Unit": "Ang",
        "<Atoms.UnitVectors": [f" {_coordinates(vector)}" for vector in atoms.cell.array],
        "scf.XcType": settings.functional,
        "scf.SpinPolarization": "off",
        "scf.ElectronicTemperature": f"{settings.electronic_temperature:g}",
        "scf.energycutoff": f"{settings.grid_cutoff:g}",
        "scf.maxIter": 200,
        "scf.EigenvalueSolver": "band",
        "scf.Kgrid": " ".join(str(int(n)) for n in kgrid),
        "scf.Mixing.Type": "rmm-diisk",
        "scf.criterion": f"{settings.criterion:.1e}",
        "scf.dftD": "on" if settings.dispersion else "off",
        **({"version.dftD": 2} if settings.dispersion else {}),
        "MD.Type": "nomd",
        **(further or {}),
    }
    lines: list[str] = []
    for keyword, value in keywords.items():
        if isinstance(value, list):
            lines += _block(keyword.removeprefix("<"), value)
        else:
            lines.append(f"{keyword:<35} {value}")
    return "\n".join(lines) + "\n"


def _describe_atoms(atoms: Atoms, settings: OpenmxSettings) -> tuple[list[str], list[str]]:
    """Return the lines that define the species, and those of the atoms."""
    bases = {int(z): name for z, name in (settings.bases or {}).items()}
    pseudopotentials = {int(z): name for z, name in (settings.pseudopotentials or {}).items()}
    half = {int(z): 0.5 * float(n) for z, n in (settings.valence_electrons or {}).items()}
    species = [
        f" {chemical_symbols[z]}  {bases[z]}  {pseudopotentials[z]}"
        for z in sorted(set(atoms.numbers.tolist()))
    ]
    rows = [
        f" {i + 1:5d} {chemical_symbols[z]:<2} {_coordinates(r)}  {half[z]:.1f} {half[z]:.1f}"
        for i, (z, r) in enumerate(zip(atoms.numbers.tolist(), atoms.positions, strict=True))
    ]
    return species, rows


def _block(keyword: str, rows: Sequence[str]) -> list[str]:
    return [f"<{keyword}", *rows, f"{keyword}>"]


def _coordinates(vector: NDArray[np.float64]) -> str:
    return " ".join(f"{x:16.10f}" for x in vector)
