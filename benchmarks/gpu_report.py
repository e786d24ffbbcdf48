"""Results of the GPU run as rows of a table in ``docs/speed.md``.

    python benchmarks/gpu_report.py     # writes all results/gpu-*.json into the pages

The table replaces what stands between the comments ``<!-- gpu -->`` and ``<!-- /gpu -->``; as long
as there is no result, that page and ``docs/concepts/limits.md`` say that there is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speed_results import Row, number, table, write_atomically
from speed_settings import BENCHMARKS, ROOT

from mlepi.errors import DataError, message

SPEED, LIMITS = ROOT / "docs" / "speed.md", ROOT / "docs" / "concepts" / "limits.md"
HEADER = (
    "GPU",
    "H, 1,024 atoms (ms)",
    "forces, 1,024 atoms (ms)",
    "training steps H, forces, 64 atoms (ms)",
    "H, 11,164 atoms (s, GB)",
    "demo (samples/s)",
    "mace-torch / ours, 1,024 atoms",
    "tests",
)
NOTE = (
    "HedgeNets of published size, float32 unless a cell says tf32; large cell and demo with the "
    "shipped networks. `make gpu` measures it again."
)


def make_slug(name: str, toy: bool = False) -> str:
    """Return the name of a device for a file."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"toy-{words}" if toy else words


def find_row(part: Row, work: str, model: str, n_atoms: int) -> Row:
    """Return a row of a part, empty when it was not measured."""
    key = {"work": work, "model": model, "n_atoms": n_atoms}
    rows = (row for row in part.get("rows", []) if key.items() <= row.items())
    return next((row for row in rows if "error" not in row), {})


def format_seconds(row: Row) -> str:
    """Return milliseconds of a row in the precision that is exact enough."""
    used = row.get("used")
    if used is None:
        return "–"
    return number(1e3 * row[used]["seconds"]) + (" tf32" if used == "tf32" else "")


def format_cells(results: Row) -> list[str]:
    """Return the cells of a run; what was not measured is a dash."""
    parts: dict[str, Row] = results["parts"]
    forward, step, cell, scan, peer, tests = (
        parts.get(name, {}) for name in ("forward", "step", "large_cell", "scan", "peer", "tests")
    )
    device = results["device"]
    electron, phonon = "hedgenet_electron", "hedgenet_phonon"
    steps = [
        format_seconds(find_row(step, work, model, 64))
        for work, model in (("electron_train_step", electron), ("phonon_train_step", phonon))
    ]
    memory = cell.get("peak_mb")
    sides: dict[str, Any] = peer.get("atoms_1024", {})
    ours = sides.get("ours", {}).get("seconds")
    peers = [
        f"{name} {number(sides[side]['seconds'] / ours)}×"
        for side, name in (("mace", "plain"), ("mace_cueq", "cuEquivariance"))
        if ours and "seconds" in sides.get(side, {})
    ]
    counts = [f"{tests[key]} {key}" for key in ("passed", "failed", "errors") if tests.get(key)]
    return [
        f"{device['name']}, torch {device['versions']['torch']}, {results['date']}",
        format_seconds(find_row(forward, "hamiltonian", electron, 1024)),
        format_seconds(find_row(forward, "energy_forces", phonon, 1024)),
        ", ".join(steps),
        f"{number(cell.get('seconds'))}, {number(None if memory is None else memory / 1024)}",
        number(scan.get("samples_per_second")),
        ", ".join(peers) or "–",
        ", ".join(counts) or "–",
    ]


def format_row(results: Row) -> str:
    """Return the row of a run, ready to paste."""
    return table(HEADER, [format_cells(results)])[-1]


def read_results(folder: Path) -> list[Row]:
    """Read the results of all GPUs, those of toys left out."""
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("gpu-*.json"))]
    return [results for results in found if not results["toy"]]


def replace_block(path: Path, name: str, content: str) -> None:
    """Replace what stands in a page between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        DataError: the comments are missing.
    """
    text = path.read_text("utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise DataError(
            message(
                path.name,
                f"no comments <!-- {name} --> and <!-- /{name} -->",
                "a place for the results of a GPU",
                "Put both comments on lines of their own where the table belongs.",
            )
        )
    write_atomically(path, pattern.sub(lambda found: found[1] + content + found[2], text))


def update_pages(speed: Path, limits: Path, results: Sequence[Row]) -> None:
    """Put the table of all results into one page and take out of another that there are none."""
    if not results:
        return
    lines = [*table(HEADER, [format_cells(found) for found in results]), "", NOTE, ""]
    replace_block(speed, "gpu", "\n".join(lines))
    replace_block(limits, "gpu-limit", "")


if __name__ == "__main__":
    update_pages(SPEED, LIMITS, read_results(BENCHMARKS / "results"))
