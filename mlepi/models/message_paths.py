"""The paths neighbour feature ⊗ harmonic → message of a MACE layer, and how they are laid out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

Path = tuple[int, int, int]
"""(l1, l2, l3): neighbour feature ⊗ harmonic → message."""


def message_paths(l_max_in: int, l_max: int) -> list[Path]:
    """List the natural-parity paths l1 ⊗ Y_l2 → l3 with l2, l3 ≤ l_max, ordered by (l3, l1, l2).

    Args:
        l_max_in: largest l1.
        l_max: largest l of harmonics and messages.
    """
    return [
        (l1, l2, l3)
        for l3 in range(l_max + 1)
        for l1 in range(l_max_in + 1)
        for l2 in range(abs(l1 - l3), min(l1 + l3, l_max) + 1)
        if (l1 + l2 + l3) % 2 == 0
    ]


@dataclass(frozen=True)
class PathBlock:
    """Where one path finds its factors and puts its result.

    Attributes:
        size_in: 2·l1+1.
        size_out: 2·l3+1.
        senders: components of the neighbours' features.
        coupling: columns of the couplings, a (size_in, size_out) matrix.
        messages: rows of the messages; the paths of one l3 alternate, so that they are adjacent
            channels of each m3.
    """

    size_in: int
    size_out: int
    senders: slice
    coupling: slice
    messages: slice


@cache
def path_blocks(paths: tuple[Path, ...]) -> list[PathBlock]:
    """Lay out couplings and messages of the paths, which are in ascending order of l3."""
    blocks: list[PathBlock] = []
    coupling_start = 0
    for l1, l2, l3 in paths:
        size_in, size_out = 2 * l1 + 1, 2 * l3 + 1
        same = [path for path in paths if path[2] == l3]
        start = sum(2 * path[2] + 1 for path in paths if path[2] < l3)
        rows = slice(start + same.index((l1, l2, l3)), start + len(same) * size_out, len(same))
        coupling = slice(coupling_start, coupling_start + size_in * size_out)
        blocks.append(PathBlock(size_in, size_out, slice(l1 * l1, (l1 + 1) ** 2), coupling, rows))
        coupling_start = coupling.stop
    return blocks
