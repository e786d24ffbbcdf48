"""SIESTA input of one self-consistent calculation that writes H, S, energy and forces.

Keywords are those of SIESTA 5 (https://siesta-project.org/siesta/documentation/manuals). Positions
and lattice vectors are in Å; basis, functional and pseudopotentials are what the settings say, or
SIESTA's defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ase import Atoms
from ase.data import chemical_symbols

from mlepi.errors import ConfigError, StructureError, message
from mlepi.structures.k_density import check_kgrid

OWN = {
    *("systemname", "systemlabel", "numberofatoms", "numberofspecies", "latticeconstant"),
    *("atomiccoordinatesformat", "savehs", "latticevectors", "chemicalspecieslabel"),
    *("atomiccoordinatesandatomicspecies", "kgridmonkhorstpack"),
}
"""Labels that the structure decides, as fdf compares them: without -, _, . and capitals."""


@dataclass(frozen=True, kw_only=True)
class SiestaSettings:
    """Settings of a calculation.

    Attributes:
        fdf: label → value with its unit, such as ``Mesh.Cutoff: 300 Ry``.
        primitive_kgrid: k-points for a primitive cell, with Γ; a supercell gets as many fewer.
        blocks: name → lines of a block, such as ``PAO.Basis``.
    """

    fdf: Mapping[str, str | int | float | bool]
    primitive_kgrid: Sequence[int]
    blocks: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse labels that belong to the structure, and a mesh that is none."""
        wrong = [name for name in (*self.fdf, *self.blocks) if _plain(str(name)) in OWN]
        if wrong:
            fix = "Leave them out."
            expected = "labels that the structure does not decide"
            raise ConfigError(message("siesta", f"{wrong}", expected, fix))
        check_kgrid("siesta.primitive_kgrid", self.primitive_kgrid)


def write_siesta_input(
    path: str | Path, atoms: Atoms, settings: SiestaSettings, kgrid: Sequence[int]
) -> None:
    """Write an input file; the label of the system is the stem of the file.

    Args:
        path: file to write, ``*.fdf``.
        atoms: structure with three lattice vectors, Å.
        settings: of the calculation.
        kgrid: k-points along the three reciprocal vectors, Γ among them.

    Raises:
        StructureError: no cell with a volume.
    """
    path = Path(path)
    text = build_siesta_input(path.stem, atoms, settings, kgrid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def build_siesta_input(
    name: str, atoms: Atoms, settings: SiestaSettings, kgrid: Sequence[int]
) -> str:
    """Return the text of an input file.

    Args:
        name: label of the system, with which the names of its files begin.
        atoms: structure with three lattice vectors, Å.
        settings: of the calculation.
        kgrid: k-points along the three reciprocal vectors, Γ among them.

    Raises:
        StructureError: no cell with a volume.
    """
    if atoms.cell.rank < 3:
        got, fix = f"a cell of rank {atoms.cell.rank}", "Add vacuum and a third lattice vector."
        raise StructureError(message(f"{name}.fdf", got, "a periodic cell", fix))
    numbers = sorted(set(atoms.numbers.tolist()))
    species = [f"{k + 1} {z} {chemical_symbols[z]}" for k, z in enumerate(numbers)]
    sites = [
        " ".join(f"{x:.10f}" for x in position) + f" {numbers.index(z) + 1}"
        for z, position in zip(atoms.numbers.tolist(), atoms.positions, strict=True)
    ]
    vectors = [" ".join(f"{x:.10f}" for x in vector) for vector in atoms.cell.array]
    mesh = [
        " ".join(f"{int(n) if i == k else 0}" for i in range(3)) + " 0.0"
        for k, n in enumerate(kgrid)
    ]
    lines = [
        f"SystemName {name}",
        f"SystemLabel {name}",
        f"NumberOfSpecies {len(numbers)}",
        f"NumberOfAtoms {len(atoms)}",
        "SaveHS true",
        *(f"{label} {_text(value)}" for label, value in settings.fdf.items()),
        *_block("ChemicalSpeciesLabel", species),
        "LatticeConstant 1.0 Ang",
        *_block("LatticeVectors", vectors),
        "AtomicCoordinatesFormat Ang",
        *_block("AtomicCoordinatesAndAtomicSpecies", sites),
        *_block("kgrid_Monkhorst_Pack", mesh),
    ]
    for label, text in settings.blocks.items():
        lines += _block(str(label), str(text).rstrip().splitlines())
    return "\n".join(lines) + "\n"


def _block(name: str, rows: Sequence[str]) -> list[str]:
    return [f"%block {name}", *rows, f"%endblock {name}"]


def _text(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _plain(label: str) -> str:
    return label.lower().replace("-", "").replace("_", "").replace(".", "")
