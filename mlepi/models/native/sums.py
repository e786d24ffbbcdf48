"""Sums over neighbours in C++, from edge vectors to messages, and their first derivatives.

What ``tabulated_messages.sum_tabulated`` computes with the harmonics, couplings and places before
it, for edges in the order of their receivers.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from e3nn import o3
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.kernels.library import address, load_library
from mlepi.models.message_paths import Path, path_blocks
from mlepi.models.neighbourhoods import coupling_table
from mlepi.models.radial_table import RadialTables
from mlepi.models.wigner import wigner_3j

_NUMBER, _POINTER = ctypes.c_int64, ctypes.c_void_p


class _Plan(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in ("channels", "n_inputs", "n_paths", "l_max")),
        *((name, _NUMBER) for name in ("n_couplings", "n_padded", "n_triples")),
        *((name, _NUMBER) for name in ("n_table_rows", "n_intervals")),
        *((name, _POINTER) for name in ("paths", "rows", "couplings", "transposed")),
        *((name, _POINTER) for name in ("triples", "factors", "table", "pieces", "spacing")),
        ("shortest", ctypes.c_double),
    )


class _Graph(ctypes.Structure):
    _fields_ = (
        *((name, _NUMBER) for name in ("n_atoms", "n_senders", "n_kinds")),
        *((name, _POINTER) for name in ("start", "edge", "source", "kind", "curve", "vectors")),
    )


@dataclass(frozen=True)
class SortedEdges:
    """The edges of a structure, by receivers.

    Attributes:
        n_atoms: number of receivers.
        start: (n_atoms + 1,) int, where the edges of each receiver begin in ``edge``.
        edge: (n_edges,) int, edges in the order of their receivers.
        source: (n_edges,) int, sender of an edge.
        curve: (n_edges,) int, curve of the tables.
        kinds: (n_kinds,) int, species that occur among the senders.
        kind: (n_senders,) int, position of a sender's species in ``kinds``.
        vectors: (n_edges, 3), Å, axes (y, z, x).
    """

    n_atoms: int
    start: Tensor
    edge: Tensor
    source: Tensor
    curve: Tensor
    kinds: Tensor
    kind: Tensor
    vectors: Tensor

    def describe(self, vectors: Tensor, n_senders: int, by_kind: bool) -> _Graph:
        """Return the same for C++."""
        return _Graph(
            self.n_atoms,
            n_senders,
            self.kinds.shape[0] if by_kind else 1,
            address(self.start),
            address(self.edge),
            address(self.source),
            address(self.kind if by_kind else None),
            address(self.curve),
            address(vectors),
        )


def sort_edges(target: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Return where the edges of each receiver begin, and the edges in this order."""
    start = torch.zeros(n_atoms + 1, dtype=torch.long)
    torch.cumsum(torch.bincount(target, minlength=n_atoms), 0, out=start[1:])
    return start, torch.argsort(target, stable=True)


class NeighbourSums:
    """The sum over neighbours of one layer.

    Args:
        paths: l1 ⊗ Y_l2 → l3; none for the moments of harmonics, whose senders are all one.
        l_max: largest l of the harmonics.
        tables: of the radial functions.
        layer: whose table is taken, (n_rows, n_paths·channels), or (n_rows, width) for moments.

    Raises:
        OSError: the kernels cannot be built, or have no such path.
    """

    def __init__(
        self, paths: tuple[Path, ...], l_max: int, tables: RadialTables, layer: int
    ) -> None:
        table = tables.rows_of(layer)
        self.dtype = table.dtype
        self.library = load_library(table.dtype)
        lanes = int(self.library.lanes())
        n_harmonics = (l_max + 1) ** 2
        couplings = (
            coupling_table(paths, l_max) if paths else torch.eye(n_harmonics, dtype=torch.float64)
        )
        described, rows, self.rows_of_degree = _lay_out(paths, l_max)
        for size_in, size_out, *_ in described:
            if not self.library.has_path(size_in, size_out):
                raise OSError(f"kernels without paths of size {size_in} × {size_out}")
        self.channels = table.shape[1] // len(described)
        self.spare = -self.channels % lanes
        self.n_inputs = (max(path[0] for path in paths) + 1) ** 2 if paths else 0
        by_path = table.view(-1, len(described), self.channels).transpose(0, 1)
        triples, factors = harmonic_recursion(l_max)
        n_couplings = couplings.shape[1]
        padded = torch.nn.functional.pad(couplings, (0, -n_couplings % max(lanes, 4)))
        self.held = {
            "paths": torch.tensor(described),
            "rows": torch.tensor(rows),
            "couplings": padded.to(table),
            "transposed": torch.nn.functional.pad(padded.T, (0, -n_harmonics % lanes)).to(table),
            "triples": torch.tensor(triples).reshape(-1, 3),
            "factors": torch.tensor(factors, dtype=table.dtype),
            "table": torch.nn.functional.pad(by_path, (0, self.spare)),
            "pieces": tables.pieces.to(table),
            "spacing": tables.spacing.double(),
        }
        self.held = {name: value.contiguous() for name, value in self.held.items()}
        self.plan = _Plan(
            self.channels + self.spare,
            self.n_inputs,
            len(described),
            l_max,
            padded.shape[1],
            self.held["transposed"].shape[1],
            len(factors),
            table.shape[0],
            tables.num_intervals,
            *(address(value) for value in self.held.values()),
            tables.shortest,
        )

    def __call__(self, edges: SortedEdges, nodes: Tensor | None = None) -> list[Tensor]:
        """Return the sums, differentiable once.

        Args:
            edges: the edges.
            nodes: h, (n_senders, (l_max_in+1)², channels), as in ``sum_messages``; none for
                moments, whose sums are kept apart for each kind of sender.

        Returns:
            For every l3, (n_atoms·(2·l3+1), n_paths of l3·channels), as ``Interaction.mix`` wants
            them; or of moments, (n_atoms·(2·l+1), n_kinds·width).
        """
        if nodes is not None and self.spare:
            nodes = torch.nn.functional.pad(nodes, (0, self.spare))
        n_kinds = edges.kinds.shape[0] if nodes is None else 1
        found: Tensor = _Sums.apply(edges.vectors, nodes, edges, self)
        sizes = [edges.n_atoms * rows * n_kinds for rows in self.rows_of_degree]
        parts = found.view(-1, self.channels + self.spare).split(sizes)
        if self.spare:
            parts = tuple(part[:, : self.channels] for part in parts)
        return [part.reshape(edges.n_atoms * (2 * l + 1), -1) for l, part in enumerate(parts)]


def _lay_out(
    paths: tuple[Path, ...], l_max: int
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[int]]:
    """Return paths and rows as ``Plan`` wants them, and how many rows an atom has of every l3."""
    described: list[tuple[int, ...]] = []
    rows: list[tuple[int, ...]] = []
    if not paths:
        rows += [(l * l, 2 * l + 1, m) for l in range(l_max + 1) for m in range(2 * l + 1)]
        return [(1, len(rows), 0, 0, 0)], rows, [2 * l + 1 for l in range(l_max + 1)]
    counts = [sum(path[2] == l for path in paths) * (2 * l + 1) for l in range(l_max + 1)]
    for (_, _, l), block in zip(paths, path_blocks(paths), strict=True):
        first = (block.size_in, block.size_out, block.senders.start, block.coupling.start)
        described.append((*first, len(rows)))
        before = sum(counts[:l])
        places = range(block.messages.start, block.messages.stop, block.messages.step or 1)
        rows += [(before, counts[l], place - before) for place in places]
    return described, rows, counts


class _Sums(Function):
    """``NeighbourSums`` and its derivatives by vectors and senders."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, nodes: Tensor | None, edges: SortedEdges, sums: NeighbourSums
    ) -> Tensor:
        vectors = vectors.contiguous()
        nodes = None if nodes is None else nodes.contiguous()
        ctx.save_for_backward(vectors, nodes)
        ctx.edges, ctx.sums = edges, sums
        n_senders = 0 if nodes is None else nodes.shape[0]
        graph = edges.describe(vectors, n_senders, nodes is None)
        n_rows = edges.n_atoms * graph.n_kinds * sum(sums.rows_of_degree)
        result = vectors.new_zeros(n_rows, sums.channels + sums.spare)
        sums.library.sum_neighbours(
            ctypes.byref(sums.plan),
            ctypes.byref(graph),
            address(nodes),
            address(result),
            _NUMBER(torch.get_num_threads()),
        )
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        vectors, nodes = ctx.saved_tensors
        sums, edges = ctx.sums, ctx.edges
        n_senders = 0 if nodes is None else nodes.shape[0]
        n_threads = torch.get_num_threads()
        graph = edges.describe(vectors, n_senders, nodes is None)
        cotangent = cotangent.contiguous()
        of_vectors = torch.zeros_like(vectors)
        of_nodes = None if nodes is None else nodes.new_zeros(n_threads, *nodes.shape)
        sums.library.pull_neighbours(
            ctypes.byref(sums.plan),
            ctypes.byref(graph),
            address(nodes),
            address(cotangent),
            address(of_nodes),
            address(of_vectors),
            _NUMBER(n_threads),
        )
        if of_nodes is not None:
            of_nodes = of_nodes[0] if n_threads == 1 else of_nodes.sum(0)
        return of_vectors, of_nodes, None, None


@cache
def harmonic_recursion(l_max: int) -> tuple[list[tuple[int, int, int]], list[float]]:
    """Return how harmonics follow from lower ones: Y_a += factor · Y_b · Y_c, c of l = 1.

    Y_l is the part of Y_{l−1} ⊗ Y_1 of degree l. In order of l; l = 0 and 1 are given.

    Returns:
        (a, b, c) and the factors.
    """
    point = torch.tensor([[0.6, -0.48, 0.64]], dtype=torch.float64)
    exact = o3.spherical_harmonics(
        list(range(l_max + 1)), point, normalize=True, normalization="component"
    )[0]
    triples: list[tuple[int, int, int]] = []
    factors: list[float] = []
    for l in range(2, l_max + 1):
        coupling = wigner_3j(l - 1, 1, l)
        lower, first = exact[(l - 1) ** 2 : l**2], exact[1:4]
        known = torch.einsum("abc,a,b->c", coupling, lower, first)
        scale = float(exact[l**2 : (l + 1) ** 2].norm() / known.norm())
        scale = math.copysign(scale, float(known @ exact[l**2 : (l + 1) ** 2]))
        for b, c, a in coupling.nonzero().tolist():
            if abs(float(coupling[b, c, a])) > 1e-12:
                triples.append((l * l + a, (l - 1) ** 2 + b, 1 + c))
                factors.append(scale * float(coupling[b, c, a]))
    return triples, factors
