"""The table of ``originals.py``: what it has measured, as text.

A part is "title" (of the original), "unit", "metric" (of the test), "size", "seed", "commit" and
"sides", "original" and "ours" → "name", "parameters", "test_error" and "curve"; or "title" and
"error", the text of what failed. Errors are in the unit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.curves import Point, lowest_error, seconds_to_error

from mlepi.figures.tables import tabulate

HEADER = (
    "original",
    "ours",
    "parameters",
    "epochs",
    "error of the test",
    "ours / original",
    "s per epoch",
    "lowest error of the validation",
    "s to that of the original",
    "original / ours",
)
NOTE = (
    "One random start each; pairs are original, ours; s are processor seconds of one thread, "
    "validations included. Errors: MAE of force components (meV/Å), gauge-free MAE of H (meV)."
)


def summarise(part: Mapping[str, Any]) -> dict[str, Any]:
    """Compare both sides of a part.

    Args:
        part: with "sides".

    Returns:
        "curves" by side, "lowest" (point of the lowest validation error) by side,
        "seconds" (until the lowest error of the original) by side, None for what was not reached,
        "error_ratio" (ours / original, of the test) and "seconds_ratio" (original / ours), None
        where the error was not reached.
    """
    sides = part["sides"]
    curves = {side: [Point(*point) for point in sides[side]["curve"]] for side in sides}
    lowest = {side: lowest_error(curve) for side, curve in curves.items()}
    seconds = {
        side: seconds_to_error(curve, lowest["original"].error) for side, curve in curves.items()
    }
    ours, original = seconds["ours"], lowest["original"].seconds
    return {
        "curves": curves,
        "lowest": lowest,
        "seconds": seconds,
        "error_ratio": sides["ours"]["test_error"] / sides["original"]["test_error"],
        "seconds_ratio": None if ours is None else original / ours,
    }


def format_row(part: Mapping[str, Any]) -> list[str]:
    """Return the cells of one part."""
    if "error" in part:
        return [part["title"], "failed: " + part["error"].splitlines()[-1], *[""] * 8]
    found, sides = summarise(part), part["sides"]
    original, ours = sides["original"], sides["ours"]

    def pair(first: float | None, second: float | None, form: str) -> str:
        texts = ("not reached" if each is None else format(each, form) for each in (first, second))
        return ", ".join(texts)

    lowest, seconds, ratio = found["lowest"], found["seconds"], found["seconds_ratio"]
    theirs, own = (found["curves"][side][-1] for side in ("original", "ours"))
    return [
        f"{original['name']} ({part['title']})",
        ours["name"],
        pair(original["parameters"], ours["parameters"], ",d"),
        str(own.epoch) if own.epoch == theirs.epoch else pair(theirs.epoch, own.epoch, "d"),
        pair(original["test_error"], ours["test_error"], ".3g") + f" {part['unit']}",
        f"{found['error_ratio']:.2f}",
        pair(theirs.seconds / theirs.epoch, own.seconds / own.epoch, ".3g"),
        pair(lowest["original"].error, lowest["ours"].error, ".3g"),
        pair(seconds["original"], seconds["ours"], ".3g"),
        "–" if ratio is None else f"{ratio:.1f}",
    ]


def format_originals(content: Mapping[str, Any]) -> str:
    """Return table and note of all parts.

    Args:
        content: of the file of results: "parts", name → part.
    """
    rows = [format_row(part) for part in content["parts"].values()]
    return "\n".join([*tabulate(HEADER, rows), "", NOTE])


def read_originals(file: Path) -> dict[str, Any]:
    """Return the file of results; no parts where there is none."""
    if not file.is_file():
        return {"parts": {}}
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
