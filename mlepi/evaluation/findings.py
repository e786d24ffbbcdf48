"""What is found on one structure, and what follows for any group of structures.

Means are never averaged: groups add sums, and divide once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlepi.evaluation.breakdown import Breakdown
from mlepi.evaluation.overlaps import OverlapErrors
from mlepi.structures.labelled_structure import LabelledStructure
from mlepi.training.parity import select_points
from mlepi.training.slopes import LabelledErrors

MOST_POINTS = 20_000
"""Points of one quantity that are kept for a parity plot, over all structures."""


@dataclass(frozen=True)
class Points:
    """Labels and predictions of one quantity, thinned out.

    Attributes:
        label: (n_points,).
        prediction: (n_points,).
        error: sum of the absolute errors of all points, also of those that are not kept.
        count: number of all points.
    """

    label: NDArray[np.float64]
    prediction: NDArray[np.float64]
    error: float
    count: int

    @classmethod
    def join(cls, parts: Sequence[Points]) -> Points:
        """Return the points of several structures."""
        return cls(
            np.concatenate([points.label for points in parts]),
            np.concatenate([points.prediction for points in parts]),
            sum(points.error for points in parts),
            sum(points.count for points in parts),
        )


def thin(label: Any, prediction: Any, most: int) -> Points:
    """Keep at most so many points.

    Args:
        label: (n,), array or tensor.
        prediction: (n,).
        most: number of points.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (label, prediction))
    chosen = select_points(len(first), most)
    error = float(np.abs(second - first).sum())
    return Points(first[chosen], second[chosen], error, len(first))


@dataclass(frozen=True)
class Finding:
    """What one structure contributes.

    Attributes:
        atoms: the structure.
        sums: quantity → (3,), Σ|x|, Σx² and number of x, float64.
        points: quantity and unit, like "H intra (eV)" → points of the parity plot.
        extremes: further numbers of the structure alone, with the unit in the name.
        breakdown: of the blocks, by pair of orbitals and by distance; None for forces.
        overlap: of the table against the labels' own overlaps, where both are there.
        paired: blocks, of a structure that belongs to a pair of displacements.
    """

    atoms: Atoms
    sums: dict[str, Tensor]
    points: dict[str, Points]
    extremes: dict[str, float] = field(default_factory=dict)
    breakdown: Breakdown | None = None
    overlap: OverlapErrors | None = None
    paired: LabelledErrors | None = None


class Judge(Protocol):
    """How networks of one kind are judged.

    Attributes:
        outlying: metrics by which structures can stand out.
    """

    outlying: ClassVar[Sequence[str]]

    def measure(self, structure: LabelledStructure, number: int, paired: bool) -> Finding:
        """Compare what the network predicts for one structure with its labels.

        Args:
            structure: with labels.
            number: of it in its data set.
            paired: it belongs to a pair of displacements.
        """
        ...

    def summarize(self, findings: Mapping[str, Finding]) -> dict[str, float]:
        """Return the metrics of a group of structures, by name."""
        ...


def sum_differences(difference: NDArray[np.float64]) -> Tensor:
    """Return Σ|x|, Σx² and the number of x: (3,) float64."""
    x = np.asarray(difference, dtype=np.float64)
    return torch.tensor([np.abs(x).sum(), (x**2).sum(), x.size], dtype=torch.float64)
