"""Input of ABACUS: one self-consistent calculation with orbitals that writes H, S and forces.

Keywords are those of ABACUS 3 (https://abacus.deepmodeling.com). ABACUS takes every atom into
0 … 1 of the cell and groups them by element before it counts cells, so the input has them there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import StructureError, message
from mlepi.structures.k_density import find_gap
from mlepi.units import BOHR

SUFFIX = "label"
"""Of the folder of output, ``OUT.label``."""

BORDER = 1e-6
"""Fractional distance from the border of the cell at which rounding decides on which side an atom
is."""


def build_abacus_input(
    atoms: Atoms,
    keywords: Mapping[str, str | int | float | bool],
    potentials: Mapping[str, str],
    orbitals: Mapping[str, str],
    kgrid: Sequence[int],
) -> dict[str, str]:
    """Return the texts of INPUT, STRU and KPT.

    Args:
        atoms: structure with three lattice vectors, Å.
        keywords: of INPUT, as far as the settings decide them.
        potentials: chemical symbol → file of the pseudopotential, in the folder of the calculation.
        orbitals: likewise of the orbitals.
        kgrid: k-points along the three reciprocal vectors, Γ among them.

    Raises:
        StructureError: no cell with a volume, or an element without pseudopotential or orbitals.
    """
    symbols = [chemical_symbols[z] for z in sorted(set(atoms.numbers.tolist()))]
    missing = [symbol for symbol in symbols if symbol not in potentials or symbol not in orbitals]
    if missing or atoms.cell.rank < 3:
        got = f"{missing} without its files, a cell of rank {atoms.cell.rank}"
        expected = "a pseudopotential and orbitals of every element, and a periodic cell"
        raise StructureError(message("structure", got, expected, "Complete them."))
    own = {
        "suffix": SUFFIX,
        "calculation": "scf",
        "basis_type": "lcao",
        "nspin": 1,
        "symmetry": 0,
        "cal_force": 1,
        "out_mat_hs2": 1,
        "pseudo_dir": "./",
        "orbital_dir": "./",
    }
    lines = ["INPUT_PARAMETERS", *(f"{key} {_text(x)}" for key, x in {**own, **keywords}.items())]
    mesh = " ".join(str(int(n)) for n in kgrid)
    return {
        "INPUT": "\n".join([*lines, ""]),
        "STRU": _write_structure(atoms, symbols, potentials, orbitals),
        "KPT": f"K_POINTS\n0\nGamma\n{mesh} 0 0 0\n",
    }


def group_by_element(atoms: Atoms) -> NDArray[np.int64]:
    """Return the atoms in the order of the input, (n_atoms,) int."""
    return np.argsort(atoms.numbers, kind="stable")


def place_in_cell(atoms: Atoms) -> NDArray[np.float64]:
    """Return fractional positions inside 0 … 1, (n_atoms, 3), atoms in their given order.

    Where one lies at the border along an axis, all are shifted along it until the border lies in
    the middle of the widest gap.

    Args:
        atoms: periodic structure, Å.
    """
    fractional = atoms.cell.scaled_positions(atoms.positions)
    for axis in range(3):
        x = fractional[:, axis]
        if np.any(np.abs(x - np.round(x)) < BORDER):
            fractional[:, axis] = x - find_gap(x)[0]
    return fractional - np.floor(fractional)


def _write_structure(
    atoms: Atoms,
    symbols: Sequence[str],
    potentials: Mapping[str, str],
    orbitals: Mapping[str, str],
) -> str:
    masses = [atomic_masses[chemical_symbols.index(symbol)] for symbol in symbols]
    lines = ["ATOMIC_SPECIES"]
    lines += [f"{s} {m:.4f} {potentials[s]}" for s, m in zip(symbols, masses, strict=True)]
    lines += ["", "NUMERICAL_ORBITAL", *(orbitals[symbol] for symbol in symbols)]
    lines += ["", "LATTICE_CONSTANT", f"{1.0 / BOHR:.14f}", "", "LATTICE_VECTORS"]
    lines += [" ".join(f"{x:.12f}" for x in vector) for vector in atoms.cell.array]
    lines += ["", "ATOMIC_POSITIONS", "Direct"]
    placed = place_in_cell(atoms)
    for symbol in symbols:
        chosen = placed[np.array(atoms.get_chemical_symbols()) == symbol]
        lines += ["", symbol, "0.0", str(len(chosen))]
        lines += [" ".join(f"{x:.14f}" for x in row) + " 0 0 0" for row in chosen]
    return "\n".join([*lines, ""])


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
