"""The undisplaced primitive cell, its points near K, and the geometry of blocks on its atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from mlepi.physics.bands.geometry import (
    BlochGeometry,
    berry_curvature,
    build_geometry,
    quantum_metric,
)
from mlepi.physics.bands.unfolding import AtomMap
from mlepi.physics.eigenstates.bloch import count_valence_electrons
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

    def build(self, pairs: Pairs, blocks: NDArray[np.float64]) -> BlochGeometry:
        """Prepare averaged H and S, (2, n_pairs, p, p)."""
        rows, (hamiltonian, overlap) = restore_directions(pairs, *blocks)
        edges = list_edges(rows)
        return build_geometry(hamiltonian, overlap, *edges, self.offsets, self.cell, self.positions)

    def examine(self, geometry: BlochGeometry) -> Geometry:
        """Compute the line and the circle."""
        return Geometry(self.examine_line(geometry), geometry.loop_phase(self.circle, self.chosen))

    def examine_line(self, geometry: BlochGeometry) -> NDArray[np.float64]:
        """Compute gap, Ω and g along the line: (n_points, 6)."""
        rows = []
        for kpoint in self.line:
            values, tensor = geometry.tensor(kpoint, self.chosen)
            gap = np.abs(values[self.chosen][:, None] - values[~self.chosen][None, :]).min()
            rows.append([gap, berry_curvature(tensor), *quantum_metric(tensor).reshape(-1)])
        return np.array(rows)

    def draw(self, geometry: BlochGeometry) -> NDArray[np.float64]:
        """Compute Ω and tr g on the square around K: (2, n_map, n_map)."""
        steps = self.map_steps
        grid = np.stack(
            [*np.meshgrid(steps, steps, indexing="ij"), np.zeros((len(steps), len(steps)))], axis=-1
        )
        points = self.corner + lattice.to_fractional(grid.reshape(-1, 3), self.cell)
        tensors = np.array([geometry.tensor(k, self.chosen)[1] for k in points])
        maps = np.stack(
            [berry_curvature(tensors), np.trace(quantum_metric(tensors), axis1=1, axis2=2)]
        )
        return maps.reshape(2, len(steps), len(steps))


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
    )


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
