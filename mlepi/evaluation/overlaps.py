"""Overlaps of a checkpoint's table beside those of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlepi.evaluation.breakdown import PARTS
from mlepi.graphs.block_matrix import BlockMatrix
from mlepi.graphs.block_pairs import align_matrices
from mlepi.training.metrics import MILLI


@dataclass(frozen=True)
class OverlapErrors:
    """Errors of the overlaps of one structure.

    Attributes:
        parts: block type → largest |ΔS|, Σ|ΔS| and number of elements.
        smallest: smallest eigenvalue of S at the k-points, of the table.
        smallest_label: likewise of the labels.
        levels: (n_levels,), eV, how far levels within 2 eV of E_F of the labelled H move with the
            table's S.
    """

    parts: dict[str, tuple[float, float, int]]
    smallest: float
    smallest_label: float
    levels: NDArray[np.float64]


def compare_overlaps(
    predicted: BlockMatrix, labelled: BlockMatrix, atoms: Atoms
) -> dict[str, tuple[float, float, int]]:
    """Compare overlaps on the existing orbitals; a block that one of them lacks counts as zero.

    Args:
        predicted: from the table.
        labelled: of the data.
        atoms: structure, with the layer of every atom.

    Returns:
        "onsite", "intra" and "inter" → largest |ΔS|, Σ|ΔS| and number of elements.
    """
    (source, target), shift, (first, second) = align_matrices([predicted, labelled])
    difference = np.abs(first - second)
    counts = predicted.basis.counts(predicted.numbers)
    elements = counts[source] * counts[target]
    onsite = (source == target) & ~shift.any(axis=1)
    same = atoms.arrays["layer"][source] == atoms.arrays["layer"][target]
    chosen = dict(zip(PARTS, (onsite, same & ~onsite, ~same), strict=True))
    return {
        part: (
            float(difference[at].max(initial=0.0)),
            float(difference[at].sum()),
            int(elements[at].sum()),
        )
        for part, at in chosen.items()
    }


def overlap_metrics(found: Sequence[OverlapErrors]) -> dict[str, float]:
    """Return the metrics of the overlaps of several structures; none for none."""
    if not found:
        return {}
    levels = np.concatenate([each.levels for each in found])
    metrics = {}
    if len(levels):
        metrics["bands_from_table_rms_mev"] = MILLI * float(np.sqrt(np.mean(levels**2)))
    parts = {f"overlap_{part}": [each.parts[part] for each in found] for part in PARTS}
    parts = {"overlap": [piece for pieces in parts.values() for piece in pieces], **parts}
    for name, pieces in parts.items():
        metrics[f"{name}_max"] = max(piece[0] for piece in pieces)
        metrics[f"{name}_mean"] = sum(piece[1] for piece in pieces) / max(
            1, sum(piece[2] for piece in pieces)
        )
    metrics["overlap_smallest_eigenvalue"] = min(each.smallest for each in found)
    metrics["overlap_smallest_eigenvalue_dft"] = min(each.smallest_label for each in found)
    return metrics
