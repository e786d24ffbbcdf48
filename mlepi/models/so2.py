"""Tensor products with the harmonics of an edge, in its frame, as one real matrix per |m|.

In the edge frame Y_L has only m = 0, so a product x_{l1} ⊗ Y_L → l3 couples m to ±m alone, and the
sum over L is one matrix between all channels with l ≥ |m|, shared by +m and −m (natural parity, l1
+ L + l3 even) or by the swapped pair (unnatural parity, odd). The parameters are those of the
path-by-path product, w[l1, L, l3][u, v]; the matrices are assembled from them, so both forms give
the same numbers.

Features are natural-parity irreps (p = (−1)^l) with ``channels[l]`` copies of l:

* nodes, global frame, flat: (n, Σ_l (2l+1)·channels[l]), l slowest, channel fastest;
* edges, edge frame, by |m|: a list with (n_edges, C_0) for m = 0 and (n_edges, 2, C_m) = (−m, +m)
  for m > 0, where C_m counts the channels with l ≥ m, ordered by l. Orders beyond the end of the
  list are zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mlepi.models.wigner import wigner_3j

EdgeFeatures = list[Tensor]

FEW = 400
"""Multiplications of one product of a batch below which torch takes a plain loop on a processor,
at a fifth of the speed."""


def flat_size(channels: Sequence[int]) -> int:
    """Return the number of components of flat features."""
    return sum((2 * l + 1) * count for l, count in enumerate(channels))


def split_degrees(features: Tensor, channels: Sequence[int]) -> list[Tensor]:
    """View flat features (n, …) as one (n, 2l+1, channels[l]) tensor per l."""
    sizes = [(2 * l + 1) * count for l, count in enumerate(channels)]
    return [
        part.reshape(part.shape[0], 2 * l + 1, -1)
        for l, part in enumerate(features.split(sizes, dim=1))
    ]


def join_degrees(parts: Sequence[Tensor]) -> Tensor:
    """Undo ``split_degrees``."""
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def to_orders(parts: Sequence[Tensor]) -> EdgeFeatures:
    """Sort per-l edge-frame features by |m|.

    (n, 2l+1, channels[l]) each, rows as ``wigner.order_rows``.
    """
    return join_orders([[part] for part in parts], [])


def join_orders(parts: Sequence[Sequence[Tensor]], orders: EdgeFeatures) -> EdgeFeatures:
    """Sort per-l edge-frame features by |m| and append features that are sorted already.

    Args:
        parts: for every l, tensors (n, 2l+1, channels) whose channels follow each other.
        orders: edge features; their channels come last.
    """
    rows: list[list[Tensor]] = [[] for _ in range(max(len(parts), len(orders)))]
    for l, group in enumerate(parts):
        for part in group:
            first, *others = part.split([1] + [2] * l, dim=1)
            rows[0].append(first.squeeze(1))
            for m, pair in enumerate(others, 1):
                rows[m].append(pair)
    for m, order in enumerate(orders):
        rows[m].append(order)
    return [torch.cat(columns, dim=-1) for columns in rows]


def to_degrees(orders: EdgeFeatures, channels: Sequence[int]) -> list[Tensor]:
    """Undo ``to_orders``; where orders are missing, an l has the rows of those that are there."""
    columns = [order.split(list(channels[m:]), dim=-1) for m, order in enumerate(orders)]
    return [
        torch.cat(
            [
                columns[0][l].unsqueeze(1),
                *(columns[m][l - m] for m in range(1, min(l, len(orders) - 1) + 1)),
            ],
            dim=1,
        )
        for l in range(len(channels))
    ]


def fill_orders(orders: EdgeFeatures, channels: Sequence[int]) -> EdgeFeatures:
    """Append the orders that are missing, which are zero."""
    first = orders[0]
    return [
        *orders,
        *(
            first.new_zeros(first.shape[0], 2, sum(channels[m:]))
            for m in range(len(orders), len(channels))
        ),
    ]


def rotate_to_edges(parts: Sequence[Tensor], rotations: Sequence[Tensor]) -> list[Tensor]:
    """Turn per-l features from the global frame into the edge frames.

    (D^l)ᵀ x, see ``wigner.edge_rotations``.
    """
    return [
        part if l == 0 else rotate(rotations[l].transpose(1, 2), part)
        for l, part in enumerate(parts)
    ]


def rotate_to_global(parts: Sequence[Tensor], rotations: Sequence[Tensor]) -> list[Tensor]:
    """Turn per-l features from the edge frames into the global frame: D^l x.

    X may lack its last rows.
    """
    return [
        part if l == 0 else rotate(rotations[l][:, :, : part.shape[1]], part)
        for l, part in enumerate(parts)
    ]


def rotate(matrices: Tensor, part: Tensor) -> Tensor:
    """Multiply (n, rows, k) by (n, k, channels).

    Written out where a compiler can fuse it with what is around it. Products of less than ``FEW``
    multiplications get a row of zeros, and a column, where that makes them large enough.
    """
    if torch.compiler.is_compiling():
        terms = [matrices[:, :, k, None] * part[:, k, None, :] for k in range(part.shape[1])]
        return functools.reduce(torch.add, terms)
    rows, inner, channels = *matrices.shape[1:], part.shape[2]
    if part.device.type == "cpu" and rows * inner * channels < FEW:
        if (rows + 1) * inner * channels >= FEW:
            return torch.bmm(pad(matrices, (0, 0, 0, 1)), part)[:, :rows]
        if (rows + 1) * (inner + 1) * channels >= FEW:
            wider = torch.bmm(pad(matrices, (0, 1, 0, 1)), pad(part, (0, 0, 0, 1)))
            return wider[:, :rows]
    return torch.bmm(matrices, part)


def multiply_orders(
    features: EdgeFeatures,
    matrices: Sequence[Tensor],
    channels: Sequence[int],
    bias: Tensor | None = None,
) -> tuple[EdgeFeatures, EdgeFeatures]:
    """Apply the matrices of a tensor product in the edge frame.

    Args:
        features: edge features.
        matrices: one per |m|, (inputs, natural outputs then unnatural ones).
        channels: natural-parity outputs of every l.
        bias: (natural and unnatural outputs of m = 0,), added there.

    Returns:
        Natural- and unnatural-parity outputs. The latter couple +m to −m: y_{−m} = x_{+m}·W, y_{+m}
        = −x_{−m}·W.
    """
    natural: EdgeFeatures = []
    unnatural: EdgeFeatures = []
    for m, (x, matrix) in enumerate(zip(features, matrices, strict=False)):
        result = x @ matrix if m > 0 or bias is None else torch.addmm(bias, x, matrix)
        count = sum(channels[m:])
        if count == matrix.shape[1]:
            natural.append(result)
            continue
        first, rest = result.split([count, matrix.shape[1] - count], dim=-1)
        natural.append(first)
        unnatural.append(rest if m == 0 else torch.stack([rest[:, 1], -rest[:, 0]], dim=1))
    return natural, unnatural


class SO2Product(nn.Module):
    """All paths x_{l1} ⊗ Y_L(edge) → l3 with learned channel mixing, applied in the edge frame.

    Args:
        inputs: input channels of every l.
        outputs: natural-parity output channels of every l.
        pseudo_outputs: unnatural-parity output channels of every l (l = 0 must be 0), e.g. 1e for
            p–p blocks.
        l_max: largest L of the edge harmonics ('component' normalised, parity (−1)^L).

    Weights are normal with unit variance and every path carries e3nn's 'element' normalisation, so
    that outputs keep the variance of inputs.
    """

    def __init__(
        self,
        *,
        inputs: Sequence[int],
        outputs: Sequence[int],
        pseudo_outputs: Sequence[int] = (),
        l_max: int,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.pseudo_outputs = (
            tuple(inputs),
            tuple(outputs),
            tuple(pseudo_outputs),
        )
        self.l_max = l_max
        self.weights = nn.ParameterDict()
        self._register("natural", self.outputs, parity=0)
        self._register("pseudo", self.pseudo_outputs, parity=1)

    def _register(self, kind: str, outputs: tuple[int, ...], parity: int) -> None:
        for l3, count in enumerate(outputs):
            paths = {
                l1: [
                    L
                    for L in range(abs(l1 - l3), min(l1 + l3, self.l_max) + 1)
                    if (l1 + L + l3) % 2 == parity
                ]
                for l1 in range(len(self.inputs))
            }
            fan_in = sum(len(degrees) * self.inputs[l1] for l1, degrees in paths.items())
            for l1, degrees in paths.items():
                if not degrees or not count or not self.inputs[l1]:
                    continue
                self.weights[f"{kind}_{l1}_{l3}"] = nn.Parameter(
                    torch.randn(len(degrees), self.inputs[l1], count)
                )
                scale = math.sqrt((2 * l3 + 1) / fan_in)
                table = torch.zeros(min(l1, l3) + 1, len(degrees), dtype=torch.float64)
                for k, L in enumerate(degrees):
                    coupling = wigner_3j(l1, L, l3)
                    for m in range(min(l1, l3) + 1):
                        sign = -1 if parity else 1
                        table[m, k] = (
                            coupling[l1 + m, L, l3 + sign * m] * math.sqrt(2 * L + 1) * scale
                        )
                self.register_buffer(f"coupling_{kind}_{l1}_{l3}", table, persistent=False)

    @property
    def num_orders(self) -> int:
        """Count the |m| that have outputs."""
        return max(len(self.outputs), len(self.pseudo_outputs))

    def matrices(self, zero_vector: bool = False) -> list[Tensor]:
        """Assemble the matrix of every |m|.

        (Σ_{l ≥ m} inputs[l], Σ_{l ≥ m} outputs[l] + pseudo_outputs[l]).

        Args:
            zero_vector: keep only the paths with L = 0, the one harmonic that a self-loop has, in
                whatever frame.
        """
        blocks: dict[tuple[str, int, int], Tensor] = {}
        for key, weight in self.weights.items():
            kind, first, last = key.rsplit("_", 2)
            if zero_vector and (kind == "pseudo" or first != last):
                continue
            paths = slice(0, 1) if zero_vector else slice(None)  # L = 0 comes first
            coupling = self.get_buffer(f"coupling_{key}").to(weight.dtype)
            blocks[kind, int(first), int(last)] = torch.tensordot(
                coupling[:, paths], weight[paths], dims=1
            )
        reference = next(iter(self.weights.values()))
        columns = [("natural", l, count) for l, count in enumerate(self.outputs)]
        columns += [("pseudo", l, count) for l, count in enumerate(self.pseudo_outputs)]
        matrices: list[Tensor] = []
        for m in range(min(len(self.inputs), self.num_orders)):
            rows = [
                torch.cat(
                    [
                        blocks[kind, l1, l3][m]
                        if (kind, l1, l3) in blocks
                        else reference.new_zeros(self.inputs[l1], count)
                        for kind, l3, count in columns
                        if l3 >= m
                    ],
                    dim=1,
                )
                for l1 in range(m, len(self.inputs))
            ]
            matrices.append(torch.cat(rows, dim=0))
        return matrices

    def forward(
        self, features: EdgeFeatures, zero_vector: bool = False
    ) -> tuple[EdgeFeatures, EdgeFeatures]:
        """Apply the product.

        Args:
            features: edge-frame features with ``inputs`` channels.
            zero_vector: the edges are self-loops.

        Returns:
            Natural- and unnatural-parity outputs, both sorted by |m|.
        """
        return multiply_orders(features, self.matrices(zero_vector), self.outputs)
