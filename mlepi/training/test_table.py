"""The table of a test by named subset and by size of the cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ase import Atoms
from ase.geometry import minkowski_reduce


def shortest_vector(atoms: Atoms) -> float:
    """Return the length of the shortest lattice vector, Å: how near an atom's own image is."""
    reduced, _ = minkowski_reduce(atoms.cell, pbc=atoms.pbc)
    lengths = (reduced**2).sum(axis=1) ** 0.5
    return float(lengths[atoms.pbc].min() if atoms.pbc.any() else lengths.min())


def group_by_size(structures: Mapping[int, Atoms]) -> dict[str, list[int]]:
    """Group structures by their number of atoms, the smallest first.

    Args:
        structures: number → structure.

    Returns:
        "N atoms" → numbers.
    """
    groups: dict[int, list[int]] = {}
    for number, atoms in structures.items():
        groups.setdefault(len(atoms), []).append(number)
    return {f"{size} atoms": groups[size] for size in sorted(groups)}


def tabulate(
    groups: Mapping[str, Sequence[int]],
    structures: Mapping[int, Atoms],
    measure: Callable[[Sequence[int]], Mapping[str, float]],
) -> dict[str, dict[str, Any]]:
    """Measure groups of structures; those without any that was tested are left out.

    Args:
        groups: name → numbers of structures.
        structures: number → structure, those that were tested.
        measure: returns the metrics of structures with some numbers.

    Returns:
        Name → "n_structures", "n_atoms" and "shortest_vector" (Å), each lowest and highest, and
        "metrics".
    """
    table = {}
    for name, members in groups.items():
        chosen = [number for number in members if number in structures]
        if not chosen:
            continue
        sizes = [len(structures[number]) for number in chosen]
        lengths = [shortest_vector(structures[number]) for number in chosen]
        table[name] = {
            "n_structures": len(chosen),
            "n_atoms": [min(sizes), max(sizes)],
            "shortest_vector": [min(lengths), max(lengths)],
            "metrics": dict(measure(chosen)),
        }
    return table


def format_rows(
    title: str, table: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> list[str]:
    """Write the rows of ``tabulate`` as lines of text under a title.

    Args:
        title: heading of the first column.
        table: of ``tabulate``.
        columns: metric → heading.
    """
    head = [title, "structures", "atoms", "shortest vector (Å)", *columns.values()]
    rows = [head]
    for name, row in table.items():
        values = (row["metrics"].get(metric) for metric in columns)
        rows.append(
            [
                name,
                str(row["n_structures"]),
                _format_range(row["n_atoms"], "d"),
                _format_range(row["shortest_vector"], ".1f"),
                *("–" if value is None else f"{value:.4g}" for value in values),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    ]


def _format_range(ends: Sequence[float], form: str) -> str:
    """Write lowest and highest, or the one value if they read the same."""
    low, high = (format(end, form) for end in ends)
    return low if low == high else f"{low}–{high}"
