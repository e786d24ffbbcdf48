"""Equivariant building blocks next to the tensor product: linear maps per degree, the gate, and norms.

Each exists for flat node features in the global frame and for edge features in the edge frame (layouts in
``mlepi.models.so2``), with the same parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.models.so2 import EdgeFeatures, rotate_to_edges, rotate_to_global, split_degrees, to_degrees, to_orders

SILU_FACTOR = 1.6791767923989418
"""1/√⟨SiLU(z)²⟩ for z ~ N(0, 1)."""

SIGMOID_FACTOR = 1.8467055342154763
"""1/√⟨sigmoid(z)²⟩ for z ~ N(0, 1)."""

NormKind = Literal["local", "structure", "none"]


class DegreeLinear(nn.Module):
    """Mix the channels of every degree l, with one set of weights per type (element or element pair).

    Args:
        inputs: input channels of every l.
        outputs: output channels of every l; a degree without input stays zero.
        num_types: number of weight sets.
        bias: add a learned constant to l = 0.
    """

    def __init__(self, *, inputs: Sequence[int], outputs: Sequence[int], num_types: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs, self.num_types = tuple(inputs), tuple(outputs), num_types
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(num_types, self.inputs[l] if l < len(inputs) else 0, count))
            for l, count in enumerate(outputs)
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
            results[0] = results[0] + (self.bias if types is None or self.num_types == 1 else self.bias[types]).unsqueeze(1)
        return results

    def edges(self, orders: EdgeFeatures, types: Tensor | None = None) -> EdgeFeatures:
        """Map edge-frame features, one block-diagonal matrix per |m|."""
        scaled = [weight / math.sqrt(max(weight.shape[1], 1)) for weight in self.weights]
        results: EdgeFeatures = []
        for m in range(len(self.outputs)):
            if m >= len(self.inputs):
                results.append(orders[0].new_zeros(orders[0].shape[0], 2, sum(self.outputs[m:])))
                continue
            matrix = torch.stack([torch.block_diag(*(weight[t] for weight in scaled[m:])) for t in range(self.num_types)])
            missing = sum(self.inputs[m:]) - matrix.shape[1]
            x = orders[m] if missing == 0 else orders[m][..., : matrix.shape[1]]
            results.append(self._mix(x, matrix, types))
        if self.bias is not None:
            shift = self.bias if types is None or self.num_types == 1 else self.bias[types]
            results[0] = torch.cat([results[0][:, : self.outputs[0]] + shift, results[0][:, self.outputs[0] :]], dim=1)
        return results

    def _mix(self, x: Tensor, weight: Tensor, types: Tensor | None) -> Tensor:
        if self.num_types == 1:
            return x @ weight[0]
        if types is None:
            raise ConfigError(message("DegreeLinear", "no types", f"one of {self.num_types} types per row", "Pass the types."))
        result = x.new_zeros(*x.shape[:-1], weight.shape[2])
        for t in range(self.num_types):
            rows = (types == t).nonzero().squeeze(1)
            result = result.index_copy(0, rows, x[rows] @ weight[t])
        return result


class Gate(nn.Module):
    """Pass scalars through SiLU and scale everything else by a sigmoid of further scalars, in the edge frame.

    The first input scalars are the passed ones, the rest are the gates, in the order of the channels they act on: natural
    l > 0, then unnatural. Both activations keep a unit second moment.

    Args:
        channels: natural-parity channels of every l.
        pseudo_channels: unnatural-parity channels of every l.
    """

    def __init__(self, channels: Sequence[int], pseudo_channels: Sequence[int] = ()) -> None:
        super().__init__()
        self.channels, self.pseudo_channels = tuple(channels), tuple(pseudo_channels)
        self.num_gates = sum(self.channels[1:]) + sum(self.pseudo_channels)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Natural-parity channels that the gate consumes: its gates are extra scalars."""
        return (self.channels[0] + self.num_gates, *self.channels[1:])

    def forward(self, natural: EdgeFeatures, pseudo: EdgeFeatures, scale: Tensor) -> tuple[EdgeFeatures, EdgeFeatures]:
        """Apply the gate and a factor per channel.

        Args:
            natural: edge features with ``inputs`` channels.
            pseudo: edge features with ``pseudo_channels``.
            scale: (n_edges, Σ channels + Σ pseudo_channels).
        """
        scalars = self.channels[0]
        first, gates, rest = natural[0].split([scalars, self.num_gates, sum(self.channels[1:])], dim=1)
        factor = torch.sigmoid(gates) * (SIGMOID_FACTOR * scale[:, scalars:])
        passed = torch.nn.functional.silu(first) * (SILU_FACTOR * scale[:, :scalars])
        n_vector = sum(self.channels[1:])
        vector, unnatural = factor[:, :n_vector], factor[:, n_vector:]
        results = [torch.cat([passed, rest * vector], dim=1)]
        for m in range(1, len(self.channels)):
            results.append(natural[m] * vector[:, n_vector - sum(self.channels[m:]) :].unsqueeze(1))
        pseudo_results: EdgeFeatures = []
        total = sum(self.pseudo_channels)
        for m, x in enumerate(pseudo):
            part = unnatural[:, total - sum(self.pseudo_channels[m:]) :]
            pseudo_results.append(x * (part if m == 0 else part.unsqueeze(1)))
        return results, pseudo_results


class EquivariantNorm(nn.Module):
    """Normalisation that commutes with rotations.

    "local" uses the features of one node or edge alone (strictly local and
    size-extensive): scalars are centred and divided by their standard deviation over channels; l > 0 by one root mean
    square over all l, m and channels, every l with equal weight. "structure" is the published DeepH-E3 norm: statistics
    over all nodes (or edges) and channels of a structure; every l is centred, only l = 0 is divided by its root mean
    square. "none" is the identity.

    Args:
        channels: channels of every l.
        kind: see above.
    """

    def __init__(self, channels: Sequence[int], kind: NormKind) -> None:
        super().__init__()
        if kind not in ("local", "structure", "none"):
            raise ConfigError(message("model.norm", repr(kind), "'local', 'structure' or 'none'", "Edit the config."))
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

    def edges(self, orders: EdgeFeatures, matrices: Sequence[Tensor], batch: Tensor | None = None) -> EdgeFeatures:
        """Normalise edge features; the centring of "structure" is done in the global frame."""
        if self.kind == "none":
            return orders
        if self.kind == "structure":
            parts = rotate_to_global(to_degrees(orders, self.channels), matrices)
            return to_orders(rotate_to_edges(self._structure(parts, batch), matrices))
        scalars = self.channels[0]
        power = self._power(orders)
        inverse = torch.rsqrt(power + EPSILON).unsqueeze(1)
        weight = torch.cat(list(self.weights[1:])) if len(self.channels) > 1 else self.bias[:0]
        results = [torch.cat([self._scalars(orders[0][:, :scalars]), orders[0][:, scalars:] * (inverse * weight)], dim=1)]
        for m in range(1, len(orders)):
            tail = weight[weight.shape[0] - orders[m].shape[2] :]
            results.append(orders[m] * (inverse * tail).unsqueeze(1))
        return results

    def _scalars(self, x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, (self.channels[0],), self.weights[0], self.bias, EPSILON)

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
        return results + [parts[l] * (inverse * self.weights[l]) for l in range(1, len(self.channels))]

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
                square = part.new_zeros(count.shape[0]).index_add(0, rows, (centred**2).mean(dim=(1, 2)))
                centred = centred * torch.rsqrt(square / count + EPSILON)[rows, None, None]
                results.append(centred * self.weights[l] + self.bias)
            else:
                results.append(centred * self.weights[l])
        return results


EPSILON = 1e-5
"""Added to mean squares before the root (published value)."""
