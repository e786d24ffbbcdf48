"""``messages.sum_messages`` for inference: radial weights from a table, and in place what can be.

R = Σ_k b_k · table[row_k] is linear in the six numbers b of an edge as it is in the hidden layer of
the radial network, so that derivatives are those of ``messages`` with another linear map; none is
taken of the table. R of all edges never exists: it is made again, some atoms at a time, where it is
needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.models.compilation import Backend, as_branches, compile_kernel
from mlepi.models.message_paths import Path, PathBlock, path_blocks
from mlepi.models.message_pieces import (
    PieceFunctions,
    coupling_matrices,
    weighted_gradients,
    weighted_second,
    weighted_value,
)
from mlepi.models.messages import add_to_senders, gather_senders, split_atoms
from mlepi.models.radial_table import TablePlaces, add_rows, multiply_rows

CACHED_BYTES = 1 << 18
"""Size of one path's R of the neighbours treated at once on a CPU: with all paths some MB, which
the caches of the second and third level hold; smaller pieces cost calls."""


def build_weighted_functions(paths: tuple[Path, ...]) -> PieceFunctions:
    """Return the inner functions for some paths, from R instead of its factors."""
    blocks = path_blocks(paths)
    return PieceFunctions(
        partial(weighted_value, blocks),
        partial(gradients_in_place, blocks),
        partial(weighted_second, blocks),
    )


def compile_weighted_functions(paths: tuple[Path, ...], backend: Backend) -> PieceFunctions:
    """Return the same functions as compiled kernels."""
    blocks = path_blocks(paths)
    return PieceFunctions(
        compile_kernel(partial(weighted_value, blocks), "tabulated messages", backend=backend),
        compile_kernel(
            partial(weighted_gradients, blocks),
            "first derivatives of tabulated messages",
            backend=backend,
        ),
        compile_kernel(
            partial(weighted_second, blocks),
            "second derivatives of tabulated messages",
            backend=backend,
        ),
    )


def sum_tabulated(
    functions: PieceFunctions,
    nodes: Tensor,
    places: TablePlaces,
    table: Tensor,
    couplings: Tensor,
    source: Tensor,
) -> Tensor:
    """Sum the weighted products over neighbours; differentiable twice.

    Args:
        functions: inner functions for the paths, from R.
        nodes: h, (n_senders, (l_max_in+1)², channels).
        places: of (n_atoms, n_neighbours, 6), weights zero in empty slots.
        table: (n_rows, n_paths·channels), path by path.
        couplings: T, as in ``messages.sum_messages``.
        source: (n_atoms, n_neighbours) int, sender of each slot.

    Returns:
        A, (n_atoms, Σ_p (2·l3+1), channels), laid out as in ``path_blocks``.
    """
    messages: Tensor = _Messages.apply(
        *as_branches(nodes, places.weights, couplings), source, places.rows, table, functions
    )
    return messages


def gradients_in_place(
    blocks: Sequence[PathBlock],
    cotangent: Tensor,
    senders: Tensor,
    weights: Tensor,
    couplings: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what ``messages.weighted_gradients`` does; R is overwritten by its derivative."""
    of_senders, of_couplings = torch.empty_like(senders), torch.empty_like(couplings)
    seen: set[int] = set()
    for position, block in enumerate(blocks):
        part, b = senders[:, :, block.senders], cotangent[:, block.messages]
        w = weights[:, :, position]
        outer = (w.unsqueeze(2) * part).flatten(1, 2) @ b.transpose(1, 2)
        of_couplings[:, :, block.coupling] = outer.view(*couplings.shape[:2], -1)
        spread = (coupling_matrices(couplings, block) @ b).view(part.shape)
        target = of_senders[:, :, block.senders]
        if block.size_in in seen:
            target.addcmul_(spread, w.unsqueeze(2))
        else:
            torch.mul(spread, w.unsqueeze(2), out=target)
            seen.add(block.size_in)
        torch.mul(spread[:, :, 0], part[:, :, 0], out=w)
        for component in range(1, block.size_in):
            w.addcmul_(spread[:, :, component], part[:, :, component])
    return of_senders, weights.flatten(0, 1).flatten(1), of_couplings


def _split(nodes: Tensor, source: Tensor) -> list[slice]:
    """Split atoms into pieces, see ``CACHED_BYTES``."""
    return split_atoms(source, max(1, CACHED_BYTES // (nodes.shape[2] * nodes.element_size())))


def _radial_weights(table: Tensor, rows: Tensor, weights: Tensor, channels: int) -> Tensor:
    """Return R, (n_atoms, n_neighbours, n_paths, channels)."""
    values = add_rows(table, rows.flatten(0, 1), weights.flatten(0, 1))
    return values.view(*rows.shape[:2], -1, channels)


class _Messages(Function):
    """``sum_tabulated`` in pieces that fit the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        nodes: Tensor,
        weights: Tensor,
        couplings: Tensor,
        source: Tensor,
        rows: Tensor,
        table: Tensor,
        functions: PieceFunctions,
    ) -> Tensor:
        ctx.save_for_backward(nodes, weights, couplings, source, rows, table)
        ctx.functions = functions
        pieces = [
            functions.value(
                gather_senders(nodes, source[some]),
                _radial_weights(table, rows[some], weights[some], nodes.shape[2]),
                couplings[some],
            )
            for some in _split(nodes, source)
        ]
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _MessageGradients.apply(
            *as_branches(cotangent), *ctx.saved_tensors, ctx.functions
        )
        return (*gradients, None, None, None, None)


class _MessageGradients(Function):
    """First derivatives of ⟨B, A⟩ with respect to h, b and T for a cotangent B of A."""

    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        nodes: Tensor,
        weights: Tensor,
        couplings: Tensor,
        source: Tensor,
        rows: Tensor,
        table: Tensor,
        functions: PieceFunctions,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(cotangent, nodes, weights, couplings, source, rows, table)
        ctx.functions = functions
        of_nodes, of_weights = torch.zeros_like(nodes), torch.empty_like(weights)
        of_couplings = torch.empty_like(couplings)
        for some in _split(nodes, source):
            radial = _radial_weights(table, rows[some], weights[some], nodes.shape[2])
            senders = gather_senders(nodes, source[some])
            of_senders, flat, of_couplings[some] = functions.gradients(
                cotangent[some], senders, radial, couplings[some]
            )
            add_to_senders(of_nodes, source[some], of_senders)
            products = multiply_rows(table, rows[some].flatten(0, 1), flat)
            of_weights[some] = products.view(weights[some].shape)
        return of_nodes, of_weights, of_couplings

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Differentiate ⟨∂h, h'⟩ + ⟨∂b, b'⟩ + ⟨∂T, T'⟩ for tangents h', b', T'."""
        cotangent, nodes, weights, couplings, source, rows, table = ctx.saved_tensors
        channels = nodes.shape[2]
        nodes_moved, weights_moved, couplings_moved = (
            torch.zeros_like(x) if tangent is None else tangent
            for x, tangent in zip((nodes, weights, couplings), tangents, strict=True)
        )
        results = [torch.zeros_like(x) for x in (cotangent, nodes, weights, couplings)]
        of_cotangent, of_nodes, of_weights, of_couplings = results
        for some in _split(nodes, source):
            of_cotangent[some], of_senders, of_couplings[some], flat, _ = ctx.functions.second(
                cotangent[some],
                gather_senders(nodes, source[some]),
                _radial_weights(table, rows[some], weights[some], channels),
                couplings[some],
                gather_senders(nodes_moved, source[some]),
                _radial_weights(table, rows[some], weights_moved[some], channels),
                couplings_moved[some],
            )
            add_to_senders(of_nodes, source[some], of_senders)
            products = multiply_rows(table, rows[some].flatten(0, 1), flat)
            of_weights[some] = products.view(weights[some].shape)
        return (*results, None, None, None, None)
