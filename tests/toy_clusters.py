"""Clusters of dask whose workers are threads of this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SETTINGS = {
    "cluster": "local",
    "workers": 2,
    "least_workers": 0,
    "threads": 1,
    "memory": None,
    "walltime": "01:00:00",
    "queue": None,
    "account": None,
    "job": {},
    "deaths": 3,
    "patience": 60.0,
    "dashboard": ":0",
}
"""Of the engine."""


@contextmanager
def kept_environment() -> Iterator[None]:
    """Take back what dask sets in this process for its workers."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def threads_as_workers() -> Iterator[Any]:
    """A scheduler with two workers."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster
