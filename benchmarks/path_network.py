"""DeepH-E3 path by path, the peer of the electron benchmarks.

It uses e3nn's own operations, with all features in the global frame.

Written from the published description (Gong et al. 2023, doi:10.1038/s41467-023-38468-8),
independently of ``mlepi``: one directed edge per block, an edge of zero length from every atom to
itself, concat(node_i, node_j, edge_ij) ⊗ Y in one tensor product over all allowed paths, gate, one
radial factor per channel, plain sums over edges, a layer norm over the structure, and in the last
edge update only the irreps that the blocks need. With one harmonic of every degree the factorised
weights w[u, v, w] = a[u, w]·b[v, w] of the publication are the full ones.

Irreps are e3nn's: flat, channel before m, axes (y, z, x); parity (−1)^l unless it says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from e3nn import nn as e3nn_nn
from e3nn import o3
from torch import Tensor, nn

EPSILON = 1e-5
"""Added to the mean square of scalars in the layer norm."""

AXES = [1, 2, 0]
"""Cartesian components in e3nn's order for l = 1: (y, z, x)."""


class Geometry(NamedTuple):
    """What all updates know about the edges.

    Attributes:
        source: (n_edges,) int, sender j.
        target: (n_edges,) int, receiver i.
        harmonics: (n_edges, (l_max+1)²), 'component' normalised.
        radial: (n_edges, num_radial), Gaussians of the length.
    """

    source: Tensor
    target: Tensor
    harmonics: Tensor
    radial: Tensor


def natural_irreps(channels: Sequence[int]) -> o3.Irreps:
    """Return ``channels[l]`` copies of every l with parity (−1)^l."""
    return o3.Irreps([(count, (l, (-1) ** l)) for l, count in enumerate(channels) if count])


def block_irreps(shells: Sequence[int]) -> o3.Irreps:
    """Return the irreps of a block between two atoms, by parity (natural first) and l."""
    counts: dict[tuple[int, int], int] = {}
    for first in shells:
        for second in shells:
            for l in range(abs(first - second), first + second + 1):
                key = ((first + second + l) % 2, l)
                counts[key] = counts.get(key, 0) + 1
    return o3.Irreps(
        [(count, (l, (-1) ** (l + odd))) for (odd, l), count in sorted(counts.items())]
    )


class Convolution(nn.Module):
    """concat(node_i, node_j, edge_ij) ⊗ Y, gate, one factor per channel from the length.

    Args:
        irreps_in: of the concatenation, not merged.
        irreps_out: wanted; those that no path reaches are dropped, see ``irreps_out``.
        l_max: largest degree of the harmonics.
        radial_widths: input and hidden sizes of the radial network.
    """

    def __init__(
        self, irreps_in: o3.Irreps, irreps_out: o3.Irreps, l_max: int, radial_widths: Sequence[int]
    ) -> None:
        super().__init__()
        irreps_edge = o3.Irreps.spherical_harmonics(l_max)
        reachable = {
            ir for _, first in irreps_in for _, second in irreps_edge for ir in first * second
        }
        wanted = [(count, ir) for count, ir in irreps_out if ir in reachable]
        scalars = o3.Irreps([(count, ir) for count, ir in wanted if ir.l == 0])
        gated = o3.Irreps([(count, ir) for count, ir in wanted if ir.l > 0])
        gates = o3.Irreps([(gated.num_irreps, "0e")] if gated.num_irreps else [])
        activations = [nn.functional.silu if ir.p == 1 else torch.tanh for _, ir in scalars]
        self.gate = e3nn_nn.Gate(scalars, activations, gates, [torch.sigmoid] * len(gates), gated)
        self.irreps_out = scalars + gated
        self.product = build_product(irreps_in, irreps_edge, self.gate.irreps_in)
        self.radial_network = e3nn_nn.FullyConnectedNet(
            [*radial_widths, self.irreps_out.num_irreps], nn.functional.silu
        )
        sizes = torch.tensor([ir.dim for count, ir in self.irreps_out for _ in range(count)])
        self.register_buffer(
            "channel", torch.repeat_interleave(torch.arange(len(sizes)), sizes), persistent=False
        )

    def forward(self, nodes: Tensor, edges: Tensor, geometry: Geometry) -> Tensor:
        """Return the messages of all edges: (n_edges, irreps_out.dim)."""
        x = torch.cat([nodes[geometry.target], nodes[geometry.source], edges], dim=1)
        messages = self.gate(self.product(x, geometry.harmonics))
        return messages * self.radial_network(geometry.radial)[:, self.channel]


def build_product(first: o3.Irreps, second: o3.Irreps, out: o3.Irreps) -> o3.TensorProduct:
    """Build the tensor product over all allowed paths with weights that all edges share.

    Paths are ordered by output, then first, then second input.
    """
    paths = [
        (i, j, k, "uvw", True)
        for k, (_, ir_out) in enumerate(out)
        for i, (_, ir_first) in enumerate(first)
        for j, (_, ir_second) in enumerate(second)
        if ir_out in ir_first * ir_second
    ]
    return o3.TensorProduct(first, second, out, paths, internal_weights=True, shared_weights=True)


class StructureNorm(nn.Module):
    """Layer norm over all rows of one structure.

    Every irrep is centred, scalars are divided by their root mean square.
    """

    def __init__(self, irreps: o3.Irreps) -> None:
        super().__init__()
        self.irreps = irreps
        self.weights = nn.ParameterList(nn.Parameter(torch.ones(count)) for count, _ in irreps)
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(count if ir.is_scalar() else 0)) for count, ir in irreps
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, irreps.dim)."""
        parts = []
        entries = zip(self.irreps, self.irreps.slices(), self.weights, self.biases, strict=True)
        for (count, ir), columns, weight, bias in entries:
            values = x[:, columns].reshape(len(x), count, ir.dim)
            values = values - values.mean(dim=(0, 1))
            if ir.l == 0:
                values = values * torch.rsqrt(values.square().mean() + EPSILON)
            values = values * weight[:, None]
            parts.append((values + bias[:, None] if ir.is_scalar() else values).flatten(1))
        return torch.cat(parts, dim=1)


class UpdateSizes(TypedDict):
    """Sizes that all updates share: see ``Update``."""

    l_max: int
    radial_widths: Sequence[int]


class Update(nn.Module):
    """Linear → convolution (→ sum over edges) → linear → + self-connection → norm → + skip.

    Args:
        nodes: irreps of the nodes.
        edges: irreps of the edges.
        out: wanted irreps.
        on_nodes: update nodes, else edges.
        n_types: elements, or pairs of elements.
        l_max: largest degree of the harmonics.
        radial_widths: input and hidden sizes of the radial network.
    """

    def __init__(
        self,
        nodes: o3.Irreps,
        edges: o3.Irreps,
        out: o3.Irreps,
        *,
        on_nodes: bool,
        n_types: int,
        l_max: int,
        radial_widths: Sequence[int],
    ) -> None:
        super().__init__()
        old = nodes if on_nodes else edges
        self.on_nodes = on_nodes
        self.before = o3.Linear(old, old, biases=True)
        self.convolution = Convolution(nodes + nodes + edges, out, l_max, radial_widths)
        self.irreps_out = self.convolution.irreps_out
        self.after = o3.Linear(self.irreps_out, self.irreps_out, biases=True)
        self.self_connection = o3.FullyConnectedTensorProduct(
            old, o3.Irreps([(n_types, "0e")]), self.irreps_out
        )
        self.norm = StructureNorm(self.irreps_out)
        self.skip = None if old == self.irreps_out else o3.Linear(old, self.irreps_out)

    def forward(self, nodes: Tensor, edges: Tensor, types: Tensor, geometry: Geometry) -> Tensor:
        """Return the new features.

        Args:
            nodes: (n_atoms, dim).
            edges: (n_edges, dim).
            types: (n_atoms or n_edges, n_types), one-hot.
            geometry: of the edges.
        """
        old = nodes if self.on_nodes else edges
        inner = self.before(old)
        x = self.convolution(*((inner, edges) if self.on_nodes else (nodes, inner)), geometry)
        if self.on_nodes:
            x = x.new_zeros(len(nodes), x.shape[1]).index_add(0, geometry.target, x)
        new = self.norm(self.after(x) + self.self_connection(old, types))
        result: Tensor = new + (old if self.skip is None else self.skip(old))
        return result


class PathNetwork(nn.Module):
    """Hamiltonian blocks of one structure from its directed edges.

    Args:
        n_elements: number of elements; all have the same shells.
        shells: angular momenta of the orbitals of an atom.
        channels: copies of every l of the middle features.
        embedding_channels: scalars of the element and length embeddings.
        l_max: largest degree of the harmonics.
        num_layers: pairs of node and edge updates.
        num_radial: Gaussians of the length over [0, cutoff].
        radial_hidden: hidden widths of the radial networks.
        cutoff: Å.
        last_irreps: irreps of the last edge update; None for those of the blocks (published).
    """

    centres: Tensor  # (num_radial,), Å
    couplings: Tensor  # (irreps of a block, p²)

    def __init__(
        self,
        *,
        n_elements: int,
        shells: Sequence[int],
        channels: Sequence[int],
        embedding_channels: int,
        l_max: int,
        num_layers: int,
        num_radial: int,
        radial_hidden: Sequence[int],
        cutoff: float,
        last_irreps: o3.Irreps | None = None,
    ) -> None:
        super().__init__()
        self.n_elements, self.l_max, self.shells = n_elements, l_max, tuple(shells)
        self.node_embedding = nn.Linear(n_elements, embedding_channels, bias=False)
        self.edge_embedding = nn.Linear(num_radial, embedding_channels)
        self.register_buffer("centres", torch.linspace(0.0, cutoff, num_radial), persistent=False)
        self.node_updates, self.edge_updates = nn.ModuleList(), nn.ModuleList()
        targets = block_irreps(shells)
        nodes = edges = o3.Irreps([(embedding_channels, "0e")])
        middle = natural_irreps(channels)
        for layer in range(num_layers):
            last = (
                (targets if last_irreps is None else last_irreps)
                if layer + 1 == num_layers
                else middle
            )
            sizes = UpdateSizes(l_max=l_max, radial_widths=(num_radial, *radial_hidden))
            self.node_updates.append(
                Update(nodes, edges, middle, on_nodes=True, n_types=n_elements, **sizes)
            )
            nodes = self.node_updates[-1].irreps_out
            self.edge_updates.append(
                Update(nodes, edges, last, on_nodes=False, n_types=n_elements**2, **sizes)
            )
            edges = self.edge_updates[-1].irreps_out
        self.readout = o3.Linear(edges, targets, biases=True)
        self.register_buffer("couplings", block_couplings(shells, targets), persistent=False)

    def forward(self, species: Tensor, source: Tensor, target: Tensor, vectors: Tensor) -> Tensor:
        """Predict ⟨i, 0|H|j, R⟩ of every edge, arbitrary unit: (n_edges, p, p).

        Args:
            species: (n_atoms,) int, element of every atom.
            source: (n_edges,) int, atom j.
            target: (n_edges,) int, atom i.
            vectors: (n_edges, 3), r_j + R − r_i, Å; zero for an atom's edge to itself.
        """
        degrees = list(range(self.l_max + 1))
        harmonics = o3.spherical_harmonics(
            degrees, vectors[:, AXES], normalize=True, normalization="component"
        )
        offsets = (vectors.norm(dim=1)[:, None] - self.centres) / (
            self.centres[1] - self.centres[0]
        )
        geometry = Geometry(source, target, harmonics, torch.exp(-0.5 * offsets.square()))
        one_hot = nn.functional.one_hot(species, self.n_elements).to(vectors.dtype)
        pair = species[target] * self.n_elements + species[source]
        pairs = nn.functional.one_hot(pair, self.n_elements**2).to(vectors.dtype)
        nodes, edges = self.node_embedding(one_hot), self.edge_embedding(geometry.radial)
        for update_nodes, update_edges in zip(self.node_updates, self.edge_updates, strict=True):
            nodes = update_nodes(nodes, edges, one_hot, geometry)
            edges = update_edges(nodes, edges, pairs, geometry)
        size = math.isqrt(self.couplings.shape[1])
        return (self.readout(edges) @ self.couplings).reshape(-1, size, size)


def block_couplings(shells: Sequence[int], irreps: o3.Irreps) -> Tensor:
    """Return the matrix from the irreps of a block to its elements: (dim, p²).

    An element is Σ_LM √(2L+1) w3j(l1, l2, L) t_LM.
    """
    starts = [sum(2 * l + 1 for l in shells[:a]) for a in range(len(shells) + 1)]
    place = {
        (ir.l, ir.p): columns.start
        for (_, ir), columns in zip(irreps, irreps.slices(), strict=True)
    }
    matrix = torch.zeros(irreps.dim, starts[-1], starts[-1])
    for a, first in enumerate(shells):
        for b, second in enumerate(shells):
            for l in range(abs(first - second), first + second + 1):
                key = (l, (-1) ** (first + second))
                rows = slice(place[key], place[key] + 2 * l + 1)
                place[key] += 2 * l + 1
                coupling = o3.wigner_3j(first, second, l).permute(2, 0, 1) * math.sqrt(2 * l + 1)
                matrix[rows, starts[a] : starts[a + 1], starts[b] : starts[b + 1]] = coupling
    return matrix.flatten(1)
