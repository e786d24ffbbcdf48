"""Tables of radial functions for inference: splines of a trained network's functions of length.

A radial network sees the length of an edge and its relation, nothing else, so that its result is
one curve per relation. Splines of degree five on equal intervals are that curve to a tolerance that
is measured when they are made, with its first two derivatives; four derivatives are continuous.
An edge needs six numbers, the values of the splines that are not zero there, and six rows of the
table instead of the product with the last layer. Tables reach from the shortest distance that a
structure may have to the cutoff, beyond which radial functions are zero; below, nothing is said.

References:
    C. de Boor, A Practical Guide to Splines, Springer 2001, chapters IX and X.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import BSpline, make_interp_spline
from torch import Tensor, nn
from torch.autograd import Function

from mlepi.errors import ConfigError, message
from mlepi.graphs.neighbours import MINIMUM_DISTANCE

DEGREE = 5
SUPPORT = DEGREE + 1
"""Splines that are not zero in an interval."""
TOLERANCES = (1e-7, 1e-6, 1e-4)
"""Largest error of values, first and second derivatives, in units of the largest value of each,
which is that of the shortest distances: at those of bonds it is a hundredth of it or less."""
FEWEST, MOST = 32, 4096
"""Intervals that are tried, doubling."""
CHECKS = (0.21, 0.5, 0.79)
"""Places within each interval where the splines are compared with the network."""

RadialFunction = Callable[[Tensor], Tensor]
"""(n,) Å, float64 → (n, n_functions)."""

_PIECES = (  # coefficients of uᵏ of the six splines in an interval, times 5!
    (1.0, -5.0, 10.0, -10.0, 5.0, -1.0),
    (26.0, -50.0, 20.0, 20.0, -20.0, 5.0),
    (66.0, 0.0, -60.0, 0.0, 30.0, -10.0),
    (26.0, 50.0, 20.0, -20.0, -20.0, 10.0),
    (1.0, 5.0, 10.0, 10.0, 5.0, -5.0),
    (0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
)


@dataclass(frozen=True)
class TablePlaces:
    """Where edges are in the tables.

    Attributes:
        rows: (…, 6) int, rows of the table.
        weights: (…, 6), values of the splines that belong to them.
    """

    rows: Tensor
    weights: Tensor


class RadialTables(nn.Module):
    """Tables of several sets of functions, which share their intervals.

    Args:
        functions: for each curve of the length, the sets of functions, e.g. one of each layer.
        cutoffs: of each curve, Å; the functions and their first two derivatives vanish there.
        curve_of_relation: which curve edges of a relation take.
        where: what the functions belong to, for messages.

    Raises:
        ConfigError: functions that vary too fast to be tabulated.
    """

    spacing: Tensor  # (n_curves,), Å
    curve_of_relation: Tensor  # (n_relations,) int
    pieces: Tensor  # (6, 6), powers → splines

    def __init__(
        self,
        functions: Sequence[Sequence[RadialFunction]],
        cutoffs: Sequence[float],
        curve_of_relation: Sequence[int],
        where: str,
    ) -> None:
        super().__init__()
        self.shortest = MINIMUM_DISTANCE
        self.num_intervals, fitted = _fit_alike(functions, cutoffs, where)
        spacing = [(cutoff - self.shortest) / self.num_intervals for cutoff in cutoffs]
        for name, value in (
            ("spacing", torch.tensor(spacing, dtype=torch.float64)),
            ("curve_of_relation", torch.tensor(curve_of_relation)),
            ("pieces", torch.tensor(_PIECES, dtype=torch.float64).T / 120.0),
        ):
            self.register_buffer(name, value, persistent=False)
        for number, coefficients in enumerate(zip(*fitted, strict=True)):
            rows = torch.from_numpy(np.concatenate(coefficients))
            self.register_buffer(f"set_{number}", rows, persistent=False)

    def rows_of(self, number: int) -> Tensor:
        """Return the table of one set of functions, (n_rows, n_functions), curve by curve."""
        table: Tensor = getattr(self, f"set_{number}")
        return table

    def multiply(self, number: int, matrix: Tensor) -> None:
        """Tabulate functions · matrixᵀ in the place of one set of functions.

        Args:
            number: of the set.
            matrix: (n_new, n_functions).
        """
        setattr(self, f"set_{number}", (self.rows_of(number) @ matrix.T).contiguous())

    def find(self, lengths: Tensor, relation: Tensor, filled: Tensor) -> TablePlaces | None:
        """Find edges in the tables; differentiable with respect to the lengths.

        Args:
            lengths: (n_slots,), Å.
            relation: (n_slots,) int.
            filled: (n_slots,) bool; other slots get weights of zero, as edges beyond the cutoff do.

        Returns:
            The places, or None where an edge is shorter than any of the tables, or there is none.
        """
        if lengths.shape[0] == 0 or float(lengths.detach().min()) < self.shortest:
            return None
        curve = self.curve_of_relation[relation]
        place = (lengths - self.shortest) / self.spacing[curve]
        first = place.detach().floor().clamp(0, self.num_intervals - 1)
        u = place - first
        square = u * u
        powers = [torch.ones_like(u), u, square, square * u, square * square, square * square * u]
        inside = filled & (place.detach() < self.num_intervals)
        weights = (torch.stack(powers, dim=1) @ self.pieces) * inside.unsqueeze(1)
        start = first.long() + curve * (self.num_intervals + DEGREE)
        rows = start.unsqueeze(1) + torch.arange(SUPPORT, device=start.device)
        return TablePlaces(rows, weights)


def look_up(table: Tensor, places: TablePlaces) -> Tensor:
    """Return functions at some places, (n, n_functions); differentiable as often as wanted.

    Args:
        table: (n_rows, n_functions), without gradient.
        places: of (n, 6).
    """
    values: Tensor = _LookUp.apply(places.weights, places.rows, table)
    return values


def add_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Return Σ_k w_ek · table[row_ek], (n, n_functions), outside of autograd."""
    if rows.shape[0] == 0:
        return table.new_zeros(0, table.shape[1])
    return nn.functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")


def multiply_rows(table: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Return ⟨values_e, table[row_ek]⟩, (n, 6), outside of autograd: the transpose of the other.

    Args:
        table: (n_rows, n_functions).
        rows: (n, 6) int.
        values: (n, n_functions).
    """
    n = rows.shape[0]
    starts = torch.arange(0, n * SUPPORT, SUPPORT, device=rows.device)
    edge = torch.arange(n, device=rows.device).repeat_interleave(SUPPORT)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        values.contiguous(), table, rows.flatten(), starts, edge, 0
    )
    return products.view(n, SUPPORT)


class _LookUp(Function):
    """``add_rows``, linear in the weights."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, rows: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(rows, table)
        return add_rows(table, rows, weights)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        return _MultiplyRows.apply(cotangent, *ctx.saved_tensors), None, None


class _MultiplyRows(Function):
    """``multiply_rows``, linear in the values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(rows, table)
        return multiply_rows(table, rows, values)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        return _LookUp.apply(cotangent, *ctx.saved_tensors), None, None


def _fit_alike(
    functions: Sequence[Sequence[RadialFunction]], cutoffs: Sequence[float], where: str
) -> tuple[int, list[list[NDArray[np.float64]]]]:
    """Return the fewest intervals that serve all functions, and the coefficients."""
    n_intervals = FEWEST
    while n_intervals <= MOST:
        fitted: list[list[NDArray[np.float64]]] = []
        for sets, cutoff in zip(functions, cutoffs, strict=True):
            splines = [fit_spline(function, cutoff, n_intervals) for function in sets]
            if any(
                exceeds_tolerance(spline, function, cutoff, n_intervals)
                for spline, function in zip(splines, sets, strict=True)
            ):
                break
            fitted.append([spline.c for spline in splines])
        else:
            return n_intervals, fitted
        n_intervals *= 2
    raise ConfigError(
        message(
            where,
            f"radial functions that {MOST} intervals do not resolve",
            "functions as smooth as a trained network's",
            "Set radial_tables=false.",
        )
    )


def fit_spline(function: RadialFunction, cutoff: float, n_intervals: int) -> BSpline:
    """Interpolate functions of the length by splines of degree five on equal intervals.

    Args:
        function: of lengths.
        cutoff: where the intervals end, Å; they begin at ``MINIMUM_DISTANCE``.
        n_intervals: number of intervals.

    Returns:
        (n_intervals + 5, n_functions) coefficients; values at all nodes and the first two
        derivatives at both ends are the function's.
    """
    spacing = (cutoff - MINIMUM_DISTANCE) / n_intervals
    nodes = (MINIMUM_DISTANCE + spacing * np.arange(n_intervals + 1)).astype(np.float64)
    knots = MINIMUM_DISTANCE + spacing * np.arange(-DEGREE, n_intervals + DEGREE + 1)
    nodes[-1] = knots[n_intervals + DEGREE] = cutoff
    values, _, _ = differentiate(function, nodes)
    _, slopes, curvatures = differentiate(function, nodes[[0, -1]])
    ends = tuple([(1, slopes[i]), (2, curvatures[i])] for i in (0, 1))
    return make_interp_spline(nodes, values, k=DEGREE, t=knots, bc_type=ends)


def exceeds_tolerance(
    spline: BSpline, function: RadialFunction, cutoff: float, n_intervals: int
) -> bool:
    """Tell whether splines miss values or derivatives of functions by more than ``TOLERANCES``."""
    spacing = (cutoff - MINIMUM_DISTANCE) / n_intervals
    starts = MINIMUM_DISTANCE + spacing * np.arange(n_intervals)
    places = np.concatenate([starts + fraction * spacing for fraction in CHECKS])
    for order, (exact, tolerance) in enumerate(
        zip(differentiate(function, places), TOLERANCES, strict=True)
    ):
        if np.abs(spline(places, order) - exact).max() > tolerance * np.abs(exact).max():
            return True
    return False


def differentiate(
    function: RadialFunction, lengths: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Return values, first and second derivatives of functions of the length.

    Each (n, n_functions).
    """
    with torch.inference_mode(False), torch.enable_grad():
        place = torch.from_numpy(lengths).requires_grad_(True)
        values = function(place)
        slopes = _differentiate(values, place)
        curvatures = _differentiate(slopes, place)
    return tuple(part.detach().numpy() for part in (values, slopes, curvatures))


def _differentiate(values: Tensor, place: Tensor) -> Tensor:
    """Return the derivatives of (n, n_functions) values with respect to their own place, (n,).

    Reverse mode twice: the pull-back of a covector is linear in it, its derivative is the slope.
    """
    covector = torch.zeros_like(values, requires_grad=True)
    (pulled,) = torch.autograd.grad(values, place, covector, create_graph=True)
    (slopes,) = torch.autograd.grad(pulled.sum(), covector, create_graph=True)
    return slopes
