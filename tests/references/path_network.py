"""DeepH-E3 path by path: an independent network in e3nn's own operations, all in the global frame.

Written from the published description (Gong et al. 2023, doi:10.1038/s41467-023-38468-8): one
directed edge per block, self-loops included as edges with a zero vector; concat(node_i, node_j,
edge) ⊗ Y in one e3nn tensor product; e3nn's gate and radial network; sums over edges; a layer norm
over the structure. ``PathNetwork`` takes the weights of an ``ElectronNetwork`` with one sub-network
through a weight map: only normalisation constants differ.
"""

from __future__ import annotations

import itertools
import math

import torch
from e3nn import nn as e3nn_nn
from e3nn import o3
from e3nn_oracle import double_precision, harmonics, natural_irreps, unnatural_irreps
from torch import Tensor

EPSILON = 1e-5


class Convolution:
    """(node_i, node_j, edge) ⊗ Y → gate → × radial network."""

    def __init__(
        self, weights: dict[str, Tensor], nodes, edges, outputs, pseudo, l_max: int
    ) -> None:
        gated = natural_irreps(outputs)[1:] + unnatural_irreps(pseudo)
        gates = o3.Irreps([(gated.num_irreps, "0e")])
        scalars = natural_irreps(outputs)[:1]
        self.irreps = scalars + gated
        irreps_in = natural_irreps(nodes) + natural_irreps(nodes) + natural_irreps(edges)
        with double_precision():
            self.gate = e3nn_nn.Gate(
                scalars, [torch.nn.functional.silu], gates, [torch.sigmoid], gated
            )
        irreps_out = self.gate.irreps_in  # sorted
        irreps_edge = o3.Irreps.spherical_harmonics(l_max)
        instructions, flat = [], []
        for k, (count, ir_out) in enumerate(irreps_out):
            natural = ir_out.p == (-1) ** ir_out.l
            paths = [
                (slot, L)
                for slot in range(len(irreps_in))
                for L in range(l_max + 1)
                if ir_out in irreps_in[slot].ir * irreps_edge[L].ir
            ]
            fan = {
                part: sum(
                    irreps_in[slot].mul
                    for slot, _ in paths
                    if (slot < 2 * len(nodes)) == (part == "node")
                )
                for part in ("node", "edge")
            }
            position = dict.fromkeys(range(len(irreps_in)), 0)
            for slot, L in paths:
                part = "node" if slot < 2 * len(nodes) else "edge"
                l1 = irreps_in[slot].ir.l
                key = f"{part}_product.weights.{'natural' if natural else 'pseudo'}_{l1}_{ir_out.l}"
                index, position[slot] = position[slot], position[slot] + 1
                instructions.append((slot, L, k, "uvw", True))
                if not count:
                    continue
                weight = weights[key][index]
                if part == "node":
                    weight = weight[: nodes[l1]] if slot < len(nodes) else weight[nodes[l1] :]
                flat.append((weight * math.sqrt(0.5 * sum(fan.values()) / fan[part])).reshape(-1))
        self.weights = torch.cat(flat)
        with double_precision():
            self.product = o3.TensorProduct(
                irreps_in,
                irreps_edge,
                irreps_out,
                instructions,
                internal_weights=False,
                shared_weights=True,
            )
            layers = sorted(key for key in weights if key.startswith("radial_network"))
            widths = [weights[layers[0]].shape[1], *(weights[key].shape[0] for key in layers)]
            self.radial = e3nn_nn.FullyConnectedNet(widths, torch.nn.functional.silu)
        for layer, key in zip(self.radial, layers, strict=True):
            layer.weight.data = weights[key].T.clone()
        repeat = torch.tensor([ir.dim for mul, ir in self.irreps for _ in range(mul)])
        self.channel = torch.repeat_interleave(torch.arange(len(repeat)), repeat)

    def __call__(self, x: Tensor, edge_harmonics: Tensor, radial: Tensor) -> Tensor:
        gated = self.gate(self.product(x, edge_harmonics, self.weights))
        return gated * self.radial(radial)[:, self.channel]


def mix(
    x: Tensor,
    irreps_in: o3.Irreps,
    weights: list[Tensor],
    types: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Weights[l][type] (n_in, n_out) / √n_in per row and irrep, a bias on the first scalars."""
    parts = []
    for l, weight in enumerate(weights):
        if l < len(irreps_in) and irreps_in[l].mul:
            start = irreps_in[:l].dim
            values = x[:, start : start + irreps_in[l].dim].reshape(
                len(x), irreps_in[l].mul, 2 * l + 1
            )
            part = torch.einsum("num,nuw->nwm", values, weight[types]) / math.sqrt(irreps_in[l].mul)
        else:
            part = x.new_zeros(len(x), weight.shape[2], 2 * l + 1)
        if l == 0 and bias is not None:
            part = part + bias[types].unsqueeze(2)
        parts.append(part.flatten(1))
    return torch.cat(parts, dim=1)


def layer_norm(x: Tensor, irreps: o3.Irreps, weights: list[Tensor], bias: Tensor) -> Tensor:
    """Subtract the mean vector over rows and channels of every l.

    Divide scalars by their root mean square.
    """
    parts, start = [], 0
    for l, (count, ir) in enumerate(irreps):
        values = x[:, start : start + count * ir.dim].reshape(len(x), count, ir.dim)
        start += count * ir.dim
        values = values - values.mean(dim=(0, 1), keepdim=True)
        if l == 0:
            values = values / (values.pow(2).mean() + EPSILON).sqrt()
        values = values * weights[l][:, None]
        parts.append((values + bias[:, None] if l == 0 else values).flatten(1))
    return torch.cat(parts, dim=1)


def select(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)
    }


def sequence(weights: dict[str, Tensor], prefix: str) -> list[Tensor]:
    return [weights[f"{prefix}{k}"] for k in range(sum(key.startswith(prefix) for key in weights))]


class PathNetwork:
    """Blocks of one structure from its list of directed edges, self-loops included.

    Args:
        weights: state dict of an ``ElectronNetwork`` in float64 with the sub-network "all".
        config: its nested config.
    """

    def __init__(self, weights: dict[str, Tensor], config: dict) -> None:
        self.config = config["network"]["backbone"]
        self.basis = config["basis"]["shells"]
        self.elements = config["network"]["elements"]
        self.backbone = select(weights, "network.backbones.all.")
        self.readout = select(weights, "readouts.all.")

    def __call__(self, species: Tensor, source: Tensor, target: Tensor, vectors: Tensor) -> Tensor:
        c, lengths = self.config, vectors.norm(dim=1)
        centres = torch.linspace(
            0.0, max(c["cutoffs"].values()), c["num_radial"], dtype=torch.float64
        )
        width = centres[1] - centres[0]
        radial = torch.exp(-((lengths[:, None] - centres) ** 2) / (2 * width**2)) * math.sqrt(
            c["num_radial"] / math.sqrt(math.pi)
        )
        geometry = (harmonics(c["l_max"], vectors), radial)
        ends = (source, target)
        pair = species[target] * len(self.elements) + species[source]
        node, edge = [c["embedding_channels"]], [c["embedding_channels"]]
        nodes = self.backbone["node_embedding.weight"][species]
        edges = (
            radial @ self.backbone["edge_embedding.weight"].T + self.backbone["edge_embedding.bias"]
        )
        for layer in range(c["num_layers"]):
            last = layer + 1 == c["num_layers"]
            nodes, _ = self.update(
                f"node_updates.{layer}.", nodes, edges, node, edge, ends, geometry, species
            )
            node = c["channels"]
            prefix = "update." if last else f"edge_updates.{layer}."
            edges, pseudo = self.update(prefix, nodes, edges, node, edge, ends, geometry, pair)
            edge = c["channels"]
        return self.blocks(edges, pseudo, pair, species[target], species[source])

    def update(
        self, prefix, nodes, edges, node, edge, ends, geometry, types
    ) -> tuple[Tensor, Tensor]:
        """One node or edge update; ``types`` are elements or pairs of elements."""
        on_nodes, last = prefix.startswith("node"), prefix == "update."
        weights = select(self.readout if last else self.backbone, prefix)
        pseudo = self.config["pseudo_channels"] if last else []
        outputs, (source, target) = self.config["channels"], ends
        old, channels = (nodes, node) if on_nodes else (edges, edge)
        irreps, irreps_out = natural_irreps(channels), natural_irreps(outputs)
        one = torch.zeros(len(old), dtype=torch.long)
        before = mix(old, irreps, sequence(weights, "before.weights."), one, weights["before.bias"])
        nodes, edges = (before, edges) if on_nodes else (nodes, before)
        convolution = Convolution(
            select(weights, "convolution."), node, edge, outputs, pseudo, self.config["l_max"]
        )
        x = convolution(torch.cat([nodes[target], nodes[source], edges], dim=1), *geometry)
        if on_nodes:
            x = torch.zeros(len(nodes), x.shape[1], dtype=x.dtype).index_add(0, target, x)
        natural, unnatural = x[:, : irreps_out.dim], x[:, irreps_out.dim :]
        new = mix(
            natural, irreps_out, sequence(weights, "after.weights."), one, weights["after.bias"]
        )
        new = new + mix(old, irreps, sequence(weights, "self_connection.weights."), types)
        new = layer_norm(new, irreps_out, sequence(weights, "norm.weights."), weights["norm.bias"])
        same = list(channels) == list(outputs)
        return new + (
            old if same else mix(old, irreps, sequence(weights, "skip.weights."), one)
        ), unnatural

    def blocks(
        self, edges: Tensor, pseudo: Tensor, pair: Tensor, rows: Tensor, columns: Tensor
    ) -> Tensor:
        """Σ_LM √(2L+1) w3j t_LM for every pair of shells, zero-padded."""
        c, shells = self.config, [self.basis[str(z)] for z in self.elements]
        irreps = natural_irreps(c["channels"])
        irreps_pseudo = unnatural_irreps(c["pseudo_channels"])
        targets = {
            0: (
                mix(
                    edges,
                    irreps,
                    sequence(self.readout, "natural.weights."),
                    pair,
                    self.readout["natural.bias"],
                )
            ),
            1: mix(pseudo, irreps_pseudo, sequence(self.readout, "pseudo.weights."), pair),
        }
        counts = {0: [w.shape[2] for w in sequence(self.readout, "natural.weights.")]}
        counts[1] = [w.shape[2] for w in sequence(self.readout, "pseudo.weights.")]
        slots = [l for l in range(3) for _ in range(max(s.count(l) for s in shells))]
        size = max(sum(2 * l + 1 for l in s) for s in shells)
        result = torch.zeros(len(edges), size, size, dtype=torch.float64)
        seen = {(parity, L): 0 for parity in (0, 1) for L in range(5)}
        for a, b in itertools.product(range(len(slots)), repeat=2):
            la, lb = slots[a], slots[b]
            for L in range(abs(la - lb), la + lb + 1):
                parity = (la + lb + L) % 2
                channel, seen[parity, L] = seen[parity, L], seen[parity, L] + 1
                start = sum(n * (2 * l + 1) for l, n in enumerate(counts[parity][:L])) + channel * (
                    2 * L + 1
                )
                t = targets[parity][:, start : start + 2 * L + 1]
                with double_precision():
                    part = torch.einsum("nM,abM->nab", t, o3.wigner_3j(la, lb, L)) * math.sqrt(
                        2 * L + 1
                    )
                for za, zb in itertools.product(range(len(shells)), repeat=2):
                    first = self.orbitals(shells[za], slots, a)
                    second = self.orbitals(shells[zb], slots, b)
                    chosen = ((rows == za) & (columns == zb)).nonzero().squeeze(1)
                    if first is not None and second is not None:
                        result[chosen, first, second] += part[chosen]
        return result

    @staticmethod
    def orbitals(shells: list[int], slots: list[int], slot: int) -> slice | None:
        """Orbitals of an element's k-th shell of degree l, for the k-th slot of that degree."""
        l, k = slots[slot], slots[:slot].count(slots[slot])
        own = [position for position, degree in enumerate(shells) if degree == l]
        if k >= len(own):
            return None
        start = sum(2 * degree + 1 for degree in shells[: own[k]])
        return slice(start, start + 2 * l + 1)
