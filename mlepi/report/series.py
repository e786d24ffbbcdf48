"""Tables of a finished series of cell sizes, and the cell part in the reports of its runs.

``python -m mlepi.report.series FOLDER [--page]``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlepi.errors import MlepiError
from mlepi.figures import Table
from mlepi.figures.tables import tabulate
from mlepi.observables.cell_error.take_parts import take_parts
from mlepi.observables.cell_sizes.compare import STAGE
from mlepi.observables.cell_sizes.page import format_page
from mlepi.observables.cell_sizes.series import NAME, Series, write_series
from mlepi.observables.cell_sizes.tables import format_series, velocity_table
from mlepi.pipeline.discovery import Stages
from mlepi.report.error_budgets import budget_section
from mlepi.report.page import FILE_NAME as REPORT
from mlepi.report.page import write_report
from mlepi.report.run_records import list_error_parts, read_records
from mlepi.results import ResultsStore, collect_provenance, hash_data
from mlepi.tracking import log_comparison


def finish_series(folder: Path, stages: Stages) -> tuple[str, str]:
    """Compare the runs below a folder, and give every one of them the cell part of its errors.

    Writes records and figures of the series, ``cell_sizes.md`` and ``tables.md`` beside the runs,
    a record ``cell_error`` into every run, and the reports of those that have one again.

    Args:
        folder: of the series.
        stages: all that there are.

    Returns:
        The text of ``cell_sizes.md``, all numbers, and of ``tables.md``, the tables of
        ``docs/headline.md``.

    Raises:
        DataError: no runs, or runs that cannot be compared.
    """
    found, texts = write_series(folder, stages), []
    for series in found:
        for run in series.folders:
            _complete_run(run, series, stages)
        lines = [format_series(series.record), *_format_budgets(series, stages)]
        texts.append("\n".join(lines) + "\n")
    _log_series(folder, found)
    everything, page = "\n".join(texts), format_page([series.record for series in found])
    for name, text in ((NAME, everything), ("tables", page)):
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return everything, page


def _log_series(folder: Path, found: Sequence[Series]) -> None:
    """Send the velocities of the series to the services that its runs went to."""
    for series in found:
        store = ResultsStore(series.folders[0])
        config = store.provenance(STAGE).get("config") or {}
        header, rows = velocity_table(series.record)
        figures = {series.name: folder / f"{series.name}.png"}
        log_comparison(folder, config.get("logger") or {}, header, rows, figures)


def _complete_run(folder: Path, series: Series, stages: Stages) -> None:
    """Write the cell part of the errors of one run, and its report again if it has one."""
    store = ResultsStore(folder)
    record = store.read(STAGE, stages[STAGE].record)
    temperatures = record.temperatures.tolist()
    found = take_parts(series.name, series.record, store, record.supercell, temperatures)
    inputs = {"series": series.name, "records": {STAGE: store.content(STAGE)}}
    provenance = collect_provenance({}, inputs, 0)
    store.write("cell_error", found, hash_data(inputs), provenance)
    if (folder / REPORT).exists():
        write_report(folder, stages)


def _format_budgets(series: Series, stages: Stages) -> Iterator[str]:
    """Write the error budget of every size, the rows that a run shows on the screen."""
    yield "Error budgets at the last temperature; half widths, –: not measured."
    for folder in sorted(series.folders, key=lambda path: _size_of(path, stages)):
        records = read_records(ResultsStore(folder), stages)
        section = budget_section(records, list_error_parts(records, stages))
        for table in _shown(() if section is None else section.blocks):
            size = _size_of(folder, stages)
            columns = table.screen_columns or range(len(table.header))
            rows = range(len(table.rows)) if table.screen_rows is None else table.screen_rows
            cells = [[table.rows[row][column] for column in columns] for row in rows]
            header = [table.header[column] for column in columns]
            yield from ("", f"{size}×{size}. {table.title}", "", *tabulate(header, cells))


def _shown(blocks: Iterable[object]) -> Iterator[Table]:
    return (block for block in blocks if isinstance(block, Table) and block.title)


def _size_of(folder: Path, stages: Stages) -> int:
    """Return N of the N × N cells of a run."""
    return int(ResultsStore(folder).read(STAGE, stages[STAGE].record).supercell[0])


def main() -> None:
    """Run as a script."""
    from mlepi.observables import all_stages

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the series")
    parser.add_argument(
        "--page", action="store_true", help="print the tables of docs/headline.md instead of all"
    )
    arguments = parser.parse_args()
    try:
        everything, page = finish_series(arguments.folder, all_stages())
    except MlepiError as error:
        sys.exit(f"error: {error}")
    print(page if arguments.page else everything)


if __name__ == "__main__":
    main()
