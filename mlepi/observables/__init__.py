"""What is measured on the samples and on the crystal at rest: one folder per observable.

A folder holds the stage, its record and its figure, and is found by its place.
"""

from __future__ import annotations

import sys

import mlepi.pipeline.stages
from mlepi.pipeline.discovery import Stages, find_stages


def all_stages() -> Stages:
    """Return all stages by name: those of the pipeline, then one per folder of this room."""
    return find_stages(mlepi.pipeline.stages, sys.modules[__name__])
