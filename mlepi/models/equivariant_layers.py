"""Equivariant building blocks next to the tensor product.

Linear maps per degree, the gate, and norms.

Each exists for flat node features in the global frame and for edge features in the edge frame
(layouts in ``mlepi.models.so2``), with the same parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.models.so2 import (
    EdgeFeatures,
    rotate_to_edges,
    rotate_to_global,
    split_degrees,
    to_degrees,
    to_orders,
)

SILU_FACTOR = 1.6791767923989418
"""1/√⟨SiLU(z)²⟩ for z ~ N(0, 1)."""

SIGMOID_FACTOR = 1.8467055342154763
"""1/√⟨sigmoid(z)²⟩ for z ~ N(0, 1)."""

NormKind = Literal["local", "structure", "none"]


class DegreeLinear(nn.Module):
    """Mix the channels of every degree l, with one set of weights per type.

    A type is an element or an element pair.

    Args:
        inputs: input channels of every l.
        outputs: output channels of every l; a degree without input stays zero.
        num_types: number of weight sets.
        bias: add a learned constant to l = 0.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[int],
        outputs: Sequence[int],
        num_types: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.num_types = tuple(inputs), tuple(outputs), num_types
        shapes = [
            (num_types, self.inputs[l] if l < len(inputs) else 0, count)
            for l, count in enumerate(outputs)
        ]
        # empty weights are marked as constant: they never get a gradient, which distributed
        # training would wait for
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(shape), requires_grad=math.prod(shape) > 0) for shape in shapes
        )
        self.bias = nn.Parameter(torch.zeros(num_types, outputs[0])) if bias else None

    def nodes(self, parts: Sequence[Tensor], types: Tensor | None = None) -> list[Tensor]:
        """Map per-l features (n, 2l+1, inputs[l]) to (n, 2l+1, outputs[l])."""
        results = []
        for l, weight in enumerate(self.weights):
            if weight.shape[1] == 0:
                results.append(parts[0].new_zeros(parts[0].shape[0], 2 * l + 1, self.outputs[l]))
            else:
                results.append(self._mix(parts[l], weight / math.sqrt(weight.shape[1]), types))
        if self.bias is not None:
            results[0] = results[0] + (
                self.bias if types is None or self.num_types == 1 else self.bias[types]
            ).unsqueeze(1)
        return results

    def matrices(self) -> list[Tensor]:
        """Assemble the block-diagonal matrix of every |m|.

        (num_types, Σ_{l ≥ m} inputs[l], Σ_{l ≥ m} outputs[l]).
        """
        scaled = [weight / math.sqrt(max(weight.shape[1], 1)) for weight in self.weights]
        unused = self.inputs[len(scaled) :]
        results = []
        for m in range(min(len(self.inputs), len(self.outputs))):
            blocks = [
                torch.block_diag(*(weight[t] for weight in scaled[m:]))
                for t in range(self.num_types)
            ]
            results.append(nn.functional.pad(torch.stack(blocks), (0, 0, 0, sum(unused))))
        return results

    def edges(
        self,
        orders: EdgeFeatures,
        types: Tensor | None = None,
        matrices: Sequence[Tensor] | None = None,
    ) -> EdgeFeatures:
        """Map edge-frame features.

        Args:
            orders: edge features.
            types: (n_edges,) int, the set of weights of each edge.
            matrices: those of ``matrices()``, when the caller has them already.
        """
        results = [
            self._mix(x, w, types)
            for x, w in zip(orders, self.matrices() if matrices is None else matrices, strict=False)
        ]
        if self.bias is not None:
            shift = self.bias if types is None or self.num_types == 1 else self.bias[types]
            results[0] = results[0] + nn.functional.pad(
                shift, (0, results[0].shape[1] - shift.shape[1])
            )
        return results

    def _mix(self, x: Tensor, weight: Tensor, types: Tensor | None) -> Tensor:
        if self.num_types == 1:
            return x @ weight[0]
        if types is None:
            raise ConfigError(
                message(
                    "DegreeLinear",
                    "no types",
                    f"one of {self.num_types} types per row",
                    "Pass the types.",
                )
            )
        result = x.new_zeros(*x.shape[:-1], weight.shape[2])
        for t in range(self.num_types):
            rows = (types == t).nonzero().squeeze(1)
            result = result.index_copy(0, rows, x[rows] @ weight[t])
        return result


def count_gates(channels: Sequence[int], pseudo_channels: Sequence[int]) -> int:
    """Count the scalars that ``gate`` consumes as gates."""
    return sum(channels[1:]) + sum(pseudo_channels)


def gate(
    natural: EdgeFeatures,
    pseudo: EdgeFeatures,
    scale: Tensor,
    channels: Sequence[int],
    pseudo_channels: Sequence[int],
) -> tuple[EdgeFeatures, EdgeFeatures]:
    """Pass scalars through SiLU and scale everything else by a sigmoid of further scalars.

    In the edge frame.

    The first input scalars are the passed ones, the next ``count_gates`` the gates, in the order of
    the channels they act on: natural l > 0, then unnatural. Both activations keep a unit second
    moment. A factor per channel comes on top.

    Args:
        natural: edge features with ``count_gates`` scalars more than ``channels``.
        pseudo: edge features with ``pseudo_channels``.
        scale: (n_edges, Σ channels + Σ pseudo_channels).
        channels: natural-parity output channels of every l.
        pseudo_channels: unnatural-parity channels of every l.
    """
    scalars, vectors = channels[0], sum(channels[1:])
    first, gates, rest = natural[0].split(
        [scalars, count_gates(channels, pseudo_channels), vectors], dim=1
    )
    factor = torch.sigmoid(gates) * (SIGMOID_FACTOR * scale[:, scalars:])
    passed = nn.functional.silu(first) * (SILU_FACTOR * scale[:, :scalars])
    vector, unnatural = factor[:, :vectors], factor[:, vectors:]
    results = [torch.cat([passed, rest * vector], dim=1)]
    for m in range(1, len(natural)):
        results.append(natural[m] * vector[:, vectors - sum(channels[m:]) :].unsqueeze(1))
    total = sum(pseudo_channels)
    parts = [unnatural[:, total - sum(pseudo_channels[m:]) :] for m in range(len(pseudo))]
    return results, [
        x * (part if m == 0 else part.unsqueeze(1))
        for m, (x, part) in enumerate(zip(pseudo, parts, strict=True))
    ]


class EquivariantNorm(nn.Module):
    """Normalisation that commutes with rotations.

    "local" uses the features of one node or edge alone (strictly local and size-extensive): scalars
    are centred and divided by their standard deviation over channels; l > 0 by one root mean square
    over all l, m and channels, every l with equal weight. "structure" is the published DeepH-E3
    norm: statistics over all nodes (or edges) and channels of a structure; every l is centred, only
    l = 0 is divided by its root mean square. "none" is the identity.

    Args:
        channels: channels of every l.
        kind: see above.
    """

    def __init__(self, channels: Sequence[int], kind: NormKind) -> None:
        super().__init__()
        if kind not in ("local", "structure", "none"):
            raise ConfigError(
                message(
                    "model.norm", repr(kind), "'local', 'structure' or 'none'", "Edit the config."
                )
            )
        self.channels, self.kind = tuple(channels), kind
        if kind != "none":
            self.weights = nn.ParameterList(nn.Parameter(torch.ones(count)) for count in channels)
            self.bias = nn.Parameter(torch.zeros(channels[0]))

    def nodes(self, features: Tensor, batch: Tensor | None = None) -> Tensor:
        """Normalise flat node features; ``batch`` (n,) names the structure of each row."""
        if self.kind == "none":
            return features
        parts = split_degrees(features, self.channels)
        parts = self._structure(parts, batch) if self.kind == "structure" else self._local(parts)
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def edges(
        self,
        chunks: list[EdgeFeatures],
        rotations: Sequence[Sequence[Tensor]],
        rows: Sequence[Tensor],
    ) -> list[EdgeFeatures]:
        """Normalise the edge features of all chunks.

        Args:
            chunks: edge features.
            rotations: of every chunk, Wigner matrices; the centring of "structure" is done in the
                global frame.
            rows: of every chunk, (n_edges,) int, the structure of each edge.
        """
        if self.kind == "none":
            return chunks
        if self.kind == "local":
            return [self._local_edges(orders) for orders in chunks]
        turned = [
            rotate_to_global(to_degrees(orders, self.channels), d)
            for orders, d in zip(chunks, rotations, strict=True)
        ]
        sizes = [len(row) for row in rows]
        parts = self._structure(
            [torch.cat(part) for part in zip(*turned, strict=True)], torch.cat(list(rows))
        )
        pieces = zip(*(part.split(sizes) for part in parts), strict=True)
        return [
            to_orders(rotate_to_edges(piece, d)) for piece, d in zip(pieces, rotations, strict=True)
        ]

    def _local_edges(self, orders: EdgeFeatures) -> EdgeFeatures:
        scalars = self.channels[0]
        power = self._power(orders)
        inverse = torch.rsqrt(power + EPSILON).unsqueeze(1)
        weight = torch.cat(list(self.weights[1:])) if len(self.channels) > 1 else self.bias[:0]
        results = [
            torch.cat(
                [
                    self._scalars(orders[0][:, :scalars]),
                    orders[0][:, scalars:] * (inverse * weight),
                ],
                dim=1,
            )
        ]
        for m in range(1, len(orders)):
            tail = weight[weight.shape[0] - orders[m].shape[2] :]
            results.append(orders[m] * (inverse * tail).unsqueeze(1))
        return results

    def _scalars(self, x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(
            x, (self.channels[0],), self.weights[0], self.bias, EPSILON
        )

    def _power(self, orders: EdgeFeatures) -> Tensor:
        present = [l for l in range(1, len(self.channels)) if self.channels[l]]
        if not present:
            return orders[0].new_zeros(orders[0].shape[0])
        shares = [
            orders[0].new_full((count,), 1.0 / (max(count, 1) * (2 * l + 1) * len(present)))
            for l, count in enumerate(self.channels)
        ]
        power = orders[0][:, self.channels[0] :] ** 2 @ torch.cat(shares[1:])
        for m in range(1, len(orders)):
            power = power + (orders[m] ** 2).sum(1) @ torch.cat(shares[m:])
        return power

    def _local(self, parts: list[Tensor]) -> list[Tensor]:
        present = [l for l in range(1, len(self.channels)) if self.channels[l]]
        results = [self._scalars(parts[0][:, 0]).unsqueeze(1)]
        if not present:
            return [*results, *parts[1:]]
        power = torch.stack([(parts[l] ** 2).mean(dim=(1, 2)) for l in present]).mean(0)
        inverse = torch.rsqrt(power + EPSILON)[:, None, None]
        return results + [
            parts[l] * (inverse * self.weights[l]) for l in range(1, len(self.channels))
        ]

    def _structure(self, parts: list[Tensor], batch: Tensor | None) -> list[Tensor]:
        rows = torch.zeros_like(parts[0][:, 0, 0], dtype=torch.long) if batch is None else batch
        count = torch.bincount(rows).clamp(min=1).to(parts[0])
        results = []
        for l, part in enumerate(parts):
            if part.shape[2] == 0:
                results.append(part)
                continue
            total = part.new_zeros(count.shape[0], 2 * l + 1).index_add(0, rows, part.mean(2))
            centred = part - (total / count[:, None])[rows].unsqueeze(2)
            if l == 0:
                square = part.new_zeros(count.shape[0]).index_add(
                    0, rows, (centred**2).mean(dim=(1, 2))
                )
                centred = centred * torch.rsqrt(square / count + EPSILON)[rows, None, None]
                results.append(centred * self.weights[l] + self.bias)
            else:
                results.append(centred * self.weights[l])
        return results


EPSILON = 1e-5
"""Added to mean squares before the root (published value)."""
