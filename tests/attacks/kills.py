"""Runs that are killed, stopped and disturbed, as their users and schedulers see them.

Every run is a process of its own with the processes that it starts. What is found afterwards, once
it was started again, must be what an undisturbed run finds, to the last bit.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import warm_python
from fault_scenarios import QUICK, hash_records
from toy_infer import TOY_RUN

ROOT = Path(__file__).resolve().parents[2]
ORPHANS = 10.0
"""Seconds within which everything that a killed run has started must be gone."""
PATIENCE = 300.0
"""Seconds after which a run counts as hanging."""
POLL = 0.05
PAUSE = "+stage.levels.pause=0.15"
"""So that a kill finds samples under way."""
SLOW = "stage.levels.pause=0.6"
"""So that another run, or several kills, do."""
OTHER = "seed=1"
"""What makes another run of a program."""


@dataclass(frozen=True)
class Program:
    """A command that can be killed and started again.

    Attributes:
        name: of it.
        arguments: of Python; its run folder is added.
        look: digest of what it leaves.
        fresh: whether it starts with a new interpreter, as what starts processes itself does best.
    """

    name: str
    arguments: Sequence[str]
    look: Callable[[Path], str]
    fresh: bool = False

    def start(self, folder: Path, *overrides: str) -> Running:
        """Start it in a folder."""
        return Running(self, folder, overrides)


class Running:
    """A program at work.

    Args:
        program: what is started.
        folder: of the run.
        overrides: further arguments.
    """

    def __init__(self, program: Program, folder: Path, overrides: Sequence[str]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process lives
        path = os.pathsep.join(str(ROOT / name) for name in ("tests", "tests/attacks", ""))
        given = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "1"}
        environment = {**os.environ, **given}
        command = [sys.executable, *program.arguments, f"hydra.run.dir={folder}", *overrides]
        popen: Any = subprocess.Popen if program.fresh else warm_python.Popen
        self.process = popen(
            command, stdout=self._output, stderr=self._output, cwd=folder.parent, env=environment
        )
        self.begin = time.monotonic()
        self.text = ""  # that it wrote, once it has ended

    @property
    def pid(self) -> int:
        """Of its first process."""
        return int(self.process.pid)

    def wait(self, patience: float = PATIENCE) -> int | None:
        """Return its exit status; None where it hangs, and was killed."""
        status: int | None = None
        try:
            status = int(self.process.wait(patience))
        except subprocess.TimeoutExpired:
            kill_all([self.pid, *list_descendants(self.pid)])
            self.process.wait(PATIENCE)
        with self._output as stream:
            stream.seek(0)
            self.text = stream.read().decode(errors="replace")
        return status

    @property
    def is_running(self) -> bool:
        """Whether its first process lives."""
        return is_alive(self.pid)


@dataclass(frozen=True)
class Attempt:
    """What came of one disturbance.

    Attributes:
        kind: of disturbance.
        program: name.
        result: "fine", or what was wrong.
        detail: more of it.
        victims: how many processes were killed.
        orphans: processes that were there after ten seconds.
    """

    kind: str
    program: str
    result: str
    detail: str = ""
    victims: int = 1
    orphans: int = 0

    @property
    def is_fine(self) -> bool:
        """Whether it went as it should."""
        return self.result == "fine" and self.orphans == 0


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be taken note of does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


def list_descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, ValueError):
            words = path.read_text(errors="replace").rpartition(")")[2].split()
            children.setdefault(int(words[1]), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        found += new
        waiting += new
    return found


def kill_all(pids: Sequence[int]) -> None:
    """End processes at once."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def count_orphans(pids: Sequence[int]) -> int:
    """Wait until processes are gone; return how many are there after ten seconds, and end them."""
    deadline = time.monotonic() + ORPHANS
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(POLL)
    left = [pid for pid in pids if is_alive(pid)]
    kill_all(left)
    return len(left)


def run_whole(program: Program, folder: Path, *overrides: str) -> tuple[str, float]:
    """Run a program undisturbed; return the digest of what it leaves, and its duration, s."""
    running = program.start(folder, *overrides)
    status = running.wait()
    if status != 0:
        raise RuntimeError(f"{program.name} fails by itself ({status}): {running.text[-2000:]}")
    return program.look(folder), time.monotonic() - running.begin


def finish(program: Program, folder: Path, whole: str, *overrides: str) -> tuple[str, str]:
    """Start a disturbed program again; return "fine", or what is wrong, and details."""
    running = program.start(folder, *overrides)
    status = running.wait()
    if status != 0:
        return ("hang" if status is None else "does not go on"), running.text[-1500:]
    if program.look(folder) != whole:
        return "other content", program.look(folder)
    left = [p.name for p in folder.rglob(".*") if p.is_file() and ".hydra" not in p.parts]
    left = [name for name in left if name not in (".lock",)]
    return ("litter", ", ".join(left)) if left else ("fine", "")


def kill_once(
    program: Program, folder: Path, whole: str, delay: float, victim: str, choice: float = 0.0
) -> Attempt:
    """Kill a program, or one of its processes, and start it again.

    Args:
        program: what is killed.
        folder: of its run.
        whole: digest of an undisturbed run.
        delay: s after its start.
        victim: "first" process, or a "child" of it.
        choice: which child, 0 to 1.
    """
    running = program.start(folder)
    deadline = running.begin + delay
    while time.monotonic() < deadline and running.is_running:
        time.sleep(POLL / 5)
    family = [running.pid, *list_descendants(running.pid)]
    children = [pid for pid in family[1:] if is_alive(pid)]
    target = running.pid
    if victim == "child" and children:
        target = children[int(choice * len(children)) % len(children)]
    kill_all([target])
    status = running.wait()
    orphans = count_orphans([pid for pid in family if pid != running.pid])
    if status is None:
        return Attempt(f"kill {victim}", program.name, "hang", running.text[-1500:], 1, orphans)
    if has_traceback(running.text) and target != running.pid:
        return Attempt(f"kill {victim}", program.name, "traceback", running.text[-1500:])
    if target != running.pid and status == 0 and program.look(folder) != whole:
        return Attempt(f"kill {victim}", program.name, "other content, exit 0", "", 1, orphans)
    result, detail = finish(program, folder, whole)
    detail = f"{victim} after {delay:.2f} s: {detail}" if detail else ""
    return Attempt(f"kill {victim}", program.name, result, detail, 1, orphans)


def has_traceback(text: str) -> bool:
    """Tell whether a user saw a traceback of Python."""
    return "Traceback (most recent call last)" in text


def kill_workers(
    program: Program, folder: Path, whole: str, rng: np.random.Generator, n: int
) -> Attempt:
    """Kill workers of dask, one after the other, while the run goes on; others take their place.

    Args:
        program: with engine=dask.
        folder: of its run.
        whole: digest of an undisturbed run.
        rng: source of randomness.
        n: how many.
    """
    running = program.start(folder, SLOW)
    killed = 0
    family: set[int] = set()
    while running.is_running and time.monotonic() - running.begin < PATIENCE:
        family |= set(list_descendants(running.pid))
        parts = list((folder / "parts").glob("*.part"))
        size = sum(part.stat().st_size for part in parts)
        workers = [pid for pid in family if is_alive(pid) and is_worker(pid)]
        if workers and killed < n and size > 0:
            kill_all([workers[int(rng.integers(len(workers)))]])
            killed += 1
            time.sleep(float(rng.uniform(0.2, 3.0)))
        time.sleep(POLL)
    status = running.wait()
    orphans = count_orphans(sorted(family))
    if status == 0 and program.look(folder) == whole and not has_traceback(running.text):
        return Attempt("kill workers", program.name, "fine", "", killed, orphans)
    result, detail = finish(program, folder, whole)
    detail = f"status {status}: {running.text[-1500:]} {detail}"
    result = f"worker killed, run ended with {status}, then {result}"
    return Attempt("kill workers", program.name, result, detail, killed, orphans)


def is_worker(pid: int) -> bool:
    """Tell whether a process is a worker of dask, and not what multiprocessing adds.

    Where workers are forked from one process, that looks like them, but has another parent.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        commands = [Path(f"/proc/{n}/cmdline").read_bytes() for n in (pid, int(words[1]))]
    except (OSError, IndexError, ValueError):
        return False
    return b"spawn_main" in commands[0] or all(b"forkserver" in text for text in commands)


STATUS = {"SIGTERM": 143, "SIGUSR1": 143, "SIGINT": 130}
GOES_ON = re.compile(r"the same command goes on|goes on from there|start the training again", re.I)


def stop_once(
    program: Program, folder: Path, whole: str, delay: float, name: str, ready: str
) -> Attempt:
    """Send a signal, look at exit status and message, and start again.

    Args:
        program: what is stopped.
        folder: of its run.
        whole: digest of an undisturbed run.
        delay: s after it has begun.
        name: of the signal.
        ready: file of the run folder whose appearance says that it has begun.
    """
    running = program.start(folder)
    while running.is_running and not (folder / ready).exists():
        time.sleep(POLL / 5)
    time.sleep(delay)
    late = not running.is_running
    begin = time.monotonic()
    family = list_descendants(running.pid)
    if not late:
        os.kill(running.pid, getattr(signal, name))
    status, text = running.wait(), ""
    seconds, text = time.monotonic() - begin, running.text
    orphans = count_orphans(family)
    wrong = []
    if status == 0:
        late |= program.look(folder) == whole  # the signal came when all was done
        wrong += [] if late else ["exit status 0 without all results"]
    else:
        wrong += [] if status == STATUS[name] else [f"exit status {status}"]
        wrong += [] if f"stopped by {name}" in text else ["no word of the signal"]
        wrong += [] if GOES_ON.search(text) else ["not said how to go on"]
        wrong += ["traceback"] if has_traceback(text) else []
        wrong += [f"{seconds:.0f} s until the end"] if seconds > 30.0 else []
    result, detail = finish(program, folder, whole)
    wrong += [] if result == "fine" else [result]
    shown = f"{text[-1200:]} {detail}" if wrong else ""
    return Attempt(f"stop by {name}", program.name, "; ".join(wrong) or "fine", shown, 1, orphans)


def meet(program: Program, folder: Path, wholes: Sequence[str], delay: float) -> Attempt:
    """Start two runs of different seeds in one folder: one is refused, the other undisturbed.

    Args:
        program: what is started, as it is and with ``OTHER``.
        folder: of both.
        wholes: digests of undisturbed runs of both.
        delay: s between their starts.
    """
    first = program.start(folder, SLOW)
    time.sleep(delay)
    second = program.start(folder, SLOW, OTHER)
    statuses = (first.wait(), second.wait())
    text = first.text + second.text
    if sorted(map(str, statuses)) != ["0", "1"]:
        return Attempt("two runs", program.name, f"exit statuses {statuses}", text[-2500:], 0)
    if "in use by" not in text or has_traceback(text):
        return Attempt("two runs", program.name, "no message", text[-2500:], 0)
    if program.look(folder) != wholes[statuses.index(0)]:
        return Attempt("two runs", program.name, "mixed", text[-2500:], 0)
    return Attempt("two runs", program.name, "fine", "", 0)


# What is disturbed.


def hash_training(folder: Path) -> str:
    """Digest the weights of both checkpoints, the curves and the tested metrics of a training."""
    found: dict[str, Any] = {}
    for name in ("best", "last"):
        content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        weights = content["state_dict"]
        digest = hashlib.sha256()
        for key in sorted(weights):
            digest.update(key.encode() + weights[key].numpy().tobytes())
        found[name] = (content["epoch"], content["global_step"], digest.hexdigest())
    with (folder / "csv" / "metrics.csv").open(newline="") as stream:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(stream)]
    found["curves"] = [sorted(row.items()) for row in rows if "epoch" in row]
    table = folder / "test_metrics.json"
    found["metrics"] = json.loads(table.read_text())["metrics"] if table.is_file() else None
    return repr(found)


def list_programs(data: Path) -> dict[str, Program]:
    """Return what is killed.

    Args:
        data: folder with the data set of ``mlepi.reference_systems.generate``.
    """
    toys = [str(ROOT / "tests" / "toy_infer.py"), *TOY_RUN, *QUICK, PAUSE]
    training = [
        str(ROOT / "train.py"),
        "experiment=toy_train_phonon",
        f"data.path={data / 'forces.extxyz'}",
        f"data.split={data / 'split.json'}",
        "data.n_train=8",
        "size.phonon.num_features=4",
        "size.phonon.radial_widths=[8]",
        "model.network.backbone.l_max=1",
        "model.network.backbone.correlation=2",
        "graph.cutoffs.intra=2.0",
        "graph.cutoffs.inter=4.0",
        "optimizer.max_epochs=4",
        "check_units=false",
        "auto_resume=true",
        "trainer.accelerator=cpu",
    ]
    ddp = [*training[:-1], "trainer=ddp_cpu", "trainer.devices=2"]
    return {
        "inference": Program("inference", toys, hash_records),
        "ranks": Program("inference, 2 ranks", [*toys, "trainer.devices=2"], hash_records),
        "dask": Program(
            "inference, dask",
            [*toys, "engine=dask", "engine.deaths=20", "n_samples=12"],
            hash_records,
            fresh=True,
        ),
        "training": Program("training", training, hash_training),
        "ddp": Program("training, 2 processes", ddp, hash_training),
    }


def remove(folder: Path) -> None:
    """Remove what an attempt has left."""
    shutil.rmtree(folder, ignore_errors=True)
