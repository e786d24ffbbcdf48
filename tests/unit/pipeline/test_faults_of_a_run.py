"""Runs that are stopped, run out of memory or disk, or lose a process: a message, nothing lost."""

import os
import re
import signal
from functools import partial

import numpy as np
import pytest
from toy_models import BatchedToy, LevelsStage
from toy_pipelines import PREPARATION, execute, make_run, seen

from mlepi import stopping
from mlepi.faults import MachineError
from mlepi.pipeline import needs, processes, progress
from mlepi.pipeline.batch_sizes import fit_batch, predict_in_batches
from mlepi.pipeline.needs import Needs, compare_needs, estimate_needs
from mlepi.pipeline.processes import Processes
from mlepi.results.parts import PartFile


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happens to."""
    run = make_run(tmp_path_factory.mktemp("whole"))
    execute(run)
    return run.read("levels")


def assert_same(run, whole):
    for name in ("mean", "errors", "equilibrium"):
        np.testing.assert_array_equal(getattr(run.read("levels"), name), getattr(whole, name))


def at_sample(monkeypatch, number, action):
    """Do something when so many samples have been evaluated."""
    evaluate, count = LevelsStage.evaluate, []

    def wrapped(self, *args):
        count.append(1)
        if len(count) == number:
            action()
        return evaluate(self, *args)

    monkeypatch.setattr(LevelsStage, "evaluate", wrapped)


def test_a_signal_stops_between_two_samples_and_the_run_goes_on_later(tmp_path, monkeypatch, whole):
    run = make_run(tmp_path)
    at_sample(monkeypatch, 2, partial(os.kill, os.getpid(), signal.SIGTERM))
    with stopping.listen(), pytest.raises(stopping.Stopped):
        execute(run)
    monkeypatch.undo()
    assert len(seen()) == 2, "the sample at work was finished"
    execute(run)
    assert len(seen()) == 4
    assert_same(run, whole)


def test_a_full_disk_leaves_samples_that_count(tmp_path, monkeypatch, whole):
    run, append = make_run(tmp_path), PartFile.append

    def fill():
        def half_written(self, *frame):
            append(self, *frame)
            os.truncate(self.path, self.path.stat().st_size - 20)
            raise OSError(28, "No space left on device", str(self.path))

        monkeypatch.setattr(PartFile, "append", half_written)

    at_sample(monkeypatch, 3, fill)
    with pytest.raises(OSError, match="No space left"):
        execute(run)
    monkeypatch.undo()
    execute(run)
    assert len(seen()) == 4
    assert_same(run, whole)


def test_a_batch_that_memory_does_not_hold_is_halved(tmp_path, whole, caplog):
    class Crowded(BatchedToy):
        def hamiltonians(self, structures, **options):
            if len(structures) > 2:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().hamiltonians(structures, **options)

    Crowded.sizes.clear()
    run = make_run(tmp_path, own_electron=Crowded(), batch_size=5)
    execute(run)
    assert Crowded.sizes == [2, 2, 2]
    assert caplog.text.count("memory is short") == 2
    assert_same(run, whole)


def test_other_errors_and_single_structures_are_not_tried_again():
    def fail(text, keys):
        raise RuntimeError(text)

    for text, size in (("shapes differ", 4), ("out of memory", 1)):
        with pytest.raises(RuntimeError, match=text):
            list(predict_in_batches(partial(fail, text), range(4), size))


@pytest.mark.parametrize(("one", "free", "fits"), [(1, 100, 16), (10, 100, 8), (1000, 100, 1)])
def test_as_many_structures_as_a_gpu_holds(one, free, fits):
    assert fit_batch(one, free, 16) == fits


def test_a_gpu_sees_one_structure_first_and_then_as_many_as_it_holds(monkeypatch):
    memory = {
        "memory_allocated": 100,
        "max_memory_allocated": 350,
        "memory_reserved": 300,
        "mem_get_info": (1000, 2000),
        "reset_peak_memory_stats": None,
    }
    for name, value in memory.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda device, value=value: value)
    batches = []

    def predict(keys):
        batches.append(len(keys))
        return [10 * key for key in keys]

    found = list(predict_in_batches(predict, range(9), 16, "cuda:0"))
    assert found == [10 * key for key in range(9)]
    assert batches == [1, 3, 3, 2]  # 0.8 · (1000 + 200) / 250


def test_the_need_grows_with_the_cell_and_is_compared_with_what_is_free(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    execute(run, PREPARATION)
    ensemble = run.ensemble()
    estimate = partial(estimate_needs, ensemble, n_processes=2, batch=1, solves=True, keeps=True)
    found = estimate(6)
    order = 9 * ensemble.equilibrium.hamiltonian.n_orbitals
    assert found.memory > 2 * needs.MATRICES * 16 * order**2
    assert estimate(12).disk == 2 * found.disk > 0
    assert compare_needs(Needs(1, 1), tmp_path) == ""
    monkeypatch.setattr(needs, "free_memory", lambda: 10**9)
    assert "about 0.7 GB of memory (1 GB free)" in compare_needs(Needs(7 * 10**8, 0), tmp_path)
    assert "too little; fewer processes" in compare_needs(Needs(2 * 10**9, 0), tmp_path)
    with pytest.raises(MachineError, match=r"GB of free disk; expected 1e\+09 GB for H and S"):
        compare_needs(Needs(0, 10**18), tmp_path)


def test_a_run_too_large_for_the_disk_is_refused_before_its_first_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(needs, "free_disk", lambda path: 100)
    run = make_run(tmp_path, hamiltonian_settings={"store": True})
    with pytest.raises(MachineError, match=r"leave out stage\.hamiltonian\.store"):
        execute(run)
    assert seen() == []


def test_a_log_without_a_terminal_shows_that_samples_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    with caplog.at_level("INFO", logger="mlepi"):
        text = execute(make_run(tmp_path))
    assert re.search(r"levels           5/6  .*/s  .* GB  about .* left\n", text)
    assert all(line in caplog.messages for line in text.splitlines())


def test_a_process_that_is_gone_is_named(monkeypatch):
    import torch.distributed

    def break_down(*args, **kwargs):
        raise RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1234")

    monkeypatch.setattr(torch.distributed, "all_gather_object", break_down)
    with pytest.raises(
        MachineError, match=r"processes: got one that has ended .*Connection closed"
    ):
        Processes(0, 2).gather(1)


def test_a_waiting_process_attends_to_signals(monkeypatch):
    import threading

    import torch.distributed

    never = threading.Event()
    monkeypatch.setattr(torch.distributed, "all_gather_object", lambda *a, **k: never.wait(20))

    def ask_and_wait():
        os.kill(os.getpid(), signal.SIGTERM)
        Processes(0, 2).gather(1)

    with stopping.listen():
        stopping.give_time(0.1)
        with pytest.raises(stopping.Stopped):
            ask_and_wait()
    never.set()


def test_processes_that_never_meet_are_told_where_they_waited(monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "node7")
    monkeypatch.setenv("MASTER_PORT", "1234")
    error = processes._no_meeting(RuntimeError("timed out after 600 s"), 4)
    assert "processes at node7:1234: got a meeting that failed (timed out" in str(error)
    assert "expected all 4 processes within 10 min" in str(error)
