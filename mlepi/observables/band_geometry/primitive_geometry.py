"""The undisplaced primitive cell, its points near K, and the geometry of blocks on its atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, message
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import (
    Pairs,
    keep_one_direction,
    list_edges,
    restore_directions,
    spread_blocks,
    unite_pairs,
)
from mlepi.physics.bands import lattice
from mlepi.physics.bands.energy_zero import energy_shift
from mlepi.physics.bands.geometry import (
    BlochGeometry,
    berry_curvature,
    build_geometry,
    loop_phase,
    quantum_metric,
    tensor_of,
)
from mlepi.physics.bands.unfolding import AtomMap
from mlepi.physics.eigenstates.bloch import count_valence_electrons, solve_bands
from mlepi.pipeline.ensemble import Ensemble


@dataclass(frozen=True)
class Places:
    """Where near K the geometry is computed.

    Attributes:
        distances: Å⁻¹, |k − K| of the points on K→Γ and K→M, ascending.
        loop_radius: Å⁻¹, of the circle around K.
        n_loop: points on the circle.
        map_steps: (n_map,) Å⁻¹, k_x − K_x and k_y − K_y of the maps.
    """

    distances: Sequence[float]
    loop_radius: float
    n_loop: int
    map_steps: NDArray[np.float64]


ZERO_MESH = (4, 4, 1)
"""k-points on which the energy zero of a sample is found."""


@dataclass(frozen=True)
class EnergyZero:
    """Occupied states of the undisplaced cell, to which the energy zeros of samples are brought.

    Attributes:
        kpoints: (n_k, 3) fractional.
        hamiltonian: (n_k, n, n), eV.
        states: (n_k, n, n_occupied).
    """

    kpoints: NDArray[np.float64]
    hamiltonian: NDArray[np.complex128]
    states: NDArray[np.complex128]

    def shift(self, geometry: BlochGeometry) -> float:
        """Return the energy zero of a sample, eV."""
        hamiltonian = geometry.hamiltonian.at_many(self.kpoints)
        overlap = geometry.overlap.at_many(self.kpoints)
        return energy_shift(hamiltonian, overlap, self.hamiltonian, self.states)


@dataclass(frozen=True)
class Orthonormal:
    """H̃ of one sample at all k-points.

    Attributes:
        line: (n_points, 3, n, n): H̃, eV, and its slopes along k_x and k_y, eV·Å.
        circle: (n_loop, n, n), H̃.
        square: (n_map², 3, n, n), as ``line``.
    """

    line: NDArray[np.complex128]
    circle: NDArray[np.complex128]
    square: NDArray[np.complex128]


@dataclass(frozen=True)
class Geometry:
    """What one averaged Hamiltonian gives.

    Attributes:
        line: (n_points, 6): gap (eV), Ω, g_xx, g_xy, g_yx, g_yy (Å²).
        phase: Berry phase of the circle, rad.
    """

    line: NDArray[np.float64]
    phase: float


@dataclass(frozen=True)
class PrimitiveGeometry:
    """What all samples share: the undisplaced primitive cell, its k-points and chosen bands.

    Attributes:
        cell: (3, 3) rows, Å.
        positions: (n_atoms, 3), Å.
        atom_map: atoms of the supercell.
        offsets: (n_atoms + 1,) int, first orbital of every atom, their number last.
        pairs: (n_pairs, 5), one direction of each.
        blocks: (2, n_pairs, p, p), H (eV) and S of the pairs.
        bands: chosen ones, counted from the lowest empty one; −1 is the highest occupied.
        chosen: (n_bands,), the same as a mask.
        map_steps: (n_map,) Å⁻¹, k_x − K_x and k_y − K_y of the maps.
        corner: (3,) fractional, K.
        signed: (n_points,) Å⁻¹, k − K of the points along M–K–Γ, negative towards M.
        line: (n_points, 3) fractional, the points themselves.
        circle: (n_loop, 3) fractional.
        zero: where the energy zeros of samples are brought to.
    """

    cell: NDArray[np.float64]
    positions: NDArray[np.float64]
    atom_map: AtomMap
    offsets: NDArray[np.int64]
    pairs: Pairs
    blocks: NDArray[np.float64]
    bands: tuple[int, ...]
    chosen: NDArray[np.bool_]
    map_steps: NDArray[np.float64]
    corner: NDArray[np.float64]
    signed: NDArray[np.float64]
    line: NDArray[np.float64]
    circle: NDArray[np.float64]
    zero: EnergyZero

    @cached_property
    def square(self) -> NDArray[np.float64]:
        """Points of the maps, (n_map², 3) fractional."""
        steps = self.map_steps
        grid = np.stack(
            [*np.meshgrid(steps, steps, indexing="ij"), np.zeros((len(steps), len(steps)))], axis=-1
        )
        return self.corner + lattice.to_fractional(grid.reshape(-1, 3), self.cell)

    @cached_property
    def sites(self) -> NDArray[np.float64]:
        """Fractional coordinates of the atoms that hold the orbitals, (n, 3)."""
        atoms = np.linalg.solve(self.cell.T, self.positions.T).T
        return np.repeat(atoms, np.diff(self.offsets), axis=0)

    def build(self, pairs: Pairs, blocks: NDArray[np.float64]) -> BlochGeometry:
        """Prepare averaged H and S, (2, n_pairs, p, p)."""
        rows, (hamiltonian, overlap) = restore_directions(pairs, *blocks)
        edges = list_edges(rows)
        return build_geometry(hamiltonian, overlap, *edges, self.offsets, self.cell, self.positions)

    def orthonormalise(self, geometry: BlochGeometry, shift: float = 0.0) -> Orthonormal:
        """Compute H̃ of one sample, or of the undisplaced cell, less its energy zero, eV."""
        zero = shift * np.eye(len(self.sites), dtype=np.complex128)
        line, square = (
            np.array([geometry.orthonormalise(k) for k in points])
            for points in (self.line, self.square)
        )
        line[:, 0] -= zero
        square[:, 0] -= zero
        circle = np.array([geometry.orthonormal_hamiltonian(k) for k in self.circle])
        circle -= zero
        return Orthonormal(line, circle, square)

    def examine(
        self, line: NDArray[np.complexfloating], circle: NDArray[np.complexfloating]
    ) -> Geometry:
        """Compute what one H̃ on the line and on the circle gives; shapes as in ``Orthonormal``."""
        phase = loop_phase(self.circle, circle, self.chosen, self.sites)
        return Geometry(self.examine_line(line), phase)

    def examine_line(self, matrices: NDArray[np.complexfloating]) -> NDArray[np.float64]:
        """Compute gap, Ω and g along the line: (n_points, 3, n, n) → (n_points, 6)."""
        rows = []
        for one in matrices:
            values, tensor = tensor_of(one, self.chosen)
            gap = np.abs(values[self.chosen][:, None] - values[~self.chosen][None, :]).min()
            rows.append([gap, berry_curvature(tensor), *quantum_metric(tensor).reshape(-1)])
        return np.array(rows)

    def draw(self, matrices: NDArray[np.complexfloating]) -> NDArray[np.float64]:
        """Compute Ω and tr g on the square around K: (n_map², 3, n, n) → (2, n_map, n_map)."""
        tensors = np.array([tensor_of(one, self.chosen)[1] for one in matrices])
        maps = np.stack(
            [berry_curvature(tensors), np.trace(quantum_metric(tensors), axis1=1, axis2=2)]
        )
        return maps.reshape(2, len(self.map_steps), len(self.map_steps))


def prepare_geometry(
    ensemble: Ensemble,
    valence_electrons: Mapping[int, float],
    bands: Sequence[int] | None,
    places: Places,
) -> PrimitiveGeometry:
    """Choose bands of the undisplaced primitive cell and place the k-points around its K.

    Args:
        ensemble: of the samples, with the crystal at rest.
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        bands: counted from the lowest empty one; None takes all occupied ones.
        places: where the geometry is computed.

    Raises:
        ConfigError: a band that the crystal does not have, or all of them.
        StructureError: the cell is not hexagonal.
    """
    atoms, hamiltonian, overlap = ensemble.equilibrium
    chosen_bands, chosen = _choose_bands(hamiltonian, valence_electrons, bands)
    parts = [
        keep_one_direction(m.edge_index, m.edge_cell_shift, m.blocks)
        for m in (hamiltonian, overlap)
    ]
    pairs = unite_pairs([rows for rows, _ in parts])
    cell = atoms.cell.array
    points = lattice.hexagonal_points(cell)
    signed = np.array([-d for d in reversed(places.distances) if d > 0] + list(places.distances))
    turns = 2.0 * np.pi * np.arange(places.n_loop) / places.n_loop
    steps = places.loop_radius * np.stack(
        [np.cos(turns), np.sin(turns), np.zeros_like(turns)], axis=1
    )
    return PrimitiveGeometry(
        cell=cell,
        positions=atoms.positions,
        atom_map=ensemble.atom_map,
        offsets=hamiltonian.offsets,
        pairs=pairs,
        blocks=np.array([spread_blocks(pairs, rows, blocks) for rows, blocks in parts]),
        bands=chosen_bands,
        chosen=chosen,
        map_steps=places.map_steps,
        corner=points["K"],
        signed=signed,
        line=lattice.build_line(points["K"], points["Γ"], signed, cell),
        circle=points["K"] + lattice.to_fractional(steps, cell),
        zero=_find_zero(hamiltonian, overlap, valence_electrons),
    )


def _find_zero(
    hamiltonian: BlockMatrix, overlap: BlockMatrix, valence_electrons: Mapping[int, float]
) -> EnergyZero:
    """Solve the undisplaced cell for its occupied states."""
    n_occupied = int(count_valence_electrons(hamiltonian.numbers, valence_electrons)) // 2
    kpoints = lattice.build_k_mesh(ZERO_MESH)[0]
    matrices = hamiltonian.lay_out().at_many(kpoints)
    _, states = solve_bands(matrices, overlap.lay_out().at_many(kpoints), vectors=True)
    return EnergyZero(kpoints, matrices, states[:, :, :n_occupied])


def _choose_bands(
    hamiltonian: BlockMatrix, valence_electrons: Mapping[int, float], bands: Sequence[int] | None
) -> tuple[tuple[int, ...], NDArray[np.bool_]]:
    """Return the chosen bands, counted from the lowest empty one, and as a mask, (n_bands,)."""
    n_bands = hamiltonian.n_orbitals
    n_occupied = int(count_valence_electrons(hamiltonian.numbers, valence_electrons)) // 2
    relative = range(-n_occupied, 0) if bands is None else bands
    if (
        min(relative) < -n_occupied
        or max(relative) >= n_bands - n_occupied
        or len(relative) == n_bands
    ):
        raise ConfigError(
            message(
                "stage.band_geometry.bands",
                f"{list(relative)}",
                f"some, not all, of {-n_occupied} … {n_bands - n_occupied - 1}",
                "Choose bands that exist, and leave others.",
            )
        )
    return tuple(relative), np.isin(np.arange(n_bands) - n_occupied, tuple(relative))
