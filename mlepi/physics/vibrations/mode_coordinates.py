"""Real orthonormal mode coordinates, from one number per mode to normals of the atoms.

With N cells and eigenvectors e_ν(q) of phase e^{2πi q·R}, a mode of q ≡ −q is real and has one
coordinate, a pair ±q two:

    z_R = N^{-1/2} { Σ_{q ≡ −q} Σ_ν ζ_ν e_ν(q) e^{2πi q·R} + √2 Σ_{pairs} Σ_ν Re[(ζ_ν + i ζ'_ν)
    e_ν(q) e^{2πi q·R}] }.

Coordinates ζ ~ N(0, 1) give normals z ~ N(0, 1) of everything that moves, and C^{1/2} z moves mode
ν by σ_ν ζ_ν. They come in the order of decreasing amplitude, which is that of increasing frequency
at every temperature. The eigenvectors of degenerate modes are an arbitrary basis; here the basis
follows from the space that they span alone (pivoted orthogonalisation of its projector), so that
the same coordinates give the same displacements on every machine.

References:
    Zacharias, Giustino, Phys. Rev. Research 2, 013357 (2020), doi:10.1103/PhysRevResearch.2.013357,
    Sec. II (the two kinds of q).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

DEGENERATE = 1e-4
"""THz; modes closer than this share a basis and a place in the order."""

BOND_TOLERANCE = 1.2
"""Pairs of atoms up to this factor beyond the nearest neighbour count as bonded."""

PIVOT_TOLERANCE = 1e-6
"""Columns of a projector whose norms differ by less count as equal, and the first is taken."""


@dataclass(frozen=True)
class ModeCoordinates:
    """The coordinates of all modes that move, in the order of decreasing amplitude.

    Attributes:
        supercell: number of cells along each lattice vector.
        qpoint: (n_coordinates,) int, position of the wave vector among those of the supercell.
        partner: (n_coordinates,) int, position of −q; equal to ``qpoint`` where q ≡ −q.
        imaginary: (n_coordinates,) bool, whether the coordinate is the second one of a pair.
        vectors: (n_coordinates, 3 n_atoms) complex, mass-scaled, orthonormal at each q.
        frequencies: (n_coordinates,), THz.
    """

    supercell: tuple[int, int, int]
    qpoint: NDArray[np.int64]
    partner: NDArray[np.int64]
    imaginary: NDArray[np.bool_]
    vectors: NDArray[np.complex128]
    frequencies: NDArray[np.float64]

    @property
    def n_coordinates(self) -> int:
        """Number of modes that move."""
        return len(self.qpoint)

    @property
    def factors(self) -> NDArray[np.complex128]:
        """Factor of each coordinate in the wave of its q: (n_coordinates,).

        1, or 1/√2 and i/√2 for the two of a pair.
        """
        paired = np.where(self.imaginary, 1j, 1.0) / np.sqrt(2.0)
        return np.where(self.qpoint == self.partner, 1.0, paired)

    def normals(self, coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn mode coordinates into normals of the atoms.

        Args:
            coordinates: (n_samples, n_coordinates), dimensionless.

        Returns:
            (n_samples, n_supercell, 3), dimensionless, without any part along modes at rest.
        """
        n_samples, size = len(coordinates), self.vectors.shape[1]
        waves = np.zeros((int(np.prod(self.supercell)), n_samples, size), dtype=np.complex128)
        terms = (coordinates * self.factors).T[:, :, None] * self.vectors[:, None, :]
        np.add.at(waves, self.qpoint, terms)
        paired = self.qpoint != self.partner
        np.add.at(waves, self.partner[paired], terms[paired].conj())
        grid = waves.swapaxes(0, 1).reshape(n_samples, *self.supercell, size)
        return np.asarray(
            np.fft.ifftn(grid, axes=(1, 2, 3), norm="ortho").real.reshape(n_samples, -1, 3)
        )

    def coordinates(self, normals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn normals (n_samples, n_supercell, 3) into coordinates (n_samples, n_coordinates)."""
        grid = normals.reshape(len(normals), *self.supercell, -1)
        waves = np.fft.fftn(grid, axes=(1, 2, 3), norm="ortho").reshape(
            len(normals), -1, self.vectors.shape[1]
        )
        along = np.einsum("ci,sci->sc", self.vectors.conj(), waves[:, self.qpoint])
        scale = np.where(self.qpoint == self.partner, 1.0, np.sqrt(2.0))
        return np.asarray(scale * np.where(self.imaginary, along.imag, along.real))


def build_mode_coordinates(
    supercell: Sequence[int], frequencies: NDArray[np.float64], eigenvectors: NDArray[np.complex128]
) -> ModeCoordinates:
    """Choose the coordinates of the modes of a supercell.

    Args:
        supercell: number of cells along each lattice vector.
        frequencies: (n_qpoints, 3 n_atoms), THz, positive; infinite for modes at rest, which get no
            coordinate.
        eigenvectors: (n_qpoints, 3 n_atoms, 3 n_atoms), columns are modes.
    """
    repeats = np.array(supercell)
    cells = np.stack(np.meshgrid(*(np.arange(n) for n in repeats), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    opposite = np.ravel_multi_index(tuple(np.mod(-cells, repeats).T), tuple(repeats))
    rows: list[tuple[int, int, bool]] = []
    vectors, values = [], []
    for q, partner in enumerate(opposite):
        if partner < q:
            continue
        basis = _canonical_basis(frequencies[q], eigenvectors[q], real=partner == q)
        for mode in np.nonzero(np.isfinite(frequencies[q]))[0]:
            for second in (False, True)[: 1 if partner == q else 2]:
                rows.append((q, int(partner), second))
                vectors.append(basis[:, mode])
                values.append(frequencies[q, mode])
    level = _number_levels(np.array(values))
    order = np.argsort(level, kind="stable")
    places = np.array(rows, dtype=np.int64).reshape(-1, 3)[order]
    return ModeCoordinates(
        (int(repeats[0]), int(repeats[1]), int(repeats[2])),
        places[:, 0],
        places[:, 1],
        places[:, 2].astype(bool),
        np.array(vectors).reshape(-1, eigenvectors.shape[1])[order],
        np.array(values)[order],
    )


def measure_bond_stretch(
    coordinates: ModeCoordinates, atoms: Atoms, amplitudes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Measure how much each mode stretches bonds, Σ ⟨(ê·Δu)²⟩ over those of one cell.

    Args:
        coordinates: of the modes.
        atoms: one cell, Å, amu.
        amplitudes: (n_coordinates,), σ of each mode, √amu·Å.

    Returns:
        (n_coordinates,), Å² divided by the number of cells. Bonds are the pairs within
        ``BOND_TOLERANCE`` of the distance of an atom to its nearest neighbour.
    """
    lengths = _nearest_distances(atoms)
    first, second, shifts, vectors = neighbor_list("ijSD", atoms, BOND_TOLERANCE * lengths.max())
    distances = np.linalg.norm(vectors, axis=1)
    bonded = distances < BOND_TOLERANCE * np.maximum(lengths[first], lengths[second])
    first, second, shifts = first[bonded], second[bonded], shifts[bonded]
    directions = vectors[bonded] / distances[bonded][:, None]
    grid = np.array(coordinates.supercell)
    cells = np.stack(np.unravel_index(coordinates.qpoint, coordinates.supercell), axis=1) / grid
    moved = (
        coordinates.vectors.reshape(coordinates.n_coordinates, -1, 3)
        / np.sqrt(atoms.get_masses())[:, None]
    )
    stretch = np.zeros(coordinates.n_coordinates)
    for i, j, shift, direction in zip(first, second, shifts, directions, strict=True):
        relative = moved[:, j] * np.exp(2j * np.pi * (cells @ shift))[:, None] - moved[:, i]
        stretch += np.abs(relative @ direction) ** 2
    return amplitudes**2 * stretch


def _nearest_distances(atoms: Atoms) -> NDArray[np.float64]:
    """Return the distance of every atom to its nearest neighbour, Å."""
    cutoff = 3.0
    while True:
        first, distances = neighbor_list("id", atoms, cutoff)
        if len(np.unique(first)) == len(atoms):
            nearest = np.full(len(atoms), np.inf)
            np.minimum.at(nearest, first, distances)
            return nearest
        cutoff *= 1.5


def _number_levels(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number frequencies by increasing value, alike within ``DEGENERATE`` of a neighbour."""
    order = np.argsort(values, kind="stable")
    level = np.empty(len(values), dtype=np.int64)
    level[order] = np.cumsum(np.diff(values[order], prepend=values[order][:1]) > DEGENERATE)
    return level


def _canonical_basis(
    frequencies: NDArray[np.float64], eigenvectors: NDArray[np.complex128], real: bool
) -> NDArray[np.complex128]:
    """Give every degenerate level a basis that depends on its space alone."""
    basis = np.array(eigenvectors, dtype=np.complex128)
    moving = np.nonzero(np.isfinite(frequencies))[0]
    level = _number_levels(frequencies[moving])
    for number in range(level.max(initial=-1) + 1):
        members = moving[level == number]
        space = eigenvectors[:, members]
        projector = space @ space.conj().T
        basis[:, members] = _orthogonalise(
            projector.real.astype(np.complex128) if real else projector, len(members)
        )
    return basis


def _orthogonalise(projector: NDArray[np.complex128], rank: int) -> NDArray[np.complex128]:
    """Return an orthonormal basis of the range of a projector.

    Columns of largest remaining norm, one after the other.
    """
    remaining = projector.copy()
    columns = []
    for _ in range(rank):
        norms = np.linalg.norm(remaining, axis=0)
        pivot = int(np.argmax(norms > norms.max() - PIVOT_TOLERANCE))
        column = remaining[:, pivot] / norms[pivot]
        column = column * np.exp(-1j * np.angle(column[pivot]))
        columns.append(column)
        remaining = remaining - np.outer(column, column.conj() @ remaining)
    return np.stack(columns, axis=1)
