"""Judge a network on labelled structures: ``mlepi eval CHECKPOINT DATA``.

A table on the screen, all numbers in ``eval.json``, and a page with parity plots, ``eval.html``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

OUTPUT = Path("outputs/eval")


def main(arguments: Sequence[str]) -> int:
    """Judge what the command line names, show the table and write both files."""
    given = build_parser().parse_args(arguments)
    from mlepi.evaluation.judgement import judge
    from mlepi.evaluation.page import write_files
    from mlepi.evaluation.settings import Settings, parse_kpoints
    from mlepi.evaluation.tables import format_screen
    from mlepi.memory import keep_freed_memory
    from mlepi.pipeline.progress import ProgressReport

    keep_freed_memory()
    settings = Settings(
        subsets=tuple(name.strip() for name in given.subset.split(",")) if given.subset else (),
        kpoints=parse_kpoints(given.kpoints),
        window=None if given.window is None else (given.window[0], given.window[1]),
        bin_width=given.bin,
        max_structures=given.max_structures,
        device=given.device,
        dtype=given.dtype,
    )
    found = judge(
        given.checkpoint,
        given.data,
        split=given.split,
        extra=given.extra,
        overlap=given.overlap,
        potentials=given.layer_potentials,
        settings=settings,
        progress=ProgressReport(stream=sys.stderr),
    )
    folder = given.output or OUTPUT / Path(given.checkpoint).stem
    files = write_files(found, folder)
    print(format_screen(found.result))
    print("\n" + "\n".join(map(str, files)))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the options, each with its unit."""
    parser = argparse.ArgumentParser(
        prog="mlepi eval",
        description="Judge a network on labelled structures: errors of H by block type, pair of "
        "orbitals and distance, in the metric of S, of levels, ghosts and slopes; or of energy, "
        "forces and stress; by subset, size and structure. Everything is computed anew every time.",
    )
    parser.add_argument("checkpoint", help="of either kind, also best.ckpt of a training")
    parser.add_argument(
        "data",
        nargs="?",
        help="Hamiltonians (.h5) or energies and forces (extxyz, VASP); by default the data set "
        "of the training",
    )
    parser.add_argument(
        "--split",
        metavar="FILE",
        help="JSON file that divides DATA; by default the one of the training if DATA is its data "
        "set, else none",
    )
    parser.add_argument(
        "--subset",
        metavar="NAME[,NAME…]",
        help="subsets of the split, or all; by default test and all named test subsets. The "
        "numbers of the whole are those of the first",
    )
    parser.add_argument("--extra", metavar="FILE", help="data set with more of the split")
    parser.add_argument("--overlap", metavar="TABLE", help="instead of the checkpoint's table")
    parser.add_argument(
        "--layer-potentials",
        metavar="FILE",
        help="JSON of potentials (eV) that are added to H of the labels, layer by layer, or none; "
        "by default what the training has added if DATA is its data set",
    )
    parser.add_argument(
        "--kpoints",
        nargs="+",
        default=["3"],
        metavar="N | X,Y,Z",
        help="levels at the first N of Γ, K, a general point and two M of each cell, or at these "
        "points (fractional); 0 for no levels; %(default)s",
    )
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="eV from E_F: one more window of levels, beside ±2 eV, occupied, and up to 5 eV",
    )
    parser.add_argument(
        "--bin", type=float, default=0.5, metavar="WIDTH", help="of distances, Å; %(default)s"
    )
    parser.add_argument(
        "--max-structures",
        type=int,
        metavar="N",
        help="of every subset, evenly spread over it; all by default",
    )
    parser.add_argument("--device", default="cpu", help="where the network runs; %(default)s")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        help="of the network; float32 for H and float64 for forces by default",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help=f"for eval.json and eval.html, which are replaced; {OUTPUT}/CHECKPOINT by default",
    )
    return parser
