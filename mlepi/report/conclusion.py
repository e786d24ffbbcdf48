"""How a run ends: the page, the summary on the screen, what to doubt, and the services."""

from __future__ import annotations

from pathlib import Path

from mlepi.pipeline import Run
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.progress import ProgressReport
from mlepi.report.page import write_report
from mlepi.report.run_records import name_doubts, read_records
from mlepi.report.screen import format_summary
from mlepi.report.tracked_run import track_run


def conclude_run(run: Run, stages: Stages, progress: ProgressReport, sweep: str = "") -> None:
    """Write the page, and say what was found and what to doubt of it, each once.

    Args:
        run: that is done.
        stages: all that there are.
        progress: where lines go.
        sweep: name of the sweep that the run belongs to; empty for none.
    """
    folder = run.store.folder
    page: Path | None = None
    if run.settings.config["report"]:
        page = write_report(folder, stages)
    for line in ("", *format_summary(folder, stages).splitlines(), ""):
        progress.say(line)
    records = read_records(run.store, stages)
    progress.tell_doubts(name_doubts(records, stages, run.store))
    track_run(run, stages, sweep, page)
    if page is not None:
        progress.say(f"report           {page}")
