"""Sum of neighbours' features × harmonics × radial weights: the one expensive product of a MACE layer and its derivatives.

A_{i,m3,p,c} = Σ_{j,m1} T^p_{ij,m1,m3} R_{ij,p,c} h_{j,m1,c} with R = z·Wᵀ, for every path p = (l1, l2, l3): T is the
Clebsch–Gordan tensor contracted with Y_l2 of the edge, z the hidden layer of the radial network, W its last layer. Tensors
of the size edges × paths × channels exist only for a few atoms at a time, small enough for the processor's cache; the
backward pass keeps the inputs and computes them again. The product is linear in h, R and T, so its second derivatives are
the first ones with one factor replaced by its tangent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mlepi.models.compilation import as_branches, wanted_derivatives

Path = tuple[int, int, int]
"""(l1, l2, l3): neighbour feature ⊗ harmonic → message."""

CACHED_SLOTS = 256
"""Neighbours treated at once on a CPU: their weighted features, some MB, stay in the second-level cache."""
DEVICE_SLOTS = 1 << 16
"""The same on other devices, where launching work costs more than memory traffic; bounds the memory to some GB."""


def message_paths(l_max_in: int, l_max: int) -> list[Path]:
    """List the natural-parity paths l1 ⊗ Y_l2 → l3 with l2, l3 ≤ l_max, ordered by (l3, l1, l2).

    Args:
        l_max_in: largest l1.
        l_max: largest l of harmonics and messages.
    """
    return [
        (l1, l2, l3)
        for l3 in range(l_max + 1)
        for l1 in range(l_max_in + 1)
        for l2 in range(abs(l1 - l3), min(l1 + l3, l_max) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]


@dataclass(frozen=True)
class PathBlock:
    """Where one path finds its factors and puts its result.

    Attributes:
        size_in: 2·l1+1.
        size_out: 2·l3+1.
        senders: components of the neighbours' features.
        coupling: columns of the couplings, a (size_in, size_out) matrix.
        messages: rows of the messages; the paths of one l3 alternate, so that they are adjacent channels of each m3.
    """

    size_in: int
    size_out: int
    senders: slice
    coupling: slice
    messages: slice


@cache
def path_blocks(paths: tuple[Path, ...]) -> list[PathBlock]:
    """Lay out couplings and messages of the paths, which are in ascending order of l3."""
    blocks: list[PathBlock] = []
    coupling_start = 0
    for l1, l2, l3 in paths:
        size_in, size_out = 2 * l1 + 1, 2 * l3 + 1
        same = [path for path in paths if path[2] == l3]
        start = sum(2 * path[2] + 1 for path in paths if path[2] < l3)
        rows = slice(start + same.index((l1, l2, l3)), start + len(same) * size_out, len(same))
        coupling = slice(coupling_start, coupling_start + size_in * size_out)
        blocks.append(PathBlock(size_in, size_out, slice(l1 * l1, (l1 + 1) ** 2), coupling, rows))
        coupling_start = coupling.stop
    return blocks


def sum_messages(
    paths: tuple[Path, ...], nodes: Tensor, radial: Tensor, weight: Tensor, couplings: Tensor, source: Tensor
) -> Tensor:
    """Sum the weighted products over neighbours; differentiable twice.

    Args:
        paths: as from ``message_paths``.
        nodes: h, (n_senders, (l_max_in+1)², channels).
        radial: z, (n_atoms, n_neighbours, width), zero in empty slots.
        weight: W, (n_paths·channels, width), path by path.
        couplings: T, (n_atoms, n_neighbours, Σ_p (2·l1+1)(2·l3+1)), laid out as in ``path_blocks``.
        source: (n_atoms, n_neighbours) int, sender of each slot; any sender in empty slots.

    Returns:
        A, (n_atoms, Σ_p (2·l3+1), channels), laid out as in ``path_blocks``.
    """
    messages: Tensor = _Messages.apply(*as_branches(nodes, radial, weight, couplings), source, paths)
    return messages


def sum_messages_plainly(
    blocks: Sequence[PathBlock], nodes: Tensor, radial: Tensor, weight: Tensor, couplings: Tensor, source: Tensor
) -> Tensor:
    """Evaluate the definition of ``sum_messages`` term by term: slow as it stands, fused into one loop when compiled.

    Arguments are those of ``sum_messages``, with the paths as ``path_blocks``.
    """
    senders = nodes[source]
    weights = (radial @ weight.T).unflatten(2, (len(blocks), nodes.shape[2]))
    rows: dict[int, Tensor] = {}
    for position, block in enumerate(blocks):
        weighted = (weights[:, :, position].unsqueeze(2) * senders[:, :, block.senders]).unbind(2)
        coupling = couplings[:, :, block.coupling, None].unflatten(2, (block.size_in, block.size_out))
        for m3, row in enumerate(range(block.messages.start, block.messages.stop, block.messages.step)):
            terms = [coupling[:, :, m1, m3] * component for m1, component in enumerate(weighted)]
            rows[row] = sum(terms[1:], terms[0]).sum(1)
    return torch.stack([rows[row] for row in sorted(rows)], dim=1)


class _Messages(Function):
    """``sum_messages`` in pieces that fit the cache."""

    @staticmethod
    def forward(
        ctx: Any, nodes: Tensor, radial: Tensor, weight: Tensor, couplings: Tensor, source: Tensor, paths: tuple[Path, ...]
    ) -> Tensor:
        ctx.save_for_backward(nodes, radial, weight, couplings, source)
        ctx.paths = paths
        blocks = path_blocks(paths)
        messages = nodes.new_zeros(source.shape[0], sum(block.size_out for block in blocks), nodes.shape[2])
        for rows in _pieces(source):
            weights, senders = _weights(radial[rows], weight, len(paths)), _gather(nodes, source[rows])
            for position, block in enumerate(blocks):
                weighted = (weights[:, :, position].unsqueeze(2) * senders[:, :, block.senders]).flatten(1, 2)
                messages[rows, block.messages] = _coupling(couplings[rows], block).transpose(1, 2) @ weighted
        return messages

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        wanted = wanted_derivatives(ctx)
        if cotangent is None or not any(wanted):
            return (None,) * 6
        gradients = _MessageGradients.apply(*as_branches(cotangent), *ctx.saved_tensors, ctx.paths, wanted)
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
        paths: tuple[Path, ...],
        wanted: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(cotangent, nodes, radial, weight, couplings, source)
        ctx.paths = paths
        for_nodes, for_radial, for_weight, for_couplings = wanted[:4]
        node_gradient = torch.zeros_like(nodes) if for_nodes else None
        radial_gradient = torch.zeros_like(radial) if for_radial else None
        weight_gradient = torch.zeros_like(weight) if for_weight else None
        coupling_gradient = torch.zeros_like(couplings) if for_couplings else None
        for rows in _pieces(source):
            weights, senders = _weights(radial[rows], weight, len(paths)), _gather(nodes, source[rows])
            of_senders = torch.zeros_like(senders)
            of_weights = torch.empty_like(weights)
            for position, block in enumerate(path_blocks(paths)):
                part, w, b = senders[:, :, block.senders], weights[:, :, position].unsqueeze(2), cotangent[rows, block.messages]
                spread = (_coupling(couplings[rows], block) @ b).view(part.shape)
                _dot([(spread, part)], of_weights[:, :, position])
                if node_gradient is not None:
                    of_senders[:, :, block.senders].addcmul_(spread, w)
                if coupling_gradient is not None:
                    outer = (w * part).flatten(1, 2) @ b.transpose(1, 2)
                    coupling_gradient[rows, :, block.coupling] = outer.view(*source[rows].shape, -1)
            flat = of_weights.flatten(0, 1).flatten(1)
            if node_gradient is not None:
                _scatter(node_gradient, source[rows], of_senders)
            if radial_gradient is not None:
                radial_gradient[rows] = (flat @ weight).view(radial[rows].shape)
            if weight_gradient is not None:
                weight_gradient.addmm_(flat.T, radial[rows].flatten(0, 1))
        return node_gradient, radial_gradient, weight_gradient, coupling_gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        """Differentiate ⟨∂h, h'⟩ + ⟨∂z, z'⟩ + ⟨∂W, W'⟩ + ⟨∂T, T'⟩ for tangents h', z', W', T'.

        With R' = z'·Wᵀ + z·W'ᵀ this is ⟨B, dA⟩, dA the change of A along the tangents: A with one factor replaced, summed.
        """
        cotangent, nodes, radial, weight, couplings, source = ctx.saved_tensors
        paths = ctx.paths
        node_tangent, radial_tangent, weight_tangent, coupling_tangent = (
            torch.zeros_like(x) if tangent is None else tangent
            for x, tangent in zip((nodes, radial, weight, couplings), tangents, strict=True)
        )
        moves_weight = tangents[2] is not None
        results = [torch.zeros_like(x) for x in (cotangent, nodes, radial, weight, couplings)]
        of_cotangent, of_nodes, of_radial, of_weight, of_couplings = results
        for rows in _pieces(source):
            weights, senders = _weights(radial[rows], weight, len(paths)), _gather(nodes, source[rows])
            weights_moved, senders_moved = _weights(radial_tangent[rows], weight, len(paths)), _gather(node_tangent, source[rows])
            if moves_weight:
                weights_moved += _weights(radial[rows], weight_tangent, len(paths))
            of_senders = torch.zeros_like(senders)
            of_weights, of_weights_moved = torch.empty_like(weights), torch.empty_like(weights)
            for position, block in enumerate(path_blocks(paths)):
                part, part_moved = senders[:, :, block.senders], senders_moved[:, :, block.senders]
                w, w_moved = weights[:, :, position].unsqueeze(2), weights_moved[:, :, position].unsqueeze(2)
                b = cotangent[rows, block.messages]
                coupling, coupling_moved = _coupling(couplings[rows], block), _coupling(coupling_tangent[rows], block)
                weighted = (w * part).flatten(1, 2)
                weighted_moved = torch.addcmul(w * part_moved, w_moved, part).flatten(1, 2)
                change = coupling.transpose(1, 2) @ weighted_moved
                of_cotangent[rows, block.messages] = change.baddbmm_(coupling_moved.transpose(1, 2), weighted)
                outer = weighted_moved @ b.transpose(1, 2)
                of_couplings[rows, :, block.coupling] = outer.view(*source[rows].shape, -1)
                spread, spread_moved = (coupling @ b).view(part.shape), (coupling_moved @ b).view(part.shape)
                of_senders[:, :, block.senders].addcmul_(spread, w_moved).addcmul_(spread_moved, w)
                _dot([(spread, part)], of_weights_moved[:, :, position])
                _dot([(spread, part_moved), (spread_moved, part)], of_weights[:, :, position])
            _scatter(of_nodes, source[rows], of_senders)
            flat, flat_moved = of_weights.flatten(0, 1).flatten(1), of_weights_moved.flatten(0, 1).flatten(1)
            of_radial[rows] = (flat @ weight).view(radial[rows].shape)
            of_weight.addmm_(flat.T, radial[rows].flatten(0, 1)).addmm_(flat_moved.T, radial_tangent[rows].flatten(0, 1))
            if moves_weight:
                of_radial[rows] += (flat_moved @ weight_tangent).view(radial[rows].shape)
        return (*results, None, None, None)


def _pieces(source: Tensor) -> list[slice]:
    """Split atoms so that a piece has about the number of slots that suits the device."""
    slots = CACHED_SLOTS if source.device.type == "cpu" else DEVICE_SLOTS
    step = max(1, slots // max(1, source.shape[1]))
    return [slice(start, min(start + step, source.shape[0])) for start in range(0, source.shape[0], step)]


def _weights(radial: Tensor, weight: Tensor, n_paths: int) -> Tensor:
    """Return R, (n_atoms, n_neighbours, n_paths, channels)."""
    return (radial.flatten(0, 1) @ weight.T).view(*radial.shape[:2], n_paths, -1)


def _gather(nodes: Tensor, source: Tensor) -> Tensor:
    """Return the features of the senders, (n_atoms, n_neighbours, (l_max_in+1)², channels)."""
    return nodes.index_select(0, source.flatten()).view(*source.shape, *nodes.shape[1:])


def _scatter(total: Tensor, source: Tensor, values: Tensor) -> None:
    """Add values of the slots to their senders, in place."""
    total.flatten(1).index_add_(0, source.flatten(), values.flatten(0, 1).flatten(1))


def _dot(pairs: Sequence[tuple[Tensor, Tensor]], out: Tensor) -> None:
    """Write Σ a·b over pairs and over the components m1, the third of four axes, in place."""
    terms = [term for a, b in pairs for term in zip(a.unbind(2), b.unbind(2), strict=True)]
    torch.mul(*terms[0], out=out)
    for a, b in terms[1:]:
        out.addcmul_(a, b)


def _coupling(couplings: Tensor, block: PathBlock) -> Tensor:
    """Return one path's T as matrices, (n_atoms, n_neighbours·(2·l1+1), 2·l3+1)."""
    return couplings[:, :, block.coupling].reshape(couplings.shape[0], -1, block.size_out)
