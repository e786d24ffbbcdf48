"""Valence electrons of the elements of a data set: counted from its H, S and Fermi energies.

A file of H and S rarely says how many electrons a pseudopotential leaves. They follow: twice the
number of states below the Fermi energy is the number of electrons of a cell, and a pseudopotential
keeps what lies outside a closed core. Where this leaves a choice, the usual pseudopotentials decide
(``USUAL``); where it does not, nobody guesses and the user is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import scipy.linalg
from ase.data import atomic_numbers, chemical_symbols

from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.definiteness import real_kpoints, sum_real
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.structures.openmx_text import is_openmx_name

_SEVERAL = 0
"""In the list below: elements with several pseudopotentials, iron to zinc."""

_FROM_HYDROGEN = (
    *(1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9, 8, 3, 4, 5, 6, 7, 8),  # to argon
    *(9, 10, 11, 12, 13, 14, 15, *[_SEVERAL] * 5, 13, 4, 15, 6, 7, 8),  # to krypton
    *(9, 10, 11, 12, 13, 14, 15, 14, 15, 16, 17, 12, 13, 14, 15, 16),  # to tellurium
)

USUAL = {z: n for z, n in enumerate(_FROM_HYDROGEN, start=1) if n != _SEVERAL} | {82: 14, 83: 15}
"""Atomic number → electrons of OpenMX's pseudopotentials of 2019 (DFT_DATA19, its manual, "PAO and
VPS"), of elements that have a single one; most norm-conserving sets have the same."""

CORES = (0, 2, 10, 18, 28, 36, 46, 54, 60, 68, 78)
"""Electrons of cores of closed shells that pseudopotentials replace."""

RARE_CORES = (4, 12, 30, 48, 62, 80)
"""The same, up to a shell of s alone."""

TOLERANCE = 0.5
"""Electrons per atom by which a count on few k-points may be off (metals)."""

LARGEST = 1500
"""Orbitals of the largest cell that is diagonalised."""

MOST_ELEMENTS = 4
"""Elements whose cores are tried in all combinations."""

N_COMPOSITIONS = 4
"""Compositions that are counted, and more where an element is in none of them."""


@dataclass(frozen=True)
class ElectronCount:
    """What the labels say about the valence electrons.

    Attributes:
        electrons: atomic number → electrons; None where the labels do not decide.
        cells: counted electrons in words, such as "26.00 per MoS2".
        suggestion: what a user may write, such as "{Mo: 14, S: 6}".
    """

    electrons: Mapping[int, float] | None
    cells: Sequence[str]
    suggestion: str


def count_electrons(structure: LabelledStructure) -> float | None:
    """Return the electrons of a cell: twice the states below the Fermi energy.

    States are those at the k-points of zeros and halves, where the Bloch sums are real; the count
    is exact where there is a gap.

    Args:
        structure: labels.

    Returns:
        None without H, S or Fermi energy, and for cells beyond ``LARGEST``.
    """
    basis, edges, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    h, s, energy = (
        structure.hamiltonian_blocks, structure.overlap_blocks, structure.fermi_energy
    )  # fmt: skip
    if basis is None or edges is None or shift is None or h is None or s is None or energy is None:
        return None
    numbers = structure.atoms.numbers
    if int(basis.counts(numbers).sum()) > LARGEST:
        return None
    mask, occupied = basis.mask(numbers), []
    for kpoint in real_kpoints(shift):
        levels = scipy.linalg.eigvalsh(
            sum_real(edges, shift, h, mask, kpoint), sum_real(edges, shift, s, mask, kpoint)
        )
        occupied.append(np.count_nonzero(levels < energy))
    return 2.0 * float(np.mean(occupied))


def choose_cells(structures: Sequence[LabelledStructure]) -> list[int]:
    """Choose the cells to be counted: the smallest of a few compositions, with every element.

    Args:
        structures: labels, or their outlines without blocks.

    Returns:
        Places in the sequence.
    """
    smallest: dict[tuple[tuple[int, int], ...], int] = {}
    for place, structure in enumerate(structures):
        formula = _reduce(structure)
        before = smallest.get(formula)
        if before is None or len(structure.atoms) < len(structures[before].atoms):
            smallest[formula] = place
    chosen: list[int] = []
    seen: set[int] = set()
    for place in sorted(smallest.values(), key=lambda place: len(structures[place].atoms)):
        elements = set(structures[place].atoms.numbers.tolist())
        if len(chosen) < N_COMPOSITIONS or elements - seen:
            chosen.append(place)
            seen |= elements
    return chosen


def find_valence_electrons(
    structures: Sequence[LabelledStructure],
    load: Callable[[int], LabelledStructure] | None = None,
) -> ElectronCount:
    """Find the valence electrons of every element of labelled structures.

    Args:
        structures: labels; those that ``choose_cells`` chooses are counted.
        load: reads the labels of one of them, where ``structures`` are outlines.
    """
    elements = {int(z) for structure in structures for z in structure.atoms.numbers}
    chosen = choose_cells(structures)
    cells_of = [structures[place] if load is None else load(place) for place in chosen]
    found = [(structure, count_electrons(structure)) for structure in cells_of]
    counted = [(structure, number) for structure, number in found if number is not None]
    cells = [(Counter(structure.atoms.numbers.tolist()), number) for structure, number in counted]
    words = []
    for structure, number in counted:
        formula = _reduce(structure)
        units = len(structure.atoms) / sum(n for _, n in formula)
        text = "".join(f"{chemical_symbols[z]}{n if n > 1 else ''}" for z, n in formula)
        words.append(f"{number / units:.2f} per {text}")
    electrons = assign_electrons(sorted(elements), cells)
    return ElectronCount(electrons, words, suggest_electrons(sorted(elements), electrons))


def assign_electrons(
    elements: Sequence[int], cells: Sequence[tuple[Mapping[int, int], float]]
) -> dict[int, float] | None:
    """Divide counted electrons over elements: the usual pseudopotentials, or the only closed cores.

    Args:
        elements: atomic numbers.
        cells: atomic number → atoms of a cell, and its electrons.

    Returns:
        Atomic number → electrons; None without cells, with elements that no cell has, and where no
        choice of cores fits, or several do.
    """
    if not cells or set(elements) - {z for atoms, _ in cells for z in atoms}:
        return None

    def off(choice: Mapping[int, float]) -> float:
        """Return the largest difference, electrons per atom."""
        return max(
            abs(sum(choice[z] * n for z, n in atoms.items()) - number) / sum(atoms.values())
            for atoms, number in cells
        )

    usual = {z: float(USUAL[z]) for z in elements if z in USUAL}
    if len(usual) == len(elements) and off(usual) <= TOLERANCE:
        return usual
    if len(elements) > MOST_ELEMENTS:
        return None
    for cores in (CORES, CORES + RARE_CORES):
        values = ([float(z - core) for core in cores if core < z] for z in elements)
        choices = [dict(zip(elements, choice, strict=True)) for choice in product(*values)]
        best = min(map(off, choices))
        if best <= TOLERANCE:
            near = [choice for choice in choices if off(choice) <= best + 1e-9]
            return near[0] if len(near) == 1 else None
    return None


def name_electrons(basis: OrbitalBasis) -> dict[int, float]:
    """Return the electrons of elements whose orbitals are OpenMX's, by their names.

    Args:
        basis: of a checkpoint or data set.
    """
    return {
        z: float(USUAL[z])
        for z, name in basis.names.items()
        if z in USUAL and is_openmx_name(z, name)
    }


def suggest_electrons(elements: Sequence[int], known: Mapping[int, float] | None = None) -> str:
    """Return what a user may write, such as "{Mo: 14, S: 6}".

    Args:
        elements: atomic numbers.
        known: of some of them; usual pseudopotentials stand for others, and what is outside a
            noble gas for elements without one.
    """
    words = []
    for z in elements:
        outside = z - max(core for core in CORES if core < z)
        words.append(f"{chemical_symbols[z]}: {(known or {}).get(z, USUAL.get(z, outside)):g}")
    return f"{{{', '.join(words)}}}"


def read_symbols(given: Mapping[Any, float]) -> dict[int, float]:
    """Return atomic number → electrons of what a user wrote, with symbols or numbers.

    Raises:
        ValueError: a key is no element.
    """
    read = {}
    for key, value in given.items():
        number = atomic_numbers.get(str(key)) if not str(key).isdigit() else int(str(key))
        if not number or number >= len(chemical_symbols):
            raise ValueError(f"{key!r} is no element")
        read[number] = value
    return read


def _reduce(structure: LabelledStructure) -> tuple[tuple[int, int], ...]:
    """Return the composition of a structure in smallest whole numbers, heavy elements first."""
    counts = Counter(structure.atoms.numbers.tolist())
    divisor = int(np.gcd.reduce(list(counts.values())))
    return tuple((int(z), n // divisor) for z, n in sorted(counts.items(), reverse=True))
