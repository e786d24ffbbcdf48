"""The loop from labels to a number and back: which labels help most, and when there are enough.

``Study`` runs it, each step a command of mlepi with a folder of its own. What decides is in pure
functions: ``select_informative`` which structures to label next, ``decide`` when to stop.
"""

from mlepi.study.informative import (
    Choice,
    carry_effects,
    choose_length,
    correlate_errors,
    divide_variance,
    measure_squares,
    select_informative,
)
from mlepi.study.loop import Limits, Outcome, Study
from mlepi.study.progress import Decision, Forecast, Round, decide, forecast_labels
from mlepi.study.settings import CHOICES, DEFAULT_TARGETS, StudySettings
from mlepi.study.targets import find_stage

__all__ = [
    "CHOICES",
    "DEFAULT_TARGETS",
    "Choice",
    "Decision",
    "Forecast",
    "Limits",
    "Outcome",
    "Round",
    "Study",
    "StudySettings",
    "carry_effects",
    "choose_length",
    "correlate_errors",
    "decide",
    "divide_variance",
    "find_stage",
    "forecast_labels",
    "measure_squares",
    "select_informative",
]
