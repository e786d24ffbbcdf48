"""Unfolding of supercell states onto the primitive Brillouin zone for non-orthogonal orbitals.

The primitive Bloch sums |k, pμ⟩ = N^{-1/2} Σ_R e^{2πi k·R} |R, pμ⟩ run over the *ideal* lattice
translations R (integers, lattice gauge, no displaced positions), with the orbitals themselves
riding on the displaced atoms. In the supercell basis they are the columns of B_k. For a state c
with c†Sc = 1 the weight is

    W(k) = c† S B (B†SB)^{-1} B† S c = Σ_a |d_a|²,   d = (B†SB)^{-1/2} B† S c,

so that Σ_n W_n(k) is the number of primitive orbitals (sum rule), and an undisplaced supercell
gives 0 or 1. The components d refer to Löwdin-orthonormalised Bloch sums, Σ_n d_n d_n† = 1.
Projecting them on Löwdin-orthonormalised states of the equilibrium primitive cell gives weights per
band, which obey Σ_n W_nb = 1. Compare Popescu and Zunger, Phys. Rev. B 85, 085201 (2012),
doi:10.1103/PhysRevB.85.085201, for orthonormal bases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, NDArray

from mlepi.errors import PhysicsError, StructureError, message
from mlepi.physics.eigenstates.dense_bloch import DenseBlocks, lay_out_blocks, unique_rows

FOLD_TOLERANCE = 1e-6
"""Two fractional k-points closer than this are the same."""


@dataclass(frozen=True)
class AtomMap:
    """Which primitive atom, in which primitive cell, every atom of a supercell is.

    Attributes:
        primitive_atoms: (n_atoms,) int.
        cells: (n_atoms, 3) int, R of each atom in primitive lattice vectors.
        supercell: number of cells along each lattice vector.
    """

    primitive_atoms: NDArray[np.int64]
    cells: NDArray[np.int64]
    supercell: tuple[int, int, int]

    @property
    def n_cells(self) -> int:
        """Number of primitive cells."""
        return int(np.prod(self.supercell))

    def fold(self, kpoint: ArrayLike) -> NDArray[np.float64]:
        """Fold a primitive k-point into the zone of the supercell.

        Args:
            kpoint: (3,) fractional, primitive.

        Returns:
            (3,), fractional coordinates of the supercell, from −½ to ½.
        """
        folded = np.asarray(kpoint, dtype=np.float64) * np.array(self.supercell)
        return folded - np.round(folded)

    def bloch_basis(self, kpoint: ArrayLike, primitive_counts: NDArray[np.integer]) -> Any:
        """Return B_k as ``scipy.sparse.csc_array`` (n_supercell_orbitals, n_primitive_orbitals).

        Args:
            kpoint: (3,) fractional, of the primitive cell.
            primitive_counts: (n_primitive_atoms,) orbitals of every primitive atom.
        """
        counts = np.asarray(primitive_counts, dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(counts)])
        columns = np.concatenate([np.arange(first[p], first[p + 1]) for p in self.primitive_atoms])
        phases = np.exp(2j * np.pi * (self.cells @ np.asarray(kpoint, dtype=np.float64))) / np.sqrt(
            self.n_cells
        )
        values = np.repeat(phases, counts[self.primitive_atoms])
        return scipy.sparse.csc_array(
            (values, (np.arange(len(columns)), columns)), shape=(len(columns), int(first[-1]))
        )


def cell_major_map(n_primitive: int, supercell: Sequence[int]) -> AtomMap:
    """Return the map of ``ase.Atoms.repeat``.

    Atom p of cell (x, y, z) is number ((x·n_y + y)·n_z + z)·n_primitive + p.
    """
    repeats = (int(supercell[0]), int(supercell[1]), int(supercell[2]))
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in repeats], indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    return AtomMap(
        np.tile(np.arange(n_primitive), len(cells)), np.repeat(cells, n_primitive, axis=0), repeats
    )


def check_atom_map(
    atom_map: AtomMap,
    primitive_positions: NDArray[np.float64],
    primitive_cell: NDArray[np.float64],
    positions: NDArray[np.float64],
    cell: NDArray[np.float64],
    tolerance: float = 0.7,
) -> None:
    """Refuse a supercell whose atoms do not sit where the map says.

    A wrong order would wreck the spectra silently.

    Args:
        atom_map: map to verify.
        primitive_positions: (n_primitive, 3), Å.
        primitive_cell: (3, 3) rows, Å.
        positions: (n_atoms, 3), Å, displaced or not; not wrapped.
        cell: (3, 3) rows of the supercell, Å.
        tolerance: largest displacement from the ideal site, Å; half a bond at most.

    Raises:
        StructureError: wrong number of atoms, wrong cell, or an atom further than the tolerance
            from its site.
    """
    expected_cell = np.array(atom_map.supercell)[:, None] * primitive_cell
    if len(positions) != len(atom_map.primitive_atoms) or not np.allclose(
        cell, expected_cell, atol=1e-3
    ):
        raise StructureError(
            message(
                "supercell",
                f"{len(positions)} atoms in a cell that is not {atom_map.supercell} primitive "
                "cells",
                f"{len(atom_map.primitive_atoms)} atoms in the repeated cell",
                "Build it by repeating the primitive cell.",
            )
        )
    sites = primitive_positions[atom_map.primitive_atoms] + atom_map.cells @ primitive_cell
    distances = np.linalg.norm(positions - sites, axis=1)
    if distances.max() > tolerance:
        raise StructureError(
            message(
                "supercell",
                f"atom {int(distances.argmax())} at {distances.max():.2f} Å from its site",
                f"every atom within {tolerance} Å, unwrapped, in the order of Atoms.repeat",
                "Do not reorder or wrap the atoms of a sample.",
            )
        )


def match_folded(
    atom_map: AtomMap, kpoints: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Find the supercell k-points that serve a list of primitive ones.

    E(k) = E(−k) of a real Hamiltonian saves points.

    Args:
        atom_map: supercell.
        kpoints: (n_k, 3) fractional, primitive.

    Returns:
        solved: (n_solved, 3) fractional k-points of the supercell, in the order of first use;
        index: (n_k,) int, the one that serves each primitive point;
        reversed_: (n_k,) bool, True where −k folds onto it instead of k.
    """
    solved: list[NDArray[np.float64]] = []
    index, reversed_ = (
        np.empty(len(kpoints), dtype=np.int64),
        np.zeros(len(kpoints), dtype=np.bool_),
    )
    for position, kpoint in enumerate(kpoints):
        for number, known in enumerate(solved):
            for sign in (1.0, -1.0):
                difference = sign * atom_map.fold(kpoint) - known
                if np.max(np.abs(difference - np.round(difference))) < FOLD_TOLERANCE:
                    index[position], reversed_[position] = number, sign < 0
                    break
            else:
                continue
            break
        else:
            index[position] = len(solved)
            solved.append(atom_map.fold(kpoint))
    return np.array(solved).reshape(-1, 3), index, reversed_


def loewdin_root(overlap: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return S^{1/2} and S^{-1/2} of a Hermitian positive definite matrix (n, n).

    Raises:
        PhysicsError: S is not positive definite.
    """
    values, vectors = np.linalg.eigh(overlap)
    if values[0] <= 0:
        raise PhysicsError(
            message(
                "overlap of the primitive Bloch sums",
                f"eigenvalue {values[0]:.3e}",
                "a positive definite matrix",
                "Check the structure and the overlap table.",
            )
        )
    root = np.sqrt(values)
    return (vectors * root) @ vectors.conj().T, (vectors / root) @ vectors.conj().T


def unfold_states(
    eigenvectors: NDArray[Any],
    overlap_k: NDArray[Any],
    atom_map: AtomMap,
    primitive_counts: NDArray[np.integer],
    kpoint: ArrayLike,
    *,
    reverse: bool = False,
) -> NDArray[np.complex128]:
    """Project supercell states on the Löwdin-orthonormalised Bloch sums of one primitive k-point.

    Args:
        eigenvectors: (n, n_states), c†Sc = 1, at the supercell k-point onto which k (with
            ``reverse``: −k) folds, in the lattice gauge.
        overlap_k: (n, n) supercell overlap at the same k-point.
        atom_map: atoms of the supercell.
        primitive_counts: (n_primitive_atoms,) orbitals of every primitive atom.
        kpoint: (3,) fractional, primitive.
        reverse: the states are those of −k; their complex conjugates are unfolded (real H and S).

    Returns:
        d: (n_primitive_orbitals, n_states); the total weight of state n is Σ_a |d_an|².
    """
    basis = _bloch_basis(atom_map, primitive_counts, kpoint, reverse)
    bloch_overlap = (basis.conj().T @ overlap_k) @ basis
    return unfold_mapped(
        overlap_k @ eigenvectors, bloch_overlap, atom_map, primitive_counts, kpoint, reverse=reverse
    )


def unfold_mapped(
    mapped: NDArray[Any],
    bloch_overlap: NDArray[Any],
    atom_map: AtomMap,
    primitive_counts: NDArray[np.integer],
    kpoint: ArrayLike,
    *,
    reverse: bool = False,
) -> NDArray[np.complex128]:
    """Project as ``unfold_states`` does, with S applied to the states already.

    Args:
        mapped: (n, n_states), S times the eigenvectors.
        bloch_overlap: (n_primitive_orbitals, n_primitive_orbitals), B†SB at k (with ``reverse``:
            −k), the Bloch sum of ``average_cells``.
        atom_map: atoms of the supercell.
        primitive_counts: (n_primitive_atoms,) orbitals of every primitive atom.
        kpoint: (3,) fractional, primitive.
        reverse: as in ``unfold_states``.
    """
    basis = _bloch_basis(atom_map, primitive_counts, kpoint, reverse)
    _, inverse_root = loewdin_root(bloch_overlap)
    components: NDArray[np.complex128] = inverse_root @ (basis.conj().T @ mapped)
    return components.conj() if reverse else components


def bloch_columns(
    references: NDArray[Any],
    bloch_overlap: NDArray[Any],
    atom_map: AtomMap,
    primitive_counts: NDArray[np.integer],
    kpoint: ArrayLike,
    *,
    reverse: bool = False,
) -> NDArray[np.complex128]:
    """Write Löwdin-orthonormalised Bloch states in the orbitals of the supercell.

    B (B†SB)^{-1/2} r† at one primitive k-point.

    Args:
        references: (n_bands, n_primitive_orbitals), of ``loewdin_references``.
        bloch_overlap: (n_primitive_orbitals, n_primitive_orbitals), B†SB at k (with ``reverse``:
            −k).
        atom_map: atoms of the supercell.
        primitive_counts: (n_primitive_atoms,) orbitals of every primitive atom.
        kpoint: (3,) fractional, primitive.
        reverse: return the complex conjugates, which are Bloch states of −k.

    Returns:
        x: (n, n_bands), x†Sx = 1. For an eigenstate c of the supercell x†Sc is, but for the
        conjugation of ``reverse``, its component on the reference.
    """
    basis = _bloch_basis(atom_map, primitive_counts, kpoint, reverse)
    _, inverse_root = loewdin_root(bloch_overlap)
    states = references.T if reverse else references.conj().T
    columns: NDArray[np.complex128] = basis @ (inverse_root @ states)
    return columns


def _bloch_basis(
    atom_map: AtomMap, primitive_counts: NDArray[np.integer], kpoint: ArrayLike, reverse: bool
) -> Any:
    """Return B at k or, with ``reverse``, at −k."""
    return atom_map.bloch_basis(
        (-1.0 if reverse else 1.0) * np.asarray(kpoint, dtype=np.float64), primitive_counts
    )


def average_cells(
    atom_map: AtomMap,
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    blocks: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Average a real-space matrix of a supercell over its primitive cells.

    Its Bloch sum at k is B_k† M B_k.

    Args:
        atom_map: atoms of the supercell.
        edge_index: (2, n_edges) int, of the supercell.
        edge_cell_shift: (n_edges, 3) int, in supercell lattice vectors.
        blocks: (n_edges, p, p).

    Returns:
        ``edge_index`` (2, n_pairs) and ``edge_cell_shift`` (n_pairs, 3) of the primitive cell, and
        blocks (n_pairs, p, p).
    """
    cells = atom_map.cells
    shift = (
        cells[edge_index[0]]
        + np.asarray(edge_cell_shift) * np.array(atom_map.supercell)
        - cells[edge_index[1]]
    )
    rows = np.concatenate([atom_map.primitive_atoms[edge_index].T, shift], axis=1)
    pairs, pair_of_edge = unique_rows(rows)
    order = np.argsort(pair_of_edge, kind="stable")
    starts = np.searchsorted(pair_of_edge[order], np.arange(len(pairs) + 1))
    share = np.full(len(order), 1.0 / atom_map.n_cells)
    average = scipy.sparse.csr_array((share, order, starts), shape=(len(pairs), len(order)))
    averaged = (average @ np.asarray(blocks, dtype=np.float64).reshape(len(order), -1)).reshape(
        -1, *blocks.shape[1:]
    )
    return np.ascontiguousarray(pairs[:, :2].T), pairs[:, 2:], averaged


def lay_out_average(
    atom_map: AtomMap,
    edge_index: NDArray[np.integer],
    edge_cell_shift: NDArray[np.integer],
    blocks: NDArray[np.floating],
    primitive_counts: NDArray[np.integer],
) -> DenseBlocks:
    """Lay out the Bloch sums B_k† M B_k of a real-space matrix of a supercell, for all k.

    Args:
        atom_map: atoms of the supercell.
        edge_index: (2, n_edges) int, of the supercell.
        edge_cell_shift: (n_edges, 3) int, in supercell lattice vectors.
        blocks: (n_edges, p, p).
        primitive_counts: (n_primitive_atoms,) orbitals of every primitive atom.
    """
    pairs, shifts, averaged = average_cells(atom_map, edge_index, edge_cell_shift, blocks)
    return lay_out_blocks(averaged, pairs, shifts, np.append(0, np.cumsum(primitive_counts)))


def total_weights(components: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Return W_n = Σ_a |d_an|²: (n_states,), between 0 and 1."""
    return np.sum(np.abs(components) ** 2, axis=0)


def band_weights(
    components: NDArray[np.complex128],
    primitive_vectors: NDArray[Any],
    primitive_overlap: NDArray[Any],
) -> NDArray[np.float64]:
    """Split the weights by the bands of the equilibrium primitive cell.

    Args:
        components: (n_primitive_orbitals, n_states) of ``unfold_states`` at k.
        primitive_vectors: (n_primitive_orbitals, n_bands), equilibrium eigenvectors at k, u†S₀u =
            1.
        primitive_overlap: (n_primitive_orbitals, n_primitive_orbitals), equilibrium overlap S₀ at
            k.

    Returns:
        W_bn: (n_bands, n_states); over all states each row sums to one, over all bands each column
        to the total weight.
    """
    return np.abs(loewdin_references(primitive_vectors, primitive_overlap) @ components) ** 2


def loewdin_references(
    primitive_vectors: NDArray[Any], primitive_overlap: NDArray[Any]
) -> NDArray[np.complex128]:
    """Return Löwdin-orthonormalised states as rows (n_bands, n_primitive_orbitals).

    Arguments as ``band_weights``.
    """
    root, _ = loewdin_root(primitive_overlap)
    references: NDArray[np.complex128] = (root @ primitive_vectors).conj().T
    return references
