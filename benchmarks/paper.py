"""Renew the tables and figures of ``docs/reproduction.md``.

``python benchmarks/paper.py`` runs the inferences of ``FIGURES`` from the shipped checkpoints,
minutes each, or goes on with them where they stopped; compares every sweep of ``PARTS`` that is
there again; keeps numbers and figures in ``benchmarks/results/paper``, and writes them and the
table of ``originals.py`` into the page. Sweeps that are not there leave what was kept before.
``--without-figures`` runs no inference, ``--print`` shows the page and writes nothing. ``--all``
(``make paper-all``) first runs every sweep with its controls, and the long inferences, many hours
of one core even at ``size=small``: the same command goes on after a kill, and what fails is named
at the end while the others go on.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from originals_table import format_originals, read_originals

from mlepi.figures import Paragraph
from mlepi.figures.tables import tabulate
from mlepi.observables import all_stages
from mlepi.project_files import CONFIG_FOLDER
from mlepi.report.trainings import NAME, finish_sweep, format_comparison
from mlepi.results import ResultsStore

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reproduction.md"
KEPT = ROOT / "benchmarks" / "results" / "paper"
RUNS = ROOT / "runs"
NOT_RUN = "Not run yet."
ORIGINALS = "originals"
"""Table of ``originals.py``, beside the folder of what is kept, and its place in the page."""


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


LONG = ("headline", "tbg_magic")
"""Experiments of inferences that take hours; their pages are written from what they print."""


@dataclass(frozen=True)
class FigurePart:
    """One figure of the page, made by one inference.

    Attributes:
        name: of its experiment, of the files that are kept, and of its place in the page.
        stage: whose figure and tables are shown.
    """

    name: str
    stage: str


FIGURES = (
    FigurePart("paper_phonons", "phonon_reference"),
    FigurePart("paper_sample", "labelled_bands"),
)
"""Figures of the page that two cores make in minutes, in its order."""


def list_sweeps(part: Part) -> list[str]:
    """Return the experiments whose trainings one part compares: its own, and its controls."""
    names = [part.name, f"{part.name}_controls"]
    return [name for name in names if (CONFIG_FOLDER / "experiment" / f"{name}.yaml").is_file()]


def run_long(runs: Path) -> list[str]:
    """Run every sweep, and the long inferences, or go on with them; return those that failed.

    Args:
        runs: folder of all runs.
    """
    lines = [
        ["train.py", f"experiment={name}", f"hydra.sweep.dir={runs / part.folder}"]
        for part in PARTS
        for name in list_sweeps(part)
    ]
    lines += [["infer.py", f"experiment={name}", f"folder={runs / name}"] for name in LONG]
    failed = []
    for line in lines:
        print(" ".join(line), flush=True)
        if subprocess.run([sys.executable, *line], cwd=ROOT, check=False).returncode:  # noqa: S603
            failed.append(line[1].removeprefix("experiment="))
    return failed


def run_figure(part: FigurePart, runs: Path) -> None:
    """Run the inference of a figure, as a user types it; what is finished there stays.

    Args:
        part: of the page.
        runs: folder of all runs.

    Raises:
        subprocess.CalledProcessError: the inference failed.
    """
    line = ["infer.py", f"experiment={part.name}", f"folder={runs / part.name}", "logger=csv"]
    subprocess.run([sys.executable, *line], cwd=ROOT, check=True)  # noqa: S603 - fixed arguments


def keep_figure(part: FigurePart, runs: Path, kept: Path) -> bool:
    """Keep tables, figure and provenance of a finished inference; False where it is not there.

    Args:
        part: of the page.
        runs: folder of all runs.
        kept: folder of what is kept.
    """
    store, stages = ResultsStore(runs / part.name), all_stages()
    if part.stage not in store.stages():
        return False
    stage = stages[part.stage]
    records = {part.stage: store.read(part.stage, stage.record)}
    shown, provenance = stage.presentation(), store.provenance(part.stage)
    blocks: list[dict[str, Any]] = []
    for section in filter(None, (build(records) for build in shown.sections)):
        blocks += [
            {"text": block.text}
            if isinstance(block, Paragraph)
            else {"header": list(block.header), "rows": [list(row) for row in block.rows]}
            for block in section.blocks
        ]
    kept.mkdir(parents=True, exist_ok=True)
    content = {
        "blocks": blocks,
        "provenance": {key: value for key, value in provenance.items() if key != "config"},
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (kept / f"{part.name}.json").write_text(text, encoding="utf-8")
    drawing = shown.drawings[0].name
    shutil.copyfile(store.folder / "figures" / f"{drawing}.png", kept / f"{part.name}.png")
    return True


def format_figure(part: FigurePart, kept: Path) -> str:
    """Return the text of the place of a figure, from what is kept."""
    if not (kept / f"{part.name}.json").is_file():
        return NOT_RUN
    content = json.loads((kept / f"{part.name}.json").read_text(encoding="utf-8"))
    blocks = [
        block["text"] if "text" in block else "\n".join(tabulate(block["header"], block["rows"]))
        for block in content["blocks"]
    ]
    return "\n\n".join([*blocks, f"![{part.name}](../benchmarks/results/paper/{part.name}.png)"])


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
        return NOT_RUN
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
    texts = {part.name: format_part(part, kept) for part in PARTS}
    texts |= {part.name: format_figure(part, kept) for part in FIGURES}
    originals = read_originals(kept.parent / f"{ORIGINALS}.json")
    texts[ORIGINALS] = format_originals(originals) if originals["parts"] else NOT_RUN
    for name, part_text in texts.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", text, flags=re.DOTALL)
        if found is None:
            raise ValueError(f"{PAGE.name} has no place for {name}: {begin} … {end}")
        new = f"{begin}\n{part_text}\n{end}"
        text = text[: found.start()] + new + text[found.end() :]
    return text


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the sweeps")
    parser.add_argument("--print", action="store_true", help="show the page, write nothing")
    parser.add_argument("--without-figures", action="store_true", help="run no inference")
    parser.add_argument("--all", action="store_true", help="run sweeps and long inferences first")
    given = parser.parse_args()
    failed = run_long(given.runs.resolve()) if given.all and not given.print else []
    if not given.print:
        for figure in FIGURES:
            if not given.without_figures:
                run_figure(figure, given.runs.resolve())
            renewed = keep_figure(figure, given.runs, KEPT)
            print(figure.name, "renewed" if renewed else "as kept before")
        for part in PARTS:
            print(part.name, "renewed" if keep(part, given.runs, KEPT) else "as kept before")
    text = fill_page(PAGE.read_text(encoding="utf-8"), KEPT)
    if given.print:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; their parts of the page are as they were")


if __name__ == "__main__":
    main()
