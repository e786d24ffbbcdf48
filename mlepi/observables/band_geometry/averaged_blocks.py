"""Averages over primitive cells and samples, and the geometry of what comes out.

A sample's H and S are averaged over its primitive cells, brought to the energy zero of the
undisplaced crystal and orthonormalised with its own S; the results, H̃ = S^{-1/2} (H − μS) S^{-1/2}
at every k-point, are averaged over the samples. A multiple of S that differs from sample to sample
then changes nothing, and where S is the same in all of them the average is that of the blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.graphs.block_pairs import keep_one_direction, spread_blocks, unite_pairs
from mlepi.observables.band_geometry.primitive_geometry import (
    Geometry,
    Orthonormal,
    PrimitiveGeometry,
)
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import jackknife_errors, jackknife_weights
from mlepi.physics.bands.unfolding import average_cells
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.sampled_stage import Part

N_BLOCKS = 16
"""Blocks of samples of the jackknife; their error bar is itself uncertain by 1/√32, 18 %."""


@dataclass(frozen=True)
class AveragedMatrices:
    """H̃ averaged over an ensemble.

    Attributes:
        primitive: the undisplaced cell.
        line: H̃ and its slopes on the line, (n_points, 3, n, n) per sample, eV and eV·Å.
        circle: H̃ on the circle, (n_loop, n, n) per sample.
        map: as ``line`` on the square, over all samples at once.
        shifts: energy zero of every sample, () per sample, eV, and its square.
    """

    primitive: PrimitiveGeometry
    line: BlockAverages
    circle: BlockAverages
    map: BlockAverages
    shifts: BlockAverages

    def examine(self, weights: NDArray[np.float64]) -> list[Geometry]:
        """Return the geometry at every temperature for weights of the blocks of samples."""
        averages = self.line.average(weights), self.circle.average(weights)
        return [self.primitive.examine(*matrices) for matrices in zip(*averages, strict=True)]

    def draw(self) -> NDArray[np.float64]:
        """Compute Ω and tr g on the square around K, (n_temperatures, 2, n_map, n_map)."""
        return np.array([self.primitive.draw(matrices) for matrices in self.map.average()])

    def zero_shifts(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of the energy zeros, eV, (n_temperatures,) each."""
        mean, squares = np.moveaxis(self.shifts.average(), 1, 0)
        return mean, np.sqrt(np.maximum(squares - mean**2, 0.0))

    def trace_from_first(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average |k − K|² tr g over the first blocks of samples.

        Returns:
            Mean and jackknife error, (n_temperatures,) each.
        """
        signed, n_blocks = self.primitive.signed, self.line.design.n_samples
        design = self.line.design.first(count)

        def trace(first: NDArray[np.float64]) -> NDArray[np.float64]:
            averages = self.line.average(np.pad(first, (0, n_blocks - count)))
            lines = [self.primitive.examine_line(matrices) for matrices in averages]
            return np.array([np.nanmean(signed**2 * (line[:, 2] + line[:, 5])) for line in lines])

        mean = trace(design.weights)
        left_out = np.array([trace(weights) for weights in jackknife_weights(design)])
        return mean, jackknife_errors(mean, left_out, design)


def average_sample(primitive: PrimitiveGeometry, sample: Sample) -> Part:
    """Average H and S of one displaced supercell over its primitive cells.

    Args:
        primitive: the undisplaced cell.
        sample: the supercell.

    Returns:
        ``pairs`` (n_pairs, 5) int, one direction of each, and ``changes`` (2, n_pairs, p, p),
        float32: H (eV) and S minus those of the undisplaced cell.
    """
    parts = [
        keep_one_direction(
            *average_cells(
                primitive.atom_map, matrix.edge_index, matrix.edge_cell_shift, matrix.blocks
            )
        )
        for matrix in (sample.hamiltonian, sample.overlap)
    ]
    pairs = unite_pairs([primitive.pairs, *(rows for rows, _ in parts)])
    changes = [
        spread_blocks(pairs, rows, blocks) - spread_blocks(pairs, primitive.pairs, rest)
        for (rows, blocks), rest in zip(parts, primitive.blocks, strict=True)
    ]
    return {"pairs": pairs.astype(np.int32), "changes": np.array(changes, dtype=np.float32)}


def orthonormalise_sample(primitive: PrimitiveGeometry, part: Part) -> tuple[Orthonormal, float]:
    """Orthonormalise one sample with its own S, relative to its own energy zero.

    Args:
        primitive: the undisplaced cell.
        part: what ``average_sample`` returned.

    Returns:
        H̃ at all k-points, and the energy zero μ, eV.
    """
    pairs = part["pairs"].astype(np.int64)
    rest = np.array([spread_blocks(pairs, primitive.pairs, x) for x in primitive.blocks])
    geometry = primitive.build(pairs, rest + part["changes"])
    shift = primitive.zero.shift(geometry)
    return primitive.orthonormalise(geometry, shift), shift


def average_ensemble(
    primitive: PrimitiveGeometry, ensemble: Ensemble, results: Iterable[tuple[SampleKey, Part]]
) -> AveragedMatrices:
    """Average over the samples.

    Args:
        primitive: the undisplaced cell.
        ensemble: of the samples.
        results: what ``average_sample`` returned for each.
    """

    def averages(shape: tuple[int, ...], dtype: type, n_blocks: int) -> BlockAverages:
        return BlockAverages(ensemble.design, ensemble.temperatures, shape, dtype, n_blocks)

    n, n_points, n_loop = len(primitive.sites), len(primitive.signed), len(primitive.circle)
    averaged = AveragedMatrices(
        primitive,
        averages((n_points, 3, n, n), np.complex128, N_BLOCKS),
        averages((n_loop, n, n), np.complex128, N_BLOCKS),
        averages((len(primitive.square), 3, n, n), np.complex128, 1),
        averages((2,), np.float64, N_BLOCKS),
    )
    for key, part in results:
        matrices, shift = orthonormalise_sample(primitive, part)
        averaged.line.add(*key, matrices.line)
        averaged.circle.add(*key, matrices.circle)
        averaged.map.add(*key, matrices.square)
        averaged.shifts.add(*key, np.array([shift, shift**2]))
    return averaged
