"""Runs side by side: ``mlepi compare RUN RUN…``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Print what differs, and write a page.

    Raises:
        DataError: fewer than two runs, or a folder without records.
    """
    parser = argparse.ArgumentParser(
        prog="mlepi compare",
        description="Lay runs side by side: settings that differ, numbers, figures, doubts.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder")
    parser.add_argument(
        "--page", type=Path, default=Path("compare.html"), help="written; %(default)s"
    )
    given = parser.parse_args(arguments)

    from mlepi.observables import all_stages
    from mlepi.report.compare import compare_runs, print_comparison, write_comparison

    found = compare_runs(given.runs, all_stages())
    print_comparison(found)
    print(write_comparison(found, given.page))
    return 0
