"""Neighbours of every atom as padded tables, and the geometry that all layers of MACE share.

Atoms are ordered by their number of neighbours and tabulated in groups of similar numbers, one row
per atom, so that the sum over neighbours is a sum over an axis and yet few slots are empty however
uneven the numbers are. Empty slots point to the first edge and carry a radial part of zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from mlepi.models.message_paths import Path, path_blocks
from mlepi.models.radial_table import TablePlaces
from mlepi.models.wigner import wigner_3j

LEAST_FILLING = 0.8
"""A group ends where an atom has fewer neighbours than this part of its width …"""
SPARE_SLOTS = 64
"""… unless the group has room for the rest of the atoms at the price of so many empty slots: a
group has costs of its own."""


@dataclass(frozen=True)
class NeighbourTable:
    """Edges sorted into groups of rows.

    A slot is one place in the table, counted row by row, group by group.

    Attributes:
        order: (n_atoms,) int, atoms by descending number of neighbours: the order of the rows.
        groups: (number of rows, width) of every group; atoms without neighbours come last and are
            in no group.
        edge_of_slot: (n_slots,) int, zero in empty slots.
        filled: (n_slots,) bool.
    """

    order: Tensor
    groups: list[tuple[int, int]]
    edge_of_slot: Tensor
    filled: Tensor

    def split(self, values: Tensor) -> list[Tensor]:
        """Split (n_slots, …) into one (rows, width, …) per group."""
        sizes = [rows * width for rows, width in self.groups]
        return [
            part.unflatten(0, group)
            for part, group in zip(values.split(sizes), self.groups, strict=True)
        ]

    def to_rows(self, sums: list[Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Join the sums over neighbours of all groups in the order of the table.

        (rows, *shape) each → (n_atoms, *shape).

        Args:
            sums: one tensor per group.
            shape: of one row; atoms without neighbours get zeros of it.
            like: a tensor of the wanted type and device.
        """
        isolated = self.order.shape[0] - sum(rows for rows, _ in self.groups)
        return torch.cat([*sums, like.new_zeros(isolated, *shape)])

    def to_atoms(self, rows: Tensor) -> Tensor:
        """Bring rows, (n_atoms, …), from the order of the table into that of the atoms."""
        return rows.index_select(0, torch.argsort(self.order))


def neighbour_table(target: Tensor, n_atoms: int) -> NeighbourTable:
    """Sort edges into a table.

    Args:
        target: (n_edges,) int, receiver of every edge.
        n_atoms: number of atoms.
    """
    counts = torch.bincount(target, minlength=n_atoms)
    order = torch.argsort(counts, descending=True, stable=True)
    groups: list[tuple[int, int]] = []
    widths: list[int] = []
    descending = [count for count in counts[order].tolist() if count > 0]
    edges_left = sum(descending)
    for position, count in enumerate(descending):
        width = groups[-1][1] if groups else 0
        empty = width * (len(descending) - position) - edges_left
        if not groups or (count < LEAST_FILLING * width and empty > SPARE_SLOTS):
            groups.append((0, count))
        edges_left -= count
        groups[-1] = (groups[-1][0] + 1, groups[-1][1])
        widths.append(groups[-1][1])
    row_width = torch.tensor(widths, dtype=torch.long, device=target.device)
    first_slot = torch.zeros(n_atoms, dtype=torch.long, device=target.device)
    first_slot[order[: len(widths)]] = torch.cumsum(row_width, 0) - row_width
    by_target = torch.argsort(target, stable=True)
    sorted_target = target[by_target]
    place = (
        torch.arange(target.shape[0], device=target.device)
        - (torch.cumsum(counts, 0) - counts)[sorted_target]
    )
    slot = first_slot[sorted_target] + place
    edge_of_slot = target.new_zeros(sum(widths))
    edge_of_slot[slot] = by_target
    filled = torch.zeros(sum(widths), dtype=torch.bool, device=target.device)
    filled[slot] = True
    return NeighbourTable(order, groups, edge_of_slot, filled)


@dataclass(frozen=True)
class Neighbourhoods:
    """Edge state: what all layers need to know about the edges, slot by slot of a table.

    Attributes:
        table: the slots.
        source: (n_slots,) int, sender.
        kinds: (n_kinds,) int, species that occur among the senders.
        kind: (n_slots,) int, position of the sender's species in ``kinds``.
        radial: (n_slots, num_bessel), Bessel functions × cutoff envelope, zero in empty slots.
        harmonics: (n_slots, (l_max+1)²), unit variance ("component").
        couplings: (n_slots, Σ_p (2·l1+1)(2·l3+1)), Clebsch–Gordan coefficients contracted with
            Y_l2, as in ``path_blocks``; of the layers after the first.
        places: where the slots are in the tables of the radial functions; ``radial`` then has no
            columns. None without tables.
    """

    table: NeighbourTable
    source: Tensor
    kinds: Tensor
    kind: Tensor
    radial: Tensor
    harmonics: Tensor
    couplings: Tensor
    places: TablePlaces | None = None

    @property
    def known_places(self) -> TablePlaces:
        """The places, where there are tables."""
        if self.places is None:
            raise LookupError("neighbourhoods that were not found in a table")
        return self.places


@cache
def coupling_table(paths: tuple[Path, ...], l_max: int) -> Tensor:
    """Return the matrix from harmonics to couplings: ((l_max+1)², Σ_p (2·l1+1)(2·l3+1)), float64.

    Args:
        paths: l1 ⊗ Y_l2 → l3.
        l_max: largest l of the harmonics.
    """
    blocks = path_blocks(paths)
    table = torch.zeros((l_max + 1) ** 2, blocks[-1].coupling.stop, dtype=torch.float64)
    for (l1, l2, l3), block in zip(paths, blocks, strict=True):
        symbol = wigner_3j(l1, l2, l3) * (2 * l3 + 1) ** 0.5
        table[l2 * l2 : (l2 + 1) ** 2, block.coupling] = symbol.transpose(0, 1).reshape(
            2 * l2 + 1, -1
        )
    return table
