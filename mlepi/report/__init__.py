"""The report of a run: every stage is asked for its record, figures, facts and doubts."""

from mlepi.report.page import write_report
from mlepi.report.screen import format_summary, print_tables

__all__ = ["format_summary", "print_tables", "write_report"]
