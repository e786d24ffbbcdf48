"""The run: attempts at structures, several at once, until all are labelled or given up.

Whoever starts the same command again, or beside, takes what is waiting: what is done stays done,
what is locked belongs to another process, what was running when its process died is tried again.
Calculations go to an engine; states and labels are written by this process alone.
"""

from __future__ import annotations

import shutil
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from mlepi.errors import ConfigError, DataError, MlepiError, UnusualDataWarning, message
from mlepi.faults import MachineError
from mlepi.labelling.attempt import Order, compute_labels
from mlepi.labelling.card import write_card
from mlepi.labelling.code import Code
from mlepi.labelling.job import DONE, FAILED, INPUT, RUNNING, Attempt, Job, State, hash_text, now
from mlepi.labelling.labelled_set import NOISE, LabelledSet, Written
from mlepi.labelling.structure_files import NamedStructure
from mlepi.litter import remove_litter
from mlepi.pipeline.engines import Calls, Ended, Engine, Local
from mlepi.run_lock import FolderLostError, RunLock, acquire
from mlepi.stopping import Stopped, stop_if_requested

LOOK = 0.2
"""s between two looks for a signal."""

KEEP = ("nothing", "text", "all")
"""Files of finished calculations that stay, beside the input."""
LARGEST_TEXT, MATRICES = 10**6, (".csr",)
"""Bytes of a file that counts as text, and ends of the names of files that never do."""


class Progress(Protocol):
    """Where a run says how far it is, ``mlepi.pipeline.progress.StageLine``."""

    def start(self, total: int, done: int = 0) -> None:
        """Tell how many structures there are, and how many were done earlier."""

    def advance(self, note: str = "") -> None:
        """Count one more."""

    def tell(self, text: str) -> None:
        """Write one line."""


@dataclass(frozen=True)
class Summary:
    """What became of the structures of a set.

    Attributes:
        written: names of those in its data, those that failed, and the error of the overlaps.
        elsewhere: names of those that other processes are at work on.
    """

    written: Written
    elsewhere: list[str]


def label_structures(
    folder: Path,
    structures: Sequence[NamedStructure],
    code: Code,
    progress: Progress,
    *,
    engine: Engine | None = None,
    jobs: int = 1,
    threads: int | None = None,
    retry_failed: bool = False,
    measure_noise: bool = False,
    keep: str = "text",
) -> Summary:
    """Label structures, and write the data of the set.

    Args:
        folder: of the set, new or begun.
        structures: to be in it beside those that are; none to go on with those.
        code: that computes.
        progress: where this is told.
        engine: where calculations run; None: in this process.
        jobs: calculations at once, where the engine does not say it.
        threads: of each; None leaves it to the engine.
        retry_failed: try again those that were given up.
        measure_noise: label the first structure once more, shifted, for the noise of the grid.
        keep: one of ``KEEP``.

    Returns:
        What became of them.

    Raises:
        ConfigError: the program cannot be started, or an option has no such value.
        DataError: the set was begun with other settings.
        MachineError: the machine refuses something that every calculation needs.
        Stopped: a signal has asked for it; finished structures are kept.
    """
    _check_options(jobs, threads, keep)
    version = code.find_version()
    the_set = LabelledSet(folder)
    with the_set.locked():
        remove_litter(folder, deep=False)
        common = the_set.prepare(code, version, structures)
        extra = _prepare_noise(the_set, code) if measure_noise else []
    every = [*the_set.jobs(), *extra]
    waiting = [job for job in every if _is_waiting(job, retry_failed)]
    progress.start(len(every), len(every) - len(waiting))
    elsewhere: list[str] = []
    if waiting:
        function = partial(compute_labels, code)
        with (engine or Local()).open_calls(function, folder, jobs, progress.tell) as calls:
            run = _Run(code, version, threads or calls.threads, keep, retry_failed, calls, progress)
            try:
                elsewhere = run.work(waiting)
            except Stopped as stopped:
                text = f"Labels so far are kept in {folder}; the same command goes on there."
                stopped.add_note(text)
                raise
    with the_set.locked():
        written = the_set.write_data(code, common)
        write_card(the_set, common, written)
    return Summary(written, elsewhere)


def _check_options(jobs: int, threads: int | None, keep: str) -> None:
    if jobs < 1 or (threads is not None and threads < 1):
        got = f"jobs={jobs}, threads={threads}"
        raise ConfigError(message("jobs", got, "positive numbers", "Set jobs=1."))
    if keep not in KEEP:
        got, fix = repr(keep), "Set keep=text."
        raise ConfigError(message("keep", got, f"one of {KEEP}", fix))


def _prepare_noise(the_set: LabelledSet, code: Code) -> list[Job]:
    """Return the job of the shifted structure, made once; none where a shift cannot matter."""
    if the_set.noise is None and (jobs := the_set.jobs()):
        first = jobs[0].read_structure()
        shift = code.choose_noise_shift(first.atoms)
        if shift is None:
            return []
        atoms = first.atoms.copy()
        atoms.positions += shift
        Job(the_set.folder / NOISE / first.name).write_structure(replace(first, atoms=atoms))
    return [the_set.noise] if the_set.noise is not None else []


def _is_waiting(job: Job, retry_failed: bool) -> bool:
    status = job.read_state().status
    return status != DONE and (retry_failed or status != FAILED)


@dataclass
class _Active:
    """A structure that is at work.

    Attributes:
        job: its folder.
        lock: of the folder.
        structure: as it was given.
        state: so far, with the attempts that count.
        text: input of the attempt that runs.
        started: when it began, UTC.
    """

    job: Job
    lock: RunLock
    structure: NamedStructure
    state: State
    text: str = ""
    started: str = ""

    @property
    def number(self) -> int:
        """Of the attempt that runs, or is next."""
        return len(self.state.attempts) + 1


class _Run:
    """The structures of a run on their way through an engine."""

    def __init__(
        self,
        code: Code,
        version: str,
        threads: int,
        keep: str,
        retry_failed: bool,
        calls: Calls,
        progress: Progress,
    ) -> None:
        self._code, self._version, self._threads = code, version, threads
        self._keep, self._retry_failed = keep, retry_failed
        self._calls, self._progress = calls, progress
        self._active: dict[str, _Active] = {}

    def work(self, waiting: Sequence[Job]) -> list[str]:
        """Label structures or give them up; return the names of those of other processes."""
        left, elsewhere = deque(waiting), list[str]()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnusualDataWarning)  # provenance and card have them
                while left or self._active:
                    stop_if_requested()
                    while left and self._calls.room > 0:
                        job = left.popleft()
                        if not self._begin(job):
                            elsewhere.append(job.name)
                    for ended in self._calls.take(LOOK) if self._active else ():
                        self._receive(ended)
        finally:
            self._calls.close()
            for active in self._active.values():
                active.lock.release()
        return elsewhere

    def _begin(self, job: Job) -> bool:
        """Take a structure; False where another process is at work on it."""
        try:
            lock = acquire(job.folder)
        except DataError:
            return False
        key = f"{job.folder.parent.name}/{job.name}"
        try:
            remove_litter(job.folder)
            state = job.read_state()
            is_failed = state.status == FAILED
            active = _Active(job, lock, job.read_structure(), state)
            self._active[key] = active
            if state.status == DONE or (is_failed and not self._retry_failed):
                self._finish(key)  # another process was faster
                return True
            active.state = State(RUNNING, () if is_failed else state.attempts)
        except BaseException:
            lock.release()
            self._active.pop(key, None)
            raise
        self._try(key)
        return True

    def _try(self, key: str) -> None:
        """Hand out the next attempt; give the structure up where there is none.

        An attempt that did not end, since its process was killed, is made again.
        """
        active = self._active[key]
        if active.number > self._code.attempts:
            active.job.write_state(replace(active.state, status=FAILED))
            self._finish(key)
            return
        active.job.write_state(active.state)
        active.started, active.text = now(), ""
        structure, number = active.structure, active.number
        try:
            active.text = self._code.write_input(structure.atoms, number)
        except (ConfigError, FolderLostError, MachineError):
            raise
        except MlepiError as error:
            self._count(active, 0.0, str(error))
            active.job.write_state(replace(active.state, status=FAILED))
            self._finish(key)
            return
        folder = active.job.open_attempt(number, active.text)
        order = Order(structure.name, structure.atoms, folder, active.text, number, self._threads)
        self._calls.submit(key, order)

    def _receive(self, ended: Ended) -> None:
        """Keep the labels of an attempt, or try again."""
        active = self._active.get(ended.name)
        if active is None:
            return
        if ended.lost:
            self._try(ended.name)
            return
        reason = "" if ended.error is None else str(ended.error)
        if isinstance(ended.error, ConfigError | FolderLostError | MachineError):
            raise ended.error
        if ended.error is None:
            notes: dict[str, Any] = {
                **active.structure.notes,
                "attempt": active.number,
                "input_sha256": hash_text(active.text),
                "wall_time": round(ended.seconds, 2),
                "labelled": now(),
            }
            active.lock.check()
            try:
                active.job.write_labels(ended.result, notes)
            except (ConfigError, FolderLostError, MachineError):
                raise
            except MlepiError as error:
                reason = str(error)
        self._count(active, ended.seconds, reason)
        if reason:
            self._try(ended.name)
            return
        active.job.write_state(replace(active.state, status=DONE))
        self._finish(ended.name)

    def _count(self, active: _Active, seconds: float, reason: str) -> None:
        """Add an attempt that has ended."""
        clear_folder(active.job.attempt_folder(active.number), self._keep)
        attempt = Attempt(
            active.number,
            active.started,
            seconds,
            hash_text(active.text),
            self._version,
            reason,
        )
        active.state = State(RUNNING, (*active.state.attempts, attempt))

    def _finish(self, key: str) -> None:
        """Let go of a structure, and tell what became of it; a failure at once."""
        active = self._active.pop(key)
        active.lock.release()
        state = active.job.read_state()
        if state.status == FAILED:
            self._progress.tell(f"{active.job.name} failed: {state.reason}")
        self._progress.advance(f"{active.job.name} {state.status}")


def clear_folder(folder: Path, keep: str) -> None:
    """Remove files of a calculation that has ended, never its input.

    Args:
        folder: of an attempt; one that is not there has none.
        keep: one of ``KEEP``.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        is_text = path.suffix not in MATRICES and path.stat().st_size <= LARGEST_TEXT
        if path.name == INPUT or keep == "all" or (keep == "text" and is_text):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
