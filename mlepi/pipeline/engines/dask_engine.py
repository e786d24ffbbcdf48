"""Workers of dask.distributed: on this machine, in the jobs of a batch system, or anywhere.

This process sends blocks of samples and gets results; the workers come and go. The scheduler is
that of dask, the jobs are submitted by dask-jobqueue.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from mlepi.errors import ConfigError, message
from mlepi.pipeline.engines.calls import Calls, Function
from mlepi.pipeline.engines.clusters import (
    JOB_SYSTEMS,
    LOCAL,
    NETWORKS,
    WORKER,
    JobOptions,
    open_cluster,
    prepare_local_workers,
)
from mlepi.pipeline.engines.engine import Engine, Found, Task, Work
from mlepi.pipeline.fingerprints import stage_modules
from mlepi.pipeline.processes import Processes

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

    from mlepi.pipeline.engines.dask_worker import Sent

SomeSent = TypeVar("SomeSent", bound="Sent")


class Dask(Engine):
    """Samples in blocks on the workers of dask.distributed.

    Args:
        cluster: local, slurm, pbs, sge, lsf, or the address or the file of a scheduler that runs.
        workers: most of them at a time; on a cluster that runs already, as many as there are.
        least_workers: kept where there is little to do.
        threads: of every worker, in networks and in linear algebra.
        memory: of every worker, as "4 GB"; a worker that needs more is restarted.
        walltime: of a job, as the batch system writes it; a worker leaves in time.
        queue: of the batch system; None takes its default.
        account: that pays; None takes the default.
        job: further arguments of the class of dask-jobqueue.
        deaths: of workers while they computed a block, after which it is given up.
        patience: s without any worker, after which this is said.
        dashboard: where the pages of the scheduler are served, host:port.
    """

    def __init__(
        self,
        *,
        cluster: str,
        workers: int,
        least_workers: int,
        threads: int,
        memory: str | None,
        walltime: str,
        queue: str | None,
        account: str | None,
        job: Mapping[str, Any],
        deaths: int,
        patience: float,
        dashboard: str,
    ) -> None:
        numbers = {"workers": workers, "threads": threads, "deaths": deaths}
        wrong = [f"{name}={value}" for name, value in numbers.items() if value < 1]
        if wrong or not 0 <= least_workers <= workers:
            got = ", ".join(wrong) or f"least_workers={least_workers}, workers={workers}"
            expected = "positive integers, and no more least_workers than workers"
            raise ConfigError(message("engine", got, expected, "See docs/clusters.md."))
        if patience <= 0:
            expected = "a positive number of seconds"
            raise ConfigError(message("engine.patience", f"{patience}", expected, "Set 60."))
        self.cluster, self.workers, self.least_workers = cluster, workers, least_workers
        self.deaths, self.patience, self.dashboard = deaths, patience, dashboard
        self.options = JobOptions(threads, memory, walltime, queue, account, dict(job))
        self._client: Client | None = None
        self._open = ExitStack()

    def launch(self, devices: int, num_nodes: int) -> Processes:
        """Stay alone; workers of this machine get ready in the background.

        Raises:
            ConfigError: ranks are asked for as well, or dask is not installed.
        """
        if devices * num_nodes > 1 or os.environ.get("WORLD_SIZE", "1") != "1":
            got = "dask together with trainer.devices, trainer.num_nodes or a launcher"
            fix = "Set engine.workers, or use engine=ranks."
            raise ConfigError(message("engine", got, "one process that hands out work", fix))
        self._check_packages()
        if self.cluster == LOCAL:
            prepare_local_workers(self.options, (*WORKER, *NETWORKS))
        return Processes()

    def _check_packages(self) -> None:
        needed = ["distributed"] + ["dask_jobqueue"] * (self.cluster in JOB_SYSTEMS)
        absent = [name for name in needed if find_spec(name) is None]
        if absent:
            got = f"dask without the packages {', '.join(absent)}"
            fix = "pip install 'mlepi[dask]'."
            raise ConfigError(message("engine", got, "dask.distributed and dask-jobqueue", fix))

    def evaluate(
        self, work: Work, tasks: Sequence[Task], say: Callable[[str], None]
    ) -> Generator[Found]:
        """Send the work to every worker once, then blocks of samples.

        Raises:
            DataError: no cluster, a block that workers die of, or workers with other software.
            MlepiError: a sample cannot be evaluated.
        """
        from mlepi.pipeline.engines.dask_blocks import Blocks
        from mlepi.pipeline.engines.dask_worker import SentWork

        if not tasks:
            return
        client = self._connect(work.ensemble.folder, say)
        networks = work.ensemble.networks
        modules = sorted(set().union(*(stage_modules(networks, stage) for stage in work.stages)))
        sent, smallest = self._pack(SentWork, work, modules), networks.settings.largest_batch
        with Blocks(client, sent, tasks, smallest, self, say) as blocks:
            yield from blocks.run()

    def open_calls(
        self, function: Function, folder: Path, jobs: int, say: Callable[[str], None]
    ) -> Calls:
        """Return calls in workers, one at a time in each.

        Raises:
            ConfigError: dask is not installed, there is no cluster, or ``jobs`` is asked for.
            DataError: no scheduler answers.
        """
        self._check_packages()
        if jobs > 1:
            got, fix = f"{jobs} with engine=dask", "Set engine.workers instead."
            raise ConfigError(message("jobs", got, "1: a worker has one at a time", fix))
        from mlepi.pipeline.engines.dask_calls import DaskCalls
        from mlepi.pipeline.engines.dask_worker import SentFunction

        parts = [function] if not isinstance(function, partial) else [function.func, *function.args]
        modules = sorted({getattr(part, "__module__", type(part).__module__) for part in parts})
        sent = self._pack(SentFunction, function, modules)
        return DaskCalls(self._connect(folder, say), sent, self, say)

    def close(self) -> None:
        """Let the workers go, and the scheduler where it was started here."""
        self._client = None
        self._open.close()

    def _connect(self, folder: Path, say: Callable[[str], None]) -> Client:
        """Return the connection to the scheduler; made once."""
        if self._client is None:
            self._client = self._open.enter_context(open_cluster(self, folder))
            say(f"workers of dask, dashboard at {self._client.dashboard_link}")
        return self._client

    def _pack(self, kind: type[SomeSent], content: Any, modules: Sequence[str]) -> SomeSent:
        """Pack what every worker is given."""
        from distributed.protocol.pickle import dumps

        from mlepi.pipeline.engines.dask_worker import describe_software

        return kind(
            name=f"mlepi-{uuid.uuid4().hex[:12]}",
            content=dumps(content),
            modules=modules,
            software=describe_software(modules),
            threads=self.options.threads,
        )
