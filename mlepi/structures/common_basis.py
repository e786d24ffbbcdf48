"""Which of many bases a data set is made in: that of most sources, element by element."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ase.data import chemical_symbols

from mlepi.errors import message
from mlepi.structures.basis import OrbitalBasis

SAME_RADIUS = 1e-9
"""Å."""


def find_other_bases(bases: Mapping[str, OrbitalBasis], *, same_radii: bool) -> dict[str, str]:
    """Say which bases differ from that of most, and how.

    Args:
        bases: source → basis, in their order; of two that are equally frequent the first counts.
        same_radii: whether radii that differ make another basis; not where they are lower bounds,
            inferred from the pairs of every structure.

    Returns:
        Source → message, of those that differ.
    """
    kinds: dict[int, Counter[tuple[tuple[int, ...], float]]] = {}
    for basis in bases.values():
        for z in basis.elements:
            kinds.setdefault(z, Counter())[_describe(basis, z, same_radii)] += 1
    usual = {z: counted.most_common(1)[0] for z, counted in kinds.items()}
    messages = {}
    for source, basis in bases.items():
        for z in basis.elements:
            found, (expected, number) = _describe(basis, z, same_radii), usual[z]
            if found != expected:
                fix = "Structures with different bases are different data sets: convert it apart."
                got = f"{_word(found)} for {chemical_symbols[z]}"
                others = f"{_word(expected)} as in {number} other source{'s' * (number > 1)}"
                messages[source] = message(source, got, others, fix)
                break
    return messages


def _describe(basis: OrbitalBasis, z: int, same_radii: bool) -> tuple[tuple[int, ...], float]:
    """Return shells and, where it counts, radius of an element."""
    rounded = round(basis.radii[z] / SAME_RADIUS) * SAME_RADIUS if same_radii else 0.0
    return tuple(basis.shells[z]), rounded


def _word(kind: tuple[tuple[int, ...], float]) -> str:
    """Write shells and radius of an element."""
    shells = " ".join("spdfghi"[l] for l in kind[0])
    return f"shells {shells}" + (f" of {kind[1]:.4f} Å" if kind[1] else "")
