"""The tables of a run on the screen."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table as RichTable

from mlepi.figures import Table
from mlepi.pipeline.discovery import Stages
from mlepi.report.run_records import list_sections, read_records
from mlepi.results import ResultsStore

TABLE_WIDTH = 110
"""Characters, when the output is not a terminal."""


def print_tables(folder: str | Path, stages: Stages) -> None:
    """Print the tables that stages show on a screen.

    Args:
        folder: run folder; without such tables nothing is printed.
        stages: all that there are.
    """
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    for section in list_sections(read_records(ResultsStore(folder), stages), stages):
        for block in section.blocks:
            if isinstance(block, Table) and block.title:
                console.print(_format(block))


def _format(block: Table) -> RichTable:
    table = RichTable(title=block.title, title_justify="left", box=SIMPLE)
    columns = block.screen_columns or range(len(block.header))
    for column in columns:
        table.add_column(block.header[column], justify="right")
    shown = range(len(block.rows)) if block.screen_rows is None else block.screen_rows
    for row in (block.rows[number] for number in shown):
        table.add_row(*(row[column] for column in columns))
    return table
