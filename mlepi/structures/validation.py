"""What labels of a Hamiltonian must satisfy, and what is merely unusual, whatever their code.

``check_hamiltonian_labels`` is structural and holds for any labels, a model included. The others
use the physics of local orbitals to unmask a wrong orbital order, cell index, unit or structure in
a foreign file: they raise for what cannot be, and return remarks (``remarks``) for what is unusual.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import scipy.linalg
from ase.data import chemical_symbols
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.axial import axial_deviation, spherical_deviation
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.block_checks import (
    check_atom_indices,
    check_blocks,
    onsite_edges,
)
from mlepi.structures.bonds import SAME_PLACE, Bonds, find_bonds
from mlepi.structures.definiteness import (
    check_definite,
    is_definite,
    real_kpoints,
    sum_real,
)
from mlepi.structures.hamiltonian_geometry import check_alike, check_hamiltonian_axes
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges

ONSITE_OVERLAP = 1e-3
"""Largest usual |S_ii − 1| on the diagonal of an on-site block, and |S| between its shells."""

ONSITE_RANGE = (0.5, 2.0)
"""Where the overlap of an orbital with itself must lie."""

SMALLEST_LATER = 0.01
"""The same of a further function of one l: GPAW's are what a longer one has beyond a shorter one,
with norms² of 0.34 (B) down to 0.03 (W)."""

TWO_CENTRE = 1e-4
"""Largest usual part of S that is not symmetric around its bond, dimensionless (OpenMX: 6e-9)."""

WRONG_AXIS = 0.3
"""Part of a strong block, relative to its norm, that is not symmetric around its bond, beyond which
orbital order, cell indices or structure must be wrong: PAW and k-meshes reach some percent, a wrong
order of functions about 1."""

STRONG, STRONG_OVERLAP = 0.2, 0.02
"""Blocks of two shells with at least this part of the largest norm, and this norm, are strong."""

DISTANCE = 1e-3
"""How far a pair may exceed the sum of its two orbital radii, Å (rounding of radii and
coordinates)."""

FERMI_MARGIN = 1.0
"""How far the Fermi energy usually lies above all levels at the k-points tried at most, eV."""

ENERGY_ZERO = 10.0
"""Largest usual |Fermi energy|, eV."""

MAX_ORBITALS_FOR_SPECTRUM = 4000
"""Largest matrix that ``check_spectrum`` factorises; larger structures skip it."""


def check_hamiltonian_labels(structure: LabelledStructure, where: str | None = None) -> None:
    """Check edges, shapes, padding, Hermiticity and the sign of on-site overlaps of one structure.

    Args:
        structure: labels in internal units and order; either matrix may be None, without any matrix
            nothing is checked.
        where: name used in messages; the structure's name when None.

    Raises:
        DataError: the labels break one of the conventions of ``LabelledStructure``.
    """
    where = where or structure.name
    matrices = {"Hamiltonian": structure.hamiltonian_blocks, "overlap": structure.overlap_blocks}
    present = {
        quantity: np.asarray(blocks) for quantity, blocks in matrices.items() if blocks is not None
    }
    if not present:
        return
    if structure.basis is None or structure.edge_index is None or structure.edge_cell_shift is None:
        raise DataError(
            message(
                where,
                "blocks without basis or edges",
                "basis, edge_index and edge_cell_shift",
                "Complete the labels.",
            )
        )
    basis, edge_index, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    numbers = structure.atoms.numbers
    check_atom_indices(where, edge_index, len(numbers), base=0)
    onsite = onsite_edges(where, edge_index, shift, len(numbers))
    try:
        reverse = reverse_edges(edge_index, shift)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    mask = basis.mask(numbers)
    padding = ~(mask[edge_index[1]][:, :, None] & mask[edge_index[0]][:, None, :])
    for quantity, blocks in present.items():
        check_blocks(where, quantity, blocks, padding)
        if not np.array_equal(blocks, blocks[reverse].transpose(0, 2, 1)):
            raise DataError(
                message(
                    where,
                    f"{quantity} blocks that are not Hermitian",
                    "H_ij(R) = H_ji(−R)ᵀ exactly",
                    "Symmetrise them.",
                )
            )
    if "overlap" in present:
        check_normalisation(where, present["overlap"][onsite], mask, basis.mark_later(numbers))


def check_normalisation(
    where: str,
    onsite_overlap: NDArray[np.floating],
    mask: NDArray[np.bool_],
    later: NDArray[np.bool_],
) -> None:
    """Check that on-site overlaps can be those of normalised orbitals.

    Args:
        where: file or folder, for the message.
        onsite_overlap: (n_atoms, p, p), dimensionless.
        mask: (n_atoms, p) bool, the orbitals that exist.
        later: (n_atoms, p) bool, those of a shell behind another one of its l.
    """
    diagonal = np.diagonal(onsite_overlap, axis1=1, axis2=2)[mask]
    smallest = np.where(later[mask], SMALLEST_LATER, ONSITE_RANGE[0])
    wrong = diagonal[~((smallest < diagonal) & (diagonal < ONSITE_RANGE[1]))]
    if len(wrong):
        worst = wrong[np.argmax(np.abs(np.log(np.maximum(wrong, 1e-300))))]
        raise DataError(
            message(
                where,
                f"an on-site overlap of {worst:.6g} on the diagonal",
                f"a value between {ONSITE_RANGE[0]:g} and {ONSITE_RANGE[1]:g}, near 1",
                "The matrix is not an overlap, or the blocks are read with a wrong size or "
                "position.",
            )
        )


def check_two_centre_overlap(
    structure: LabelledStructure, where: str | None = None
) -> dict[str, float]:
    """Check cell indices, orbital order and structure against the geometry.

    No pair may be further apart than the sum of its orbital radii. Overlaps are two-centre
    integrals (``axial``) up to the errors of a k-mesh and the corrections of PAW; in another
    orbital order, with R reversed, or for another structure they are not. Blocks of H must be
    strong where those of S are, and roughly symmetric around their bonds.

    Args:
        structure: labels; without edges or overlaps nothing is checked.
        where: name used in messages; the structure's name when None.

    Returns:
        Remarks: kind → how much.

    Raises:
        DataError: a pair is too long, or a matrix cannot be of this structure.
    """
    where = where or structure.name
    basis, edge_index, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    if basis is None or edge_index is None or shift is None:
        return {}
    bonds = find_bonds(structure.atoms, edge_index, shift)
    _check_reach(where, basis, edge_index, bonds)
    overlap, hamiltonian = structure.overlap_blocks, structure.hamiltonian_blocks
    if overlap is None:
        return {}
    remarks = _judge_onsite(overlap, basis, bonds)
    worst = remarks.pop("not_two_centre", 0.0)
    for pair, edges in bonds.by_elements(bonds.distances > SAME_PLACE).items():
        size = (basis.n_orbitals(pair[0]), basis.n_orbitals(pair[1]))
        shells = (basis.shells[pair[0]], basis.shells[pair[1]])
        axes = bonds.vectors[edges] / bonds.distances[edges, None]
        cut = overlap[edges][:, : size[0], : size[1]]
        deviation = axial_deviation(cut, axes, shells)
        worst = max(worst, float(np.abs(deviation).max()))
        if worst > TWO_CENTRE:
            _check_axes(where, cut, deviation, shells)
    if hamiltonian is not None:
        check_alike(where, hamiltonian, overlap, bonds)
        check_hamiltonian_axes(where, hamiltonian, basis, bonds)
    if worst > TWO_CENTRE:
        remarks["not_two_centre"] = worst
    return remarks


def _check_reach(
    where: str, basis: OrbitalBasis, edge_index: NDArray[np.int64], bonds: Bonds
) -> None:
    """Check that no pair is longer than its two radii."""
    radii = np.zeros(len(chemical_symbols))
    radii[list(basis.radii)] = list(basis.radii.values())
    reach = radii[bonds.targets] + radii[bonds.sources]
    excess = bonds.distances - reach
    if excess.size and excess.max() > DISTANCE:
        worst = int(np.argmax(excess))
        raise DataError(
            message(
                where,
                f"a pair of atoms {edge_index[1, worst]} and {edge_index[0, worst]} (counted from "
                f"0) at {bonds.distances[worst]:.4f} Å",
                f"at most {reach[worst]:.4f} Å, the sum of the orbital radii",
                "Check the cell indices, the unit of length and the radii.",
            )
        )


def _judge_onsite(
    overlap: NDArray[np.floating], basis: OrbitalBasis, bonds: Bonds
) -> dict[str, float]:
    """Return how far on-site overlaps are from those of normalised orthogonal shells."""
    off = {"normalisation": 0.0, "shells_overlap": 0.0, "not_two_centre": 0.0}
    for (z, other), edges in bonds.by_elements(bonds.distances <= SAME_PLACE).items():
        if z == other:
            n = basis.n_orbitals(z)
            blocks = overlap[edges][:, :n, :n]
            difference = np.abs(blocks - np.eye(n))
            diagonal = np.diagonal(difference, axis1=1, axis2=2)
            off["normalisation"] = max(off["normalisation"], float(diagonal.max()))
            between = (difference * (1.0 - np.eye(n))).max()
            off["shells_overlap"] = max(off["shells_overlap"], float(between))
            spherical = spherical_deviation(blocks, basis.shells[z])
            off["not_two_centre"] = max(off["not_two_centre"], spherical)
    limits = {"normalisation": ONSITE_OVERLAP, "shells_overlap": ONSITE_OVERLAP}
    return {kind: amount for kind, amount in off.items() if amount > limits.get(kind, 0.0)}


def _check_axes(
    where: str,
    blocks: NDArray[np.floating],
    deviation: NDArray[np.float64],
    shells: tuple[Sequence[int], Sequence[int]],
) -> None:
    """Refuse overlaps of two shells whose strong blocks have nothing to do with their bonds."""
    ends = [np.concatenate([[0], np.cumsum([2 * l + 1 for l in ls])]) for ls in shells]
    for (a, la), (b, lb) in product(enumerate(shells[0]), enumerate(shells[1])):
        part = np.s_[:, ends[0][a] : ends[0][a + 1], ends[1][b] : ends[1][b + 1]]
        norms = np.linalg.norm(blocks[part], axis=(1, 2))
        strong = norms > max(STRONG * norms.max(), STRONG_OVERLAP)
        relative = np.linalg.norm(deviation[part][strong], axis=(1, 2)) / norms[strong]
        if np.count_nonzero(relative > WRONG_AXIS) > 0.02 * len(relative):
            names = "–".join("spdfghi"[l] for l in (la, lb))
            raise DataError(
                message(
                    where,
                    f"{names} overlaps that deviate from the bond direction by up to "
                    f"{float(relative.max()):.2g} of their size",
                    f"less than {WRONG_AXIS:g}",
                    "The orbital order inside a shell, the sign of the cell indices or the "
                    "structure is not the assumed one.",
                )
            )


def check_spectrum(structure: LabelledStructure, where: str | None = None) -> dict[str, float]:
    """Check overlap and Fermi energy at the k-points where matrices are real (0 and ½).

    S must be positive definite, and some level must lie below the Fermi energy. Structures with
    more than ``MAX_ORBITALS_FOR_SPECTRUM`` orbitals are left out.

    Args:
        structure: labels; without overlaps nothing is checked.
        where: name used in messages; the structure's name when None.

    Returns:
        Remarks: kind → how much.

    Raises:
        DataError: S has an eigenvalue ≤ 0, or all levels are above E_F (energies in different
            units).
    """
    where = where or structure.name
    edge_index, shift = structure.edge_index, structure.edge_cell_shift
    blocks = structure.overlap_blocks, structure.hamiltonian_blocks
    if structure.basis is None or edge_index is None or shift is None or blocks[0] is None:
        return {}
    mask = structure.basis.mask(structure.atoms.numbers)
    if np.count_nonzero(mask) > MAX_ORBITALS_FOR_SPECTRUM:
        return {}
    remarks: dict[str, float] = {}
    fermi = structure.fermi_energy
    below = above = blocks[1] is not None and fermi is not None
    for kpoint in real_kpoints(shift):
        overlap = sum_real(edge_index, shift, blocks[0], mask, kpoint)
        smallest = check_definite(where, overlap, kpoint)
        if smallest is not None:
            remarks["near_singular"] = min(smallest, remarks.get("near_singular", smallest))
        if (below or above) and blocks[1] is not None and fermi is not None:
            matrix = sum_real(edge_index, shift, blocks[1], mask, kpoint)
            below = below and is_definite(matrix - fermi * overlap)
            above = above and is_definite((fermi - FERMI_MARGIN) * overlap - matrix)
            if not kpoint.any() and (below or above):
                levels = scipy.linalg.eigvalsh(matrix, overlap)
                remarks |= _judge_fermi(where, fermi, levels, below)
    if fermi is not None and abs(fermi) > ENERGY_ZERO:
        remarks["energy_zero"] = float(fermi)
    return remarks


def _judge_fermi(
    where: str, fermi: float, levels: NDArray[np.float64], below: bool
) -> dict[str, float]:
    """Refuse a Fermi energy below all levels; remark one above them. 0 may mean "not known"."""
    low, high = float(levels[0]), float(levels[-1])
    if below and fermi != 0.0:
        raise DataError(
            message(
                where,
                f"Fermi energy {fermi:.4f} eV",
                f"a value among the levels, {low:.4f} … {high:.4f} eV at Γ",
                "Check that Hamiltonian and Fermi energy are both in eV and not shifted.",
            )
        )
    return {} if fermi == 0.0 else {"fermi_above_all": fermi - high}
