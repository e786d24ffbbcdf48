"""The report of a run: every stage is asked for its record, figures, facts and doubts."""

from mlepi.report.page import write_report
from mlepi.report.run_records import plot_run
from mlepi.report.screen import print_tables

__all__ = ["plot_run", "print_tables", "write_report"]
