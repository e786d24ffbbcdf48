"""The two-centre part of a Hamiltonian as splines of the distance.

A baseline that the network corrects.

Edge blocks: in the frame of the edge a two-centre block is diagonal in m (Slater & Koster 1954,
doi:10.1103/PhysRev.94.1498), one function V_{ab|m|}(r) per pair of shells, of elements, and per
relation. On-site blocks: a constant plus the sum over neighbours of such blocks turned into the
global frame, the crystal field of independent neighbours. Both are linear in cubic B-splines that
vanish with two derivatives at the cutoff, so a penalised linear least-squares fit finds them, and
symmetry is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlepi.graphs import fields
from mlepi.models.block_targets import BlockTargets


@dataclass(frozen=True)
class BlockSample:
    """Labels of one structure in slot layout, with the geometry needed to fit them.

    Attributes:
        on_site: (n_atoms, size, size), eV.
        edges: (n_edges, size, size) in the edge frame, eV; all relations.
        rotation: (n_edges, size, size), from the edge frame to the global frame.
        lengths: (n_edges,), Å.
        relation: (n_edges,) int.
        pair: (n_edges,) int, element pair.
        target: (n_edges,) int.
        species: (n_atoms,) int.
    """

    on_site: Tensor
    edges: Tensor
    rotation: Tensor
    lengths: Tensor
    relation: Tensor
    pair: Tensor
    target: Tensor
    species: Tensor


class TwoCenterBaseline(nn.Module):
    """Spline tables of the two-centre Hamiltonian.

    Args:
        targets: slot layout of the blocks.
        n_elements: number of elements.
        cutoffs: relation → Å; every function vanishes there.
        num_knots: cubic B-splines per function.
        start: first knot, Å; shorter distances take the value there.
    """

    cutoffs: Tensor  # (n_relations,), Å
    pattern: Tensor  # (n_integrals, size²), elements of a block that share one function
    edge_coefficients: Tensor  # (n_relations, n_pairs, num_knots, n_integrals), eV
    crystal_field: Tensor  # the same
    on_site: Tensor  # (n_elements, size, size), eV

    def __init__(
        self,
        *,
        targets: BlockTargets,
        n_elements: int,
        cutoffs: Mapping[str, float],
        num_knots: int,
        start: float,
    ) -> None:
        super().__init__()
        self.num_knots, self.start, self.n_elements = num_knots, start, n_elements
        self.size = targets.size
        self.register_buffer(
            "cutoffs",
            torch.tensor([cutoffs[r] for r in fields.RELATIONS], dtype=torch.float64),
            persistent=False,
        )
        rows, self.integrals = [], []
        for a, first in enumerate(targets.slices):
            for b, second in enumerate(targets.slices):
                la, lb = targets.slots[a], targets.slots[b]
                for m in range(min(la, lb) + 1):
                    element = torch.zeros(self.size, self.size, dtype=torch.float64)
                    for sign in {m, -m}:
                        element[first.start + la + sign, second.start + lb + sign] = 1.0
                    rows.append(element.flatten())
                    self.integrals.append((a, b, m))
        self.register_buffer("pattern", torch.stack(rows), persistent=False)
        shape = (len(fields.RELATIONS), n_elements**2, num_knots, len(self.integrals))
        self.register_buffer("edge_coefficients", torch.zeros(shape))
        self.register_buffer("crystal_field", torch.zeros(shape))
        self.register_buffer("on_site", torch.zeros(n_elements, self.size, self.size))

    def splines(self, lengths: Tensor, relation: Tensor) -> Tensor:
        """Evaluate the B-splines of every edge: (n_edges, num_knots).

        The k-th one is non-zero between steps k − 3 and k + 1 of ``num_knots`` equal steps from
        ``start`` to the cutoff.
        """
        cutoff = self.cutoffs.to(lengths)[relation]
        x = ((lengths - self.start) / (cutoff - self.start)).clamp(0.0, 1.0) * self.num_knots + 3.0
        u = x.unsqueeze(1) - torch.arange(
            self.num_knots, device=lengths.device, dtype=lengths.dtype
        )
        distance = (u - 2.0).abs()
        inner = 2.0 / 3.0 - distance**2 + 0.5 * distance**3
        outer = (2.0 - distance).clamp(min=0.0) ** 3 / 6.0
        return torch.where(distance < 1.0, inner, outer)

    def edge_blocks(self, lengths: Tensor, relation: Tensor, pair: Tensor) -> Tensor:
        """Return the two-centre blocks in the edge frame: (n_edges, size, size), eV."""
        return self._evaluate(self.edge_coefficients, lengths, relation, pair)

    def field_blocks(self, lengths: Tensor, relation: Tensor, pair: Tensor) -> Tensor:
        """Return what each neighbour adds to the on-site block of its target, in the edge frame.

        eV.
        """
        return self._evaluate(self.crystal_field, lengths, relation, pair)

    def _evaluate(
        self, coefficients: Tensor, lengths: Tensor, relation: Tensor, pair: Tensor
    ) -> Tensor:
        basis = self.splines(lengths, relation)
        kind = relation * self.n_elements**2 + pair
        table = coefficients.to(lengths).flatten(0, 1) @ self.pattern.to(lengths)
        if table.shape[0] == 1:
            return (basis @ table[0]).reshape(-1, self.size, self.size)
        result = lengths.new_zeros(lengths.shape[0], self.size**2)
        for k in range(table.shape[0]):
            rows = (kind == k).nonzero().squeeze(1)
            if rows.numel():
                result = result.index_copy(0, rows, basis[rows] @ table[k])
        return result.reshape(-1, self.size, self.size)

    @torch.no_grad()
    def fit(self, samples: Sequence[BlockSample], smoothness: float = 1e-6) -> None:
        """Fit all tables to labelled structures.

        Args:
            samples: labels and geometry, float64.
            smoothness: weight of the squared second differences of the coefficients, relative to
                the data.
        """
        for relation in range(len(fields.RELATIONS)):
            for pair in range(self.n_elements**2):
                self.edge_coefficients[relation, pair] = self._fit_edges(
                    samples, relation, pair, smoothness
                ).to(self.edge_coefficients)
        self._fit_on_site(samples, smoothness)

    def _fit_edges(
        self, samples: Sequence[BlockSample], relation: int, pair: int, smoothness: float
    ) -> Tensor:
        basis, values = [], []
        pattern = self.pattern.double()
        weight = pattern / pattern.sum(1, keepdim=True)
        for sample in samples:
            rows = ((sample.relation == relation) & (sample.pair == pair)).nonzero().squeeze(1)
            basis.append(self.splines(sample.lengths[rows], sample.relation[rows]))
            values.append(sample.edges[rows].flatten(1) @ weight.T)
        x, y = torch.cat(basis), torch.cat(values)
        if x.shape[0] == 0:
            return y.new_zeros(self.num_knots, y.shape[1])
        gram = x.T @ x + self._penalty(x.shape[0] * smoothness)
        return torch.linalg.solve(gram, x.T @ y)

    def _fit_on_site(self, samples: Sequence[BlockSample], smoothness: float) -> None:
        """Fit the constant and the neighbour functions of every pair of shells together."""
        n_kinds = self.crystal_field.shape[0] * self.crystal_field.shape[1]
        for (a, b), members in self._shell_pairs():
            products = [
                (x.T @ x, x.T @ y) for x, y in self._on_site_rows(samples, a, b, members, n_kinds)
            ]
            gram, moment = (torch.stack(parts).sum(0) for parts in zip(*products, strict=True))
            n_constants = gram.shape[0] - n_kinds * len(members) * self.num_knots
            n_rows = sum(sample.species.shape[0] for sample in samples)
            penalty = torch.block_diag(
                torch.eye(n_constants, dtype=torch.float64) * 1e-9,
                *[self._penalty(n_rows * smoothness) for _ in range(n_kinds * len(members))],
            )
            solution = torch.linalg.solve(gram + penalty, moment)
            if n_constants:
                for element in range(self.n_elements):
                    block = torch.eye(a.stop - a.start, dtype=torch.float64) * solution[element]
                    self.on_site[element, a, b] = block.to(self.on_site)
            functions = solution[n_constants:].reshape(
                *self.crystal_field.shape[:2], len(members), self.num_knots
            )
            for k, integral in enumerate(members):
                self.crystal_field[:, :, :, integral] = functions[:, :, k].to(self.crystal_field)

    def _on_site_rows(
        self, samples: Sequence[BlockSample], a: slice, b: slice, members: list[int], n_kinds: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for sample in samples:
            n = sample.species.shape[0]
            columns = []
            if a.stop - a.start == b.stop - b.start:
                identity = torch.eye(a.stop - a.start, dtype=torch.float64).flatten()
                for element in range(self.n_elements):
                    columns.append(
                        ((sample.species == element).double()[:, None] * identity).reshape(-1, 1)
                    )
            basis = self.splines(sample.lengths, sample.relation)
            kind = sample.relation * self.n_elements**2 + sample.pair
            for k in range(n_kinds):
                rows = (kind == k).nonzero().squeeze(1)
                for integral in members:
                    shape = self.pattern[integral].double().reshape(self.size, self.size)[a, b]
                    turned = (
                        sample.rotation[rows][:, a, a]
                        @ shape
                        @ sample.rotation[rows][:, b, b].transpose(1, 2)
                    )
                    terms = turned.flatten(1)[:, :, None] * basis[rows][:, None, :]
                    summed = terms.new_zeros(n, *terms.shape[1:]).index_add(
                        0, sample.target[rows], terms
                    )
                    columns.append(summed.flatten(0, 1))
            yield torch.cat(columns, dim=1), sample.on_site[:, a, b].flatten()

    def _shell_pairs(self) -> list[tuple[tuple[slice, slice], list[int]]]:
        groups: dict[tuple[int, int], list[int]] = {}
        for k, (a, b, _) in enumerate(self.integrals):
            groups.setdefault((a, b), []).append(k)
        slices = [self._shell_slice(a) for a in range(max(a for a, _, _ in self.integrals) + 1)]
        return [((slices[a], slices[b]), members) for (a, b), members in groups.items()]

    def _shell_slice(self, a: int) -> slice:
        rows = [k for k, (first, second, _) in enumerate(self.integrals) if first == second == a]
        columns = (
            (self.pattern[rows].sum(0).reshape(self.size, self.size).diagonal() > 0)
            .nonzero()
            .squeeze(1)
        )
        return slice(int(columns[0]), int(columns[-1]) + 1)

    def _penalty(self, weight: float) -> Tensor:
        n = self.num_knots
        difference = torch.diff(torch.eye(n, dtype=torch.float64), n=2, dim=0)
        return weight * (difference.T @ difference) + 1e-9 * torch.eye(n, dtype=torch.float64)
