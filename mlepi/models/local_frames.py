"""Local frames of edges from their neighbourhoods, as in DeepH.

Li et al. 2022, doi:10.1038/s43588-022-00265-6.

The frame of the edge from atom i to atom j has its first direction along the edge; the second is
that of the nearest neighbour of i that is not collinear with it, less its part along the edge. An
atom's own frame, for its on-site block, has its nearest neighbour in the place of j. What is seen
in such a frame does not change when the structure turns, but frames jump where another atom becomes
the nearest one.

Neighbours whose lengths differ by less than ``TIE`` count as equally far; among them a fixed
direction of space decides, so that equivalent atoms of a crystal get equivalent frames whatever the
order of the atoms and the choice of the cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlepi.models.wigner import frames_with, least_parallel_axes

TIE = 1e-4
"""Lengths are compared after rounding to multiples of it, Å."""
DECIDING = (0.2267, 0.4973, 0.8374)
"""Among equally far neighbours the one farthest against this direction counts as the nearest."""


def tabulate_edges(target: Tensor, n_atoms: int) -> Tensor:
    """List the edges of every atom.

    Args:
        target: (n_edges,) int, the atom each edge belongs to.
        n_atoms: number of atoms.

    Returns:
        (n_atoms, largest number of edges) int, places of the edges; n_edges in empty slots.
    """
    n_edges = target.shape[0]
    counts = torch.bincount(target, minlength=n_atoms)
    width = int(counts.max()) if n_edges else 0
    table = target.new_full((n_atoms, width), n_edges)
    order = torch.argsort(target, stable=True)
    owner = target[order]
    place = torch.arange(n_edges, device=target.device) - (torch.cumsum(counts, 0) - counts)[owner]
    table[owner, place] = order
    return table


@dataclass(frozen=True)
class FrameNeighbours:
    """Which neighbours fix frames.

    Attributes:
        slots: (n_atoms, width) int, as from ``tabulate_edges``.
        vectors: (n_edges + 1, 3), Å; zero for self-loops and for the empty slots' last row.
        keys: (n_edges + 1,), Å, float64: the order of nearness; infinite for zero vectors.
        min_sine: of the angle to the edge; neighbours below are collinear.
    """

    slots: Tensor
    vectors: Tensor
    keys: Tensor
    min_sine: float

    @classmethod
    def of(cls, vectors: Tensor, slots: Tensor, min_sine: float) -> FrameNeighbours:
        """Prepare the choice among edges.

        Args:
            vectors: (n_edges, 3), Å, zero for self-loops.
            slots: as from ``tabulate_edges``.
            min_sine: see the class.
        """
        padded = torch.cat([vectors, vectors.new_zeros(1, 3)])
        exact = padded.detach().double()
        lengths = torch.linalg.norm(exact, dim=1)
        deciding = torch.tensor(DECIDING, dtype=exact.dtype, device=exact.device)
        along = exact @ deciding / lengths.clamp(min=TIE)
        keys = torch.round(lengths / TIE) * TIE + 0.25 * TIE * along
        keys = keys.masked_fill(lengths < TIE, torch.inf)
        return cls(slots, padded, keys, min_sine)

    def nearest(self, atoms: Tensor) -> Tensor:
        """Return the edge of every atom to its nearest neighbour; n_edges where it has none.

        Args:
            atoms: (n,) int.
        """
        return self._first(atoms, self.keys[self.slots[atoms]])

    def second(self, atoms: Tensor, directions: Tensor) -> Tensor:
        """Return the edge to the nearest neighbour that is not collinear; n_edges if there is none.

        Args:
            atoms: (n,) int.
            directions: (n, 3), with what the neighbour must not be collinear; none is with zero.
        """
        candidates = self.vectors.detach()[self.slots[atoms]].double()
        axes = directions.detach().double().unsqueeze(1).expand_as(candidates)
        area = torch.linalg.norm(torch.linalg.cross(candidates, axes, dim=2), dim=2)
        product = torch.linalg.norm(candidates, dim=2) * torch.linalg.norm(axes, dim=2)
        keys = self.keys[self.slots[atoms]]
        return self._first(
            atoms, keys.masked_fill(area <= self.min_sine * product.clamp(min=TIE**2), torch.inf)
        )

    def _first(self, atoms: Tensor, keys: Tensor) -> Tensor:
        smallest, place = keys.min(dim=1)
        edges = self.slots[atoms].gather(1, place.unsqueeze(1)).squeeze(1)
        return edges.masked_fill(torch.isinf(smallest), self.vectors.shape[0] - 1)

    def frames(self, atoms: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return frames along given directions, and the edges that fix the angle around them.

        Args:
            atoms: (n,) int, whose neighbours are asked.
            directions: (n, 3), Å; where zero, the frame is an arbitrary one.

        Returns:
            (n, 3, 3) as ``wigner.edge_frames``, arbitrary around the direction where there is no
            second neighbour; and (n,) int, n_edges there.
        """
        chosen = self.second(atoms, directions)
        missing = torch.linalg.norm(directions.detach(), dim=1) < TIE
        upright = torch.tensor([0.0, 0.0, 1.0], dtype=directions.dtype, device=directions.device)
        directions = torch.where(missing.unsqueeze(1), upright, directions)
        found = (chosen < self.vectors.shape[0] - 1).unsqueeze(1)
        references = torch.where(found, self.vectors[chosen], least_parallel_axes(directions))
        return frames_with(directions, references), chosen
