"""What a worker does: answer requests, a JSON object per line, and measure time and memory.

Requests are ``{"command": "prepare", …}``, ``{"command": "run"}``, ``{"command": "memory"}``,
``{"command": "check"}`` and ``{"command": "kernels", …}``; each gets one line of answer, an object
with "error" if something went wrong. Needs nothing but the standard library and torch, because it
also runs in the environment of the peers.

Peak memory is the highest resident size during one run (``VmHWM``, reset before it) above the
resident size of the process when network, optimiser and structure exist and nothing has run yet
(``VmRSS``, after free heap went back to the system). On a GPU it is the same difference of torch's
allocated memory.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEBI = 1024.0**2


class Job(ABC):
    """One network at one kind of work.

    Attributes:
        device: "cpu" or "cuda".
        result: of the last prediction.
        optimizer: of a training, a ``torch.optim.Optimizer``.
    """

    device: str = "cpu"
    result: Any = None
    optimizer: Any = None

    @abstractmethod
    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make the network if there is none, and the graph of a structure; return facts."""

    @abstractmethod
    def run(self) -> None:
        """Do the work once."""

    def release(self) -> None:
        """Drop results and gradients."""
        self.result = None
        if self.optimizer is not None:
            self.optimizer.zero_grad(set_to_none=True)

    def check(self) -> dict[str, Any]:
        """Return numbers that both sides must agree on."""
        return {}

    def kernels(self, names: list[str]) -> dict[str, list[float]]:
        """Return class → CPU seconds of every call of its modules during one run."""
        return {name: [] for name in names}


def read_status(key: str) -> float | None:
    """Return an entry of /proc/self/status in MB (2²⁰ bytes), None on systems without it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = [float(line.split()[1]) / 1024.0 for line in lines if line.startswith(key + ":")]
    return values[0] if values else None


def return_free_memory() -> None:
    """Collect garbage and give free heap back to the system, where the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def reset_peak() -> bool:
    """Lower the high-water mark of the resident size to its present value.

    False where the system cannot.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


class Measurement:
    """Time and memory of one job.

    Args:
        job: to measure.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.level: float | None = None

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Prepare the job, note the level of memory, run it ``warmup`` times."""
        facts = self.job.prepare(request)
        self.level = self._memory("now")
        warmup = [self.run()["wall"] for _ in range(int(request.get("warmup", 2)))]
        return {**facts, "level_mb": self.level, "warmup_seconds": warmup}

    def run(self) -> dict[str, Any]:
        """Run once: wall-clock and CPU seconds of the process."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.job.run()
        self._synchronise()
        return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}

    def memory(self) -> dict[str, Any]:
        """Run once and measure the highest memory.

        "peak_mb" is above the level, "run_mb" above the memory just before this run.
        """
        self.job.release()
        before = self._memory("now")
        resettable = self._reset()
        self.job.run()
        self._synchronise()
        peak = self._memory("peak") if resettable else None
        if peak is None or before is None or self.level is None:
            return {"peak_mb": None, "run_mb": None}
        return {"peak_mb": peak - self.level, "run_mb": peak - before}

    def _synchronise(self) -> None:
        if self.job.device != "cpu":
            import torch

            torch.cuda.synchronize()

    def _reset(self) -> bool:
        if self.job.device == "cpu":
            return reset_peak()
        import torch

        torch.cuda.reset_peak_memory_stats()
        return True

    def _memory(self, which: str) -> float | None:
        if self.job.device == "cpu":
            if which == "now":
                return_free_memory()
            return read_status("VmRSS" if which == "now" else "VmHWM")
        import torch

        gc.collect()
        return (
            float(
                (
                    torch.cuda.memory_allocated
                    if which == "now"
                    else torch.cuda.max_memory_allocated
                )()
            )
            / MEBI
        )


def serve(make_job: Callable[[], Job]) -> None:
    """Answer requests from standard input until it ends.

    Answers go to the open file whose number is the only argument. Standard output is not used: the
    libraries under test print to it.
    """
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as replies:
        measurement = Measurement(make_job())
        commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "prepare": measurement.prepare,
            "run": lambda _: measurement.run(),
            "memory": lambda _: measurement.memory(),
            "check": lambda _: measurement.job.check(),
            "kernels": lambda request: measurement.job.kernels(request["names"]),
        }
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = commands[request["command"]](request)
            except Exception as error:  # every failure is the driver's to report
                reply = {"error": f"{type(error).__name__}: {error}"}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()
