"""The pages of finished runs once more, of whatever version: ``mlepi report RUN…``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mlepi.run_lock import refuse_held


def main(arguments: Sequence[str]) -> int:
    """Write figures and page into every run folder, or one page elsewhere.

    Raises:
        DataError: a folder holds no records, or a run is at work in it.
        ConfigError: one page for several runs.
    """
    parser = argparse.ArgumentParser(
        prog="mlepi report",
        description="Write report.html and the figures of run folders again, of any version.",
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder")
    parser.add_argument("--screen", action="store_true", help="print all tables as well")
    given = parser.parse_args(arguments)

    from mlepi.observables import all_stages
    from mlepi.report import format_summary, print_tables, write_report

    stages = all_stages()
    for folder in given.runs:
        refuse_held(folder)
        if given.screen:
            print_tables(folder, stages)
            print(format_summary(folder, stages))
        print(write_report(folder, stages))
    return 0
