"""Calculations on engines: the labels are those of one process, whatever joins, leaves or dies.

Most workers of dask are threads here; one test kills real ones.
"""

import threading

import numpy as np
import pytest
from dying_codes import Dying
from toy_clusters import SETTINGS as DASK
from toy_clusters import kept_environment, threads_as_workers
from toy_labels import Told, displaced, fake

from mlepi.errors import ConfigError
from mlepi.labelling import LabelledSet, label_structures
from mlepi.labelling.attempt import FolderWatch, Order, compute_labels
from mlepi.labelling.code import InterruptedCalculationError
from mlepi.pipeline.engines import Dask, Local, Ranks
from mlepi.run_lock import FolderLostError
from mlepi.stopping import Stopped
from mlepi.structures import HamiltonianDataset

SETTINGS = {**DASK, "deaths": 2}


@pytest.fixture(scope="module", autouse=True)
def environment():
    """What dask sets in this process for its workers is taken back."""
    with kept_environment():
        yield


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler whose workers are threads of this process."""
    with threads_as_workers() as cluster:
        yield cluster


@pytest.fixture
def dask(scheduler):
    engine = Dask(**{**SETTINGS, "cluster": scheduler.scheduler_address})
    yield engine
    engine.close()


def read(folder):
    """Return all numbers of a set."""
    data = HamiltonianDataset(folder / "hamiltonians.h5")
    try:
        return {
            s.name: (s.hamiltonian_blocks, s.overlap_blocks, s.forces, np.array([s.energy]))
            for s in (data[k] for k in range(len(data)))
        }
    finally:
        data.close()


def assert_equal(one, other):
    """Compare sets to the last bit."""
    assert list(one) == list(other)
    for name, arrays in one.items():
        for a, b in zip(arrays, other[name], strict=True):
            np.testing.assert_array_equal(a, b)


def test_every_engine_gives_the_same_labels(tmp_path, dask):
    failing = {"fails": ["b_1"], "fails_once": ["c_2"]}
    for name, engine in (("local", Local()), ("dask", dask)):
        told = Told()
        jobs = 2 if name == "local" else 1
        summary = label_structures(
            tmp_path / name, displaced(5), fake(**failing), told, engine=engine, jobs=jobs
        )
        assert summary.written.names == ["a_0", "c_2", "d_3", "e_4"]
        assert told.done == 5
        states = [job.read_state() for job in LabelledSet(tmp_path / name).jobs()]
        assert [len(state.attempts) for state in states] == [1, 2, 2, 1, 1]
        assert not list((tmp_path / name).rglob("run.lock"))
    assert_equal(read(tmp_path / "local"), read(tmp_path / "dask"))
    assert any("dashboard at " in line for line in told.lines)


def test_a_set_goes_on_with_another_engine(tmp_path, dask):
    label_structures(tmp_path, displaced(2), fake(), Told(), engine=dask)
    told = Told()
    label_structures(tmp_path, displaced(3)[2:], fake(), told, engine=Local())
    assert told.done == 3
    label_structures(tmp_path / "alone", displaced(3), fake(), Told())
    assert_equal(read(tmp_path), read(tmp_path / "alone"))


def test_a_signal_ends_the_calculations_of_workers(tmp_path, dask, monkeypatch):
    begun = threading.Event()

    def stop():
        if begun.is_set():
            raise Stopped(15)
        if list(tmp_path.glob("jobs/*/attempt-1")):
            begun.set()

    monkeypatch.setattr("mlepi.labelling.run.stop_if_requested", stop)
    with pytest.raises(Stopped):
        label_structures(tmp_path, displaced(3), fake(seconds=600.0), Told(), engine=dask)
    assert {job.read_state().status for job in LabelledSet(tmp_path).jobs()} == {
        "running",
        "waiting",
    }
    assert not list(tmp_path.rglob("run.lock"))
    monkeypatch.undo()  # the workers are free again, or this never ends
    summary = label_structures(tmp_path, [], fake(), Told(), engine=dask)
    assert len(summary.written.names) == 3


def test_only_deaths_of_a_calculation_count_and_others_go_on(tmp_path):
    """Real workers: one that is killed is replaced, a structure that kills each is given up."""
    pytest.importorskip("distributed")
    toy = {"orbitals": "s", "orthogonal": False, "seconds": 0.0, "fails": [], "fails_once": []}
    engine = Dask(**{**SETTINGS, "workers": 1, "least_workers": 1})
    try:
        once = Dying(victim="b_1", mark=str(tmp_path / "killed"), **toy)
        told = Told()
        summary = label_structures(tmp_path / "once", displaced(3), once, told, engine=engine)
        assert summary.written.names == ["a_0", "b_1", "c_2"], summary.written.failed
        [death] = [line for line in told.lines if "WARNING" in line]
        assert "died in call jobs/b_1, death 1 of 2" in death
        state = LabelledSet(tmp_path / "once").job("b_1").read_state()
        assert len(state.attempts) == 1
        always = Dying(victim="b_1", **toy)
        summary = label_structures(tmp_path / "always", displaced(3), always, Told(), engine=engine)
        assert summary.written.names == ["a_0", "c_2"]
        assert "workers that died while they computed it" in summary.written.failed["b_1"]
    finally:
        engine.close()
    label_structures(tmp_path / "alone", displaced(3), fake(), Told())
    assert_equal(read(tmp_path / "once"), read(tmp_path / "alone"))


def test_a_folder_that_is_handed_out_again_ends_the_program(tmp_path):
    folder, stop = tmp_path / "attempt-1", threading.Event()
    folder.mkdir()
    watch = FolderWatch(stop, folder)
    assert not watch.wait(0.01)
    folder.rename(tmp_path / "old")
    folder.mkdir()
    assert watch.wait(60.0)
    assert watch.is_set()
    fresh = FolderWatch(stop, folder)
    stop.set()
    assert fresh.wait(60.0)


def test_a_folder_that_is_removed_while_it_computes_is_told(tmp_path):
    folder = tmp_path / "attempt-1"
    folder.mkdir()
    order = Order("a", displaced(1)[0].atoms, folder, "", 1, 1)
    timer = threading.Timer(0.5, folder.rename, [tmp_path / "old"])
    timer.start()
    with pytest.raises(FolderLostError, match="Start the command again"):
        compute_labels(fake(seconds=600.0), threading.Event(), order)
    timer.join()


def test_a_folder_that_a_worker_does_not_see_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("mlepi.labelling.attempt.PATIENCE", 0.0)
    order = Order("a", displaced(1)[0].atoms, tmp_path / "none", "", 1, 1)
    with pytest.raises(ConfigError, match="a folder that a worker does not see"):
        compute_labels(fake(), threading.Event(), order)
    monkeypatch.setattr("mlepi.labelling.attempt.PATIENCE", 60.0)
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedCalculationError):
        compute_labels(fake(), stop, order)


def test_engines_and_jobs_that_do_not_go_together(tmp_path):
    with pytest.raises(ConfigError, match=r"jobs: got 2 with engine=dask.*engine\.workers"):
        label_structures(tmp_path, displaced(1), fake(), Told(), engine=Dask(**SETTINGS), jobs=2)
    with pytest.raises(ConfigError, match=r"got ranks; expected one that hands out calls"):
        label_structures(tmp_path, displaced(1), fake(), Told(), engine=Ranks())
