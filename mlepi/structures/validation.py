"""Cheap invariants that Hamiltonian labels must satisfy, whatever code they come from.

``check_hamiltonian_labels`` is structural and holds for any labels, a model included.
``check_two_centre_overlap`` and ``check_spectrum`` use physics of local orbitals to unmask a wrong
orbital order, cell index or unit in a foreign file.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from mlepi.errors import DataError, message
from mlepi.structures.basis import OrbitalBasis
from mlepi.structures.labelled_structure import LabelledStructure, reverse_edges

HAMILTONIAN_HERMITICITY = 1e-4
"""Largest accepted |H_ij(R) − H_ji(−R)ᵀ| of a foreign file, eV; codes reach 1e-8, single precision
1e-6."""

OVERLAP_HERMITICITY = 1e-5
"""Largest accepted |S_ij(R) − S_ji(−R)ᵀ| of a foreign file, dimensionless."""

ONSITE_OVERLAP = 1e-3
"""Largest accepted |S_ii − 1| on the diagonal of an on-site block: orbitals are normalised."""

TWO_CENTRE = 1e-4
"""Largest accepted part of an s–l overlap that is not along Y_l of the bond direction,
dimensionless (OpenMX: 6e-9)."""

DISTANCE = 1e-3
"""How far a pair may exceed the sum of its two orbital radii, Å (rounding of radii and
coordinates)."""

FERMI_MARGIN = 1.0
"""How far the Fermi energy may lie outside the Γ-point spectrum, eV."""

MAX_ORBITALS_FOR_SPECTRUM = 1500
"""Largest matrix for which ``check_spectrum`` diagonalises; larger structures skip it (seconds to
minutes)."""


def symmetrise_blocks(
    where: str,
    quantity: str,
    blocks: NDArray[np.float64],
    reverse: NDArray[np.int64],
    tolerance: float,
) -> NDArray[np.float64]:
    """Average every block with its transposed reverse, if they agree to begin with.

    Args:
        where: file or folder, for the message.
        quantity: "Hamiltonian" or "overlap", for the message.
        blocks: (n_edges, p, p).
        reverse: (n_edges,) int, from ``reverse_edges``.
        tolerance: largest accepted difference, in the unit of the blocks.

    Returns:
        (n_edges, p, p); block e is bitwise the transpose of block reverse[e].

    Raises:
        DataError: some block differs from its transposed reverse by more than the tolerance.
    """
    transposed = blocks[reverse].transpose(0, 2, 1)
    deviation = np.abs(blocks - transposed).max(axis=(1, 2), initial=0.0)
    worst = float(deviation.max(initial=0.0))
    if not worst <= tolerance:
        raise DataError(
            message(
                where,
                f"{quantity} blocks that differ from their transposed reverse by up to {worst:.3g}",
                f"at most {tolerance:g}",
                "The file is damaged or its pair convention is not ⟨i,0|·|j,R⟩ with rows i.",
            )
        )
    return 0.5 * (blocks + transposed)


def check_hamiltonian_labels(structure: LabelledStructure, where: str | None = None) -> None:
    """Check edges, shapes, padding, Hermiticity and normalised orbitals of one structure.

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
        _check_blocks(where, quantity, blocks, padding)
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
        check_normalisation(where, present["overlap"][onsite], mask)


def _check_blocks(
    where: str, quantity: str, blocks: NDArray[np.floating], padding: NDArray[np.bool_]
) -> None:
    """Check that blocks are finite, of the shape of their padding, and zero in it."""
    if blocks.shape != padding.shape:
        raise DataError(
            message(
                where,
                f"{quantity} blocks of shape {blocks.shape}",
                f"{padding.shape}",
                "Pad blocks to basis.max_orbitals.",
            )
        )
    check_finite(where, quantity, blocks)
    if np.any(blocks[padding] != 0.0):
        raise DataError(
            message(
                where,
                f"{quantity} values in padded orbitals",
                "zeros there",
                "Check the basis of each element.",
            )
        )


def check_atom_indices(where: str, indices: NDArray[np.integer], n_atoms: int, base: int) -> None:
    """Check that the atom indices of a file lie in base … n_atoms − 1 + base."""
    if indices.size and (int(indices.min()) < base or int(indices.max()) > n_atoms - 1 + base):
        raise DataError(
            message(
                where,
                f"atom indices from {int(indices.min())} to {int(indices.max())} for {n_atoms} "
                "atoms",
                f"indices {base} … {n_atoms - 1 + base} (counted from {base})",
                "The pair list belongs to another structure or counts atoms from another base.",
            )
        )


def check_finite(where: str, quantity: str, values: NDArray[np.floating]) -> None:
    """Raise ``DataError`` when a value is NaN or infinite."""
    n_bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if n_bad:
        raise DataError(
            message(
                where,
                f"{n_bad} {quantity} values that are NaN or infinite",
                "finite numbers",
                "Repeat the calculation.",
            )
        )


def onsite_edges(
    where: str, edge_index: NDArray[np.int64], edge_cell_shift: NDArray[np.int64], n_atoms: int
) -> NDArray[np.int64]:
    """Find the on-site edge (i = j, R = 0) of every atom: (n_atoms,) int.

    Raises:
        DataError: one is missing.
    """
    candidates = np.flatnonzero(
        (edge_index[0] == edge_index[1]) & np.all(edge_cell_shift == 0, axis=1)
    )
    position = np.full(n_atoms, -1, dtype=np.int64)
    position[edge_index[1, candidates]] = candidates
    missing = np.flatnonzero(position < 0)
    if missing.size:
        raise DataError(
            message(
                where,
                f"no on-site block for {missing.size} atoms (first: atom {missing[0]}, counted "
                "from 0)",
                "one block with i = j and R = 0 per atom",
                "Write the blocks again, on-site pairs included.",
            )
        )
    return position


def check_normalisation(
    where: str, onsite_overlap: NDArray[np.floating], mask: NDArray[np.bool_]
) -> None:
    """Check that on-site overlaps have a unit diagonal.

    Args:
        where: file or folder, for the message.
        onsite_overlap: (n_atoms, p, p), dimensionless.
        mask: (n_atoms, p) bool, the orbitals that exist.
    """
    diagonal = np.diagonal(onsite_overlap, axis1=1, axis2=2)[mask]
    worst = diagonal[np.argmax(np.abs(diagonal - 1.0))]
    if not abs(worst - 1.0) <= ONSITE_OVERLAP:
        raise DataError(
            message(
                where,
                f"an on-site overlap of {worst:.6g} on the diagonal",
                f"1 within {ONSITE_OVERLAP:g} (normalised orbitals)",
                "The matrix is not an overlap, or the blocks are read with a wrong size or "
                "position.",
            )
        )


def check_two_centre_overlap(structure: LabelledStructure, where: str | None = None) -> None:
    """Check cell indices and orbital order against the geometry.

    No pair may be further apart than the sum of its orbital radii, and the overlap of an s function
    on i with a shell l on j must be proportional to Y_l of the bond direction (Slater and Koster
    1954, doi:10.1103/PhysRev.94.1498): in another orbital order, or with R reversed, it is not.

    Raises:
        DataError: a pair is too long, or an overlap does not point along its bond.
    """
    where = where or structure.name
    basis, edge_index, shift = structure.basis, structure.edge_index, structure.edge_cell_shift
    if basis is None or edge_index is None or shift is None:
        return
    (source, target) = edge_index
    numbers = structure.atoms.numbers
    positions = structure.atoms.positions
    vectors = positions[source] + shift @ structure.atoms.cell.array - positions[target]
    distances = np.linalg.norm(vectors, axis=1)
    reach = np.array([basis.radii.get(int(z), 0.0) for z in numbers])
    excess = distances - reach[source] - reach[target]
    if excess.size and excess.max() > DISTANCE:
        worst = int(np.argmax(excess))
        raise DataError(
            message(
                where,
                f"a pair of atoms {target[worst]} and {source[worst]} (counted from 0) at "
                f"{distances[worst]:.4f} Å",
                f"at most {reach[source[worst]] + reach[target[worst]]:.4f} Å, the sum of the "
                "orbital radii",
                "Check the cell indices, the unit of length and the radii.",
            )
        )
    if structure.overlap_blocks is None:
        return
    bonded = distances > 0.1
    for a in sorted({int(z) for z in numbers}):
        for b in sorted({int(z) for z in numbers}):
            edges = np.flatnonzero(bonded & (numbers[target] == a) & (numbers[source] == b))
            if edges.size:
                directions = vectors[edges] / distances[edges, None]
                _check_element_pair(
                    where, basis, (a, b), structure.overlap_blocks[edges], directions
                )


def check_spectrum(structure: LabelledStructure, where: str | None = None) -> None:
    """Check overlap and Fermi energy at Γ.

    S must be positive definite and E_F lie in the range of the eigenvalues. Structures with more
    than ``MAX_ORBITALS_FOR_SPECTRUM`` orbitals are not diagonalised.

    Raises:
        DataError: S has an eigenvalue ≤ 0, or E_F lies outside the spectrum (energies in different
            units).
    """
    where = where or structure.name
    if structure.basis is None or structure.edge_index is None or structure.overlap_blocks is None:
        return
    mask, edge_index = structure.basis.mask(structure.atoms.numbers), structure.edge_index
    if np.count_nonzero(mask) > MAX_ORBITALS_FOR_SPECTRUM:
        return
    overlap = sum_at_gamma(edge_index, structure.overlap_blocks, mask)
    smallest = float(scipy.linalg.eigvalsh(overlap, subset_by_index=[0, 0])[0])
    if not smallest > 0.0:
        raise DataError(
            message(
                where,
                f"an overlap matrix with smallest eigenvalue {smallest:.3g} at Γ",
                "a positive definite matrix",
                "Pairs are missing, or the blocks stand in a wrong order.",
            )
        )
    if structure.hamiltonian_blocks is None or structure.fermi_energy is None:
        return
    eigenvalues = scipy.linalg.eigvalsh(
        sum_at_gamma(edge_index, structure.hamiltonian_blocks, mask), overlap
    )
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    if not low - FERMI_MARGIN <= structure.fermi_energy <= high + FERMI_MARGIN:
        raise DataError(
            message(
                where,
                f"Fermi energy {structure.fermi_energy:.4f} eV",
                f"a value among the eigenvalues at Γ, {low:.4f} … {high:.4f} eV",
                "Check that Hamiltonian and Fermi energy are both in eV and not shifted.",
            )
        )


def _check_element_pair(
    where: str,
    basis: OrbitalBasis,
    pair: tuple[int, int],
    overlap: NDArray[np.floating],
    directions: NDArray[np.float64],
) -> None:
    """Compare the s–l overlaps (l = 1, 2) of an ordered element pair with Y_l of the bonds."""
    rows = [
        s.start for l, s in zip(basis.shells[pair[0]], basis.slices(pair[0]), strict=True) if l == 0
    ]
    for l, columns in zip(basis.shells[pair[1]], basis.slices(pair[1]), strict=True):
        if l not in (1, 2):
            continue
        harmonics = _unit_harmonics(l, directions)
        for row in rows:
            values = overlap[:, row, columns]
            along = np.sum(values * harmonics, axis=1, keepdims=True) * harmonics
            worst = float(np.abs(values - along).max())
            if worst > TWO_CENTRE:
                raise DataError(
                    message(
                        where,
                        f"s–{'spd'[l]} overlaps that deviate from the bond direction by "
                        f"{worst:.3g}",
                        f"less than {TWO_CENTRE:g}",
                        "The orbital order inside a shell, the sign of the cell indices or the "
                        "structure is not the assumed one.",
                    )
                )


def _unit_harmonics(l: int, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate Y_l (l = 1, 2) of unit vectors, scaled to unit length over m: (n, 2l + 1)."""
    x, y, z = directions.T
    if l == 1:
        return np.stack([y, z, x], axis=1)
    root = np.sqrt(3.0)
    return np.stack(
        [root * x * y, root * y * z, 1.5 * z * z - 0.5, root * x * z, 0.5 * root * (x * x - y * y)],
        axis=1,
    )


def sum_at_gamma(
    edge_index: NDArray[np.int64], blocks: NDArray[np.floating], mask: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Add up the blocks of all cells to the matrix at Γ, (n_orbitals, n_orbitals)."""
    n_atoms, size = mask.shape
    padded = np.zeros((n_atoms, n_atoms, size, size))
    np.add.at(padded, (edge_index[1], edge_index[0]), blocks)
    keep = np.flatnonzero(mask.ravel())
    dense: NDArray[np.float64] = padded.transpose(0, 2, 1, 3).reshape(
        n_atoms * size, n_atoms * size
    )[np.ix_(keep, keep)]
    return dense
