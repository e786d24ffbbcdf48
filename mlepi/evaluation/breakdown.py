"""Errors of the blocks of one structure by pair of orbitals and by distance.

Sums are Σ|x|, Σx² and the number of elements, eV, as everywhere in the metrics: those of several
structures are added before anything is divided. Both directions of every pair count, as in the
errors by block type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from torch import Tensor

from mlepi.graphs import fields
from mlepi.structures.basis import SHELL_LETTERS, OrbitalBasis
from mlepi.training.bloch_sums import ONSITE
from mlepi.training.losses import BlockErrors
from mlepi.training.metrics import mean_error

PARTS = (ONSITE, *fields.RELATIONS)

OrbitalKey = tuple[str, int, int]
"""Block type, and atomic numbers of rows and columns."""

DistanceKey = tuple[str, int]
"""Block type and number of the bin of distances."""

Sums = NDArray[np.float64]
Key = TypeVar("Key")
Summed = TypeVar("Summed", NDArray[np.float64], Tensor)


@dataclass(frozen=True)
class Breakdown:
    """What the blocks of some structures contribute.

    Attributes:
        orbitals: block type and elements → (3, p, p), Σ|x|, Σx² and number.
        distances: block type and bin → (4,), the same and Σ|H| of the labels.
    """

    orbitals: dict[OrbitalKey, Sums]
    distances: dict[DistanceKey, Sums]


def break_down(errors: BlockErrors, graph: Any, bin_width: float) -> Breakdown:
    """Sum the errors of one structure by pair of orbitals and by distance.

    Args:
        errors: of the blocks, of a graph of one structure.
        graph: that they belong to.
        bin_width: of the distances, Å; on-site blocks are at 0.
    """
    found = Breakdown({}, {})
    labels = errors.labels(graph)
    for part in PARTS:
        rows, columns, length = _describe_blocks(graph, part)
        difference = errors.difference[part].detach().to(torch.float64)
        mask = errors.mask[part]
        sums = torch.stack([difference.abs(), difference.square(), mask.to(torch.float64)], dim=1)
        for first, second in torch.unique(torch.stack([rows, columns]), dim=1).T.tolist():
            own = (rows == first) & (columns == second)
            found.orbitals[part, first, second] = sums[own].sum(0).cpu().numpy()
        totals = torch.cat([sums.sum((2, 3)), labels[part].abs().sum((1, 2))[:, None]], dim=1)
        places = (length / bin_width).floor().long()
        for place in places.unique().tolist():
            found.distances[part, place] = totals[places == place].sum(0).cpu().numpy()
    return found


def _describe_blocks(graph: Any, part: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return elements of rows and columns, and length (Å), of the blocks of one type."""
    numbers = graph[fields.ATOM][fields.NUMBERS]
    if part == ONSITE:
        return numbers, numbers, torch.zeros(len(numbers), dtype=torch.float64)
    store = graph[fields.edge_type(part)]
    source, target = store[fields.EDGE_INDEX]
    positions = graph[fields.ATOM][fields.POSITIONS].to(torch.float64)
    cell = graph[fields.CELL].reshape(3, 3).to(torch.float64)
    shift = store[fields.EDGE_CELL_SHIFT].to(torch.float64)
    vectors = positions[source] + shift @ cell - positions[target]
    return numbers[target], numbers[source], vectors.norm(dim=1)


def add_breakdowns(parts: Iterable[Breakdown]) -> Breakdown:
    """Add up those of several structures."""
    parts = list(parts)
    return Breakdown(
        add_sums(part.orbitals for part in parts), add_sums(part.distances for part in parts)
    )


def add_sums(parts: Iterable[Mapping[Key, Summed]]) -> dict[Key, Summed]:
    """Add the sums of several structures, quantity by quantity."""
    total: dict[Key, Summed] = {}
    for part in parts:
        for key, sums in part.items():
            total[key] = total[key] + sums if key in total else sums
    return total


def tabulate_distances(found: Breakdown, bin_width: float) -> list[dict[str, Any]]:
    """Return one row per block type and bin: errors, size of the labels, both meV.

    Returns:
        "part", "distance" [from, to] (Å), "n_elements", "mae_mev", "rmse_mev",
        "mean_absolute_label_mev".
    """
    rows = []
    for part, place in sorted(found.distances, key=lambda key: (PARTS.index(key[0]), key[1])):
        sums = found.distances[part, place]
        ends = [0.0, 0.0] if part == ONSITE else [place * bin_width, (place + 1) * bin_width]
        size = 1e3 * sums[3] / max(sums[2], 1.0)
        rows.append(
            {
                "part": part,
                "distance": ends,
                **_errors(sums[:3]),
                "mean_absolute_label_mev": float(size),
            }
        )
    return rows


def tabulate_shells(found: Breakdown, basis: OrbitalBasis) -> list[dict[str, Any]]:
    """Return one row per pair of shells, either order together, the largest error first.

    Returns:
        "pair" like "C s1–C p2", "all" and every block type → "n_elements", "mae_mev", "rmse_mev".
    """
    sums: dict[tuple[str, str], dict[str, Sums]] = {}
    for (part, z1, z2), values in found.orbitals.items():
        for one, rows in zip(name_shells(basis, z1), basis.slices(z1), strict=True):
            for other, columns in zip(name_shells(basis, z2), basis.slices(z2), strict=True):
                own = values[:, rows, columns].sum((1, 2))
                first, second = sorted([one, other], key=_order(basis).index)
                of_pair = sums.setdefault((first, second), {})
                for key in (part, "all"):
                    of_pair[key] = of_pair.get(key, np.zeros(3)) + own
    table = [
        {
            "pair": f"{first}–{second}",
            **{part: _errors(values) for part, values in of_pair.items() if values[2]},
        }
        for (first, second), of_pair in sums.items()
    ]
    return sorted(table, key=lambda row: -row["all"]["mae_mev"])


def tabulate_orbitals(found: Breakdown, basis: OrbitalBasis) -> list[dict[str, Any]]:
    """Return the errors of every pair of orbitals, one matrix per block type and pair of elements.

    Returns:
        "part", "rows" and "columns" (names of orbitals), "mae_mev" and "rmse_mev" (n_rows,
        n_columns).
    """
    table = []
    for part, z1, z2 in sorted(found.orbitals, key=lambda key: (PARTS.index(key[0]), *key[1:])):
        if z1 > z2:  # the transposed matrix, of the other direction of the same pairs
            continue
        own = found.orbitals[part, z1, z2][:, : basis.n_orbitals(z1), : basis.n_orbitals(z2)]
        absolute, squared, count = own
        count = np.maximum(count, 1.0)
        table.append(
            {
                "part": part,
                "rows": name_orbitals(basis, z1),
                "columns": name_orbitals(basis, z2),
                "mae_mev": (1e3 * absolute / count).tolist(),
                "rmse_mev": (1e3 * np.sqrt(squared / count)).tolist(),
            }
        )
    return table


def name_shells(basis: OrbitalBasis, number: int) -> list[str]:
    """Return "C s1", "C s2", "C p1" … of the shells of an element, in their order."""
    counts: dict[int, int] = {}
    names = []
    for l in basis.shells[number]:
        counts[l] = counts.get(l, 0) + 1
        names.append(f"{chemical_symbols[number]} {SHELL_LETTERS[l]}{counts[l]}")
    return names


def name_orbitals(basis: OrbitalBasis, number: int) -> list[str]:
    """Return "C s1", "C p1 y", "C p1 z", … of the orbitals of an element, in internal order."""
    return [
        f"{name} {component}".strip()
        for name, l in zip(name_shells(basis, number), basis.shells[number], strict=True)
        for component in COMPONENTS.get(l, tuple(f"m={m}" for m in range(-l, l + 1)))
    ]


COMPONENTS = {0: ("",), 1: ("y", "z", "x"), 2: ("xy", "yz", "z²", "xz", "x²−y²")}
"""l → names of the functions m = −l…l."""


def _order(basis: OrbitalBasis) -> Sequence[str]:
    return [name for z in basis.elements for name in name_shells(basis, z)]


def _errors(sums: Sums) -> dict[str, Any]:
    found = mean_error(torch.from_numpy(np.asarray(sums)))
    named = {f"{measure}_mev": float(value) for measure, value in found.items()}
    return {"n_elements": int(sums[2]), **named}
