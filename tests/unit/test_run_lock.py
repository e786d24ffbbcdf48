"""The lock of a run folder: one holder, a trace of it, and takeover of what was left behind."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mlepi import run_lock
from mlepi.errors import DataError
from mlepi.run_lock import (
    FILE_NAME,
    PATIENCE,
    FolderLostError,
    acquire,
    hold,
    is_first_process,
    is_left_behind,
    join,
    refuse_held,
)

HOLD_AND_WAIT = """
import sys, time
from pathlib import Path
from mlepi.run_lock import acquire
with acquire(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(folder):
    """Another process that holds the lock; it has it when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_WAIT, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def pretend(folder, age=0.0, **changes):
    """Write the lock of another holder."""
    holder = replace(run_lock._this_process(), **changes)
    folder.mkdir(exist_ok=True)
    path = folder / FILE_NAME
    path.write_text(json.dumps(vars(holder)))
    then = time.time() - age
    os.utime(path, (then, then))
    return holder


def test_a_held_folder_is_refused_with_the_name_of_its_holder(tmp_path):
    other = start_holder(tmp_path / "run")
    try:
        with pytest.raises(DataError) as caught:
            acquire(tmp_path / "run")
        with pytest.raises(DataError, match="in use by"):
            refuse_held(tmp_path / "run")
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    text = str(caught.value)
    assert f"process {other.pid} on {os.uname().nodename}, since 2" in text
    assert "in use by '-c" in text
    assert "last sign of life 0 s ago" in text
    assert "folder=…" in text


def test_the_lock_of_a_killed_process_is_taken_over_with_a_word(tmp_path):
    other = start_holder(tmp_path)
    other.kill()  # SIGKILL: nothing could be tidied up
    other.wait()
    other.stdout.close()
    assert (tmp_path / FILE_NAME).exists()
    refuse_held(tmp_path)
    with acquire(tmp_path) as lock:
        assert lock.left_behind.pid == other.pid
        assert f"took over from '-c {tmp_path}' (process {other.pid}" in lock.word
        lock.check()
    assert list(tmp_path.iterdir()) == []


def test_a_free_folder_needs_no_word_and_is_left_clean(tmp_path):
    with acquire(tmp_path / "new") as lock:
        assert lock.word == ""
        content = json.loads((tmp_path / "new" / FILE_NAME).read_text())
        assert content["pid"] == os.getpid()
        assert {"host", "started", "command", "token"} <= set(content)
    assert list((tmp_path / "new").iterdir()) == []
    refuse_held(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_another_machine_counts_as_gone_once_its_lock_has_aged(tmp_path):
    pretend(tmp_path, age=PATIENCE - 30, host="elsewhere")
    with pytest.raises(DataError, match=r"on elsewhere.*sign of life 27\d s ago"):
        acquire(tmp_path)
    pretend(tmp_path, age=PATIENCE + 30, host="elsewhere")
    with acquire(tmp_path) as lock:
        assert lock.left_behind.host == "elsewhere"


def test_one_name_may_be_two_machines_and_one_number_two_processes(tmp_path):
    dead = 2**22 + 1
    here = run_lock._this_process()
    assert is_left_behind(replace(here, pid=dead), 0.0)
    assert is_left_behind(replace(here, born="1"), 0.0)  # a later process of the same number
    assert not is_left_behind(replace(here, pid=dead, machine="another boot"), 0.0)
    assert not is_left_behind(here, PATIENCE - 1)
    assert is_left_behind(here, PATIENCE + 1)
    assert not is_left_behind(None, 0.0)
    assert not is_left_behind(replace(here, born=""), 0.0)  # no /proc: it runs, that is known
    assert is_left_behind(replace(here, born="", pid=dead), 0.0)


def test_a_lock_that_cannot_be_read_holds_until_it_has_aged(tmp_path):
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(DataError, match="a run that cannot be named"):
        acquire(tmp_path)
    os.utime(tmp_path / FILE_NAME, (1, 1))
    with acquire(tmp_path):
        pass


def test_the_holder_shows_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "HEARTBEAT", 0.02)
    with acquire(tmp_path):
        os.utime(tmp_path / FILE_NAME, (1, 1))
        deadline = time.monotonic() + 5
        while (tmp_path / FILE_NAME).stat().st_mtime == 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (tmp_path / FILE_NAME).stat().st_mtime > 1


def test_who_was_taken_for_dead_stops_and_leaves_the_new_holder_alone(tmp_path):
    lock = acquire(tmp_path)
    worker = join(tmp_path, lock.holder)
    worker.check()
    os.utime(lock.path, (1, 1))  # as after a night of sleep
    with acquire(tmp_path) as successor:
        for late in (lock, worker):
            with pytest.raises(FolderLostError, match=r"it stops here\. What was finished is kept"):
                late.check()
        lock.release()
        worker.release()
        successor.check()
    with pytest.raises(FolderLostError, match="no lock any more"):
        worker.check()


def test_file_systems_without_hard_links_work_too(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    with acquire(tmp_path), pytest.raises(DataError, match="in use by"):
        acquire(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_one_message(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"cannot be written to .*Choose another one by folder="):
        acquire(tmp_path / "file")


def test_only_processes_of_the_same_run_join(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with acquire(tmp_path) as lock:
        monkeypatch.setenv(run_lock.TOKEN, lock.holder.token)
        with hold(tmp_path) as joined:
            assert joined is None
        monkeypatch.setenv(run_lock.TOKEN, "of another run")
        with pytest.raises(DataError, match="in use by"), hold(tmp_path):
            pass
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv(run_lock.TOKEN)
    with hold(tmp_path) as lock:
        assert os.environ[run_lock.TOKEN] == lock.holder.token
    assert run_lock.TOKEN not in os.environ


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
    ],
)
def test_launchers_say_which_process_is_the_first(monkeypatch, variables, first):
    for name in run_lock.RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


def _race(folder, gate, results, told):
    gate.wait()
    try:
        with acquire(Path(folder)) as lock:
            results.put(lock.holder.token)
            assert told.wait(60), "not all have answered"
    except DataError:
        results.put(None)


@pytest.mark.parametrize("left_behind", [False, True])
def test_of_many_at_once_one_gets_the_folder(tmp_path, left_behind):
    if left_behind:
        pretend(tmp_path, pid=2**22 + 1)
    context = multiprocessing.get_context("fork")
    gate, told, results = context.Event(), context.Event(), context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path, gate, results, told)) for _ in range(8)]
    for racer in racers:
        racer.start()
    gate.set()
    found = [results.get(timeout=60) for _ in racers]
    told.set()  # who has the folder keeps it until every other one has been refused
    for racer in racers:
        racer.join()
    assert sum(token is not None for token in found) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_died_while_it_took_the_lock_leaves_nothing(tmp_path):
    name = "token"
    dead = replace(run_lock._this_process(), pid=2**22 + 1, born="1", **{name: "dead"})
    alive = replace(run_lock._this_process(), **{name: "alive"})
    drafts = [tmp_path / f".{FILE_NAME}.{one.token}" for one in (dead, alive)]
    for path, one in zip(drafts, (dead, alive), strict=True):
        for draft in (path, run_lock._name_copy(path)):
            draft.write_text(json.dumps(vars(one)))
    with acquire(tmp_path):
        assert [path.exists() for path in drafts] == [False, True]
        assert run_lock._name_copy(drafts[1]).exists(), "another process is about to rename it"
        assert not run_lock._name_copy(drafts[0]).exists()
