"""The electron network: Hamiltonian blocks from the features of a heterogeneous combination.

On-site blocks are read from the fused node features, or from self-loop edges where the sub-networks
have them; the block of an edge from edge features of its own sub-network, whose last update sees
the fused features of both end nodes. Backbones without edge features get those of
``pair_features``. A two-centre baseline carries most of every block. Blocks fade out
smoothly at the cutoff and are averaged with their transposed reverse, so H_ij(R) = H_ji(−R)ᵀ holds
exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mlepi.errors import ConfigError, message
from mlepi.graphs import fields
from mlepi.graphs.partitions import refuse_blocks
from mlepi.models.backbone import EdgeState
from mlepi.models.block_readout import EdgeBlockReadout, build_source, check_channels
from mlepi.models.block_targets import BlockTargets
from mlepi.models.compilation import Backend
from mlepi.models.equivariant_layers import DegreeLinear
from mlepi.models.hedgenet import HeteroNetwork
from mlepi.models.pair_features import PairFeatures, PairSums
from mlepi.models.radial import smooth_step_envelope
from mlepi.models.so2 import flat_size, join_degrees, split_degrees
from mlepi.models.two_center import BlockSample, TwoCenterBaseline
from mlepi.models.wigner import edge_rotations

Baseline = Literal["two_center", "none"]


class ElectronNetwork(nn.Module):
    """Predict real-space Hamiltonian blocks.

    Args:
        network: combination of sub-networks of any backbone.
        basis: shells of every element as plain data (``OrbitalBasis.to_dict``), from the data set.
        cutoffs: relation → Å; blocks vanish beyond.
        envelope_width: Å over which the learned part of a block fades out before the cutoff; None
            for a hard edge list.
        baseline: "two_center" adds spline tables fitted by ``prepare``; "none" learns everything.
        baseline_knots: splines per function of the baseline.
        baseline_start: shortest distance of the tables, Å.
        pair_features: makes the ``PairFeatures`` of one sub-network from its name; None where the
            backbone has edge features of its own.
    """

    cutoffs: Tensor  # (n_relations,), Å
    edge_scale: Tensor  # (n_relations, size, size), eV
    on_site_scale: Tensor  # (size, size), eV

    def __init__(
        self,
        *,
        network: HeteroNetwork,
        basis: Mapping[str, Any],
        cutoffs: Mapping[str, float],
        envelope_width: float | None,
        baseline: Baseline,
        baseline_knots: int,
        baseline_start: float,
        pair_features: Callable[..., PairFeatures] | None,
    ) -> None:
        super().__init__()
        if baseline not in ("two_center", "none"):
            raise ConfigError(
                message(
                    "model.baseline",
                    repr(baseline),
                    "'two_center' or 'none'",
                    "Set model.baseline to one of them.",
                )
            )
        refuse_blocks(network.partition.kind)
        self.network = network
        self.envelope_width = envelope_width
        self.targets = BlockTargets(network.elements, basis["shells"])
        n_elements, size = len(network.elements), self.targets.size
        self.readouts = nn.ModuleDict(
            {
                name: EdgeBlockReadout(
                    build_source(name, backbone, pair_features), self.targets, n_elements**2
                )
                for name, backbone in network.sub_networks.items()
            }
        )
        backbone = next(iter(network.sub_networks.values()))
        self.flat_nodes, self.self_loops = backbone.flat_nodes, backbone.self_loops
        first = cast(EdgeBlockReadout, next(iter(self.readouts.values())))
        self.nodes, pairs = backbone.node_channels, first.update.channels
        alone = pair_features is None and not self.self_loops
        check_channels(self.targets, nodes=self.nodes if alone else None, edges=pairs)
        if not self.self_loops:
            self.on_site = DegreeLinear(
                inputs=self.nodes.natural,
                outputs=self.targets.natural,
                num_types=n_elements,
                bias=True,
            )
            self.on_site_pseudo = DegreeLinear(
                inputs=self.nodes.pseudo, outputs=self.targets.pseudo, num_types=n_elements
            )
        self.on_site_sums = (
            PairSums(nodes=self.nodes, pairs=pairs, targets=self.targets, n_elements=n_elements)
            if pair_features is not None
            else None
        )
        self.register_buffer(
            "cutoffs",
            torch.tensor([cutoffs[r] for r in fields.RELATIONS], dtype=torch.float64),
            persistent=False,
        )
        self.register_buffer("edge_scale", torch.ones(len(fields.RELATIONS), size, size))
        self.register_buffer("on_site_scale", torch.ones(size, size))
        self.baseline = (
            TwoCenterBaseline(
                targets=self.targets,
                n_elements=n_elements,
                cutoffs=cutoffs,
                num_knots=baseline_knots,
                start=baseline_start,
            )
            if baseline == "two_center"
            else None
        )

    def forward(self, graph: Any) -> dict[str, Any]:
        """Predict all blocks of a (batched) graph.

        Returns:
            ``onsite_blocks`` (n_atoms, p, p) and ``edge_blocks``: relation → (n_edges of it, p, p),
            eV, p = max orbitals, in the order of the graph's atoms and edges.
        """
        features = self.network(graph)
        nodes, species = self.flat_nodes(features.nodes[-1]), features.species
        on_site = self._on_site_blocks(nodes, species)
        sums = [] if self.on_site_sums is None else self.on_site_sums.start(nodes)
        edge_blocks: dict[str, Tensor] = {}
        for name, readout in self.readouts.items():
            blocks = []
            for chunk, irreps, parts in readout(nodes, features, name):
                if chunk.loops:
                    own = self.targets.edge_blocks(irreps) * self.on_site_scale
                    turn = self.targets.rotation(chunk.rotations)
                    own = turn @ own @ turn.transpose(1, 2)
                    on_site = on_site.index_add(0, chunk.edges.target, own)
                    continue
                edge, field = self._edge_blocks(chunk, irreps)
                on_site = (
                    on_site if field is None else on_site.index_add(0, chunk.edges.target, field)
                )
                if self.on_site_sums is not None:
                    sums = self.on_site_sums.add(sums, chunk, parts)
                blocks.append(
                    self.targets.to_padded(
                        edge, species[chunk.edges.target], species[chunk.edges.source]
                    )
                )
            seen = self.network.relations[name]
            sizes = [
                graph[fields.edge_type(relation)][fields.EDGE_INDEX].shape[1] for relation in seen
            ]
            for relation, part in zip(seen, torch.cat(blocks).split(sizes), strict=True):
                reverse = graph[fields.edge_type(relation)][fields.REVERSE_EDGE]
                edge_blocks[relation] = 0.5 * (part + part[reverse].transpose(1, 2))
        if self.on_site_sums is not None:
            irreps = self.on_site_sums(sums, species)
            on_site = on_site + self.targets.blocks(irreps) * self.on_site_scale
        on_site = 0.5 * (on_site + on_site.transpose(1, 2))
        return {
            "onsite_blocks": self.targets.to_padded(on_site, species, species),
            "edge_blocks": edge_blocks,
        }

    def _edge_blocks(self, chunk: EdgeState, irreps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the blocks of edges in the global frame, and what each adds on-site.

        The latter belongs to the block of its target.
        """
        lengths, relation = chunk.edges.lengths, chunk.edges.relation
        rotation = self.targets.rotation(chunk.rotations)
        envelope = smooth_step_envelope(
            lengths, self.cutoffs.to(lengths)[relation], self.envelope_width
        )
        local = (
            self.targets.edge_blocks(irreps) * self.edge_scale[relation] * envelope[:, None, None]
        )
        if self.baseline is None:
            return rotation @ local @ rotation.transpose(1, 2), None
        local = local + self.baseline.edge_blocks(lengths, relation, chunk.pair)
        field = self.baseline.field_blocks(lengths, relation, chunk.pair)
        return rotation @ local @ rotation.transpose(1, 2), rotation @ field @ rotation.transpose(
            1, 2
        )

    def _on_site_blocks(self, nodes: Tensor, species: Tensor) -> Tensor:
        """Return what the nodes say; with self-loops that is the constant of the baseline alone."""
        if self.self_loops:
            blocks = nodes.new_zeros(nodes.shape[0], self.targets.size, self.targets.size)
            return blocks if self.baseline is None else blocks + self.baseline.on_site[species]
        size = flat_size(self.nodes.natural)
        parts = self.on_site.nodes(split_degrees(nodes[:, :size], self.nodes.natural), species)
        if self.targets.pseudo and self.nodes.pseudo:
            parts += self.on_site_pseudo.nodes(
                split_degrees(nodes[:, size:], self.nodes.pseudo), species
            )
        irreps = join_degrees(parts)
        missing = self.targets.matrix.shape[0] - irreps.shape[1]
        if missing:
            irreps = nn.functional.pad(irreps, (0, missing))
        blocks = self.targets.blocks(irreps) * self.on_site_scale
        return blocks if self.baseline is None else blocks + self.baseline.on_site[species]

    def compile_kernels(self, backend: Backend = "inductor") -> None:
        """Run sub-networks and read-outs as compiled code from now on.

        Parameters and checkpoints do not change.

        Args:
            backend: compiler of torch.compile.

        Raises:
            ConfigError: the backbone has no compiled kernels.
        """
        self.network.compile_kernels(backend)
        for readout in self.readouts.values():
            cast(EdgeBlockReadout, readout).update.compile_kernels(backend)

    @torch.no_grad()
    def prepare(self, graphs: Sequence[Any]) -> None:
        """Fit the baseline, set the output scales and zero the read-outs.

        Training then starts from the baseline. Called once, on the training set. Labels are taken
        at their own energy zero: aligning every structure to the baseline first would hide the
        potential of each atom, which neighbours determine, behind a common shift.

        Args:
            graphs: labelled training graphs, one structure each.
        """
        for name, weight in self.named_parameters():
            if name.startswith("on_site") or (
                name.startswith("readouts") and ".update." not in name
            ):
                nn.init.zeros_(weight)
        samples = [self._sample(graph) for graph in graphs]
        if self.baseline is not None:
            self.baseline.fit(samples)
        residuals = [self._residual(sample) for sample in samples]
        on_site = torch.cat([r.on_site for r in residuals])
        self.on_site_scale.copy_(self._shell_rms(on_site))
        for k in range(len(fields.RELATIONS)):
            edges = torch.cat([r.edges[r.relation == k] for r in residuals])
            if edges.shape[0]:
                self.edge_scale[k].copy_(self._shell_rms(edges))

    def _residual(self, sample: BlockSample) -> BlockSample:
        if self.baseline is None:
            return sample
        edges = sample.edges - self.baseline.edge_blocks(
            sample.lengths, sample.relation, sample.pair
        )
        field = self.baseline.field_blocks(sample.lengths, sample.relation, sample.pair)
        turned = sample.rotation @ field @ sample.rotation.transpose(1, 2)
        on_site = (sample.on_site - self.baseline.on_site.double()[sample.species]).index_add(
            0, sample.target, -turned
        )
        return _replaced(sample, on_site, edges)

    def _shell_rms(self, blocks: Tensor) -> Tensor:
        """Return the root mean square of each shell pair, spread over its elements.

        (size, size).
        """
        result = blocks.new_ones(self.targets.size, self.targets.size)
        for a in self.targets.slices:
            for b in self.targets.slices:
                result[a, b] = (blocks[:, a, b] ** 2).mean().sqrt().clamp(min=1e-6)
        return result

    def _sample(self, graph: Any) -> BlockSample:
        atoms = graph[fields.ATOM]
        species = self.network.species_of_number[atoms[fields.NUMBERS]]
        edges = HeteroNetwork.collect_edges(
            graph, fields.RELATIONS, atoms[fields.POSITIONS].double()
        )
        rotation = self.targets.rotation(edge_rotations(edges.vectors, max(self.targets.slots)))
        blocks = torch.cat(
            [
                graph[fields.edge_type(r)][fields.HAMILTONIAN_BLOCKS].double()
                for r in fields.RELATIONS
            ]
        )
        slots = self.targets.from_padded(blocks, species[edges.target], species[edges.source])
        return BlockSample(
            on_site=self.targets.from_padded(
                atoms[fields.HAMILTONIAN_BLOCKS].double(), species, species
            ),
            edges=rotation.transpose(1, 2) @ slots @ rotation,
            rotation=rotation,
            lengths=edges.lengths,
            relation=edges.relation,
            pair=species[edges.target] * len(self.network.elements) + species[edges.source],
            target=edges.target,
            species=species,
        )


def _replaced(sample: BlockSample, on_site: Tensor, edges: Tensor) -> BlockSample:
    return BlockSample(
        on_site,
        edges,
        sample.rotation,
        sample.lengths,
        sample.relation,
        sample.pair,
        sample.target,
        sample.species,
    )
