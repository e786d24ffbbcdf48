"""The steps of a study: commands of mlepi, each a process of its own with a folder of its own.

Beside the folders of the commands, ``steps`` of a round has three files of every step: ``NAME.sh``
does it again by hand, ``NAME.log`` is what it has said, ``NAME.json`` whether it is done and how
long it took. A step that is not done is started again, and goes on by itself where it was.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

from mlepi import stopping
from mlepi.errors import MlepiError, message
from mlepi.project_files import write_json, write_whole
from mlepi.untrusted import read_json

STEPS = "steps"
LOOK, NOTED = 0.5, 10.0
"""s between two looks at a step, and after which the time that it takes is noted."""
PATIENCE = 60.0
"""s that a step is given to stop by itself."""

Start = Callable[[Sequence[str], Path, Callable[[], None]], int]
"""Runs a command with its words; what it says is appended to a file, the function is called now and
then; returns its exit status."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: unique in its round, such as ``train_electron_1``.
        words: of the command, without ``mlepi``.
        result: file or folder that it leaves.
    """

    name: str
    words: tuple[str, ...]
    result: Path


@dataclass(frozen=True)
class Record:
    """How far a step is.

    Attributes:
        done: whether it has ended well.
        seconds: that it took so far, all its pieces together.
    """

    done: bool = False
    seconds: float = 0.0


def read_record(folder: Path, name: str) -> Record:
    """Return how far a step of a round is.

    Args:
        folder: of the round.
        name: of the step.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / STEPS / f"{name}.json"
    if not path.is_file():
        return Record()
    content = read_json(path)
    return Record(bool(content.get("done")), float(content.get("seconds", 0.0)))


def write_record(folder: Path, name: str, record: Record, words: Sequence[str] = ()) -> None:
    """Keep how far a step is.

    Args:
        folder: of the round.
        name: of the step.
        record: to keep.
        words: of its command; none for what is done without one.
    """
    (folder / STEPS).mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"done": record.done, "seconds": round(record.seconds, 1)}
    write_json(folder / STEPS / f"{name}.json", {**content, "command": list(words)})


def sum_seconds(folder: Path) -> float:
    """Return the seconds of all steps of a study so far.

    Args:
        folder: of the study.
    """
    files = sorted(folder.glob(f"round_*/{STEPS}/*.json"))
    return sum(read_record(path.parent.parent, path.stem).seconds for path in files)


def run_step(folder: Path, step: Step, start: Start) -> float:
    """Do a step, or what is left of it.

    Args:
        folder: of the round.
        step: to be done.
        start: runs its command.

    Returns:
        The seconds that it took, all its pieces together.

    Raises:
        MlepiError: it failed.
        Stopped: a signal has asked for it; the step goes on the next time.
    """
    before = read_record(folder, step.name)
    if before.done and step.result.exists():
        return before.seconds
    stopping.stop_if_requested()
    own = folder / STEPS
    own.mkdir(parents=True, exist_ok=True)
    write_whole(own / f"{step.name}.sh", write_script(step.words))
    log = own / f"{step.name}.log"
    begin = noted = time.monotonic()

    def note() -> None:
        nonlocal noted
        if time.monotonic() - noted >= NOTED:
            noted = time.monotonic()
            write_record(folder, step.name, Record(False, passed()), step.words)

    def passed() -> float:
        return before.seconds + time.monotonic() - begin

    try:
        status = start(step.words, log, note)
    finally:
        write_record(folder, step.name, Record(False, passed()), step.words)
    stopping.stop_if_requested()
    if status or not step.result.exists():
        got = f"exit status {status}: {read_last_lines(log)}"
        fix = f"See {log}; the same command goes on from there, {own / step.name}.sh does the step."
        raise MlepiError(message(step.name.replace("_", " "), got, "0", fix))
    write_record(folder, step.name, Record(True, passed()), step.words)
    return passed()


def start_child(words: Sequence[str], log: Path, note: Callable[[], None]) -> int:
    """Run a command of mlepi as a process that ends with this one, however that ends.

    Args:
        words: of the command.
        log: file that what it says is appended to.
        note: called now and then.
    """
    command, asked = [sys.executable, "-m", "mlepi", *words], False
    stopping.give_time(PATIENCE)
    with log.open("ab") as said:
        process = Popen(command, stdout=said, stderr=said)  # noqa: S603 - our own program
        while True:
            try:
                return process.wait(LOOK)
            except TimeoutExpired:
                note()
            if stopping.requested() and not asked:
                asked = True
                os.kill(process.pid, signal.SIGTERM)


def write_script(words: Sequence[str]) -> str:
    """Return a script of the shell that does a step by hand.

    Args:
        words: of its command.
    """
    folder = shlex.quote(str(Path.cwd()))
    return f"#!/bin/sh\ncd {folder} || exit 1\nexec {shlex.join(['mlepi', *words])}\n"


def read_last_lines(log: Path, n_lines: int = 3) -> str:
    """Return the end of what a step has said, in one line."""
    if not log.is_file():
        return "nothing was said"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return " ".join(line.strip() for line in lines[-n_lines:])[-500:]
