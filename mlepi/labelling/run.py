"""The run: attempts at structures, several at once, until all are labelled or given up.

Whoever starts the same command again, or beside, takes what is waiting: what is done stays done,
what is locked belongs to another process, what was running when its process died is tried again.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from mlepi.errors import ConfigError, DataError, MlepiError, UnusualDataWarning, message
from mlepi.faults import MachineError
from mlepi.labelling.card import write_card
from mlepi.labelling.code import Calculation, Code, InterruptedCalculationError
from mlepi.labelling.job import DONE, FAILED, INPUT, RUNNING, Attempt, Job, State, hash_text, now
from mlepi.labelling.labelled_set import NOISE, LabelledSet, Written
from mlepi.labelling.structure_files import NamedStructure
from mlepi.litter import remove_litter
from mlepi.run_lock import FolderLostError, RunLock, acquire
from mlepi.stopping import Stopped, stop_if_requested
from mlepi.structures import LabelledStructure
from mlepi.threads import VARIABLES, count_cores

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


@dataclass(frozen=True)
class _Worker:
    """What all threads of a run share."""

    code: Code
    version: str
    threads: int
    keep: str
    stop: threading.Event


def label_structures(
    folder: Path,
    structures: Sequence[NamedStructure],
    code: Code,
    progress: Progress,
    *,
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
        jobs: calculations at once.
        threads: of each; None shares those that this process may take.
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
    worker = _Worker(
        code=code,
        version=version,
        threads=threads or max(1, int(os.environ.get(VARIABLES[0], count_cores())) // jobs),
        keep=keep,
        stop=threading.Event(),
    )
    try:
        elsewhere = _run_all(worker, waiting, jobs, retry_failed, progress)
    except Stopped as stopped:
        stopped.add_note(f"Labels so far are kept in {folder}; the same command goes on there.")
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


def _run_all(
    worker: _Worker, waiting: Sequence[Job], jobs: int, retry_failed: bool, progress: Progress
) -> list[str]:
    """Run jobs in threads, which mostly wait for programs; return the names of those left out."""
    elsewhere: list[str] = []
    with warnings.catch_warnings(), ThreadPoolExecutor(jobs, "label") as pool:
        warnings.simplefilter("ignore", UnusualDataWarning)  # provenance and card have them
        futures: dict[Future[bool], Job] = {
            pool.submit(_run_job, worker, job, retry_failed): job for job in waiting
        }
        left = set(futures)
        try:
            while left:
                stop_if_requested()
                ended, left = wait(left, timeout=LOOK, return_when=FIRST_COMPLETED)
                for future in ended:
                    if future.result():
                        progress.advance(_describe(futures[future], progress))
                    else:
                        elsewhere.append(futures[future].name)
        except BaseException:
            worker.stop.set()
            for future in left:
                future.cancel()
            raise
    return elsewhere


def _describe(job: Job, progress: Progress) -> str:
    """Tell a failure at once, and return what the next line of progress says."""
    state = job.read_state()
    if state.status == FAILED:
        progress.tell(f"{job.name} failed: {state.reason}")
    return f"{job.name} {state.status}"


def _run_job(worker: _Worker, job: Job, retry_failed: bool) -> bool:
    """Label one structure or give it up; False where another process is at work on it."""
    if worker.stop.is_set():
        return False
    try:
        lock = acquire(job.folder)
    except DataError:
        return False
    with lock:
        remove_litter(job.folder)
        state = job.read_state()
        if state.status == DONE or (state.status == FAILED and not retry_failed):
            return True  # another process was faster
        failures = () if state.status == FAILED else state.attempts
        _attempt(worker, job, State(RUNNING, failures), lock)
    return True


def _attempt(worker: _Worker, job: Job, state: State, lock: RunLock) -> None:
    """Try until it is labelled, or all attempts have failed.

    An attempt that did not end, since its process was killed, is made again.
    """
    structure = job.read_structure()
    first = len(state.attempts) + 1
    for number in range(first, worker.code.attempts + 1):
        job.write_state(replace(state, status=RUNNING))
        started, begin = now(), time.monotonic()
        reason, text, hopeless = "", "", True
        try:
            text = worker.code.write_input(structure.atoms, number)
            hopeless = False
            labels, notes = _compute(worker, job, structure, number, text)
            lock.check()
            job.write_labels(labels, notes)
        except InterruptedCalculationError:
            job.write_state(replace(state, status=RUNNING))
            return
        except (ConfigError, FolderLostError, MachineError):
            raise
        except MlepiError as error:
            reason = str(error)
        clear_folder(job.attempt_folder(number), worker.keep)
        seconds = time.monotonic() - begin
        attempt = Attempt(number, started, seconds, hash_text(text), worker.version, reason)
        state = State(RUNNING, (*state.attempts, attempt))
        if not reason:
            job.write_state(replace(state, status=DONE))
            return
        if hopeless:
            break
    job.write_state(replace(state, status=FAILED))


def _compute(
    worker: _Worker, job: Job, structure: NamedStructure, number: int, text: str
) -> tuple[LabelledStructure, dict[str, Any]]:
    """Make one attempt; return its labels, and where they come from."""
    folder = job.open_attempt(number, text)
    begin = time.monotonic()
    labels = worker.code.compute(
        Calculation(
            structure.name, structure.atoms, folder, text, number, worker.threads, worker.stop
        )
    )
    notes: dict[str, Any] = {
        **structure.notes,
        "attempt": number,
        "input_sha256": hash_text(text),
        "wall_time": round(time.monotonic() - begin, 2),
        "labelled": now(),
    }
    return labels, notes


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
