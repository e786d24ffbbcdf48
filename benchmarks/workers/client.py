"""The driver's side of a worker process, and measuring several workers in turn."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from mlepi.errors import MlepiError, message
from mlepi.memory import GROWTH

BENCHMARKS = Path(__file__).resolve().parents[1]

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(GROWTH),
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Settings of the memory allocator, those of ``mlepi.memory`` for every worker: freed memory is
kept for the next call."""


class WorkerError(MlepiError):
    """A worker could not do what it was asked to; the text says why."""


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker: the user's, with threads and allocator set."""
    count = str(threads)
    return {
        **os.environ,
        **ALLOCATOR,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "PYTHONPATH": os.pathsep.join(
            [str(BENCHMARKS), str(BENCHMARKS.parent)]
        ),  # the package beside this file, installed or not
        "PYTHONWARNINGS": "ignore",
    }


class Worker:
    """One worker process.

    Args:
        name: module in ``workers``: "ours", "mace_peer" or "path_peer".
        threads: of torch and of the mathematical libraries.
        python: interpreter of its environment.
    """

    def __init__(self, name: str, threads: int, python: str | Path = sys.executable) -> None:
        self.name = name
        if not Path(python).exists():
            raise WorkerError(
                message(
                    f"worker {name}",
                    f"no interpreter {python}",
                    "the environment of the peers",
                    "Run `make bench` once.",
                )
            )
        # closed with the process
        self.words = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        reading, writing = os.pipe()
        self.replies = os.fdopen(reading, encoding="utf-8")
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [str(python), "-m", f"workers.{name}", str(writing)],
            stdin=subprocess.PIPE,
            stdout=self.words,
            stderr=self.words,
            pass_fds=[writing],
            text=True,
            env=worker_environment(threads),
            cwd=BENCHMARKS.parent,
        )
        os.close(writing)

    def ask(self, command: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            WorkerError: the worker reports an error, or ended.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"command": command, **request}) + "\n")
            self.process.stdin.flush()
            line = self.replies.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(self._describe_end(command))
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerError(
                message(
                    f"worker {self.name}, {command}",
                    reply["error"],
                    "an answer",
                    "See the text of the error.",
                )
            )
        return reply

    def _describe_end(self, command: str) -> str:
        """Say how the process ended, with its last words or by which signal."""
        code = self.process.wait()
        self.words.seek(0)
        words = self.words.read().strip().splitlines()[-1:]
        how = f"the end of the process with status {code}" + (f": {words[0]}" if words else "")
        return message(
            f"worker {self.name}, {command}",
            how,
            "an answer",
            "Status −9 means that memory ran out: choose fewer atoms.",
        )

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        if not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.replies.close()
        self.words.close()

    def __enter__(self) -> Worker:
        """Use as a context: closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def measure_in_turn(workers: Mapping[str, Worker], rounds: int) -> dict[str, dict[str, Any]]:
    """Run prepared workers in turn, then each once more for its memory.

    Returns:
        Side → "wall" and "cpu" (lists of seconds, one per round), "peak_mb" and "run_mb" (see
        ``workers.protocol``).
    """
    samples: dict[str, dict[str, Any]] = {side: {"wall": [], "cpu": []} for side in workers}
    for _ in range(rounds):
        for side, worker in workers.items():
            reply = worker.ask("run")
            for clock in ("wall", "cpu"):
                samples[side][clock].append(reply[clock])
    for side, worker in workers.items():
        samples[side] |= worker.ask("memory")
    return samples
