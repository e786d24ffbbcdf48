"""How many threads a process takes: the cores that are free, divided among the processes of a run.

As many threads as cores on a machine that is busy wait for each other at every step: an epoch takes
several times as long as with one thread. So cores that others keep busy are left to them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables in which libraries look for it when they are loaded."""
LOOK = 0.2
"""Seconds over which the load of the cores is looked at."""


def choose_threads(config: Mapping[str, Any]) -> str:
    """Settle the threads of this process before the libraries that use them are loaded.

    ``threads`` of the config decides, else the environment, else the free cores.

    Args:
        config: composed; "threads" and "trainer.devices".

    Returns:
        What was chosen and why, for the user; empty where the environment has decided.
    """
    wanted = config.get("threads")
    if wanted is None and VARIABLES[0] in os.environ:
        return ""
    n_processes = _count_processes(config)
    if isinstance(wanted, int) and wanted > 0:
        count, why = wanted, "as threads says"
    else:
        cores = count_cores()
        free = max(1, min(cores, round(count_idle())))
        count = max(1, free // n_processes)
        busy = "" if free == cores else f", {cores - free} of them busy"
        shared = "" if n_processes == 1 else f", for {n_processes} processes"
        why = f"{cores} core{'s' if cores > 1 else ''}{busy}{shared}"
    for name in VARIABLES:
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    return f"threads          {count} per process ({why})"


def count_cores() -> int:
    """Return the cores that this process may use: its affinity, and the quota of its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))


def count_idle() -> float:
    """Return how many of these cores have nothing to do, looked at for a moment."""
    cores = count_cores()
    before = _read_times()
    if not before:
        return float(cores)
    time.sleep(LOOK)
    after = _read_times()
    spent = sum(after) - sum(before)
    idle = sum(after[place] - before[place] for place in (3, 4))  # or waiting for a disk
    return cores * idle / spent if spent > 0 else float(cores)


def _read_times() -> list[int]:
    """Return the time of all cores by what they did, of Linux; nothing elsewhere."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    except OSError:
        return []
    return [int(word) for word in first.split()[1:9]]


def _count_processes(config: Mapping[str, Any]) -> int:
    """Return how many processes of this run share the machine."""
    local = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE")
    if local is not None and local.isdigit():
        return int(local)
    devices = (config.get("trainer") or {}).get("devices")
    return devices if isinstance(devices, int) and devices > 0 else 1
