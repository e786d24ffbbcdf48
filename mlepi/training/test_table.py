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


def lay_out_rows(
    title: str, table: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> list[list[str]]:
    """Return the cells of a table as text, the head first.

    Args:
        title: heading of the first column.
        table: of ``tabulate``.
        columns: metric → heading; those that no row has are left out.
    """
    shown = {
        metric: heading
        for metric, heading in columns.items()
        if any(metric in row["metrics"] for row in table.values())
    }
    rows = [[title, "structures", "atoms", "shortest vector (Å)", *shown.values()]]
    for name, row in table.items():
        values = (row["metrics"].get(metric) for metric in shown)
        rows.append(
            [
                name,
                str(row["n_structures"]),
                _format_range(row["n_atoms"], "d"),
                _format_range(row["shortest_vector"], ".1f"),
                *("–" if value is None else f"{value:.4g}" for value in values),
            ]
        )
    return rows


def format_rows(
    title: str, table: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> list[str]:
    """Write a table as lines of text; arguments as those of ``lay_out_rows``."""
    rows = lay_out_rows(title, table, columns)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in rows
    ]


def format_markdown(
    title: str, table: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]
) -> list[str]:
    """Write a table as lines of Markdown; arguments as those of ``lay_out_rows``."""
    head, *rows = lay_out_rows(title, table, columns)
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _format_range(ends: Sequence[float], form: str) -> str:
    """Write lowest and highest, or the one value if they read the same."""
    low, high = (format(end, form) for end in ends)
    return low if low == high else f"{low}–{high}"
