"""Equilibrium bands at chosen k-points, and the supercell k-points that serve them.

Supercell k-points serve primitive ones at k or, because H is real, at −k: where K folds onto Γ one
supercell solution serves K→Γ and K→M at once. Near K the points lie on the line M–K–Γ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.physics.bands import lattice, unfolding
from mlepi.physics.bands.velocity_matrices import band_velocities, derivatives_at_many
from mlepi.physics.eigenstates.bloch import count_valence_electrons, solve_bands
from mlepi.physics.eigenstates.kpoint_sequence import KpointSequence

if TYPE_CHECKING:
    from ase import Atoms

    from mlepi.graphs.block_matrix import BlockMatrix


@dataclass(frozen=True)
class ReferenceBands:
    """What all samples share: k-points, the equilibrium bands there, and how they are served.

    Attributes:
        atom_map: atoms of the supercell.
        counts: (n_atoms,) int, orbitals of every primitive atom.
        numbers: (n_atoms,) int, atomic numbers of the primitive cell.
        n_occupied: occupied bands of the primitive cell.
        n_cones: cones (K, K') that fold onto one supercell k-point.
        centre: eV, of the energy window; near K the middle of the low bands at K.
        kpoints: (n_points, 3) fractional.
        distances: (n_points,) Å⁻¹, along the line; near K k − K, negative towards M.
        solved: (n_solved, 3) fractional k-points of the supercell that serve them.
        index: (n_points,) int, which of them serves each point.
        reversed_: (n_points,) bool, True where it serves −k.
        states: (n_points, n_orbitals, n_bands), equilibrium states of the bands followed: the low
            pair, and the next pair on either side where there is one.
        projectors: (n_points, n_bands, n_orbitals), the same Löwdin-orthonormalised, as rows.
        sites: (n_supercell_orbitals, 3), fractional coordinates of the orbitals' equilibrium sites
            in the supercell.
        eigenvalues: (n_points, n_bands) eV, equilibrium.
        slopes: (n_points, n_bands) eV·Å, of the bands followed along the line, equilibrium;
            positive where E grows towards Γ.
        cell: (3, 3) rows, Å, of the supercell.
        direction: (3,) unit vector from M through K towards Γ, Cartesian.
    """

    atom_map: unfolding.AtomMap
    counts: NDArray[np.int64]
    numbers: NDArray[np.int64]
    n_occupied: int
    n_cones: int
    centre: float
    kpoints: NDArray[np.float64]
    distances: NDArray[np.float64]
    solved: NDArray[np.float64]
    index: NDArray[np.int64]
    reversed_: NDArray[np.bool_]
    states: NDArray[np.complex128]
    projectors: NDArray[np.complex128]
    sites: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    slopes: NDArray[np.float64]
    cell: NDArray[np.float64]
    direction: NDArray[np.float64]

    @property
    def sequence(self) -> KpointSequence:
        """The supercell k-points in an order in which states can be followed."""
        nearest = [
            min(self.distances[self.index == number], key=abs) for number in range(len(self.solved))
        ]
        return KpointSequence(self.solved, np.array(nearest), self.sites, self.cell)


def build_near_k(
    atoms: Atoms,
    hamiltonian: BlockMatrix,
    overlap: BlockMatrix,
    supercell: Sequence[int],
    distances: Sequence[float],
    valence_electrons: Mapping[int, float],
) -> ReferenceBands:
    """Place k-points along M–K–Γ and solve the equilibrium primitive cell there.

    Args:
        atoms: the primitive structure.
        hamiltonian: of it, eV.
        overlap: of it.
        supercell: cells along each lattice vector.
        distances: Å⁻¹ from K, on both sides of it.
        valence_electrons: atomic number → valence electrons of its pseudopotential.

    Raises:
        PhysicsError: an odd number of electrons, so that no band is half way.
        StructureError: the cell is not hexagonal.
    """
    cell = atoms.cell.array
    points = lattice.hexagonal_points(cell)
    signed = np.array([-d for d in reversed(distances) if d > 0] + list(distances))
    kpoints = lattice.build_line(points["K"], points["Γ"], signed, cell)
    n_occupied = count_occupied(hamiltonian, valence_electrons)
    at_corner = solve_bands(hamiltonian.dense(points["K"]), overlap.dense(points["K"]))
    corner = 2.0 * points["K"] * np.array(supercell)
    direction = lattice.to_cartesian(points["Γ"] - points["K"], cell)
    return build_reference(
        (atoms, hamiltonian, overlap),
        supercell,
        kpoints,
        signed,
        n_occupied,
        centre=float(np.mean(at_corner[n_occupied - 1 : n_occupied + 1])),
        direction=direction / np.linalg.norm(direction),
        n_cones=2 if np.max(np.abs(corner - np.round(corner))) < unfolding.FOLD_TOLERANCE else 1,
    )


def count_occupied(hamiltonian: BlockMatrix, valence_electrons: Mapping[int, float]) -> int:
    """Return the number of occupied bands of a primitive cell.

    Raises:
        PhysicsError: an odd number of electrons, so that no band is half way.
    """
    n_electrons = count_valence_electrons(hamiltonian.numbers, valence_electrons)
    if n_electrons % 2:
        raise PhysicsError(
            message(
                "primitive cell",
                f"{n_electrons} electrons per cell",
                "an even number",
                "Check `valence_electrons`.",
            )
        )
    return int(n_electrons) // 2


def sort_distances(stage: str, distances: Sequence[float]) -> tuple[float, ...]:
    """Return the distances from K that a stage was given, ascending, 1/Å.

    Raises:
        ConfigError: a distance is negative or comes twice.
    """
    if not len(distances) or min(distances) < 0 or len(set(distances)) != len(distances):
        raise ConfigError(
            message(
                f"stage.{stage}.distances",
                f"{list(distances)}",
                "different numbers ≥ 0, in 1/Å",
                "Leave every distance once, without a sign: both sides of K are taken.",
            )
        )
    return tuple(sorted(float(d) for d in distances))


def build_reference(
    equilibrium: tuple[Atoms, BlockMatrix, BlockMatrix],
    supercell: Sequence[int],
    kpoints: NDArray[np.float64],
    distances: NDArray[np.float64],
    n_occupied: int,
    *,
    centre: float,
    direction: NDArray[np.float64],
    n_cones: int = 1,
) -> ReferenceBands:
    """Solve the equilibrium at any k-points and settle which supercell k-points serve them.

    Args:
        equilibrium: structure, H (eV) and S.
        supercell: cells along each lattice vector.
        kpoints: (n_points, 3) fractional.
        distances: (n_points,) Å⁻¹; the difference of two must not exceed the distance of the
            points.
        n_occupied: occupied bands.
        centre: eV, of the energy window.
        direction: (3,) unit vector of the slopes, Cartesian; zero where none are wanted.
        n_cones: low bands of different primitive k-points that fold onto one supercell k-point.
    """
    atoms, hamiltonian, overlap = equilibrium
    cell = atoms.cell.array
    atom_map = unfolding.cell_major_map(len(atoms), supercell)
    solved, index, reversed_ = unfolding.match_folded(atom_map, kpoints)
    overlaps = overlap.lay_out().at_many(kpoints)
    eigenvalues, vectors = solve_bands(
        hamiltonian.lay_out().at_many(kpoints), overlaps, vectors=True
    )
    n_pairs = min(2, n_occupied, eigenvalues.shape[1] - n_occupied)
    states = vectors[:, :, n_occupied - n_pairs : n_occupied + n_pairs]
    followed = eigenvalues[:, n_occupied - n_pairs : n_occupied + n_pairs]
    dh, ds = (
        derivatives_at_many(matrix.lay_out_derivatives(cell, direction=direction), kpoints)[0]
        for matrix in (hamiltonian, overlap)
    )
    slopes = [
        band_velocities(*each[:2], *(d[None] for d in each[2:]))[0]
        for each in zip(followed, states, dh, ds, strict=True)
    ]
    sites = np.linalg.solve(cell.T, atoms.positions.T).T[atom_map.primitive_atoms] + atom_map.cells
    counts = np.diff(hamiltonian.offsets)
    return ReferenceBands(
        atom_map=atom_map,
        counts=counts,
        numbers=np.asarray(hamiltonian.numbers),
        n_occupied=n_occupied,
        n_cones=n_cones,
        centre=centre,
        kpoints=kpoints,
        distances=distances,
        solved=solved,
        index=index,
        reversed_=reversed_,
        states=states,
        projectors=np.array(
            [unfolding.loewdin_references(u, s) for u, s in zip(states, overlaps, strict=True)]
        ),
        sites=np.repeat(
            sites / np.array(atom_map.supercell), counts[atom_map.primitive_atoms], axis=0
        ),
        eigenvalues=eigenvalues,
        slopes=np.array(slopes),
        cell=np.array(atom_map.supercell)[:, None] * cell,
        direction=direction,
    )
