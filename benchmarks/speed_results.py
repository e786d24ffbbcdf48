"""Rows, tables, growth with the number of atoms and figures of the speed benchmark.

A row of ``details.json`` holds one work at one size with every side that was measured;
``latest.json`` holds the rows with both our network and its peer, in short.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlepi.errors import DataError, message

KEYS = (
    "work",
    "n_atoms",
    "dtype",
    "threads",
    "ours_seconds",
    "peer",
    "peer_seconds",
    "ratio",
    "ours_peak_mb",
    "peer_peak_mb",
)
"""Keys of an entry of ``latest.json``."""

LABELS = {
    "energy_forces": "energy and forces",
    "phonon_train_step": "training step, phonons",
    "hamiltonian": "Hamiltonian",
    "electron_train_step": "training step, electrons",
}
"""Work → what a reader calls it."""

GROWTH = (64, 1024)
"""Sizes between which exponents are fitted, atoms."""

Row = dict[str, Any]


def describe(key: Row) -> str:
    """Name a row in a message."""
    threads = "1 thread" if key["threads"] == 1 else f"{key['threads']} threads"
    kind = ", HedgeNet against its backbone" if key["comparison"] == "hedgenet" else ""
    return f"{LABELS[key['work']]}{kind}, {key['n_atoms']} atoms, {threads}"


def choose_clock(threads: int, device: str) -> str:
    """Return the clock that times are taken from.

    CPU time of the process for one thread, because other jobs of the machine do not enter it;
    wall-clock time otherwise.
    """
    return "cpu" if threads == 1 and device == "cpu" else "wall"


def summarise_sides(
    samples: Mapping[str, Mapping[str, Any]], clock: str, reference: str
) -> tuple[Row, dict[str, float]]:
    """Reduce the samples of one size.

    Args:
        samples: side → "wall" and "cpu" (lists, one number per round), "peak_mb", "run_mb".
        clock: "cpu" or "wall".
        reference: side that the others are compared with.

    Returns:
        Side → medians of both clocks, "seconds" of the chosen one, and memory; and side → median
        over the rounds of the time of the reference divided by that of the side.
    """
    sides = {
        side: {
            "seconds": float(np.median(found[clock])),
            "wall_seconds": float(np.median(found["wall"])),
            "cpu_seconds": float(np.median(found["cpu"])),
            "rounds": len(found[clock]),
            "peak_mb": found["peak_mb"],
            "run_mb": found["run_mb"],
        }
        for side, found in samples.items()
    }
    ratios: dict[str, float] = {}
    if reference in samples:
        base = np.asarray(samples[reference][clock])
        ratios = {
            side: float(np.median(base / found[clock]))
            for side, found in samples.items()
            if side != reference
        }
    return sides, ratios


def make_latest(rows: Iterable[Row]) -> list[Row]:
    """Return the entries of ``latest.json``, rows of published size with network and peer."""
    return [
        {
            "work": row["work"],
            "n_atoms": row["n_atoms"],
            "dtype": row["dtype"],
            "threads": row["threads"],
            "ours_seconds": row["sides"]["ours"]["seconds"],
            "peer": row["peer"],
            "peer_seconds": row["sides"]["peer"]["seconds"],
            "ratio": row["ratios"]["ours"],
            "ours_peak_mb": row["sides"]["ours"]["peak_mb"],
            "peer_peak_mb": row["sides"]["peer"]["peak_mb"],
        }
        for row in rows
        if row["comparison"] == "peer"
        and row["size"] == "published"
        and {"ours", "peer"} <= set(row["sides"])
    ]


def fit_growth(rows: Iterable[Row]) -> list[Row]:
    """Fit seconds and peak memory ∝ n_atomsˣ between the sizes of ``GROWTH``.

    By least squares of the logarithms, each processor by itself.

    Returns:
        One entry per work, threads, dtype and side with at least three sizes: "seconds" and
        "peak_mb" → exponent x.
    """
    series: dict[tuple[Any, ...], list[tuple[int, Mapping[str, Any]]]] = {}
    for row in rows:
        if (
            row["comparison"] == "peer"
            and row["size"] == "published"
            and GROWTH[0] <= row["n_atoms"] <= GROWTH[1]
        ):
            for side, found in row["sides"].items():
                key = (row["work"], row["dtype"], row["threads"], side, row.get("processor"))
                series.setdefault(key, []).append((row["n_atoms"], found))
    fits: list[Row] = []
    for (work, dtype, threads, side, _), points in series.items():
        fit: Row = {
            "work": work,
            "dtype": dtype,
            "threads": threads,
            "side": side,
            "n_atoms": [n for n, _ in points],
        }
        if len(points) < 3:
            continue
        for quantity in ("seconds", "peak_mb"):
            known = [(n, found[quantity]) for n, found in points if found[quantity]]
            x, y = (
                np.log(np.array(known, dtype=np.float64)).T
                if len(known) > 2
                else (np.empty(0), np.empty(0))
            )
            fit[quantity] = float(np.polyfit(x, y, 1)[0]) if len(known) > 2 else None
        fits.append(fit)
    return fits


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def write_results(details: Row, folder: Path) -> None:
    """Write ``latest.json``, ``details.json`` and ``latest.md``."""
    details["growth"] = fit_growth(details["rows"])
    write_atomically(folder / "details.json", json.dumps(details, indent=1) + "\n")
    write_atomically(
        folder / "latest.json", json.dumps(make_latest(details["rows"]), indent=1) + "\n"
    )
    write_atomically(folder / "latest.md", format_tables(details))


def read_details(path: Path) -> Row:
    """Read an earlier ``details.json``.

    Raises:
        DataError: the file is missing or not such a file.
    """
    try:
        details: Row = json.loads(path.read_text(encoding="utf-8"))
        details["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            message(
                str(path),
                f"{type(error).__name__}: {error}",
                "the details of an earlier run",
                "Start without --resume.",
            )
        ) from error
    return details


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with significant digits; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:#.{digits}g}".rstrip(".")


def table(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a Markdown table."""
    rows = [f"| {' | '.join(str(cell) for cell in line)} |" for line in lines]
    return [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *rows] if rows else []


def main_table(rows: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the main table, all rows of published size."""
    header = [
        "work",
        "atoms",
        "threads",
        "ours (s)",
        "peer (s)",
        "ratio",
        "ours (MB)",
        "peer (MB)",
        "compiled (s)",
        "ratio",
    ]
    cells = []
    for row in rows:
        if row["comparison"] != "peer":
            continue
        columns = []
        for side in ("ours", "peer", "compiled"):
            found = row["sides"].get(side, {})
            columns.append(
                (
                    number(found.get("seconds")),
                    number(row["ratios"].get(side)),
                    number(found.get("peak_mb")),
                )
            )
        (ours, ratio, ours_mb), (peer, _, peer_mb), (compiled, compiled_ratio, _) = columns
        name = LABELS[row["work"]] + ("" if row["size"] == "published" else f", size {row['size']}")
        numbers = [ours, peer, ratio, ours_mb, peer_mb, compiled, compiled_ratio]
        cells.append([name, str(row["n_atoms"]), str(row["threads"]), *numbers])
    return header, cells


def symmetrix_lines(rows: Iterable[Row]) -> list[str]:
    """Return the lines about energy and forces beside Symmetrix; none where it was not measured."""
    cells, names = [], set()
    for row in rows:
        if "symmetrix" not in row["sides"]:
            continue
        peer = row["sides"]["symmetrix"]
        names.add(peer["name"])
        line = [row["size"], row["n_atoms"], row["threads"], number(peer["seconds"])]
        for side in ("ours", "compiled"):
            seconds = row["sides"].get(side, {}).get("seconds")
            line += [number(seconds), number(row["symmetrix_ratios"].get(side))]
        memory = [row["sides"].get(side, {}) for side in ("symmetrix", "ours", "compiled")]
        cells.append([*line, *(number(found.get("peak_mb")) for found in memory)])
    header = ["size", "atoms", "threads", "Symmetrix (s)", "ours (s)", "ratio", "compiled (s)"]
    header += ["ratio", "Symmetrix (MB)", "ours (MB)", "compiled (MB)"]
    if not cells:
        return []
    about = f"Energy and forces beside {'; '.join(sorted(names))}: its time in units of ours."
    return ["", about, "", *table(header, cells)]


def format_tables(details: Row) -> str:
    """Return everything as Markdown."""
    machine = details["machine"]
    lines = [
        f"`{details['command']}`, commit {details['commit']}, {machine['processor']}, "
        f"{machine['cores']} cores."
    ]
    now = (details["commit"], machine["processor"])
    origin = [(r["commit"], r.get("processor", now[1])) for r in details["rows"]]
    for commit, processor in sorted(set(origin) - {now}):
        works = {
            f"{LABELS[row['work']]} of {row['n_atoms']} atoms, {row['threads']} thread(s)"
            for row, own in zip(details["rows"], origin, strict=True)
            if own == (commit, processor)
        }
        lines.append(f"Measured at commit {commit} on {processor}: {'; '.join(sorted(works))}.")
    lines += ["", *table(*main_table(details["rows"]))]
    lines += symmetrix_lines(details["rows"])
    hedgenet = [row for row in details["rows"] if row["comparison"] == "hedgenet" and row["ratios"]]
    lines += [
        "",
        "HedgeNet against its own backbone, equal widths and edges: its time in units of the "
        "backbone's.",
        "",
    ]
    lines += table(
        ["work", "atoms", "backbone (s)", "HedgeNet (s)", "HedgeNet / backbone"],
        [
            (
                LABELS[row["work"]],
                row["n_atoms"],
                number(row["sides"]["backbone"]["seconds"]),
                number(row["sides"]["hedgenet"]["seconds"]),
                number(1.0 / row["ratios"]["hedgenet"]),
            )
            for row in hedgenet
        ],
    ) or ["Not measured."]
    low, high = GROWTH
    lines += [
        "",
        f"Growth with the number of atoms, {low}–{high}: exponents of time and peak memory.",
        "",
    ]
    lines += table(
        ["work", "threads", "side", "time", "memory"],
        [
            (
                LABELS[fit["work"]],
                fit["threads"],
                fit["side"],
                number(fit["seconds"]),
                number(fit["peak_mb"]),
            )
            for fit in details["growth"]
        ],
    ) or ["Not measured: it takes three sizes."]
    lines += [
        "",
        "Floors of the main kernels, forward pass, 64 atoms, one core: see `kernel_floors.py`.",
        "",
    ]
    lines += table(
        ["kernel", "GFLOP", "MB", "floor (ms)", "measured (ms)", "fraction reached"],
        [
            (
                name,
                number(found["gflop"]),
                number(found["mbyte"]),
                number(1e3 * found["floor_seconds"]),
                number(None if found["seconds"] is None else 1e3 * found["seconds"]),
                number(found["fraction"], 2),
            )
            for name, found in (details.get("floors") or {}).get("kernels", {}).items()
        ],
    ) or ["Not measured."]
    lines += ["", *(f"- {note}" for note in details["notes"])]
    return "\n".join(lines).rstrip() + "\n"
