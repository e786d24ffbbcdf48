"""Whether the units of structures and labels can be right, before anything is computed with them.

A number in Bohr, Hartree, Rydberg or nm is as good a number as one in Å or eV. What gives it away
is the scale that quantum mechanics sets to matter: bonds are as long as two covalent radii, a
crystal has atoms on both sides of its cell's faces, forces are those of bonds that are stretched by
as much as they are, and the occupied levels span what electrons confined to a bond do.

The bounds are wide: factors of 13.6 (Rydberg), 27.2 (Hartree), 51.4 (Hartree/Bohr) lie outside of
them, and the 1.89 of a Bohr where lengths are concerned; compressed and exotic matter lies inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.linalg
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from mlepi.errors import DataError, StructureError, message
from mlepi.graphs.neighbours import check_distances, find_edges
from mlepi.structures.definiteness import sum_real
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.units import COULOMB

FIX = "Check the units; check_units=false takes it as it is."

LONGEST_BOND = 1.5
"""Distance to the nearest neighbour, in sums of covalent radii, above which half of the atoms of no
material lie, noble gases apart (caesium 1.08, mercury 1.14); in Bohr graphene has 1.76."""
LONELIEST = 5.0
"""The same for a single atom: 7.6 Å for carbon, more than any adsorbate."""
NOBLE = (2, 10, 18, 36, 54, 86)
WIDEST_GAP = 1.7
"""Empty slab along a lattice direction, in the largest sum of two covalent radii, that no bond
crosses any more."""
MOST_GAPS = 1
"""Directions with such a slab that a layered crystal has: that of its vacuum."""
FARTHEST = 100.0
"""Lattice vectors by which an atom may lie outside of its cell: far more than any trajectory."""
STIFFNESS = (1.0, 100.0)
"""Forces over changes of bond lengths, in units of e²/(4πε₀d³), the stiffness of bonds of length d;
bilayer graphene and boron nitride have 16 and 15. Cells that are strained and nothing else have
less: their atoms feel no force, and are no data for forces either."""
LEAST_STRAIN = 5e-3
"""Å, root mean square change of bond lengths below which forces say nothing."""
CONFINEMENT = 37.60
"""π²ħ²/(2m), eV Å²: over d², the energy of an electron confined to a bond of length d."""
OCCUPIED_WIDTH = (0.1, 12.0)
"""Fermi energy over the lowest level, in that unit: from single π bands (0.4) and valence bands
(about 1) to low-lying s levels."""
RYDBERG_LEVEL = 13.606
"""eV; an electron of an atom is bound by Z² times it at most."""
CLOSED_SHELLS = (0, 2, 10, 18, 28, 36, 46, 54, 60, 68, 78, 86)
"""Electrons that a pseudopotential may leave out: those of noble gases, with d and f shells."""
SEMI_CORE_SHELLS = (12, 30, 48, 70)
"""The same with the s electrons of the next shell, where p electrons are kept."""
ELECTRON_TOLERANCE = 0.1
FEW_ELECTRONS = 4.0
"""Relative and absolute deviation of the number of electrons that one k-point causes."""
N_SPECTRA = 3
"""Structures of a data set that are diagonalised: the largest ones with fewer orbitals than"""
LARGEST_MATRIX = 400
SCALE = 3.0
"""Factor between a structure's elements of H and those of the others."""


class BondLengths(NamedTuple):
    """What the nearest neighbours of a structure say.

    Attributes:
        ratios: (n_atoms,), distance of the nearest neighbour in sums of covalent radii; infinite
            where there is none near.
        lengths: (n_bonds,), Å, both directions of every pair nearer than 1.25 sums of radii.
        kinds: (n_bonds,) int, the same number for the same two elements.
    """

    ratios: NDArray[np.float64]
    lengths: NDArray[np.float64]
    kinds: NDArray[np.int64]


def measure_bonds(atoms: Atoms) -> BondLengths:
    """Measure the bonds of a structure.

    Args:
        atoms: Å.
    """
    radii = covalent_radii[atoms.numbers]
    reach = LONGEST_BOND * 2.0 * float(radii.max())
    (source, target), shift = find_edges(atoms, reach)
    vectors = atoms.positions[source] + shift @ atoms.cell.array - atoms.positions[target]
    lengths = np.linalg.norm(vectors, axis=1)
    scaled = lengths / (radii[source] + radii[target])
    ratios = np.full(len(atoms), np.inf)
    np.minimum.at(ratios, target, scaled)
    bonded = scaled < 1.25
    low = np.minimum(atoms.numbers[source], atoms.numbers[target])
    high = np.maximum(atoms.numbers[source], atoms.numbers[target])
    return BondLengths(ratios, lengths[bonded], (1000 * low + high)[bonded])


def check_structure(where: str, atoms: Atoms) -> None:
    """Refuse a structure whose lengths cannot be Å, or whose cell is not that of its atoms.

    Args:
        where: structure, for messages.
        atoms: Å.

    Raises:
        StructureError: numbers that are none, an atom far outside of its cell or far from all
            others, two atoms too close, bonds that are too long, or a cell that is too large.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        _refuse(where, "positions or a cell with NaN or infinity", "finite lengths in Å")
    if atoms.cell.rank == 3:
        outside = np.abs(atoms.get_scaled_positions(wrap=False)).max(axis=1)
        if outside.max() > FARTHEST:
            worst = int(outside.argmax())
            place = ", ".join(f"{x:.6g}" for x in atoms.positions[worst])
            _refuse(where, f"atom {worst} at ({place}) Å", "atoms in or near their cell")
    check_distances(where, atoms)
    if len(atoms) < 3 or np.isin(atoms.numbers, NOBLE).any():
        return
    ratios = measure_bonds(atoms).ratios
    if np.median(ratios) > LONGEST_BOND:
        _refuse(
            where,
            f"atoms whose nearest neighbours lie further than {LONGEST_BOND} sums of covalent "
            "radii",
            "bonds: lengths in Å",
        )
    for atom in np.flatnonzero(~np.isfinite(ratios)):
        _check_alone(where, atoms, int(atom))
    gaps = list_gaps(atoms)
    if len(gaps) > MOST_GAPS:
        sizes = ", ".join(f"{gap:.2f} Å along lattice vector {axis + 1}" for axis, gap in gaps)
        _refuse(
            where,
            f"empty space between the atoms and their images: {sizes}",
            "a crystal that bonds cross its cell's faces in at least two directions: cell and "
            "positions both in Å",
        )


def list_gaps(atoms: Atoms) -> list[tuple[int, float]]:
    """Return the periodic directions with an empty slab that no bond crosses, and its width, Å."""
    if atoms.cell.rank < 3:
        return []
    limit = WIDEST_GAP * 2.0 * float(covalent_radii[atoms.numbers].max())
    found = []
    heights = 1.0 / np.linalg.norm(atoms.cell.reciprocal().array, axis=1)
    scaled = atoms.get_scaled_positions(wrap=True)
    for axis in range(3):
        places = np.sort(scaled[:, axis])
        gaps = np.diff(np.append(places, places[0] + 1.0)) * heights[axis]
        if atoms.pbc[axis] and gaps.max() > limit:
            found.append((axis, float(gaps.max())))
    return found


def check_forces(where: str, structures: Iterable[LabelledStructure]) -> None:
    """Refuse a data set whose forces are not those of bonds stretched as they are.

    Args:
        where: data set, for messages.
        structures: with forces, eV/Å.

    Raises:
        DataError: the unit of forces or of lengths cannot be right, or a force is no number.
    """
    squares, strains, lengths = [], [], []
    for structure in structures:
        if structure.forces is None:
            continue
        if not np.isfinite(structure.forces).all():
            text = "forces with NaN or infinity"
            raise DataError(message(f"{where}, {structure.name}", text, "numbers in eV/Å", FIX))
        bonds = measure_bonds(structure.atoms)
        if not len(bonds.lengths):
            continue
        squares.append(float(np.mean(np.sum(structure.forces**2, axis=1))))
        strains.append(_spread(bonds))
        lengths.append(float(bonds.lengths.mean()))
    if not squares or np.sqrt(np.mean(strains)) < LEAST_STRAIN:
        return
    stiffness = np.sqrt(np.mean(squares) / np.mean(strains))
    natural = COULOMB / np.mean(lengths) ** 3
    if not STIFFNESS[0] <= stiffness / natural <= STIFFNESS[1]:
        raise DataError(
            message(
                where,
                f"forces of {np.sqrt(np.mean(squares)):.3g} eV/Å where bonds of "
                f"{np.mean(lengths):.2f} Å change by {np.sqrt(np.mean(strains)):.3g} Å, "
                f"{stiffness:.3g} eV/Å² per bond",
                f"{STIFFNESS[0] * natural:.2g} to {STIFFNESS[1] * natural:.3g} eV/Å²",
                FIX,
            )
        )


def check_hamiltonians(where: str, structures: Sequence[LabelledStructure]) -> None:
    """Refuse a data set whose Hamiltonians cannot be in eV.

    The on-site elements of all structures are compared with each other, and the spectra of a few at
    Γ with the number of electrons and with their kinetic energy.

    Args:
        where: data set, for messages.
        structures: with H (eV) and S.

    Raises:
        DataError: the unit cannot be right.
    """
    scales = np.array([_onsite_scale(structure) for structure in structures])
    known = scales > 0
    middle = float(np.median(scales[known])) if known.any() else 0.0
    for structure, scale in zip(structures, scales, strict=True):
        if scale > 0 and not middle / SCALE <= scale <= middle * SCALE:
            raise DataError(
                message(
                    f"{where}, {structure.name}",
                    f"on-site elements of H of {scale:.4g} eV",
                    f"about {middle:.4g} eV, as in the other structures",
                    FIX,
                )
            )
    small = [s for s in structures if _count_orbitals(s) <= LARGEST_MATRIX]
    for structure in sorted(small, key=_count_orbitals)[-N_SPECTRA:]:
        check_levels(f"{where}, {structure.name}", structure)


def check_levels(where: str, structure: LabelledStructure) -> None:
    """Compare the spectrum at Γ with the number of valence electrons and their confinement.

    Large structures, and those without overlaps or Fermi energy, are not looked at.

    Args:
        where: structure, for messages.
        structure: with H (eV) and S.

    Raises:
        DataError: H cannot be in eV, or not in the unit of its Fermi energy.
    """
    levels = _levels_at_gamma(structure)
    fermi = structure.fermi_energy
    if levels is None or fermi is None:
        return
    numbers = structure.atoms.numbers
    n_electrons = 2 * int(np.sum(levels < fermi))
    possible = list_electron_numbers(numbers)
    fewest = possible[0]
    width, lengths = fermi - float(levels[0]), measure_bonds(structure.atoms).lengths
    if lengths.size:
        low, high = _allowed_width(numbers, float(lengths.mean()), n_electrons)
        if not low <= width <= high:
            raise DataError(
                message(
                    where,
                    f"occupied levels over {width:.4g} eV at Γ",
                    f"{low:.2g} to {high:.3g} eV for bonds of {lengths.mean():.2f} Å",
                    f"H or its Fermi energy is in another unit than eV. {FIX}",
                )
            )
    if 2 * len(levels) < fewest:  # a model of some of the valence bands
        return
    if not any(_is_near(n_electrons, number) for number in possible):
        raise DataError(
            message(
                where,
                f"{n_electrons} electrons below the Fermi energy {fermi:.4g} eV at Γ",
                f"{fewest} (valence) to {possible[-1]} (all), by whole shells",
                f"H and its Fermi energy are in different units, or of different zeros. {FIX}",
            )
        )


def check_predicted(where: str, structure: LabelledStructure, n_electrons: float | None) -> None:
    """Compare the occupied levels at Γ of a predicted H with the confinement of their electrons.

    A prediction has no Fermi energy: the levels are filled. Large structures, and models of some of
    the valence bands, are not looked at.

    Args:
        where: structure, for messages.
        structure: with H (eV) and S.
        n_electrons: valence electrons; None where they are not known, and any number that
            pseudopotentials leave will do.

    Raises:
        DataError: H cannot be in eV.
    """
    levels = _levels_at_gamma(structure)
    lengths = measure_bonds(structure.atoms).lengths
    if levels is None or not lengths.size:
        return
    numbers, length = structure.atoms.numbers, float(lengths.mean())
    possible = list_electron_numbers(numbers) if n_electrons is None else [round(n_electrons)]
    tried = []
    for number in possible:
        occupied = number // 2
        if not 0 < occupied < len(levels):
            continue
        width = float(levels[occupied - 1 : occupied + 1].mean() - levels[0])
        low, high = _allowed_width(numbers, length, number)
        if low <= width <= high:
            return
        tried.append(f"{width:.4g} eV for {number} electrons ({low:.2g} to {high:.3g} eV allowed)")
    if tried:
        raise DataError(
            message(
                where,
                f"occupied levels of the predicted H over {tried[0]} at Γ",
                f"those of electrons confined to bonds of {length:.2f} Å",
                "The network, its labels or its basis are not what they claim to be, or "
                f"valence_electrons are others. {FIX}",
            )
        )


def _allowed_width(
    numbers: NDArray[np.int64], length: float, n_electrons: int
) -> tuple[float, float]:
    """Return the bounds of the Fermi energy over the lowest level, eV; bonds of a length in Å."""
    natural = CONFINEMENT / length**2
    low, high = (factor * natural for factor in OCCUPIED_WIDTH)
    fewest = list_electron_numbers(numbers)[0]
    if not _is_near(n_electrons, fewest) and n_electrons > fewest:  # semi-core, or all
        high = max(high, RYDBERG_LEVEL * float(numbers.max()) ** 2)
    return low, high


def list_electron_numbers(numbers: NDArray[np.int64]) -> list[int]:
    """Return how many electrons pseudopotentials may leave to a structure, in ascending order.

    Args:
        numbers: (n_atoms,) atomic numbers.
    """
    totals = {0}
    for z, count in zip(*np.unique(numbers, return_counts=True), strict=True):
        left = {int(z) - core for core in CLOSED_SHELLS if core < z}
        left |= {int(z) - core for core in SEMI_CORE_SHELLS if core + 8 <= z}
        totals = {total + int(count) * one for total in totals for one in left}
    return sorted(totals)


def _is_near(n_electrons: int, number: int) -> bool:
    return abs(n_electrons - number) <= ELECTRON_TOLERANCE * number + FEW_ELECTRONS


def _count_orbitals(structure: LabelledStructure) -> int:
    basis = structure.basis
    return 0 if basis is None else int(np.count_nonzero(basis.mask(structure.atoms.numbers)))


def _check_alone(where: str, atoms: Atoms, atom: int) -> None:
    vectors = np.delete(atoms.positions, atom, axis=0) - atoms.positions[atom]
    if atoms.cell.rank == 3:
        from ase.geometry import find_mic

        vectors, _ = find_mic(vectors, atoms.cell, atoms.pbc)
    radii = covalent_radii[np.delete(atoms.numbers, atom)] + covalent_radii[atoms.numbers[atom]]
    ratio = float((np.linalg.norm(vectors, axis=1) / radii).min())
    if ratio > LONELIEST:
        nearest = float(np.linalg.norm(vectors, axis=1).min())
        _refuse(where, f"atom {atom} with no other nearer than {nearest:.4g} Å", "bonded atoms")


def _spread(bonds: BondLengths) -> float:
    """Return the mean square deviation of bond lengths from those of the same elements, Å²."""
    deviations = bonds.lengths.copy()
    for kind in np.unique(bonds.kinds):
        same = bonds.kinds == kind
        deviations[same] -= bonds.lengths[same].mean()
    return float(np.mean(deviations**2))


def _onsite_scale(structure: LabelledStructure) -> float:
    """Return the root mean square of the on-site elements of H, eV; 0 without H."""
    if structure.hamiltonian_blocks is None or structure.edge_index is None:
        return 0.0
    source, target = structure.edge_index
    shift = structure.edge_cell_shift
    onsite = (source == target) & (True if shift is None else (shift == 0).all(axis=1))
    blocks = structure.hamiltonian_blocks[onsite]
    return float(np.sqrt(np.mean(blocks**2))) if blocks.size else 0.0


def _levels_at_gamma(structure: LabelledStructure) -> NDArray[np.float64] | None:
    """Return the eigenvalues of H and S at Γ, eV; None where they are not known or too many."""
    basis, edges, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    hamiltonian, overlap = structure.hamiltonian_blocks, structure.overlap_blocks
    if basis is None or edges is None or shift is None:
        return None
    if hamiltonian is None or overlap is None or _count_orbitals(structure) > LARGEST_MATRIX:
        return None
    mask = basis.mask(structure.atoms.numbers)
    gamma = np.zeros(3)
    try:
        levels: NDArray[np.float64] = scipy.linalg.eigvalsh(
            *(sum_real(edges, shift, blocks, mask, gamma) for blocks in (hamiltonian, overlap))
        )
    except np.linalg.LinAlgError:
        return None  # the overlap is checked elsewhere
    return levels


def _refuse(where: str, got: str, expected: str) -> None:
    raise StructureError(message(where, got, expected, FIX))
