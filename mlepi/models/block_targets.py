"""Between blocks and irreps.

Which irreps a block needs, and the constant matrix from irreps to block elements.

Elements may carry different shells. The network predicts blocks in *slots*, for every l as many
shells as the richest element has; an element's k-th shell of degree l sits in the k-th slot of that
l. Unused slots are dropped when a block is written in the padded layout of ``OrbitalBasis``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlepi.models.wigner import order_rows, wigner_3j


def largest_degrees(shells: Mapping[Any, Sequence[int]]) -> tuple[int, int]:
    """Return the largest degrees of natural and unnatural parity that blocks of a basis need.

    Of shells a and b these are l_a + l_b and l_a + l_b − 1; of s alone there are none of the
    latter, which is 0 here.

    Args:
        shells: atomic number → angular momenta of its shells.
    """
    top = max(int(l) for ls in shells.values() for l in ls)
    return 2 * top, max(2 * top - 1, 0)


class BlockTargets(nn.Module):
    """Layout of the irreps that make up one block.

    For shells a, b the block is B[m1, m2] = Σ_{L,M} √(2L+1) w3j(l_a, l_b, L)[m1, m2, M] t_{LM}; t
    has natural parity when l_a + l_b + L is even (Gong et al. 2023,
    doi:10.1038/s41467-023-38468-8).

    Args:
        elements: atomic numbers in the order of the model.
        shells: atomic number (as text or int) → angular momenta of its shells.
    """

    slot_of_orbital: Tensor  # (n_elements, max_orbitals) int, ``size`` where there is no orbital
    matrix: Tensor  # (n_targets, size²)
    edge_rows: (
        Tensor  # (n_targets,) int, place in ``matrix`` of every irrep component in the edge frame
    )

    def __init__(
        self,
        elements: Sequence[int],
        shells: Mapping[str, Sequence[int]] | Mapping[int, Sequence[int]],
    ) -> None:
        super().__init__()
        by_number = {int(z): [int(l) for l in ls] for z, ls in shells.items()}
        top = max(l for ls in by_number.values() for l in ls)
        self.slots = tuple(
            l for l in range(top + 1) for _ in range(max(ls.count(l) for ls in by_number.values()))
        )
        self.size = sum(2 * l + 1 for l in self.slots)
        starts = [sum(2 * l + 1 for l in self.slots[:a]) for a in range(len(self.slots))]
        self.slices = [
            slice(start, start + 2 * l + 1) for start, l in zip(starts, self.slots, strict=True)
        ]
        self.max_orbitals = max(sum(2 * l + 1 for l in ls) for ls in by_number.values())
        self.register_buffer(
            "slot_of_orbital",
            self._slot_table([by_number[int(z)] for z in elements]),
            persistent=False,
        )
        self.natural, self.pseudo, matrix = self._couple()
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("edge_rows", self._edge_rows(), persistent=False)

    def _slot_table(self, shells: list[list[int]]) -> Tensor:
        table = torch.full((len(shells), self.max_orbitals), self.size)
        for element, degrees in enumerate(shells):
            position = 0
            for shell, l in enumerate(degrees):
                slot = [a for a, degree in enumerate(self.slots) if degree == l][
                    degrees[:shell].count(l)
                ]
                for m in range(2 * l + 1):
                    table[element, position] = self.slices[slot].start + m
                    position += 1
        return table

    def _couple(self) -> tuple[tuple[int, ...], tuple[int, ...], Tensor]:
        top = 2 * max(self.slots)
        paths: dict[int, list[list[tuple[int, int]]]] = {
            0: [[] for _ in range(top + 1)],
            1: [[] for _ in range(top + 1)],
        }
        for a, la in enumerate(self.slots):
            for b, lb in enumerate(self.slots):
                for L in range(abs(la - lb), la + lb + 1):
                    paths[(la + lb + L) % 2][L].append((a, b))
        rows = []
        for parity in (0, 1):
            for L, pairs in enumerate(paths[parity]):
                for M in range(2 * L + 1):
                    for a, b in pairs:
                        element = torch.zeros(self.size, self.size, dtype=torch.float64)
                        element[self.slices[a], self.slices[b]] = wigner_3j(
                            self.slots[a], self.slots[b], L
                        )[:, :, M] * math.sqrt(2 * L + 1)
                        rows.append(element.flatten())
        natural, pseudo = (tuple(len(pairs) for pairs in paths[parity]) for parity in (0, 1))
        while pseudo and pseudo[-1] == 0:
            pseudo = pseudo[:-1]
        return natural, pseudo, torch.stack(rows)

    def _edge_rows(self) -> Tensor:
        rows: list[int] = []
        for counts in (self.natural, self.pseudo):
            for L, count in enumerate(counts):
                start = len(rows)
                rows += [start + row * count + k for row in order_rows(L) for k in range(count)]
        return torch.tensor(rows)

    def blocks(self, targets: Tensor) -> Tensor:
        """Turn flat irreps, natural then unnatural parity, into blocks.

        (n, n_targets) → (n, size, size).
        """
        return (targets @ self.matrix.to(targets)).reshape(-1, self.size, self.size)

    def edge_blocks(self, targets: Tensor) -> Tensor:
        """Do the same in the edge frame.

        There the rows of every L are sorted by |m| (``wigner.order_rows``).
        """
        return (targets @ self.matrix[self.edge_rows].to(targets)).reshape(-1, self.size, self.size)

    def rotation(self, rotations: Sequence[Tensor]) -> Tensor:
        """Assemble the rotation of all slots from ``wigner.edge_rotations``.

        (n, size, size), columns as rows.
        """
        result = rotations[0].new_zeros(rotations[0].shape[0], self.size, self.size)
        for l, part in zip(self.slots, self.slices, strict=True):
            result[:, part, [part.start + row for row in order_rows(l)]] = rotations[l]
        return result

    def to_padded(self, blocks: Tensor, row_species: Tensor, column_species: Tensor) -> Tensor:
        """Write slot blocks in the padded orbital layout.

        (n, size, size) → (n, max_orbitals, max_orbitals).
        """
        extended = nn.functional.pad(blocks, (0, 1, 0, 1))
        n = torch.arange(blocks.shape[0], device=blocks.device)[:, None, None]
        return extended[
            n,
            self.slot_of_orbital[row_species][:, :, None],
            self.slot_of_orbital[column_species][:, None, :],
        ]

    def from_padded(self, blocks: Tensor, row_species: Tensor, column_species: Tensor) -> Tensor:
        """Undo ``to_padded``; slots that an element lacks are zero."""
        result = blocks.new_zeros(blocks.shape[0], self.size + 1, self.size + 1)
        n = torch.arange(blocks.shape[0], device=blocks.device)[:, None, None]
        result[
            n,
            self.slot_of_orbital[row_species][:, :, None],
            self.slot_of_orbital[column_species][:, None, :],
        ] = blocks
        return result[:, : self.size, : self.size]
