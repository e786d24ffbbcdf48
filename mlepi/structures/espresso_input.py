"""Input of pw.x of Quantum ESPRESSO: one self-consistent calculation with forces.

Names of variables are those of ``INPUT_PW`` (https://www.quantum-espresso.org/Doc/INPUT_PW.html).
Positions and lattice vectors are in Å.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ase import Atoms
from ase.data import atomic_masses, chemical_symbols

from mlepi.errors import StructureError, message

Namelists = Mapping[str, Mapping[str, str | int | float | bool]]
"""Name of a namelist → variable → value."""


def build_espresso_input(
    atoms: Atoms, namelists: Namelists, potentials: Mapping[str, str], kgrid: Sequence[int]
) -> str:
    """Return the text of an input file.

    Args:
        atoms: structure with three lattice vectors, Å.
        namelists: CONTROL, SYSTEM, ELECTRONS …, in this order, without what the structure decides.
        potentials: chemical symbol → file of the pseudopotential.
        kgrid: k-points along the three reciprocal vectors, Γ among them.

    Raises:
        StructureError: no cell with a volume, or an element without a pseudopotential.
    """
    symbols = [chemical_symbols[z] for z in sorted(set(atoms.numbers.tolist()))]
    missing = [symbol for symbol in symbols if symbol not in potentials]
    if missing or atoms.cell.rank < 3:
        got = f"{missing} without a pseudopotential, a cell of rank {atoms.cell.rank}"
        expected = "a pseudopotential of every element, and a periodic cell"
        raise StructureError(message("structure", got, expected, "Complete them."))
    geometry = {"ibrav": 0, "nat": len(atoms), "ntyp": len(symbols)}
    lines: list[str] = []
    for name, variables in namelists.items():
        own = {**geometry, **variables} if name == "SYSTEM" else variables
        lines += [f"&{name}", *(f"  {key} = {_text(x)}" for key, x in own.items()), "/"]
    lines.append("ATOMIC_SPECIES")
    for symbol in symbols:
        mass = atomic_masses[chemical_symbols.index(symbol)]
        lines.append(f"{symbol} {mass:.4f} {potentials[symbol]}")
    lines.append("CELL_PARAMETERS angstrom")
    lines += [" ".join(f"{x:.12f}" for x in vector) for vector in atoms.cell.array]
    lines.append("ATOMIC_POSITIONS angstrom")
    for symbol, position in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True):
        lines.append(f"{symbol} " + " ".join(f"{x:.12f}" for x in position))
    mesh = " ".join(str(int(n)) for n in kgrid)
    return "\n".join([*lines, "K_POINTS automatic", f"{mesh} 0 0 0", ""])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return {True: ".true.", False: ".false."}[value]
    return f"'{value}'" if isinstance(value, str) else str(value)
