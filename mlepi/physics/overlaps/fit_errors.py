"""How well a table reproduces the overlaps that it was fitted to, and what no table could."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlepi.errors import UnusualDataWarning, message
from mlepi.physics.overlaps.evaluate import ONSITE_DISTANCE, compute_overlap_blocks
from mlepi.physics.overlaps.fit import OverlapSample
from mlepi.physics.overlaps.table import ElementPair, OverlapTable

TWO_CENTRE = 1e-4
"""Largest usual part of S that is no function of the distance times harmonics of the bond."""


@dataclass(frozen=True)
class OverlapErrors:
    """Differences of a table from overlaps, dimensionless.

    Attributes:
        largest: of all elements.
        rms: root of the mean square of all elements.
        by_pair: pair of elements z1 ≤ z2 → largest.
        worst_distance: Å, where the largest is; 0 for on-site.
        n_blocks: compared.
        n_outside: not compared, since the table does not cover their distance.
    """

    largest: float
    rms: float
    by_pair: Mapping[ElementPair, float]
    worst_distance: float
    n_blocks: int
    n_outside: int

    def describe(self) -> str:
        """Say it in one line."""
        pairs = ", ".join(f"{a}–{b} {value:.1e}" for (a, b), value in self.by_pair.items())
        outside = f"; {self.n_outside} blocks at distances it does not cover"
        return (
            f"table of overlaps against {self.n_blocks} blocks: largest error {self.largest:.1e} "
            f"at {self.worst_distance:.2f} Å, RMS {self.rms:.1e} (by atomic numbers: {pairs})"
            + (outside if self.n_outside else "")
        )


def measure_overlap_errors(table: OverlapTable, samples: Iterable[OverlapSample]) -> OverlapErrors:
    """Compare a table with overlaps, in the data that it was fitted to or in others.

    Args:
        table: radial overlap functions.
        samples: overlap blocks of structures.

    Returns:
        Errors over all blocks whose distances the table covers; ``UnusualDataWarning`` where the
        largest is beyond ``TWO_CENTRE``: S is then not two-centre, or the table is of another
        basis, and inference needs S of the structure itself.
    """
    by_pair: dict[ElementPair, float] = {}
    squares = n_values = 0.0
    n_blocks = n_outside = 0
    worst, worst_distance = 0.0, 0.0
    for sample in samples:
        lengths = np.linalg.norm(sample.vectors, axis=1)
        rows, columns = (sample.numbers[sample.edge_index[k]] for k in (1, 0))
        covered = _is_covered(table, rows, columns, lengths)
        n_outside += int((~covered).sum())
        index, vectors = sample.edge_index[:, covered], sample.vectors[covered]
        size = sample.blocks.shape[1]
        expected = compute_overlap_blocks(table, sample.numbers, index, vectors, size)
        difference = np.abs(expected - sample.blocks[covered])
        squares += float((difference**2).sum())
        n_values += difference.size
        n_blocks += len(difference)
        largest = difference.max(axis=(1, 2), initial=0.0)
        for pair in table.values:
            mine = largest[_is_pair(rows[covered], columns[covered], pair)]
            by_pair[pair] = max(by_pair.get(pair, 0.0), float(mine.max(initial=0.0)))
        if largest.size and largest.max() > worst:
            worst, worst_distance = float(largest.max()), float(lengths[covered][largest.argmax()])
    rms = float(np.sqrt(squares / max(n_values, 1.0)))
    errors = OverlapErrors(worst, rms, by_pair, worst_distance, n_blocks, n_outside)
    if worst > TWO_CENTRE:
        text = message(
            "overlaps",
            f"blocks that radial tables miss by up to {worst:.1e}",
            f"at most {TWO_CENTRE:g}",
            "S has three-centre terms (PAW) or comes from a coarse k-mesh, or the table is of "
            "another basis: give S of every structure instead of a table.",
        )
        warnings.warn(text, UnusualDataWarning, stacklevel=2)
    return errors


def _is_pair(
    rows: NDArray[np.integer], columns: NDArray[np.integer], pair: ElementPair
) -> NDArray[np.bool_]:
    first, second = pair
    forward = (rows == first) & (columns == second)
    return np.asarray(forward | ((rows == second) & (columns == first)))


def _is_covered(
    table: OverlapTable,
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    lengths: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Mark the edges whose distance the table has seen, on-site and beyond the cutoff included."""
    covered = lengths <= ONSITE_DISTANCE
    for pair in table.values:
        inside = lengths >= table.cutoff(*pair)
        for low, high in table.fitted_intervals.get(pair, np.array([[0.0, np.inf]])):
            inside |= (lengths >= low) & (lengths <= high)
        covered |= inside & _is_pair(rows, columns, pair)
    return covered
