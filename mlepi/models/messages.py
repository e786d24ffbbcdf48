"""Sum of neighbours' features × harmonics × radial weights.

The one expensive product of a MACE layer and its derivatives.

A_{i,m3,p,c} = Σ_{j,m1} T^p_{ij,m1,m3} R_{ij,p,c} h_{j,m1,c} with R = z·Wᵀ, for every path p = (l1,
l2, l3): T is the Clebsch–Gordan tensor contracted with Y_l2 of the edge, z the hidden layer of the
radial network, W its last layer. Tensors of the size edges × paths × channels exist only for a few
atoms at a time, small enough for the processor's cache; the backward pass keeps the inputs and
computes them again. The product is linear in h, R and T, so its second derivatives are the first
ones with one factor replaced by its tangent. ``message_pieces`` has the functions of a few atoms.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.models.compilation import are_operations_plain, as_branches, wanted_derivatives
from mlepi.models.message_pieces import PieceFunctions

CACHED_SLOTS = 256
"""Neighbours treated at once on a CPU: their weighted features, some MB, stay in the second-level
cache."""
DEVICE_SLOTS = 1 << 16
"""The same on other devices, where launching work costs more than memory traffic; bounds the memory
to some GB."""


def sum_messages(
    functions: PieceFunctions,
    nodes: Tensor,
    radial: Tensor,
    weight: Tensor,
    couplings: Tensor,
    source: Tensor,
) -> Tensor:
    """Sum the weighted products over neighbours; differentiable twice.

    Args:
        functions: inner functions for the paths.
        nodes: h, (n_senders, (l_max_in+1)², channels).
        radial: z, (n_atoms, n_neighbours, width), zero in empty slots.
        weight: W, (n_paths·channels, width), path by path.
        couplings: T, (n_atoms, n_neighbours, Σ_p (2·l1+1)(2·l3+1)), laid out as in ``path_blocks``.
        source: (n_atoms, n_neighbours) int, sender of each slot; any sender in empty slots.

    Returns:
        A, (n_atoms, Σ_p (2·l3+1), channels), laid out as in ``path_blocks``.
    """
    if are_operations_plain():
        value: Tensor = functions.value(gather_senders(nodes, source), radial, weight, couplings)
        return value
    messages: Tensor = _Messages.apply(
        *as_branches(nodes, radial, weight, couplings), source, functions
    )
    return messages


class _Messages(Function):
    """``sum_messages`` in pieces that fit the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        nodes: Tensor,
        radial: Tensor,
        weight: Tensor,
        couplings: Tensor,
        source: Tensor,
        functions: PieceFunctions,
    ) -> Tensor:
        ctx.save_for_backward(nodes, radial, weight, couplings, source)
        ctx.functions = functions
        pieces = [
            functions.value(
                gather_senders(nodes, source[rows]), radial[rows], weight, couplings[rows]
            )
            for rows in split_atoms(source)
        ]
        return torch.cat(pieces)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        wanted = wanted_derivatives(ctx)
        if not any(wanted):
            return (None,) * 6
        gradients = _MessageGradients.apply(
            *as_branches(cotangent), *ctx.saved_tensors, ctx.functions, wanted
        )
        return (*gradients, None, None)


class _MessageGradients(Function):
    """First derivatives of ⟨B, A⟩ with respect to h, z, W, T for a cotangent B of A."""

    @staticmethod
    def forward(
        ctx: Any,
        cotangent: Tensor,
        nodes: Tensor,
        radial: Tensor,
        weight: Tensor,
        couplings: Tensor,
        source: Tensor,
        functions: PieceFunctions,
        wanted: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(cotangent, nodes, radial, weight, couplings, source)
        ctx.functions = functions
        results = [torch.zeros_like(x) for x in (nodes, radial, weight, couplings)]
        of_nodes, of_radial, of_weight, of_couplings = results
        for rows in split_atoms(source):
            senders = gather_senders(nodes, source[rows])
            of_senders, of_radial[rows], of_weights, of_couplings[rows] = functions.gradients(
                cotangent[rows], senders, radial[rows], weight, couplings[rows]
            )
            add_to_senders(of_nodes, source[rows], of_senders)
            if wanted[2]:
                of_weight.addmm_(of_weights.T, radial[rows].flatten(0, 1))
        return tuple(
            result if is_wanted else None
            for result, is_wanted in zip(results, wanted[:4], strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Differentiate ⟨∂h, h'⟩ + ⟨∂z, z'⟩ + ⟨∂W, W'⟩ + ⟨∂T, T'⟩ for tangents h', z', W', T'.

        See ``piece_second``.
        """
        cotangent, nodes, radial, weight, couplings, source = ctx.saved_tensors
        weight_moved = tangents[2]  # none where forces are differentiated: they know no ∂W
        nodes_moved, radial_moved, couplings_moved = (
            torch.zeros_like(x) if tangent is None else tangent
            for x, tangent in zip(
                (nodes, radial, couplings), (*tangents[:2], tangents[3]), strict=True
            )
        )
        results = [torch.zeros_like(x) for x in (cotangent, nodes, radial, weight, couplings)]
        of_cotangent, of_nodes, of_radial, of_weight, of_couplings = results
        for rows in split_atoms(source):
            (
                of_cotangent[rows],
                of_senders,
                of_radial[rows],
                of_couplings[rows],
                of_weights,
                of_moved,
            ) = ctx.functions.second(
                *(
                    cotangent[rows],
                    gather_senders(nodes, source[rows]),
                    radial[rows],
                    weight,
                    couplings[rows],
                ),
                *(
                    gather_senders(nodes_moved, source[rows]),
                    radial_moved[rows],
                    weight_moved,
                    couplings_moved[rows],
                ),
            )
            add_to_senders(of_nodes, source[rows], of_senders)
            of_weight.addmm_(of_weights.T, radial[rows].flatten(0, 1)).addmm_(
                of_moved.T, radial_moved[rows].flatten(0, 1)
            )
        return (*results, None, None, None)


def split_atoms(source: Tensor, cached_slots: int | None = None) -> list[slice]:
    """Split atoms into equal pieces of about the number of slots that suits the device.

    Args:
        source: (n_atoms, n_neighbours).
        cached_slots: that suit a CPU; ``CACHED_SLOTS`` if absent.
    """
    cached = CACHED_SLOTS if cached_slots is None else cached_slots
    slots = cached if source.device.type == "cpu" else DEVICE_SLOTS
    step = max(1, math.ceil(source.shape[0] / max(1, round(source.numel() / slots))))
    return [
        slice(start, min(start + step, source.shape[0]))
        for start in range(0, source.shape[0], step)
    ]


def gather_senders(nodes: Tensor, source: Tensor) -> Tensor:
    """Return the features of the senders, (n_atoms, n_neighbours, (l_max_in+1)², channels)."""
    return nodes.index_select(0, source.flatten()).view(*source.shape, *nodes.shape[1:])


def add_to_senders(total: Tensor, source: Tensor, values: Tensor) -> None:
    """Add values of the slots to their senders, in place."""
    total.flatten(1).index_add_(0, source.flatten(), values.flatten(0, 1).flatten(1))
