"""The tables of a judgement, for a screen of 100 columns and for the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlepi.evaluation.breakdown import PARTS
from mlepi.evaluation.labels import MEDIAN, ROWS, SHORT_ROWS, label, order
from mlepi.evaluation.phonon import OF_ELEMENT
from mlepi.figures import Table
from mlepi.training.electron_errors import SHIFTED

WIDTH = 100
"""Columns of a screen."""

SHELLS_SHOWN, WORST_SHOWN = 6, 5
"""Rows of these tables on a screen."""

NOTHING = "–"


def number(value: float | None) -> str:
    """Write a number with three digits; a dash for none."""
    if value is None:
        return NOTHING
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e+" in text else text


def span(ends: Sequence[float], form: str = "g") -> str:
    """Write lowest and highest, or the one value if they read the same."""
    low, high = (format(end, form) for end in ends)
    return low if low == high else f"{low}–{high}"


def format_screen(result: Mapping[str, Any]) -> str:
    """Return everything that is shown on a screen, at most 100 columns wide."""
    data = result["data"]
    where = f"{data['path']}" + (f", split {data['split']}" if data["split"] else "")
    lines = [f"{result['checkpoint']} ({result['kind']} network) on {where}"]
    if result["kind"] == "electron":
        given = result["settings"]["kpoints"]
        n_kpoints = given if isinstance(given, int) else len(given)
        lines.append(f"  levels at {n_kpoints} k-points of every structure")
    lines += [f"  {note}" for note in result["notes"]]
    for title in ("subsets", "sizes"):
        lines += ["", *_lay_out(summary_rows(result, title))]
    if result.get("distances"):
        table = distance_table(result)
        lines += ["", *_lay_out([[table.title, *table.header[1:]], *table.rows])]
    if result.get("shells"):
        table = shell_table(result)
        shown = table.rows[:SHELLS_SHOWN]
        lines += ["", *_lay_out([[table.title, *table.header[1:]], *shown])]
    worst = worst_table(result)
    lines += ["", *_lay_out([worst.header, *worst.rows[:WORST_SHOWN]])]
    n_outliers = len({row[0] for row in outlier_table(result).rows})
    lines.append(f"  {n_outliers} of {len(worst.rows)} structures are outliers of their subset")
    return "\n".join(lines)


def summary_rows(result: Mapping[str, Any], title: str) -> list[list[str]]:
    """Return the table of subsets or sizes, one column each, the head first.

    Args:
        result: of ``judge``.
        title: "subsets" or "sizes".
    """
    groups = result[title]
    rows = [
        [title, *groups],
        ["structures", *(str(group["n_structures"]) for group in groups.values())],
        ["atoms", *(span(group["n_atoms"]) for group in groups.values())],
        [
            "shortest lattice vector (Å)",
            *(span(group["shortest_vector"], ".1f") for group in groups.values()),
        ],
    ]
    metrics = [
        {**group["metrics"], **{f"{MEDIAN}{n}": x for n, x in group.get("medians", {}).items()}}
        for group in groups.values()
    ]
    elements = sorted({_element(name) for own in metrics for name in own} - {""})
    more = [
        (
            f"  on {element}",
            [f"{OF_ELEMENT}{element}_{m}_mev_per_angstrom" for m in ("mae", "rmse")],
        )
        for element in elements
    ]
    heading: str | None = None
    shown = (ROWS if title == "subsets" else SHORT_ROWS)[result["kind"]]
    for words, wanted in [*shown, *(more if len(elements) > 1 else [])]:
        if not wanted:
            heading = words
            continue
        if not any(name in own for own in metrics for name in wanted):
            continue
        if heading is not None and words.startswith("  "):
            rows.append([heading, *("" for _ in groups)])
            heading = None
        rows.append([words, *(_cell(own, wanted) for own in metrics)])
    return rows


def _element(metric: str) -> str:
    found = re.fullmatch(rf"{OF_ELEMENT}([A-Z][a-z]?)_mae_mev_per_angstrom", metric)
    return found.group(1) if found else ""


def _cell(metrics: Mapping[str, float], wanted: Sequence[str]) -> str:
    values = [number(metrics.get(name)) for name in wanted]
    return NOTHING if set(values) == {NOTHING} else " / ".join(values)


def full_table(result: Mapping[str, Any]) -> Table:
    """Return every metric of every subset."""
    subsets = result["subsets"]
    names: dict[str, object] = dict(result["metrics"])
    for subset in subsets.values():
        names |= subset["metrics"]
    rows = [
        [label(name), *(number(subset["metrics"].get(name)) for subset in subsets.values())]
        for name in order(names)
    ]
    return Table(("quantity", *subsets), rows)


def structure_table(result: Mapping[str, Any]) -> Table:
    """Return the structures, those with the largest first of the errors on top."""
    wanted = COLUMNS[result["kind"]]
    structures = result["structures"]
    shown = [name for name in wanted if any(name in s["metrics"] for s in structures.values())]
    ordered = sorted(structures, key=lambda name: -(structures[name]["metrics"].get(shown[0]) or 0))
    rows = [
        [
            name,
            ", ".join(structures[name]["subsets"]),
            str(structures[name]["n_atoms"]),
            *(number(structures[name]["metrics"].get(metric)) for metric in shown),
        ]
        for name in ordered
    ]
    return Table(("structure", "subsets", "atoms", *map(label, shown)), rows)


COLUMNS = {
    "electron": (
        "hamiltonian_gauge_free_mae_mev",
        "hamiltonian_s_metric_rms_mev",
        "bands_2ev_rms_mev",
        "bands_2ev_aligned_rms_mev",
        "shifted_bands_2ev_aligned_rms_mev",
        "lowest_level_from_dft_ev",
        "shifted_lowest_level_from_dft_ev",
    ),
    "phonon": (
        "forces_rmse_mev_per_angstrom",
        "energy_mae_mev_per_atom",
        "layers_rmse_mev_per_angstrom",
        "largest_force_error_mev_per_angstrom",
        "stress_rmse_mev_per_cubic_angstrom",
    ),
}
"""Kind of network → metrics in the table of structures, the first decides the order."""


def worst_table(result: Mapping[str, Any]) -> Table:
    """Return the structures, the largest errors first, with what fits on a screen."""
    wanted, structures = WORST[result["kind"]], result["structures"]
    first = next(iter(wanted))
    found = {row["structure"] for rows in result["outliers"].values() for row in rows}
    ordered = sorted(structures, key=lambda name: -(structures[name]["metrics"].get(first) or 0))
    rows = [
        [
            name,
            str(structures[name]["n_atoms"]),
            *(number(structures[name]["metrics"].get(metric)) for metric in wanted),
            "yes" if name in found else "",
        ]
        for name in ordered
    ]
    return Table(("largest errors", "atoms", *wanted.values(), "outlier"), rows)


WORST = {
    "electron": {
        "hamiltonian_gauge_free_mae_mev": "H MAE (meV)",
        "bands_2ev_aligned_rms_mev": "±2 eV (meV)",
        f"{SHIFTED}bands_2ev_aligned_rms_mev": "shifted (meV)",
        "lowest_level_from_dft_ev": "lowest (eV)",
    },
    "phonon": {
        "forces_rmse_mev_per_angstrom": "forces RMSE (meV/Å)",
        "energy_mae_mev_per_atom": "energy (meV/atom)",
    },
}
"""Kind of network → metrics and headings of the worst structures; the first decides the order."""


def distance_table(result: Mapping[str, Any]) -> Table:
    """Return gauge-free errors of H by distance, with the size of the labels."""
    rows = [
        [
            f"{row['part']}"
            + ("" if row["part"] == PARTS[0] else f" {span(row['distance'], '.3g')} Å"),
            str(row["n_elements"]),
            number(row["mean_absolute_label_mev"]),
            number(row["mae_mev"]),
            number(row["rmse_mev"]),
            number(100.0 * row["mae_mev"] / row["mean_absolute_label_mev"])
            if row["mean_absolute_label_mev"]
            else NOTHING,
        ]
        for row in result["distances"]
    ]
    header = ("distance", "elements", "mean |H| (meV)", "MAE (meV)", "RMSE (meV)", "MAE/|H| (%)")
    return Table(header, rows, title="H gauge-free by distance")


def shell_table(result: Mapping[str, Any]) -> Table:
    """Return gauge-free errors of H by pair of shells, the largest first."""
    rows = [
        [
            row["pair"],
            number(row["all"]["mae_mev"]),
            number(row["all"]["rmse_mev"]),
            *(number(row[part]["mae_mev"]) if part in row else NOTHING for part in PARTS),
        ]
        for row in result["shells"]
    ]
    header = ("pair of shells", "MAE (meV)", "RMSE (meV)", *(f"{part} MAE" for part in PARTS))
    return Table(header, rows, title="H gauge-free by pair of shells")


def outlier_table(result: Mapping[str, Any]) -> Table:
    """Return the structures whose errors stand out from their subset."""
    rows = [
        [
            row["structure"],
            subset,
            label(row["metric"]),
            number(row["value"]),
            number(row["median"]),
        ]
        for subset, found in result["outliers"].items()
        for row in found
    ]
    return Table(("outlier", "subset", "error", "value", "median"), rows)


def _lay_out(rows: Sequence[Sequence[str]]) -> list[str]:
    """Write rows as lines of at most ``WIDTH`` columns; further columns come in a second block."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = min(widths[0], WIDTH // 2)
    lines: list[str] = []
    for block in _divide(widths):
        lines += [""] if lines else []
        for row in rows:
            cells = [_cut(row[0], widths[0]).ljust(widths[0])]
            cells += [row[place].rjust(widths[place]) for place in block]
            lines.append("  ".join(cells).rstrip())
    return lines


def _divide(widths: Sequence[int]) -> Iterable[list[int]]:
    """Yield the columns of every block that fits beside the first one."""
    block: list[int] = []
    used = widths[0]
    for place, width in enumerate(widths[1:], start=1):
        if block and used + 2 + width > WIDTH:
            yield block
            block, used = [], widths[0]
        block.append(place)
        used += 2 + width
    if block:
        yield block


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
