"""Renew the tables of ``docs/reproduction.md`` from the folders of finished sweeps.

``python benchmarks/paper.py`` compares every sweep of ``PARTS`` that is there again, keeps its
numbers and its figure in ``benchmarks/results/paper``, and writes the tables into the page. Sweeps
that are not there leave what was kept before. ``--print`` shows the page and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from mlepi.report.trainings import NAME, finish_sweep, format_comparison

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reproduction.md"
KEPT = ROOT / "benchmarks" / "results" / "paper"
RUNS = ROOT / "runs"


@dataclass(frozen=True)
class Part:
    """One sweep of the page.

    Attributes:
        name: of its experiment, of the files that are kept, and of its place in the page.
        folder: of the sweep, in the folder of all runs.
    """

    name: str
    folder: str


PARTS = tuple(
    Part(name, f"{name}_small")
    for name in (
        "paper_table1",
        "paper_table1_time",
        "paper_table1_hbn",
        "paper_table2",
        "paper_table2_time",
        "learning_curve_phonon",
        "learning_curve_electron",
        "shape_curve_phonon",
        "shape_curve_electron",
    )
)
"""Sweeps of the page, in its order."""


def keep(part: Part, runs: Path, kept: Path) -> bool:
    """Compare a sweep again and keep numbers and figures; False where it is not there.

    Args:
        part: of the page.
        runs: folder of all runs.
        kept: folder of what is kept.
    """
    folder = runs / part.folder
    if not any(folder.glob("*/test_metrics.json")):
        return False
    finish_sweep(folder)
    kept.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / f"{NAME}.json", kept / f"{part.name}.json")
    for ending in ("", "_curves"):
        if (folder / f"{NAME}{ending}.png").is_file():
            shutil.copyfile(folder / f"{NAME}{ending}.png", kept / f"{part.name}{ending}.png")
    return True


def format_part(part: Part, kept: Path) -> str:
    """Return the text of one place of the page, from what is kept."""
    if not (kept / f"{part.name}.json").is_file():
        return "Not run yet."
    content = json.loads((kept / f"{part.name}.json").read_text(encoding="utf-8"))
    figures = [
        f"![{part.name}](../benchmarks/results/paper/{part.name}{ending}.png)"
        for ending in ("", "_curves")
        if (kept / f"{part.name}{ending}.png").is_file()
    ]
    return "\n\n".join([format_comparison(content).strip(), *figures])


def fill_page(text: str, kept: Path) -> str:
    """Return the page with the text of every part between its marks.

    Args:
        text: of the page.
        kept: folder of what is kept.

    Raises:
        ValueError: the page has no place for a part.
    """
    for part in PARTS:
        begin, end = f"<!-- begin {part.name} -->", f"<!-- end {part.name} -->"
        found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, flags=re.DOTALL)
        if found is None:
            raise ValueError(f"{PAGE.name} has no place for {part.name}: {begin} … {end}")
        new = f"{begin}\n{format_part(part, kept)}\n{end}"
        text = text[: found.start()] + new + text[found.end() :]
    return text


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the sweeps")
    parser.add_argument("--print", action="store_true", help="show the page, write nothing")
    given = parser.parse_args()
    if not given.print:
        for part in PARTS:
            print(part.name, "renewed" if keep(part, given.runs, KEPT) else "as kept before")
    text = fill_page(PAGE.read_text(encoding="utf-8"), KEPT)
    if given.print:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
