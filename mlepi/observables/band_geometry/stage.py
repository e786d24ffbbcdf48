"""The band_geometry stage.

Berry curvature, quantum metric and Berry phases of bands of the averaged Bloch Hamiltonian.

Bands of a supercell have no geometry of their own that could be averaged: folding mixes k-points at
every crossing. The averaged Bloch Hamiltonian has one. Averaged are the blocks of H and S, over the
primitive cells of each supercell and over the samples; ⟨B_k†HB_k⟩ and ⟨B_k†SB_k⟩ are then the first
and zeroth moments of the averaged spectral function at k. They hold the Debye–Waller effect of all
orders; transitions to other k-points and back (Fan) enter with the second moment and are not in
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import ConfigError, PhysicsError, message
from mlepi.graphs.block_pairs import (
    Pairs,
    keep_one_direction,
    list_edges,
    restore_directions,
    spread_blocks,
    unite_pairs,
)
from mlepi.observables.near_k.reference_bands import sort_distances
from mlepi.observables.sample_checks import check_samples
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.convergence import choose_counts
from mlepi.physics.bands import lattice
from mlepi.physics.bands.geometry import (
    BlochGeometry,
    berry_curvature,
    build_geometry,
    quantum_metric,
)
from mlepi.physics.bands.unfolding import average_cells, cell_major_map
from mlepi.physics.eigenstates.bloch import count_valence_electrons
from mlepi.pipeline.stage import SampleKey
from mlepi.results.band_geometry import BandGeometryRecord

if TYPE_CHECKING:
    from mlepi.graphs.block_matrix import BlockMatrix
    from mlepi.pipeline.run import Run

OCCUPIED = "occupied"
"""Word for all bands below the gap or the cone."""

N_BLOCKS = 16
"""Blocks of samples of the jackknife; their error bar is itself uncertain by 1/√32, 18 %."""


@dataclass(frozen=True)
class Geometry:
    """What one averaged Hamiltonian gives.

    Attributes:
        line: (n_points, 6): gap (eV), Ω, g_xx, g_xy, g_yx, g_yy (Å²).
        phase: Berry phase of the circle, rad.
    """

    line: NDArray[np.float64]
    phase: float


class BandGeometryStage:
    """Band geometry against temperature; see ``conf/stage/settings/band_geometry.yaml``.

    Args:
        valence_electrons: atomic number → valence electrons of its pseudopotential.
        bands: "occupied", or bands counted from the lowest empty one; −1 is the highest occupied.
        distances: Å⁻¹, |k − K| of the points on K→Γ and K→M.
        loop_radius: Å⁻¹, of the circle around K.
        n_loop: points on the circle.
        map_radius: Å⁻¹, half side of the maps around K.
        n_map: points along each side.
        n_counts: of the convergence study.
    """

    name: ClassVar[str] = "band_geometry"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("structure", "phonon", "sampling", "hamiltonian")
    record: ClassVar[type] = BandGeometryRecord

    def __init__(
        self,
        *,
        valence_electrons: Mapping[int, float],
        bands: str | Sequence[int],
        distances: Sequence[float],
        loop_radius: float,
        n_loop: int,
        map_radius: float,
        n_map: int,
        n_counts: int,
    ) -> None:
        if (isinstance(bands, str) and bands != OCCUPIED) or len(bands) == 0:
            raise ConfigError(
                message(
                    "stage.band_geometry.bands",
                    f"{bands!r}",
                    f"{OCCUPIED} or a list such as [-1]",
                    "Choose the bands.",
                )
            )
        if loop_radius <= 0 or map_radius <= 0 or n_loop < 3 or n_map < 2:
            raise ConfigError(
                message(
                    "stage.band_geometry",
                    f"loop_radius {loop_radius}, n_loop {n_loop}, map_radius {map_radius}, n_map "
                    f"{n_map}",
                    "radii > 0 in 1/Å, at least 3 points on the circle and 2 along a map",
                    "Raise what is too small.",
                )
            )
        self.valence_electrons = {int(z): float(n) for z, n in valence_electrons.items()}
        self.bands = (
            bands if isinstance(bands, str) else tuple(sorted({int(band) for band in bands}))
        )
        self.distances = sort_distances("band_geometry", distances)
        self.loop_radius, self.n_loop = loop_radius, n_loop
        self.map_steps = np.linspace(-map_radius, map_radius, n_map)
        self.n_counts = n_counts
        self._shared: _Primitive | None = None

    def inputs(self, run: Run) -> dict[str, Any]:
        """Return every setting; the samples are named by the runner."""
        return {
            **self.sample_inputs(run),
            "valence_electrons": {str(z): n for z, n in self.valence_electrons.items()},
            "bands": self.bands if isinstance(self.bands, str) else list(self.bands),
            "distances": list(self.distances),
            "loop": [self.loop_radius, self.n_loop],
            "map": self.map_steps.tolist(),
            "n_counts": self.n_counts,
        }

    def sample_inputs(self, run: Run) -> dict[str, Any]:
        """Return what decides the averaged blocks of one sample."""
        return {"supercell": list(run.supercell)}

    def begin(self, run: Run) -> None:
        """Prepare the undisplaced primitive cell."""
        self._shared = _Primitive(self, run)
        displaced = run.displaced(SampleKey(0, run.temperatures[0]))
        check_samples(run.n_samples, self._shared.atoms, displaced, self._shared.atom_map)

    def evaluate(
        self, key: SampleKey, hamiltonian: BlockMatrix, overlap: BlockMatrix
    ) -> dict[str, NDArray]:
        """Average H and S of one displaced supercell over its primitive cells.

        Returns:
            ``pairs`` (n_pairs, 5) int, one direction of each, and ``changes`` (2, n_pairs, p, p),
            float32: H (eV) and S minus those of the undisplaced cell.
        """
        shared = self._require_shared()
        parts = [
            keep_one_direction(
                *average_cells(
                    shared.atom_map, matrix.edge_index, matrix.edge_cell_shift, matrix.blocks
                )
            )
            for matrix in (hamiltonian, overlap)
        ]
        pairs = unite_pairs([shared.pairs, *(rows for rows, _ in parts)])
        changes = [
            spread_blocks(pairs, rows, blocks) - spread_blocks(pairs, shared.pairs, rest)
            for (rows, blocks), rest in zip(parts, shared.blocks, strict=True)
        ]
        return {"pairs": pairs.astype(np.int32), "changes": np.array(changes, dtype=np.float32)}

    def finish(
        self, run: Run, results: Iterable[tuple[SampleKey, dict[str, NDArray]]]
    ) -> BandGeometryRecord:
        """Average over the samples and compute the geometry, of all blocks and without each."""
        if self._shared is None:
            self.begin(run)
        shared = self._require_shared()
        pairs = shared.pairs
        for _, arrays in results:
            pairs = unite_pairs([pairs, arrays["pairs"].astype(np.int64)])
        size = shared.blocks[0].shape[-1]
        averages = BlockAverages(
            run.design, run.temperatures, (2, len(pairs), size, size), np.float64, N_BLOCKS
        )
        for key, arrays in results:
            averages.add(
                key.sample,
                key.temperature,
                np.array(
                    [
                        spread_blocks(pairs, arrays["pairs"].astype(np.int64), x)
                        for x in arrays["changes"]
                    ]
                ),
            )
        rest = np.array([spread_blocks(pairs, shared.pairs, x) for x in shared.blocks])

        def geometries(weights: NDArray[np.float64]) -> list[BlochGeometry]:
            return [shared.build(pairs, rest + changes) for changes in averages.average(weights)]

        at_rest = shared.build(pairs, rest)
        equilibrium = shared.examine(at_rest)
        whole = geometries(averages.design.weights)
        found = [shared.examine(geometry) for geometry in whole]
        left_out = [
            [shared.examine(geometry) for geometry in geometries(weights)]
            for weights in averages.left_out
        ]
        line = np.array([one.line for one in found])
        errors = averages.standard_errors(
            line, np.array([[one.line for one in row] for row in left_out])
        )
        phases = np.array([one.phase for one in found])
        turns = np.angle(
            np.exp(1j * (np.array([[one.phase for one in row] for row in left_out]) - phases))
        )
        counts = choose_counts(averages.design, self.n_counts)
        running = [self._trace_from_first(averages, geometries, int(count)) for count in counts]
        record = BandGeometryRecord(
            temperatures=np.array(run.temperatures),
            n_samples=run.n_samples,
            supercell=shared.atom_map.supercell,
            bands=shared.relative_bands,
            distances=shared.signed,
            equilibrium_gaps=equilibrium.line[:, 0],
            gaps=line[..., 0],
            equilibrium_curvatures=equilibrium.line[:, 1],
            curvatures=line[..., 1],
            curvature_errors=errors[..., 1],
            equilibrium_metrics=equilibrium.line[:, 2:].reshape(-1, 2, 2),
            metrics=line[..., 2:].reshape(*line.shape[:2], 2, 2),
            metric_errors=errors[..., 2:].reshape(*line.shape[:2], 2, 2),
            loop_radius=self.loop_radius,
            equilibrium_berry_phase=equilibrium.phase,
            berry_phases=phases,
            berry_phase_errors=averages.standard_errors(np.zeros_like(phases), turns),
            map_steps=self.map_steps,
            equilibrium_maps=shared.draw(at_rest),
            maps=np.array([shared.draw(geometry) for geometry in whole]),
            convergence_counts=averages.n_samples[counts - 1],
            convergence_traces=np.array([mean for mean, _ in running]),
            convergence_errors=np.array([error for _, error in running]),
        )
        run.warnings += [f"{self.name}: {text}" for text in record.doubts()]
        return record

    def summarize(self, record: BandGeometryRecord) -> str:
        """Say in a few words what was found."""
        last = int(np.argmin(np.abs(record.distances)))
        trace, rest = (
            np.trace(g[..., last, :, :], axis1=-2, axis2=-1)
            for g in (record.metrics, record.equilibrium_metrics)
        )
        return (
            f"tr g {rest:.1f} → {trace[-1]:.1f} Å² at k − K = {record.distances[last]:g} Å⁻¹ and "
            f"{record.temperatures[-1]:g} K, "
            f"Berry phase around K {record.equilibrium_berry_phase / np.pi:.3f}π → "
            f"{record.berry_phases[-1] / np.pi:.3f}π"
        )

    def _trace_from_first(
        self, averages: BlockAverages, geometries: Any, count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average |k − K|² tr g over the first blocks of samples.

        Returns:
            Mean and jackknife error, (n_temperatures,) each.
        """
        shared, n = self._require_shared(), averages.design.n_samples

        def trace(weights: NDArray[np.float64]) -> NDArray[np.float64]:
            lines = [shared.examine_line(geometry) for geometry in geometries(weights)]
            return np.array(
                [np.nanmean(shared.signed**2 * (line[:, 2] + line[:, 5])) for line in lines]
            )

        first = np.where(np.arange(n) < count, averages.design.weights, 0.0)
        without = [np.where(np.arange(n) == block, 0.0, first) for block in range(count)]
        mean, left_out = (
            trace(first / first.sum()),
            np.array([trace(weights / weights.sum()) for weights in without]),
        )
        return mean, averages.standard_errors(mean, left_out)

    def _require_shared(self) -> _Primitive:
        if self._shared is None:
            raise PhysicsError(
                message(
                    "band_geometry stage",
                    "a sample before begin()",
                    "begin() first",
                    "Run the stage through the runner.",
                )
            )
        return self._shared


class _Primitive:
    """The undisplaced primitive cell, its k-points, and the geometry of any blocks on its atoms."""

    def __init__(self, stage: BandGeometryStage, run: Run) -> None:
        self.stage = stage
        self.atoms, hamiltonian, overlap = run.equilibrium()
        self.atom_map = cell_major_map(len(self.atoms), run.supercell)
        self.offsets = hamiltonian.offsets
        parts = [
            keep_one_direction(m.edge_index, m.edge_cell_shift, m.blocks)
            for m in (hamiltonian, overlap)
        ]
        self.pairs: Pairs = unite_pairs([rows for rows, _ in parts])
        self.blocks = [spread_blocks(self.pairs, rows, blocks) for rows, blocks in parts]
        n_bands = int(self.offsets[-1])
        n_occupied = int(count_valence_electrons(hamiltonian.numbers, stage.valence_electrons)) // 2
        relative = range(-n_occupied, 0) if isinstance(stage.bands, str) else stage.bands
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
        self.relative_bands = tuple(relative)
        self.chosen = np.isin(np.arange(n_bands) - n_occupied, self.relative_bands)
        cell = self.atoms.cell.array
        points = lattice.hexagonal_points(cell)
        self.corner = points["K"]
        self.signed = np.array(
            [-d for d in reversed(stage.distances) if d > 0] + list(stage.distances)
        )
        self.line = lattice.build_line(points["K"], points["Γ"], self.signed, cell)
        turns = 2.0 * np.pi * np.arange(stage.n_loop) / stage.n_loop
        steps = stage.loop_radius * np.stack(
            [np.cos(turns), np.sin(turns), np.zeros_like(turns)], axis=1
        )
        self.circle = self.corner + lattice.to_fractional(steps, cell)

    def build(self, pairs: Pairs, blocks: NDArray[np.float64]) -> BlochGeometry:
        """Prepare averaged H and S, (2, n_pairs, p, p)."""
        rows, (hamiltonian, overlap) = restore_directions(pairs, *blocks)
        edge_index, edge_cell_shift = list_edges(rows)
        return build_geometry(
            hamiltonian,
            overlap,
            edge_index,
            edge_cell_shift,
            self.offsets,
            self.atoms.cell.array,
            self.atoms.positions,
        )

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
        steps = self.stage.map_steps
        grid = np.stack(
            [*np.meshgrid(steps, steps, indexing="ij"), np.zeros((len(steps), len(steps)))], axis=-1
        )
        points = self.corner + lattice.to_fractional(grid.reshape(-1, 3), self.atoms.cell.array)
        tensors = np.array([geometry.tensor(k, self.chosen)[1] for k in points])
        maps = np.stack(
            [berry_curvature(tensors), np.trace(quantum_metric(tensors), axis1=1, axis2=2)]
        )
        return maps.reshape(2, len(steps), len(steps))
