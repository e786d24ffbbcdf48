"""What is measured on the samples and on the crystal at rest: one folder per observable.

A folder holds the stage, its record and its figure, and is found by its place. Those of other
packages are found by their entry points.
"""

from __future__ import annotations

import sys

import mlepi.pipeline.stages
from mlepi.pipeline.discovery import Stages, find_stages
from mlepi.plugins import import_observables


def all_stages() -> Stages:
    """Return all stages by name: of the pipeline, of this room, then of other packages."""
    return find_stages(mlepi.pipeline.stages, sys.modules[__name__], *import_observables())
