"""The card of a design, ``README.md``: which structures, why these, how wide, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.design.table import Design, Row
from mlepi.project_files import write_whole
from mlepi.units import THZ_TO_INVERSE_CM

CARD = "README.md"


def write_card(folder: Path, design: Design) -> None:
    """Write the card.

    Args:
        folder: of the design.
        design: what it tells of.
    """
    lines = [
        f"# Design: {folder.resolve().name}",
        "",
        f"{len(design.rows)} structures of {design.material}, proposed by `mlepi design`. Label "
        f"them with `mlepi label structures={folder.resolve().name}/structures.extxyz`.",
        "",
        "![width, distances, displacements, variety](design.png)",
        *_list(f"{'Overview'}", _describe(design)),
        *_list_kinds(design),
        *_list_structures(design),
    ]
    write_whole(folder / CARD, "\n".join([*lines, ""]))


def _describe(design: Design) -> dict[str, Any]:
    rows, n = design.rows, len(design.rows)
    widths = [row.width for row in rows]
    compared = f" and differ from {design.n_known} labelled ones" if design.n_known else ""
    facts: dict[str, Any] = {
        "selected": f"the {n} most different of {design.n_drawn} that were drawn{compared}",
        "supercells": f"{design.n_shapes} shapes, {_span([row.n_atoms for row in rows])} atoms",
        "width, the shortest lattice translation": f"{min(widths):.2f} … {max(widths):.2f} Å",
        "narrower than the receptive field": (
            f"{design.n_narrow} of {n}: there an atom meets its image within {design.reach:g} Å"
            if design.n_narrow
            else f"none: no atom meets its image within {design.reach:g} Å"
        ),
        "nearest atoms": f"{min(row.shortest for row in rows):.3f} Å",
        "largest displacement": f"{max(row.largest_displacement for row in rows):.3f} Å",
        "displacements drawn again": sum(row.tries - 1 for row in rows),
        "softest mode": _describe_modes(design),
    }
    if design.absent:
        facts["kinds that this material does not have"] = ", ".join(design.absent)
    if design.twist_angles:
        facts["commensurate twists"] = ", ".join(f"{x:.2f}°" for x in design.twist_angles)
    if design.cost:
        facts["cost of a label"] = design.cost
        facts["cost of all"] = f"{design.hours:.3g} CPU-hours"
    return facts


def _describe_modes(design: Design) -> str:
    wave_number = THZ_TO_INVERSE_CM * design.softest
    text = f"{wave_number:.1f} cm⁻¹"
    if design.softest < design.floor:
        floor = THZ_TO_INVERSE_CM * design.floor
        text += f"; modes below {floor:.1f} cm⁻¹ move as if they had that"
    return text + (f"; {design.imaginary} imaginary ones" if design.imaginary else "")


def _list_kinds(design: Design) -> list[str]:
    """Return a table of the kinds: how many, how much they move."""
    lines = ["", "## Kinds", "", "| kind | structures | RMS displacement (Å) |", "|---|---|---|"]
    for kind in dict.fromkeys(row.kind for row in design.rows):
        own = [row for row in design.rows if row.kind == kind]
        moved = np.sqrt(np.mean([row.rms_displacement**2 for row in own]))
        lines.append(f"| {kind} | {len(own)} | {moved:.3f} |")
    lines += ["", "| temperature (K) | structures | RMS displacement (Å) | in theory |"]
    lines += ["|---|---|---|---|"]
    for temperature, expected in zip(design.temperatures, design.expected, strict=True):
        own = [row for row in design.rows if row.temperature == temperature]
        moved = np.sqrt(np.mean([row.rms_displacement**2 for row in own])) if own else float("nan")
        lines.append(f"| {temperature:g} | {len(own)} | {moved:.3f} | {expected:.3f} |")
    return lines


def _list_structures(design: Design) -> list[str]:
    head = ("structure", "kind", "T (K)", "atoms", "supercell", "width (Å)", "nearest (Å)")
    lines = ["", "## Structures", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join(_describe_row(row))} |" for row in design.rows]


def _describe_row(row: Row) -> list[str]:
    shape = " ".join(f"({' '.join(map(str, one))})" for one in row.supercell)
    width = f"{row.width:.2f}{', narrow' if row.narrow else ''}"
    numbers = [f"{row.temperature:g}", f"{row.n_atoms}", shape, width, f"{row.shortest:.3f}"]
    return [f"`{row.name}`", row.kind, *numbers]


def _list(title: str, facts: Mapping[str, Any]) -> list[str]:
    body = [f"| {key} | {value} |" for key, value in facts.items()]
    return ["", f"## {title}", "", "| | |", "|---|---|", *body]


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} … {high}"
