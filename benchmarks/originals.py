"""Train the originals on our data, and ours beside them: who has the smaller error, and how soon?

``python benchmarks/originals.py --peers .venv-peers/bin/python``: one training of each original and
one of ours per part, one thread each, with the structures, sizes, batches and epochs of the tables
of the paper (``experiment=paper_table1``, ``paper_table2``, ``size=small``), each with the recipe
of its makers:

- ``mace-torch``: mace-torch itself by its own command, in the environment of the peers that `make
  bench` makes;
- ``path-by-path``: DeepH-E3 in e3nn's operations (``path_network.py``) with the published loss and
  schedule; an epoch takes several times ours, so ``--hours`` may end it: ours gets as many epochs;
- ``deeptb-lem``, ``deeptb-slem``: DeePTB by its own command with the recipe of its manual, in an
  environment of its own, ``--deeptb``; left out where none is named. ``--hours`` holds here too.

The same command goes on after a kill. A part that fails is told and recorded, and the others go on.
Results, with the curves: ``results/originals.json`` and ``.md``; ``python benchmarks/paper.py``
writes the table into ``docs/reproduction.md``. ``--quick`` tries everything with two epochs of four
structures and keeps its results beside the trainings.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from originals_deeptb import train_deeptb
from originals_parts import train_mace, train_path
from originals_table import format_originals, read_originals
from originals_trainings import BLOCKS, FORCES, ROOT, Kind, Plan, train_ours

from mlepi.project_files import find_commit, write_json, write_whole

RESULTS = ROOT / "benchmarks" / "results"
NAME = "originals"
TITLES = {
    "mace-torch": "its recommended recipe",
    "path-by-path": "DeepH-E3 in e3nn's operations, published recipe",
    "deeptb-lem": "recipe of its manual",
    "deeptb-slem": "recipe of its manual",
}
"""Part → what is said of its original."""

Train = Callable[[Plan], dict[str, Any]]


def run_parts(parts: Mapping[str, tuple[Kind, Train]], plan: Plan, folder: Path) -> bool:
    """Run some parts and write the results after each; return whether all came to their end.

    Args:
        parts: name → what is learned, and what trains the original and returns its side.
        plan: of all trainings.
        folder: of the results; parts that are not run stay as they are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = read_originals(folder / f"{NAME}.json")
    complete = True
    for name, (kind, train) in parts.items():
        part: dict[str, Any] = {"title": TITLES[name], "size": plan.size, "seed": plan.seed}
        part |= {"commit": find_commit(ROOT / "mlepi"), "unit": kind.unit, "metric": kind.metric}
        try:
            original = train(plan)
            ours = train_ours(plan, kind, original["curve"][-1].epoch)
            part["sides"] = {"original": original, "ours": ours}
        except Exception as error:  # whatever fails, the other parts go on
            complete = False
            part["error"] = f"{type(error).__name__}: {error}"
            print(f"{name}: failed: {error}", file=sys.stderr, flush=True)
        content["parts"][name] = part
        write_json(folder / f"{NAME}.json", content)
        write_whole(folder / f"{NAME}.md", format_originals(content) + "\n")
    print(format_originals(content))
    return complete


def choose_parts(deeptb: Path | None) -> list[str]:
    """Return all parts, without those of DeePTB where its environment is not named."""
    left_out = [name for name in TITLES if name.startswith("deeptb") and deeptb is None]
    if left_out:
        print(f"left out without --deeptb: {', '.join(left_out)}", flush=True)
    return [name for name in TITLES if name not in left_out]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a script; 1 where a part failed.

    Args:
        arguments: of the command line; those of the process by default.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # end the training that is running too
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=tuple(TITLES), help="default: all")
    parser.add_argument(
        "--peers", type=Path, default=ROOT / ".venv-peers/bin/python", help="interpreter"
    )
    parser.add_argument("--deeptb", type=Path, help="interpreter of DeePTB's environment")
    parser.add_argument("--epochs", type=int, help="of all trainings; default: those of the tables")
    parser.add_argument("--hours", type=float, help="of the processor, for originals on H")
    parser.add_argument("--seed", type=int, default=1, help="of all trainings")
    parser.add_argument("--size", default="small", help="as in conf/size")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / NAME, help="of trainings")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="two epochs of four structures")
    given = parser.parse_args(arguments)
    known: dict[str, tuple[Kind, Train]] = {
        "mace-torch": (FORCES, partial(train_mace, peers=given.peers)),
        "path-by-path": (BLOCKS, train_path),
        "deeptb-lem": (BLOCKS, partial(train_deeptb, python=given.deeptb, method="lem")),
        "deeptb-slem": (BLOCKS, partial(train_deeptb, python=given.deeptb, method="slem")),
    }
    if given.deeptb is None and any(name.startswith("deeptb") for name in given.parts or ()):
        parser.error("the parts of DeePTB need --deeptb; docs/reproduction.md says how it is made")
    plan = Plan(given.folder, given.size, given.seed, given.epochs, given.hours, given.quick)
    chosen = {name: known[name] for name in given.parts or choose_parts(given.deeptb)}
    complete = run_parts(chosen, plan, given.folder / "quick" if given.quick else given.results)
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
