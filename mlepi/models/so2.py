"""Tensor products with the harmonics of an edge, done in the frame of the edge as one real matrix per |m|.

In the edge frame Y_L has only m = 0, so a product x_{l1} ⊗ Y_L → l3 couples m to ±m alone, and the sum over L is one
matrix between all channels with l ≥ |m|, shared by +m and −m (natural parity, l1 + L + l3 even) or by the swapped pair
(unnatural parity, odd). The parameters are those of the path-by-path product, w[l1, L, l3][u, v]; the matrices are
assembled from them, so both forms give the same numbers.

Features are natural-parity irreps (p = (−1)^l) with ``channels[l]`` copies of l:

* nodes, global frame, flat: (n, Σ_l (2l+1)·channels[l]), l slowest, channel fastest;
* edges, edge frame, by |m|: a list with (n_edges, C_0) for m = 0 and (n_edges, 2, C_m) = (+m, −m) for m > 0, where C_m
  counts the channels with l ≥ m, ordered by l.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlepi.models.wigner import wigner_3j

EdgeFeatures = list[Tensor]


def flat_size(channels: Sequence[int]) -> int:
    """Return the number of components of flat features."""
    return sum((2 * l + 1) * count for l, count in enumerate(channels))


def split_degrees(features: Tensor, channels: Sequence[int]) -> list[Tensor]:
    """View flat features (n, …) as one (n, 2l+1, channels[l]) tensor per l."""
    sizes = [(2 * l + 1) * count for l, count in enumerate(channels)]
    return [part.reshape(part.shape[0], 2 * l + 1, -1) for l, part in enumerate(features.split(sizes, dim=1))]


def join_degrees(parts: Sequence[Tensor]) -> Tensor:
    """Undo ``split_degrees``."""
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def to_orders(parts: Sequence[Tensor]) -> EdgeFeatures:
    """Sort per-l features (n, 2l+1, channels[l]) by |m|."""
    orders: EdgeFeatures = [torch.cat([part[:, l] for l, part in enumerate(parts)], dim=1)]
    for m in range(1, len(parts)):
        plus = torch.cat([parts[l][:, l + m] for l in range(m, len(parts))], dim=1)
        minus = torch.cat([parts[l][:, l - m] for l in range(m, len(parts))], dim=1)
        orders.append(torch.stack([plus, minus], dim=1))
    return orders


def to_degrees(orders: EdgeFeatures, channels: Sequence[int]) -> list[Tensor]:
    """Undo ``to_orders``."""
    columns: list[list[Tensor]] = [[] for _ in channels]
    zero = orders[0].split(list(channels), dim=1)
    higher = [orders[m].split(list(channels[m:]), dim=2) for m in range(1, len(channels))]
    for l in range(len(channels)):
        minus = [higher[m - 1][l - m][:, 1] for m in range(l, 0, -1)]
        plus = [higher[m - 1][l - m][:, 0] for m in range(1, l + 1)]
        columns[l] = [*minus, zero[l], *plus]
    return [torch.stack(column, dim=1) for column in columns]


def rotate_to_edges(parts: Sequence[Tensor], matrices: Sequence[Tensor]) -> list[Tensor]:
    """Turn per-l features from the global frame into the edge frames: (D^l)ᵀ x."""
    return [part if l == 0 else torch.bmm(matrices[l].transpose(1, 2), part) for l, part in enumerate(parts)]


def rotate_to_global(parts: Sequence[Tensor], matrices: Sequence[Tensor]) -> list[Tensor]:
    """Turn per-l features from the edge frames into the global frame: D^l x."""
    return [part if l == 0 else torch.bmm(matrices[l], part) for l, part in enumerate(parts)]


class SO2Product(nn.Module):
    """All paths x_{l1} ⊗ Y_L(edge) → l3 with learned channel mixing, applied in the edge frame.

    Args:
        inputs: input channels of every l.
        outputs: natural-parity output channels of every l.
        pseudo_outputs: unnatural-parity output channels of every l (l = 0 must be 0), e.g. 1e for p–p blocks.
        l_max: largest L of the edge harmonics ('component' normalised, parity (−1)^L).

    Weights are normal with unit variance and every path carries e3nn's 'element' normalisation, so that outputs keep
    the variance of inputs.
    """

    def __init__(self, *, inputs: Sequence[int], outputs: Sequence[int], pseudo_outputs: Sequence[int] = (), l_max: int) -> None:
        super().__init__()
        self.inputs, self.outputs, self.pseudo_outputs = tuple(inputs), tuple(outputs), tuple(pseudo_outputs)
        self.l_max = l_max
        self.weights = nn.ParameterDict()
        self._register("natural", self.outputs, parity=0)
        self._register("pseudo", self.pseudo_outputs, parity=1)

    def _register(self, kind: str, outputs: tuple[int, ...], parity: int) -> None:
        for l3, count in enumerate(outputs):
            paths = {
                l1: [L for L in range(abs(l1 - l3), min(l1 + l3, self.l_max) + 1) if (l1 + L + l3) % 2 == parity]
                for l1 in range(len(self.inputs))
            }
            fan_in = sum(len(degrees) * self.inputs[l1] for l1, degrees in paths.items())
            for l1, degrees in paths.items():
                if not degrees or not count or not self.inputs[l1]:
                    continue
                self.weights[f"{kind}_{l1}_{l3}"] = nn.Parameter(torch.randn(len(degrees), self.inputs[l1], count))
                scale = math.sqrt((2 * l3 + 1) / fan_in)
                table = torch.zeros(min(l1, l3) + 1, len(degrees), dtype=torch.float64)
                for k, L in enumerate(degrees):
                    coupling = wigner_3j(l1, L, l3)
                    for m in range(min(l1, l3) + 1):
                        sign = -1 if parity else 1
                        table[m, k] = coupling[l1 + m, L, l3 + sign * m] * math.sqrt(2 * L + 1) * scale
                self.register_buffer(f"coupling_{kind}_{l1}_{l3}", table, persistent=False)

    def matrices(self, kind: str, scalar_only: bool = False) -> list[Tensor]:
        """Assemble the matrix of every |m|: (Σ_{l ≥ m} inputs[l], Σ_{l ≥ m} outputs[l]).

        Args:
            kind: "natural" or "pseudo".
            scalar_only: keep only the natural paths with L = 0, the one harmonic that a zero vector has.
        """
        outputs = self.outputs if kind == "natural" else self.pseudo_outputs
        blocks: dict[tuple[int, int], Tensor] = {}
        for key, weight in self.weights.items():
            name, first, last = key.rsplit("_", 2)
            if name != kind or (scalar_only and first != last):
                continue
            paths = slice(0, 1) if scalar_only else slice(None)  # L = 0 comes first
            coupling = self.get_buffer(f"coupling_{key}").to(weight.dtype)
            blocks[int(first), int(last)] = torch.tensordot(coupling[:, paths], weight[paths], dims=1)
        reference = next(iter(self.weights.values()))
        matrices: list[Tensor] = []
        for m in range(min(len(self.inputs), len(outputs))):
            rows = []
            for l1 in range(m, len(self.inputs)):
                row = [
                    blocks[l1, l3][m] if (l1, l3) in blocks else reference.new_zeros(self.inputs[l1], outputs[l3])
                    for l3 in range(m, len(outputs))
                ]
                rows.append(torch.cat(row, dim=1))
            matrices.append(torch.cat(rows, dim=0))
        return matrices

    def forward(self, features: EdgeFeatures, num_loops: int = 0) -> tuple[EdgeFeatures, EdgeFeatures]:
        """Apply the product.

        Args:
            features: edge-frame features with ``inputs`` channels.
            num_loops: the last rows that are self-loops: zero vectors, in any frame.

        Returns:
            Natural- and unnatural-parity outputs, both sorted by |m| (the latter empty without ``pseudo_outputs``); orders
            that no path reaches are zero.
        """
        if num_loops:
            natural, pseudo = self.forward([x[:-num_loops] for x in features])
            loops = self._multiply([x[-num_loops:] for x in features], self.matrices("natural", scalar_only=True), self.outputs)
            natural = [torch.cat(rows) for rows in zip(natural, loops, strict=True)]
            return natural, [torch.cat([x, x.new_zeros(num_loops, *x.shape[1:])]) for x in pseudo]
        natural = self._multiply(features, self.matrices("natural"), self.outputs)
        if not self.pseudo_outputs:
            return natural, []
        swapped = [features[0], *(torch.stack([-x[:, 1], x[:, 0]], dim=1) for x in features[1:])]
        return natural, self._multiply(swapped, self.matrices("pseudo"), self.pseudo_outputs)

    @staticmethod
    def _multiply(features: EdgeFeatures, matrices: list[Tensor], outputs: tuple[int, ...]) -> EdgeFeatures:
        results = [x @ matrix for x, matrix in zip(features, matrices, strict=False)]
        for m in range(len(results), len(outputs)):
            results.append(features[0].new_zeros(features[0].shape[0], 2, sum(outputs[m:])))
        return results
