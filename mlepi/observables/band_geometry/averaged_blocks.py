"""Averages of H and S over primitive cells and samples, and the geometry of what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.graphs.block_pairs import Pairs, keep_one_direction, spread_blocks, unite_pairs
from mlepi.observables.band_geometry.primitive_geometry import PrimitiveGeometry
from mlepi.physics.averages.block_averages import BlockAverages
from mlepi.physics.averages.statistics import jackknife_errors, jackknife_weights
from mlepi.physics.bands.geometry import BlochGeometry
from mlepi.physics.bands.unfolding import average_cells
from mlepi.pipeline.ensemble import Ensemble, Sample, SampleKey
from mlepi.pipeline.sampled_stage import Part

N_BLOCKS = 16
"""Blocks of samples of the jackknife; their error bar is itself uncertain by 1/√32, 18 %."""


@dataclass(frozen=True)
class AveragedBlocks:
    """H and S averaged over an ensemble.

    Attributes:
        primitive: the undisplaced cell.
        pairs: (n_pairs, 5), all that occur in a sample, one direction of each.
        rest: (2, n_pairs, p, p), H (eV) and S of the undisplaced cell.
        changes: averages of what samples add to it, (2, n_pairs, p, p) each.
    """

    primitive: PrimitiveGeometry
    pairs: Pairs
    rest: NDArray[np.float64]
    changes: BlockAverages

    def at_rest(self) -> BlochGeometry:
        """Return the geometry of the undisplaced cell."""
        return self.primitive.build(self.pairs, self.rest)

    def build(self, weights: NDArray[np.float64]) -> list[BlochGeometry]:
        """Return the geometry at every temperature for weights of the blocks of samples."""
        averages = self.changes.average(weights)
        return [self.primitive.build(self.pairs, self.rest + changes) for changes in averages]

    def trace_from_first(self, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Average |k − K|² tr g over the first blocks of samples.

        Returns:
            Mean and jackknife error, (n_temperatures,) each.
        """
        signed, n_blocks = self.primitive.signed, self.changes.design.n_samples
        design = self.changes.design.first(count)

        def trace(first: NDArray[np.float64]) -> NDArray[np.float64]:
            weights = np.pad(first, (0, n_blocks - count))
            lines = [self.primitive.examine_line(geometry) for geometry in self.build(weights)]
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


def average_ensemble(
    primitive: PrimitiveGeometry, ensemble: Ensemble, results: Iterable[tuple[SampleKey, Part]]
) -> AveragedBlocks:
    """Average over the samples, on the union of their pairs.

    Args:
        primitive: the undisplaced cell.
        ensemble: of the samples.
        results: what ``average_sample`` returned for each; gone through twice.
    """
    pairs = primitive.pairs
    for _, part in results:
        pairs = unite_pairs([pairs, part["pairs"].astype(np.int64)])
    size = primitive.blocks.shape[-1]
    shape = (2, len(pairs), size, size)
    averages = BlockAverages(ensemble.design, ensemble.temperatures, shape, np.float64, N_BLOCKS)
    for key, part in results:
        own = part["pairs"].astype(np.int64)
        averages.add(*key, np.array([spread_blocks(pairs, own, x) for x in part["changes"]]))
    rest = np.array([spread_blocks(pairs, primitive.pairs, x) for x in primitive.blocks])
    return AveragedBlocks(primitive, pairs, rest, averages)
