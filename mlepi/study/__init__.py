"""The loop from labels to a number and back: which labels help most, and when there are enough.

Pure functions; nothing here trains, labels or reads files.
"""

from mlepi.study.informative import (
    Choice,
    choose_length,
    correlate_errors,
    divide_variance,
    select_informative,
)
from mlepi.study.progress import Decision, Forecast, Round, decide, forecast_labels

__all__ = [
    "Choice",
    "Decision",
    "Forecast",
    "Round",
    "choose_length",
    "correlate_errors",
    "decide",
    "divide_variance",
    "forecast_labels",
    "select_informative",
]
