"""CP2K input of one self-consistent calculation that writes H(R), S(R), energy and forces.

Keywords are those of CP2K 2023.1 (``cp2k --xml`` writes its manual). Lengths are in Å. CP2K takes
every atom into −½ … ½ of the cell before it counts cells, so that R of its matrices belongs to
those places: ``place_atoms`` chooses them and keeps how many lattice vectors each atom moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.errors import ConfigError, StructureError, message
from mlepi.structures.k_density import find_gap

PROJECT = "label"
"""First part of the names of files that CP2K writes."""

BANDS, FORCES = "bands.bs", "forces.txt"
"""Files of energies at ``HELD_OUT`` and of forces."""

HELD_OUT = ((0.11, 0.23, 0.17), (0.41, -0.19, 0.31))
"""Fractional k-points, on no mesh, at which CP2K's own bands are compared with those of H and S."""

EMPTY_BANDS = 4
"""Bands above the occupied ones that are compared."""

BORDER = 1e-6
"""Fractional distance from the border of the cell at which rounding decides on which side an atom
is."""

NEGLIGIBLE = 1e-15
"""Elements of matrices, Hartree and 1, that are not written."""

SAFER_MIXING, MORE_STEPS = 1.0 / 3.0, 3
"""Factors of the second attempt."""


@dataclass(frozen=True, kw_only=True)
class Cp2kSettings:
    """What all calculations of a set have in common.

    Attributes:
        basis: name of the basis set, or chemical symbol → name.
        potential: likewise of the pseudopotential.
        basis_file: of CP2K's data folder.
        potential_file: likewise.
        functional: section of XC_FUNCTIONAL, such as PBE.
        dispersion: TYPE of PAIR_POTENTIAL, such as DFTD3(BJ); None for none.
        dispersion_reach: of its pairs, Å.
        cutoff: of the finest grid, Ry.
        relative_cutoff: that a Gaussian is mapped to a grid by, Ry.
        k_spacing: largest distance of two k-points along a reciprocal vector, 1/Å, 2π included.
        vacuum: an axis with so much empty space has one k-point, Å.
        electronic_temperature: of the occupations, K.
        criterion: of self-consistency, EPS_SCF.
        accuracy: EPS_DEFAULT.
        orbital_threshold: below which the tail of an orbital is cut, EPS_PGF_ORB.
        steps: of self-consistency at most.
        mixing: part of the new density in the next one, 0 to 1.
    """

    basis: str | Mapping[str, str]
    potential: str | Mapping[str, str]
    basis_file: str
    potential_file: str
    functional: str
    dispersion: str | None
    dispersion_reach: float
    cutoff: float
    relative_cutoff: float
    k_spacing: float
    vacuum: float
    electronic_temperature: float
    criterion: float
    accuracy: float
    orbital_threshold: float
    steps: int
    mixing: float

    def __post_init__(self) -> None:
        """Refuse numbers that are not positive, and words that would be more than one."""
        numbers = ("cutoff", "relative_cutoff", "k_spacing", "vacuum", "electronic_temperature")
        small = ("criterion", "accuracy", "orbital_threshold", "mixing")
        wrong = [name for name in (*numbers, "steps") if not getattr(self, name) > 0]
        wrong += [name for name in small if not 0.0 < getattr(self, name) <= 1.0]
        if self.dispersion is not None and not self.dispersion_reach > 0:
            wrong.append("dispersion_reach")
        if wrong:
            got = ", ".join(f"{name}={getattr(self, name)}" for name in wrong)
            expected = f"positive numbers, those of {', '.join(small)} at most 1"
            raise ConfigError(message("dft", got, expected, "See conf/dft/cp2k.yaml."))
        words = [self.basis_file, self.potential_file, self.functional, self.dispersion or "none"]
        for table in (self.basis, self.potential):
            words += [table] if isinstance(table, str) else [*table.values()]
        odd = [word for word in words if len(word.split()) != 1]
        if odd:
            fix = "Name them as CP2K's data folder does."
            raise ConfigError(message("dft", f"{odd}", "single words", fix))

    def name_basis(self, symbol: str) -> str:
        """Return the basis set of an element.

        Raises:
            ConfigError: there is none.
        """
        return _look_up("dft.basis", self.basis, symbol)

    def name_potential(self, symbol: str) -> str:
        """Return the pseudopotential of an element.

        Raises:
            ConfigError: there is none.
        """
        return _look_up("dft.potential", self.potential, symbol)


def _look_up(where: str, table: str | Mapping[str, str], symbol: str) -> str:
    if isinstance(table, str):
        return table
    if symbol not in table:
        expected = f"one for {symbol}"
        raise ConfigError(message(where, f"those of {sorted(table)}", expected, "Name it."))
    return table[symbol]


@dataclass(frozen=True)
class Placement:
    """Where CP2K has the atoms.

    Attributes:
        positions: (n_atoms, 3), Å, inside −½ … ½ of the cell.
        moved: (n_atoms, 3) int, lattice vectors that were added to the given positions.
    """

    positions: NDArray[np.float64]
    moved: NDArray[np.int64]


def place_atoms(atoms: Atoms) -> Placement:
    """Move every atom by lattice vectors into −½ … ½ of the cell.

    Where one lies at the border along an axis, so that rounding would decide, all are shifted
    along it until the border lies in the middle of the widest gap. Energies do not notice, but for
    the noise of the grid.

    Args:
        atoms: periodic structure, Å.
    """
    fractional = atoms.cell.scaled_positions(atoms.positions)
    shift = np.zeros(3)
    for axis in range(3):
        x = fractional[:, axis]
        if np.any(np.abs(np.abs(x - np.round(x)) - 0.5) < BORDER):
            middle, _ = find_gap(x)
            shift[axis] = 0.5 - middle
    moved = -np.floor(fractional + shift + 0.5).astype(np.int64)
    return Placement((fractional + shift + moved) @ atoms.cell.array, moved)


def build_cp2k_input(
    atoms: Atoms, settings: Cp2kSettings, mesh: Sequence[int], attempt: int = 1
) -> str:
    """Return the text of an input file.

    Args:
        atoms: structure with three lattice vectors, Å.
        settings: of the set.
        mesh: divisions of the k-mesh, which goes through Γ.
        attempt: 1, or 2 after a failure: smaller steps, and more of them, to the same solution.

    Raises:
        StructureError: the cell has no volume.
        ConfigError: an element without basis set or pseudopotential.
    """
    if atoms.cell.rank < 3:
        got = f"a cell of rank {atoms.cell.rank}"
        raise StructureError(message("structure", got, "a periodic cell", "Give it one."))
    force_eval = {
        "METHOD": "QUICKSTEP",
        "DFT": _describe_dft(settings, mesh, attempt),
        "PRINT": {"FORCES": {"FILENAME": f"={FORCES}", "NDIGITS": 14}},
        "SUBSYS": _describe_system(atoms, settings),
    }
    run = {"PROJECT": PROJECT, "RUN_TYPE": "ENERGY_FORCE", "PRINT_LEVEL": "MEDIUM"}
    return "\n".join([*_write_section("GLOBAL", run), *_write_section("FORCE_EVAL", force_eval)])


Section = Mapping[str, object]
"""Keyword → value, list of rows, or a section; "" stands for the parameter of a section."""


def _describe_dft(settings: Cp2kSettings, mesh: Sequence[int], attempt: int) -> Section:
    matrix = {"REAL_SPACE": "T", "THRESHOLD": f"{NEGLIGIBLE:.1E}"}
    offsets = [0.0 if n % 2 else 0.5 / n for n in mesh]  # even meshes miss Γ without
    kpoints = " ".join([*(f"{n:d}" for n in mesh), *(f"{x:.15f}" for x in offsets)])
    return {
        "BASIS_SET_FILE_NAME": settings.basis_file,
        "POTENTIAL_FILE_NAME": settings.potential_file,
        "KPOINTS": {
            "SCHEME": f"MACDONALD {kpoints}",
            "SYMMETRY": "F",
            "FULL_GRID": "F",
            "WAVEFUNCTIONS": "COMPLEX",
            "PARALLEL_GROUP_SIZE": -1,
        },
        "MGRID": {
            "CUTOFF": f"[Ry] {settings.cutoff:g}",
            "REL_CUTOFF": f"[Ry] {settings.relative_cutoff:g}",
            "NGRIDS": 5,
        },
        "QS": {
            "METHOD": "GPW",
            "EPS_DEFAULT": f"{settings.accuracy:.1E}",
            "EPS_PGF_ORB": f"{settings.orbital_threshold:.1E}",
        },
        "SCF": _describe_scf(settings, attempt),
        "XC": _describe_functional(settings),
        "PRINT": {
            "KS_CSR_WRITE": {**matrix, "FILENAME": "ks"},
            "S_CSR_WRITE": {**matrix, "FILENAME": "s"},
            "BAND_STRUCTURE": {
                "FILE_NAME": BANDS,
                "ADDED_MOS": EMPTY_BANDS,
                "KPOINT_SET": {
                    "UNITS": "B_VECTOR",
                    "SPECIAL_POINT": [
                        f"P{number} " + " ".join(f"{x:.6f}" for x in kpoint)
                        for number, kpoint in enumerate(HELD_OUT)
                    ],
                    "NPOINTS": 1,
                },
            },
        },
    }


def _describe_scf(settings: Cp2kSettings, attempt: int) -> Section:
    again = attempt > 1
    return {
        "SCF_GUESS": "ATOMIC",
        "EPS_SCF": f"{settings.criterion:.1E}",
        "MAX_SCF": settings.steps * (MORE_STEPS if again else 1),
        "ADDED_MOS": -1,
        "DIAGONALIZATION": {"ALGORITHM": "STANDARD"},
        "MIXING": {
            "METHOD": "BROYDEN_MIXING",
            "ALPHA": f"{settings.mixing * (SAFER_MIXING if again else 1.0):.6f}",
            "NBROYDEN": 16 if again else 8,
        },
        "SMEAR": {
            "METHOD": "FERMI_DIRAC",
            "ELECTRONIC_TEMPERATURE": f"[K] {settings.electronic_temperature:g}",
        },
        "PRINT": {"RESTART": {"": "OFF"}, "RESTART_HISTORY": {"": "OFF"}},
    }


def _describe_functional(settings: Cp2kSettings) -> Section:
    functional: dict[str, object] = {"XC_FUNCTIONAL": {"": settings.functional}}
    if settings.dispersion is not None:
        functional["VDW_POTENTIAL"] = {
            "POTENTIAL_TYPE": "PAIR_POTENTIAL",
            "PAIR_POTENTIAL": {
                "TYPE": settings.dispersion,
                "PARAMETER_FILE_NAME": "dftd3.dat",
                "REFERENCE_FUNCTIONAL": settings.functional,
                "R_CUTOFF": f"[angstrom] {settings.dispersion_reach:g}",
            },
        }
    return functional


def _describe_system(atoms: Atoms, settings: Cp2kSettings) -> Section:
    system: dict[str, object] = {
        "CELL": {
            **{
                name: _write_vector(vector)
                for name, vector in zip("ABC", atoms.cell.array, strict=True)
            },
            "PERIODIC": "XYZ",
        },
        "COORD": {
            "*": [
                f"{symbol:<2} {_write_vector(position)}"
                for symbol, position in zip(
                    atoms.get_chemical_symbols(), place_atoms(atoms).positions, strict=True
                )
            ]
        },
        "PRINT": {"RADII": {"UNIT": "angstrom", "KIND_RADII": "T", "SET_RADII": "F"}},
    }
    for symbol in sorted(set(atoms.get_chemical_symbols())):
        system[f"KIND {symbol}"] = {
            "ELEMENT": symbol,
            "BASIS_SET": settings.name_basis(symbol),
            "POTENTIAL": settings.name_potential(symbol),
        }
    return system


def _write_vector(vector: NDArray[np.float64]) -> str:
    return " ".join(f"{x:20.14f}" for x in vector)


def _write_section(name: str, content: Section, depth: int = 0) -> list[str]:
    """Return the lines of a section; rows of the keyword "*" stand without one."""
    indent = "  " * depth
    title = f"{indent}&{name} {content.get('', '')}".rstrip()
    lines = [title]
    for key, value in content.items():
        if isinstance(value, Mapping):
            lines += _write_section(key, value, depth + 1)
        elif isinstance(value, list):
            word = "" if key == "*" else f"{key} "
            lines += [f"{indent}  {word}{row}" for row in value]
        elif key:
            lines.append(f"{indent}  {key} {value}")
    return [*lines, f"{indent}&END {name.split()[0]}"]
