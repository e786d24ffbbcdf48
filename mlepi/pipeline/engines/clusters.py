"""Schedulers of dask: one on this machine, one whose workers are jobs, or one that runs already.

What their defaults would do to long numerical work is set here: a task may be lost any number of
times, since workers die for reasons of their own; memory is never spilled to a disk, and a worker
is not paused, which looks like a run that hangs, but restarted when it needs too much. On a busy
machine that takes its time: 15 s, after which dask gives a worker up for good, are too few. Looking
fifty times a second whether all is well takes a twentieth of a core; twice is enough.

Workers of this machine are forked from one process, which imports what they need while the stages
before the samples run; each by itself would need seven seconds for that.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlepi.errors import ConfigError, DataError, message
from mlepi.memory import list_memory_variables

if TYPE_CHECKING:
    from distributed import Client

    from mlepi.pipeline.engines.dask_engine import Dask

LOCAL = "local"
JOB_SYSTEMS: Mapping[str, str] = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
}
"""Value of ``engine.cluster`` → class of dask-jobqueue."""
SCHEDULER: Mapping[str, Any] = {
    "distributed.scheduler.allowed-failures": 1_000_000,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.deploy.lost-worker-timeout": "2 minutes",
}
FORKED = "forkserver"
"""How workers of this machine start on Linux."""
WORKER = ("mlepi.pipeline.engines.dask_worker",)
"""What every worker imports."""
NETWORKS = ("mlepi.models", "mlepi.predictors")
"""What workers that compute samples import as well; it takes long."""
LOGGERS = {
    "distributed": logging.ERROR,
    "distributed.nanny": logging.WARNING,
    "asyncio": logging.CRITICAL,
}
"""What is told of the scheduler; what nannies say is asked for when a worker has died.

Of a worker that dies while it starts asyncio would print tracebacks; another one takes its place.
"""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
LOGS = "workers"
"""Folder of the logs of jobs, in the run folder."""
ENDED = ("closed", "failed")
"""Names of the states of workers that compute nothing any more."""
CONNECT = 30.0
"""s within which a scheduler that runs already must answer."""
ADAPT: Mapping[str, Any] = {"target_duration": "1s", "interval": "1s", "wait_count": 10}
"""As many workers as there are blocks; one without work leaves after some seconds."""


@dataclass(frozen=True)
class JobOptions:
    """What a worker is given: the arguments of ``Dask`` of these names."""

    threads: int
    memory: str | None
    walltime: str
    queue: str | None
    account: str | None
    job: Mapping[str, Any]

    def environment(self) -> dict[str, str]:
        """Return the variables of a worker: threads, and memory that is kept."""
        return dict.fromkeys(THREADS, str(self.threads)) | list_memory_variables()

    def arguments(self, system: str, folder: Path) -> dict[str, Any]:
        """Return the arguments of a class of dask-jobqueue.

        Args:
            system: key of ``JOB_SYSTEMS``.
            folder: of the logs.
        """
        lifetime, stagger = plan_lifetime(read_walltime(self.walltime))
        exports = self.environment()
        exports |= {
            "DASK_" + key.upper().replace(".", "__").replace("-", "_"): str(value)
            for key, value in SCHEDULER.items()
        }
        return {
            "cores": self.threads,
            "processes": 1,
            "memory": self.memory or "4 GB",
            "walltime": self.walltime,
            "queue": self.queue,
            ("project" if system in ("sge", "lsf") else "account"): self.account,
            "log_directory": str(folder),
            "worker_extra_args": [
                *("--nthreads", "1"),
                *("--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"),
            ],
            "job_script_prologue": [f"export {name}={value}" for name, value in exports.items()],
            **self.job,
        }


def read_walltime(text: str) -> int:
    """Return the seconds of "HH:MM:SS", "D-HH:MM:SS" or "HH:MM".

    Raises:
        ConfigError: something else.
    """
    days, _, clock = text.rpartition("-")
    numbers = clock.split(":")
    if not all(n.isdigit() for n in [days or "0", *numbers]) or len(numbers) not in (2, 3):
        fix = "Write it as the batch system does."
        raise ConfigError(message("engine.walltime", repr(text), "HH:MM:SS or D-HH:MM:SS", fix))
    hours, minutes, seconds = (int(n) for n in [*numbers, "0"][:3])
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def plan_lifetime(walltime: int) -> tuple[int, int]:
    """Return when a worker leaves by itself, and how far workers spread around it, s.

    The last one leaves a twentieth of the walltime, but at most ten minutes, before the end.

    Args:
        walltime: of its job, s.
    """
    margin = max(1, min(walltime // 20, 600))
    return max(1, walltime - 2 * margin), margin


@contextmanager
def open_cluster(engine: Dask, folder: Path) -> Iterator[Client]:
    """Start, or find, a scheduler and its workers; leaving the context ends what was started.

    Args:
        engine: what is asked for.
        folder: run folder.

    Yields:
        The connection to it.

    Raises:
        ConfigError: the batch system is not there, or its arguments are wrong.
        DataError: no scheduler answers.
    """
    import dask.config
    from distributed import Client

    for name, level in LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("distributed.nanny").propagate = False
    with ExitStack() as stack:
        if engine.cluster not in (LOCAL, *JOB_SYSTEMS):
            yield stack.enter_context(_find_scheduler(engine.cluster))
            return
        stack.enter_context(dask.config.set(dict(SCHEDULER)))
        start = _start_local if engine.cluster == LOCAL else _start_jobs
        cluster = stack.enter_context(start(engine, folder))
        if engine.least_workers == engine.workers:
            cluster.scale(engine.workers)
        else:
            cluster.adapt(minimum=engine.least_workers, maximum=engine.workers, **ADAPT)
        yield stack.enter_context(Client(cluster, set_as_default=False))


def prepare_local_workers(options: JobOptions, modules: Sequence[str] = WORKER) -> bool:
    """Begin to import what workers of this machine need, in the process they are forked from.

    It ends with this process. Where one runs already nothing happens.

    Args:
        options: of the workers.
        modules: names of what they need.

    Returns:
        Whether this system has such processes; what macOS computes with must not be forked.
    """
    if not sys.platform.startswith("linux"):
        return False
    from multiprocessing import forkserver  # not everywhere

    multiprocessing.get_context(FORKED).set_forkserver_preload(list(modules))
    with _environment(options.environment()):
        forkserver.ensure_running()
    return True


def replace_lost_workers(client: Client) -> None:
    """Start the workers that a cluster of ours should have and has not.

    By itself dask does so only when their number changes. Jobs that wait in a queue are there.

    Args:
        client: connection to it; a scheduler that somebody else has started is left alone.
    """
    if client.cluster is not None:
        client.cluster.loop.add_callback(_replace_lost, client.cluster)


def _replace_lost(cluster: Any) -> None:
    """Forget workers that have ended, and start as many as are planned; in its loop."""
    for name, worker in list(cluster.workers.items()):
        if worker.status.name in ENDED:
            del cluster.workers[name]
    if cluster.plan:
        cluster.scale(len(cluster.plan))


@contextmanager
def _start_local(engine: Dask, folder: Path) -> Iterator[Any]:
    """Start a scheduler in this process; its workers are processes of this machine."""
    import dask.config
    from distributed import LocalCluster

    options = engine.options
    method = FORKED if prepare_local_workers(options) else "spawn"
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": method}),
        _environment(options.environment()),
        LocalCluster(
            n_workers=engine.least_workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=options.memory or 0,
            dashboard_address=engine.dashboard,
        ) as cluster,
    ):
        yield cluster


@contextmanager
def _start_jobs(engine: Dask, folder: Path) -> Iterator[Any]:
    """Start a scheduler in this process; its workers are jobs."""
    import dask_jobqueue

    kind = getattr(dask_jobqueue, JOB_SYSTEMS[engine.cluster])
    command = kind.job_cls.submit_command.split()[0]
    if shutil.which(command) is None:
        fix = "Start it where jobs are submitted, or use engine.cluster=local."
        got = f"{engine.cluster} without the command {command}"
        raise ConfigError(message("engine.cluster", got, "a batch system", fix))
    logs = folder / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    scheduler = {"dashboard_address": engine.dashboard}
    try:
        cluster = kind(
            scheduler_options=scheduler, **engine.options.arguments(engine.cluster, logs)
        )
    except (TypeError, ValueError) as error:
        fix = "See the arguments of that class in the manual of dask-jobqueue."
        expected = f"arguments of dask_jobqueue.{JOB_SYSTEMS[engine.cluster]}"
        raise ConfigError(message("engine.job", str(error), expected, fix)) from error
    with cluster:
        yield cluster


@contextmanager
def _find_scheduler(address: str) -> Iterator[Client]:
    """Connect to a scheduler that somebody else has started."""
    from distributed import Client

    if address.endswith(".json"):
        try:
            address = json.loads(Path(address).read_text(encoding="utf-8"))["address"]
        except (OSError, ValueError, KeyError) as error:
            fix = "Give the file that `dask scheduler --scheduler-file` writes."
            got = f"{address}, which cannot be read ({error})"
            raise DataError(message("engine.cluster", got, "a scheduler file", fix)) from error
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        known = ", ".join([LOCAL, *JOB_SYSTEMS])
        fix = f"Start one by `dask scheduler`, or choose among {known}."
        got = f"{address!r} ({type(error).__name__})"
        raise DataError(message("engine.cluster", got, "a scheduler that answers", fix)) from error
    with client:
        yield client


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Give variables to the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
