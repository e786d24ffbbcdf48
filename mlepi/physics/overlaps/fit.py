"""Radial overlap tables fitted to the overlap blocks of a data set, without the orbitals.

Each block gives the value of every radial function at its distance exactly: the angular tensors A_L
= Σ_M G^{m1 m2 M} Y_LM(R̂) of different L are orthogonal, so that s_L = ⟨A_L, S⟩/⟨A_L, A_L⟩. A
least-squares B-spline through these values is the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from mlepi.errors import DataError, message
from mlepi.physics.overlaps.angular import gaunt_coefficients, solid_harmonics
from mlepi.physics.overlaps.evaluate import ONSITE_DISTANCE
from mlepi.physics.overlaps.table import (
    Channel,
    ElementPair,
    OverlapTable,
    element_pairs,
    list_channels,
)

_DEGREE = 5


class OverlapSample(NamedTuple):
    """Overlap blocks of one structure.

    Attributes:
        numbers: (n_atoms,) atomic numbers.
        edge_index: (2, n_edges), source j and target i; on-site edges included.
        vectors: (n_edges, 3), from i to j, Å.
        blocks: (n_edges, p, p), rows = orbitals of i in internal order.
    """

    numbers: NDArray[np.integer]
    edge_index: NDArray[np.integer]
    vectors: NDArray[np.float64]
    blocks: NDArray[np.floating]


@dataclass(frozen=True)
class _RadialData:
    """Distances (n,) in Å, 0 for on-site, and the values s_L of every channel (n, n_channels)."""

    distances: NDArray[np.float64]
    values: NDArray[np.float64]


def fit_overlap_table(
    samples: Iterable[OverlapSample],
    shells: Mapping[int, tuple[int, ...]],
    radii: Mapping[int, float],
    names: Mapping[int, str],
    *,
    knot_spacing: float = 0.1,
    smoothing: float = 1e-12,
    n_grid: int = 1025,
) -> OverlapTable:
    """Fit the radial overlap functions to the blocks of a data set.

    The table remembers which distances the data covered (no gap wider than ``knot_spacing``) and
    refuses others below the cutoff.

    Args:
        samples: overlap blocks of structures.
        shells: atomic number → angular momenta of its shells.
        radii: atomic number → orbital radius, Å.
        names: atomic number → name of its orbitals.
        knot_spacing: distance of the spline's knots, Å.
        smoothing: weight of the squared third differences of the spline coefficients, relative to
            the data; bridges gaps.
        n_grid: number of points of the table.

    Returns:
        The table, with ``fitted_intervals``.

    Raises:
        DataError: a pair of elements has no blocks below its cutoff, or an element no on-site
            blocks.
    """
    data = _collect(samples, shells, radii)
    values: dict[ElementPair, NDArray[np.float64]] = {}
    intervals: dict[ElementPair, NDArray[np.float64]] = {}
    for pair in element_pairs(shells):
        cutoff = radii[pair[0]] + radii[pair[1]]
        channels = list_channels(shells[pair[0]], shells[pair[1]], same_element=pair[0] == pair[1])
        distances, targets, onsite = _select(data[pair], pair, cutoff)
        spline = _fit_spline(distances, targets, cutoff, knot_spacing, smoothing)
        values[pair] = _tabulate_fit(
            spline, channels, onsite, (float(distances.min()), cutoff), n_grid
        )
        intervals[pair] = _covered_intervals(distances, knot_spacing)
    return OverlapTable(
        shells=shells, radii=radii, names=names, values=values, fitted_intervals=intervals
    )


def _collect(
    samples: Iterable[OverlapSample],
    shells: Mapping[int, tuple[int, ...]],
    radii: Mapping[int, float],
) -> dict[ElementPair, _RadialData]:
    """Decompose the blocks of all structures into radial values by element pair z1 ≤ z2."""
    parts: dict[ElementPair, list[_RadialData]] = {pair: [] for pair in element_pairs(shells)}
    for sample in samples:
        rows, columns = sample.numbers[sample.edge_index[1]], sample.numbers[sample.edge_index[0]]
        missing = sorted({int(z) for z in sample.numbers} - set(shells))
        if missing:
            raise DataError(
                message(
                    "overlap data",
                    f"atomic numbers {missing}",
                    f"elements of the basis, {sorted(shells)}",
                    "Extend it.",
                )
            )
        for pair in parts:
            edges = np.flatnonzero((rows == pair[0]) & (columns == pair[1]))
            if edges.size:
                parts[pair].append(
                    _decompose(
                        sample.blocks[edges],
                        sample.vectors[edges],
                        (shells[pair[0]], shells[pair[1]]),
                        pair,
                    )
                )
    empty = _RadialData(np.empty(0), np.empty((0, 0)))
    return {
        pair: _RadialData(
            np.concatenate([p.distances for p in found]), np.concatenate([p.values for p in found])
        )
        if found
        else empty
        for pair, found in parts.items()
    }


def _decompose(
    blocks: NDArray[np.floating],
    vectors: NDArray[np.float64],
    shells: tuple[tuple[int, ...], tuple[int, ...]],
    pair: ElementPair,
) -> _RadialData:
    """Project the blocks of one element pair on the angular tensors of every channel."""
    distances = np.linalg.norm(vectors, axis=1)
    onsite = distances <= ONSITE_DISTANCE
    units = np.where(onsite[:, None], 0.0, vectors / np.where(onsite, 1.0, distances)[:, None])
    start_1 = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells[0]])])
    start_2 = np.concatenate([[0], np.cumsum([2 * l + 1 for l in shells[1]])])
    channels = list_channels(*shells, same_element=pair[0] == pair[1])
    values = np.zeros((len(blocks), len(channels)))
    for n, channel in enumerate(channels):
        l1, l2 = shells[0][channel.shell_1], shells[1][channel.shell_2]
        harmonics = solid_harmonics(channel.total, torch.from_numpy(units)).numpy()
        angular = np.einsum("abm,em->eab", gaunt_coefficients(l1, l2, channel.total), harmonics)
        block = blocks[:, start_1[channel.shell_1] :, start_2[channel.shell_2] :][
            :, : 2 * l1 + 1, : 2 * l2 + 1
        ]
        norm = (angular**2).sum(axis=(1, 2))
        defined = norm > 1e-12  # L > 0 has no value on site
        values[defined, n] = (angular * block).sum(axis=(1, 2))[defined] / norm[defined]
    return _RadialData(distances, values)


def _select(
    found: _RadialData, pair: ElementPair, cutoff: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """Return distances and radial values of the bonds, and the mean on-site values, if any."""
    alike = pair[0] == pair[1]
    bonded = (found.distances > ONSITE_DISTANCE) & (found.distances < cutoff)
    own = found.distances <= ONSITE_DISTANCE
    if not bonded.any() or (alike and not own.any()):
        raise DataError(
            message(
                f"overlap data of elements {pair}",
                "no blocks to fit",
                "on-site blocks and pairs of atoms",
                "Add structures.",
            )
        )
    onsite = found.values[own].mean(axis=0) if alike else None
    return found.distances[bonded], found.values[bonded], onsite


def _fit_spline(
    distances: NDArray[np.float64],
    targets: NDArray[np.float64],
    cutoff: float,
    knot_spacing: float,
    smoothing: float,
) -> BSpline:
    """Fit s_L(R) of all channels on [nearest distance, cutoff].

    Value, slope and curvature vanish at the cutoff.
    """
    low = float(distances.min())
    n_intervals = max(4, int(np.ceil((cutoff - low) / knot_spacing)))
    inner = np.linspace(low, cutoff, n_intervals + 1)
    knots = np.concatenate([[low] * _DEGREE, inner, [cutoff] * _DEGREE])
    n_basis = len(knots) - _DEGREE - 1
    free = n_basis - 3
    design = BSpline.design_matrix(distances, knots, _DEGREE)[:, :free]
    differences = np.diff(np.eye(n_basis), n=3, axis=0)[:, :free]
    normal = (design.T @ design).toarray() + smoothing * len(
        distances
    ) * differences.T @ differences
    coefficients = np.zeros((n_basis, targets.shape[1]))
    coefficients[:free] = np.linalg.solve(normal, design.T @ targets)
    return BSpline(knots, coefficients, _DEGREE)


def _tabulate_fit(
    spline: BSpline,
    channels: list[Channel],
    onsite: NDArray[np.float64] | None,
    bounds: tuple[float, float],
    n_grid: int,
) -> NDArray[np.float64]:
    """Tabulate t = s_L/R^L.

    Below the nearest distance, where only R = 0 is known, an even polynomial joins on smoothly.
    """
    low, cutoff = bounds
    distances = np.linspace(0.0, cutoff, n_grid)
    known = distances >= low
    values = np.zeros((len(channels), n_grid))
    value, slope, curvature = (spline.derivative(n)(low) if n else spline(low) for n in range(3))
    for n, channel in enumerate(channels):
        total = channel.total
        values[n, known] = spline(distances[known])[:, n] / distances[known] ** total
        t0 = value[n] / low**total
        t1 = slope[n] / low**total - total * t0 / low
        t2 = curvature[n] / low**total - 2 * total * t1 / low - total * (total - 1) * t0 / low**2
        powers = np.array([0, 2, 4, 6])
        conditions = np.array(
            [
                low**powers,
                powers * low ** (powers - 1.0),
                powers * (powers - 1) * low ** (powers - 2.0),
                powers == 0.0,
            ]
        )
        if onsite is None or total > 0:
            polynomial = np.append(np.linalg.solve(conditions[:3, :3], [t0, t1, t2]), 0.0)
        else:
            polynomial = np.linalg.solve(conditions, [t0, t1, t2, onsite[n]])
        values[n, ~known] = (distances[~known, None] ** powers) @ polynomial
    values[:, -1] = 0.0
    return values


def _covered_intervals(distances: NDArray[np.float64], max_gap: float) -> NDArray[np.float64]:
    """Split sorted distances where neighbours are more than ``max_gap`` apart.

    Returns:
        (n, 2), first and last distance of each run, Å.
    """
    ordered = np.sort(distances)
    breaks = np.flatnonzero(np.diff(ordered) > max_gap)
    return np.column_stack(
        [ordered[np.concatenate([[0], breaks + 1])], ordered[np.append(breaks, len(ordered) - 1)]]
    )
