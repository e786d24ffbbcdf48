"""The page of a run that is still going, which loads itself again."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mlepi.pipeline import Run
from mlepi.pipeline.discovery import Stages
from mlepi.pipeline.sampled_stage import SampledStage
from mlepi.report.page import write_report

BETWEEN = 60.0
"""Seconds between two pages of a run, unless samples come next, which take the time."""

_written: dict[str, float] = {}
"""Run folder → when its page was written last, by the clock of this process."""
_failed: set[str] = set()
"""Run folders without a page, which is told once; at the end it is an error."""


def show_progress(run: Run, names: Sequence[str], stages: Stages) -> None:
    """Write the page of what there is so far, where it is worth its seconds.

    Whatever goes wrong with it is told and does not end the run.

    Args:
        run: that is going.
        names: stages that come next.
        stages: all that there are.
    """
    present = run.store.stages()
    if not present or set(names) <= set(present):
        return
    folder, now = str(run.store.folder), time.monotonic()
    sampled = any(issubclass(stages[name], SampledStage) for name in names)
    if not sampled and now - _written.setdefault(folder, now) < BETWEEN:
        return
    words = ", ".join(name.replace("_", " ") for name in names)
    so_far = ", ".join(name.replace("_", " ") for name in present)
    at = time.strftime("%H:%M:%S")
    try:
        write_report(folder, stages, f"at {at}, there are {so_far}; {words} come next.")
        _written[folder] = now
    except Exception as error:
        if folder not in _failed:
            print(f"no page of the run so far: {error}", flush=True)
        _failed.add(folder)
