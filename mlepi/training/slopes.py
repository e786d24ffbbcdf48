"""Slopes of a Hamiltonian: the change of its blocks between +u and −u against that of the labels.

A pair is two structures named ``NAME_p`` and ``NAME_m``. The relative error ‖ΔH − ΔH_DFT‖ /
‖ΔH_DFT‖ over all elements does not depend on the length of u.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlepi.graphs import fields
from mlepi.training.bloch_sums import ONSITE
from mlepi.training.losses import BlockErrors


@dataclass(frozen=True)
class LabelledErrors:
    """Labels and errors of the blocks of one structure.

    Every attribute maps "onsite", "intra" and "inter" to its part.

    Attributes:
        keys: (n, 5) int, source, target and cell shift of every block.
        label: (n, p, p), eV.
        error: (n, p, p), prediction less label, eV.
    """

    keys: dict[str, NDArray[np.int64]]
    label: dict[str, NDArray[np.float64]]
    error: dict[str, NDArray[np.float64]]


def find_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the names of the two structures of every pair, + first."""
    known = set(names)
    starts = sorted(name[:-2] for name in known if name.endswith("_p"))
    return [(f"{start}_p", f"{start}_m") for start in starts if f"{start}_m" in known]


def collect_blocks(errors: BlockErrors, graph: Any) -> LabelledErrors:
    """Take labels and errors of the blocks of one structure to numpy, in float64."""
    found = LabelledErrors({}, {}, {})
    for name, difference in errors.difference.items():
        if name == ONSITE:
            store = graph[fields.ATOM]
            atoms = np.arange(len(difference))
            keys = np.column_stack([atoms, atoms, np.zeros((len(atoms), 3), dtype=np.int64)])
        else:
            store = graph[fields.edge_type(name)]
            index = store[fields.EDGE_INDEX].cpu().numpy()
            shift = store[fields.EDGE_CELL_SHIFT].cpu().numpy()
            keys = np.column_stack([index.T, shift])
        label = store[fields.HAMILTONIAN_BLOCKS] * errors.mask[name]
        found.keys[name] = keys
        found.label[name] = label.cpu().numpy().astype(np.float64)
        found.error[name] = difference.detach().cpu().numpy().astype(np.float64)
    return found


def subtract_blocks(
    first: tuple[NDArray[np.int64], NDArray[np.float64]],
    second: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Subtract blocks with their own edge lists; one that a list lacks counts as zero.

    Args:
        first: (n, 5) int keys and (n, p, p) blocks.
        second: likewise.

    Returns:
        (n_different_keys, p, p).
    """
    keys = np.concatenate([first[0], second[0]])
    unique, place = np.unique(keys, axis=0, return_inverse=True)
    place = place.reshape(-1)
    difference = np.zeros((len(unique), *first[1].shape[1:]))
    difference[place[: len(first[0])]] += first[1]
    difference[place[len(first[0]) :]] -= second[1]
    return difference


def compare_slopes(pairs: Iterable[tuple[LabelledErrors, LabelledErrors]]) -> dict[str, float]:
    """Compare the changes of blocks over all pairs.

    Returns:
        "slope_error" and "slope_PART_error" → ‖ΔH − ΔH_DFT‖/‖ΔH_DFT‖, where labels change.
    """
    squares: dict[str, NDArray[np.float64]] = {}
    for plus, minus in pairs:
        for name in plus.label:
            error, label = (
                subtract_blocks((plus.keys[name], a[name]), (minus.keys[name], b[name]))
                for a, b in ((plus.error, minus.error), (plus.label, minus.label))
            )
            own = np.array([(error**2).sum(), (label**2).sum()])
            for part in ("", f"_{name}"):
                squares[part] = squares.get(part, np.zeros(2)) + own
    return {
        f"slope{part}_error": math.sqrt(error / label)
        for part, (error, label) in squares.items()
        if label > 0.0
    }
