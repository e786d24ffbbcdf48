"""Figures and the report of a run: records in, PNG, PDF and HTML out; nothing is computed here."""

from mlepi.plots.report import plot_run, print_velocities, write_report

__all__ = ["plot_run", "print_velocities", "write_report"]
