"""Sum of neighbours' features × harmonics × radial weights.

The one expensive product of a MACE layer and its derivatives.

A_{i,m3,p,c} = Σ_{j,m1} T^p_{ij,m1,m3} R_{ij,p,c} h_{j,m1,c} with R = z·Wᵀ, for every path p = (l1,
l2, l3): T is the Clebsch–Gordan tensor contracted with Y_l2 of the edge, z the hidden layer of the
radial network, W its last layer. Tensors of the size edges × paths × channels exist only for a few
atoms at a time, small enough for the processor's cache; the backward pass keeps the inputs and
computes them again. The product is linear in h, R and T, so its second derivatives are the first
ones with one factor replaced by its tangent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.models.compilation import are_operations_plain, as_branches, wanted_derivatives
from mlepi.models.message_paths import Path, PathBlock, path_blocks

CACHED_SLOTS = 256
"""Neighbours treated at once on a CPU: their weighted features, some MB, stay in the second-level
cache."""
DEVICE_SLOTS = 1 << 16
"""The same on other devices, where launching work costs more than memory traffic; bounds the memory
to some GB."""


@dataclass(frozen=True)
class PieceFunctions:
    """The three inner functions of ``sum_messages``, each for a few atoms.

    Compiled ones can take their place.

    Attributes:
        value: see ``piece_value``.
        gradients: see ``piece_gradients``.
        second: see ``piece_second``.
    """

    value: Callable[..., Any]
    gradients: Callable[..., Any]
    second: Callable[..., Any]


def build_piece_functions(paths: tuple[Path, ...]) -> PieceFunctions:
    """Return the plain inner functions for some paths, as from ``message_paths``."""
    blocks = path_blocks(paths)
    return PieceFunctions(
        partial(piece_value, blocks),
        partial(piece_gradients, blocks),
        partial(piece_second, blocks),
    )


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
        value: Tensor = functions.value(_gather(nodes, source), radial, weight, couplings)
        return value
    messages: Tensor = _Messages.apply(
        *as_branches(nodes, radial, weight, couplings), source, functions
    )
    return messages


def piece_value(
    blocks: Sequence[PathBlock], senders: Tensor, radial: Tensor, weight: Tensor, couplings: Tensor
) -> Tensor:
    """Return A of some atoms.

    Args:
        blocks: layout of the paths.
        senders: h of the neighbours, (n_atoms, n_neighbours, (l_max_in+1)², channels).
        radial: z, as in ``sum_messages``, and likewise ``weight`` and ``couplings``.
        weight: W.
        couplings: T.
    """
    weights = _weights(radial, weight, len(blocks))
    messages = []
    for position, block in enumerate(blocks):
        weighted = (weights[:, :, position].unsqueeze(2) * senders[:, :, block.senders]).flatten(
            1, 2
        )
        messages.append(_coupling(couplings, block).transpose(1, 2) @ weighted)
    return _join_messages(blocks, messages)


def piece_gradients(
    blocks: Sequence[PathBlock],
    cotangent: Tensor,
    senders: Tensor,
    radial: Tensor,
    weight: Tensor,
    couplings: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of ⟨B, A⟩ of some atoms.

    With respect to the senders' h, z, R (slots, paths·channels) and T.

    Args:
        blocks: layout of the paths.
        cotangent: B, like A.
        senders: as in ``piece_value``, and likewise ``radial``, ``weight`` and ``couplings``.
        radial: z.
        weight: W.
        couplings: T.
    """
    weights = _weights(radial, weight, len(blocks))
    of_senders: dict[int, Tensor] = {}
    of_weights, of_couplings = [], []
    for position, block in enumerate(blocks):
        part, w, b = (
            senders[:, :, block.senders],
            weights[:, :, position].unsqueeze(2),
            cotangent[:, block.messages],
        )
        spread = (_coupling(couplings, block) @ b).view(part.shape)
        of_weights.append(_dot(spread, part))
        of_senders[block.size_in] = _add_product(of_senders.get(block.size_in), spread, w)
        outer = (w * part).flatten(1, 2) @ b.transpose(1, 2)
        of_couplings.append(outer.view(*couplings.shape[:2], -1))
    flat = torch.cat(of_weights, dim=2).flatten(0, 1)
    of_all_senders = torch.cat([of_senders[size] for size in sorted(of_senders)], dim=2)
    return of_all_senders, (flat @ weight).view(radial.shape), flat, torch.cat(of_couplings, dim=2)


def piece_second(
    blocks: Sequence[PathBlock],
    cotangent: Tensor,
    senders: Tensor,
    radial: Tensor,
    weight: Tensor,
    couplings: Tensor,
    senders_moved: Tensor,
    radial_moved: Tensor,
    weight_moved: Tensor,
    couplings_moved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the derivatives of ⟨B, dA⟩, dA the change of A along tangents of h, z, W and T.

    With R' = z'·Wᵀ + z·W'ᵀ, dA is A with one of h, R, T replaced by its tangent, summed.

    Returns:
        Derivatives with respect to B, the senders' h, z, T, and to R and R' (slots,
        paths·channels).
    """
    weights = _weights(radial, weight, len(blocks))
    weights_moved = _weights(radial_moved, weight, len(blocks)) + _weights(
        radial, weight_moved, len(blocks)
    )
    of_senders: dict[int, Tensor] = {}
    of_cotangent, of_weights, of_weights_moved, of_couplings = [], [], [], []
    for position, block in enumerate(blocks):
        part, part_moved = senders[:, :, block.senders], senders_moved[:, :, block.senders]
        w, w_moved = (
            weights[:, :, position].unsqueeze(2),
            weights_moved[:, :, position].unsqueeze(2),
        )
        b = cotangent[:, block.messages]
        coupling, coupling_moved = _coupling(couplings, block), _coupling(couplings_moved, block)
        weighted = (w * part).flatten(1, 2)
        weighted_moved = torch.addcmul(w * part_moved, w_moved, part).flatten(1, 2)
        change = coupling.transpose(1, 2) @ weighted_moved
        of_cotangent.append(torch.baddbmm(change, coupling_moved.transpose(1, 2), weighted))
        of_couplings.append((weighted_moved @ b.transpose(1, 2)).view(*couplings.shape[:2], -1))
        spread, spread_moved = (
            (coupling @ b).view(part.shape),
            (coupling_moved @ b).view(part.shape),
        )
        total = _add_product(of_senders.get(block.size_in), spread, w_moved)
        of_senders[block.size_in] = _add_product(total, spread_moved, w)
        of_weights_moved.append(_dot(spread, part))
        of_weights.append(_dot(spread, part_moved, _dot(spread_moved, part)))
    flat, flat_moved = (
        torch.cat(of_weights, dim=2).flatten(0, 1),
        torch.cat(of_weights_moved, dim=2).flatten(0, 1),
    )
    of_radial = (flat @ weight + flat_moved @ weight_moved).view(radial.shape)
    of_all_senders = torch.cat([of_senders[size] for size in sorted(of_senders)], dim=2)
    joined = _join_messages(blocks, of_cotangent)
    return joined, of_all_senders, of_radial, torch.cat(of_couplings, dim=2), flat, flat_moved


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
            functions.value(_gather(nodes, source[rows]), radial[rows], weight, couplings[rows])
            for rows in _pieces(source)
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
        for rows in _pieces(source):
            senders = _gather(nodes, source[rows])
            of_senders, of_radial[rows], of_weights, of_couplings[rows] = functions.gradients(
                cotangent[rows], senders, radial[rows], weight, couplings[rows]
            )
            _scatter(of_nodes, source[rows], of_senders)
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
        nodes_moved, radial_moved, weight_moved, couplings_moved = (
            torch.zeros_like(x) if tangent is None else tangent
            for x, tangent in zip((nodes, radial, weight, couplings), tangents, strict=True)
        )
        results = [torch.zeros_like(x) for x in (cotangent, nodes, radial, weight, couplings)]
        of_cotangent, of_nodes, of_radial, of_weight, of_couplings = results
        for rows in _pieces(source):
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
                    _gather(nodes, source[rows]),
                    radial[rows],
                    weight,
                    couplings[rows],
                ),
                *(
                    _gather(nodes_moved, source[rows]),
                    radial_moved[rows],
                    weight_moved,
                    couplings_moved[rows],
                ),
            )
            _scatter(of_nodes, source[rows], of_senders)
            of_weight.addmm_(of_weights.T, radial[rows].flatten(0, 1)).addmm_(
                of_moved.T, radial_moved[rows].flatten(0, 1)
            )
        return (*results, None, None, None)


def _pieces(source: Tensor) -> list[slice]:
    """Split atoms into equal pieces of about the number of slots that suits the device."""
    slots = CACHED_SLOTS if source.device.type == "cpu" else DEVICE_SLOTS
    step = max(1, math.ceil(source.shape[0] / max(1, round(source.numel() / slots))))
    return [
        slice(start, min(start + step, source.shape[0]))
        for start in range(0, source.shape[0], step)
    ]


def _weights(radial: Tensor, weight: Tensor, n_paths: int) -> Tensor:
    """Return R, (n_atoms, n_neighbours, n_paths, channels)."""
    return (radial.flatten(0, 1) @ weight.T).view(*radial.shape[:2], n_paths, -1)


def _gather(nodes: Tensor, source: Tensor) -> Tensor:
    """Return the features of the senders, (n_atoms, n_neighbours, (l_max_in+1)², channels)."""
    return nodes.index_select(0, source.flatten()).view(*source.shape, *nodes.shape[1:])


def _scatter(total: Tensor, source: Tensor, values: Tensor) -> None:
    """Add values of the slots to their senders, in place."""
    total.flatten(1).index_add_(0, source.flatten(), values.flatten(0, 1).flatten(1))


def _dot(a: Tensor, b: Tensor, total: Tensor | None = None) -> Tensor:
    """Return Σ a·b over the components m1, the third of four axes, plus a total.

    (n_atoms, n_neighbours, channels).
    """
    for component in range(a.shape[2]):
        total = _add_product(total, a[:, :, component], b[:, :, component])
    return cast(Tensor, total)


def _add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    return a * b if total is None else total.addcmul_(a, b)


def _join_messages(blocks: Sequence[PathBlock], parts: Sequence[Tensor]) -> Tensor:
    """Join (n_atoms, 2·l3+1, channels) of every path in the order of ``path_blocks``."""
    joined = []
    for size in sorted({block.size_out for block in blocks}):
        of_size = [
            part for part, block in zip(parts, blocks, strict=True) if block.size_out == size
        ]
        joined.append(torch.stack(of_size, dim=2).flatten(1, 2))
    return torch.cat(joined, dim=1)


def _coupling(couplings: Tensor, block: PathBlock) -> Tensor:
    """Return one path's T as matrices, (n_atoms, n_neighbours·(2·l1+1), 2·l3+1)."""
    return couplings[:, :, block.coupling].reshape(couplings.shape[0], -1, block.size_out)
