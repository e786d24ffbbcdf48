"""Runs in the services where people look at curves: wandb and tensorboard, both optional.

Everything is in the run folder anyway. A service gets a copy, offline unless it is told otherwise;
one that is missing or fails is told of once, and the run goes on without it.
"""

from mlepi.tracking.service import Job, Service
from mlepi.tracking.settings import list_mistakes
from mlepi.tracking.trackers import Trackers, attempt, log_comparison, start_trackers

__all__ = [
    "Job",
    "Service",
    "Trackers",
    "attempt",
    "list_mistakes",
    "log_comparison",
    "start_trackers",
]
