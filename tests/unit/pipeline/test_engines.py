"""Where samples are computed: the numbers are those of one process, whatever joins, leaves or dies.

Most workers of dask are threads here; one test kills real ones.
"""

import io
import os
import re
import sys
import time

import pytest
from toy_clusters import SETTINGS, kept_environment, threads_as_workers
from toy_models import DyingStage, LevelsStage, NoisyStage
from toy_pipelines import ALL, PREPARATION, make_run, seen

from mlepi.errors import ConfigError, DataError, PhysicsError
from mlepi.memory import list_memory_variables
from mlepi.pipeline.engines import Dask, Local, Ranks
from mlepi.pipeline.engines.clusters import (
    SCHEDULER,
    JobOptions,
    open_cluster,
    plan_lifetime,
    read_walltime,
    replace_lost_workers,
)
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.runner import run_stages


def run_with(engine, run, names=ALL):
    """Run stages and return what was said."""
    stream = io.StringIO()
    LevelsStage.seen.clear()
    run_stages(run, names, Processes(), ProgressReport(stream=stream), engine)
    return stream.getvalue()


def digests(run):
    return {stage: run.store.content(stage) for stage in run.store.stages()}


@pytest.fixture(scope="module", autouse=True)
def environment():
    """What dask sets in this process for its workers is taken back."""
    with kept_environment():
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds in eight snapshots."""
    run = make_run(tmp_path_factory.mktemp("alone"), n_samples=8)
    run_with(None, run)
    return digests(run)


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler whose workers are threads of this process."""
    with threads_as_workers() as cluster:
        yield cluster


@pytest.fixture
def engine(scheduler):
    scheduler.scale(2)
    scheduler.wait_for_workers(2, timeout=10)
    engine = Dask(**{**SETTINGS, "cluster": scheduler.scheduler_address})
    yield engine
    engine.close()


def test_workers_give_the_numbers_of_one_process(tmp_path, engine, alone):
    run = make_run(tmp_path, n_samples=8)
    text = run_with(engine, run)
    assert digests(run) == alone
    assert "dashboard at " in text
    assert len(seen()) == 16
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["levels.0.part"]
    maker = next(iter(run.store.provenance("levels")["computed_by"]))
    assert run.store.provenance("levels")["computed_by"] == {maker: 16}
    assert "1 threads" in maker


def test_workers_stop_at_the_error_bar_of_one_process(tmp_path, engine):
    settings = {
        "sampling_settings": {"target": "level", "target_error": 0.003},
        "stages": {"levels": NoisyStage()},
    }
    runs = [make_run(tmp_path / x, n_samples=120, **settings) for x in ("alone", "workers")]
    for each, run in zip((None, engine), runs, strict=True):
        run_with(each, run)
    assert runs[0].read("levels").counts.max() > 32
    assert digests(runs[1]) == digests(runs[0])


def test_an_error_in_a_worker_ends_the_run_and_another_engine_goes_on(tmp_path, engine, alone):
    run = make_run(tmp_path, n_samples=8, levels_settings={"fail_at": 5})
    with pytest.raises(PhysicsError, match=r"^sample: a failure on purpose$"):
        run_with(engine, run)
    found = len(seen())
    run = make_run(tmp_path, n_samples=8)
    run_with(Local(), run)
    assert digests(run) == alone
    assert len(seen()) < 16 <= len(seen()) + found


def test_workers_may_leave_and_join(tmp_path, engine, scheduler, alone, monkeypatch):
    evaluate = LevelsStage.evaluate
    changes = {0: 1, 3: 2, 5: 1}  # snapshot → workers from now on

    def leave(self, prepared, sample):
        if sample.key.temperature == 0 and sample.key.sample in changes:
            scheduler.loop.add_callback(scheduler.scale, changes.pop(sample.key.sample))
        return evaluate(self, prepared, sample)

    monkeypatch.setattr(LevelsStage, "evaluate", leave)
    run = make_run(tmp_path, n_samples=8)
    run_with(engine, run)
    assert not changes
    assert digests(run) == alone


def test_a_worker_with_other_software_computes_nothing(tmp_path, engine, scheduler, monkeypatch):
    from distributed import get_worker

    from mlepi.pipeline.engines import dask_worker

    stranger = next(iter(scheduler.scheduler.workers))

    def refuse(self):
        return "torch 1.0 instead of 2.0" if get_worker().address == stranger else ""

    monkeypatch.setattr(dask_worker.SentWork, "refuse", refuse)
    text = run_with(engine, make_run(tmp_path / "one", n_samples=2))
    assert f"worker {stranger}: torch 1.0 instead of 2.0" in text
    monkeypatch.setattr(dask_worker.SentWork, "refuse", lambda self: "torch 1.0 instead of 2.0")
    with pytest.raises(DataError, match=r"torch 1\.0 .* expected the software of this process"):
        run_with(engine, make_run(tmp_path / "all", n_samples=2))


def test_software_is_compared_by_versions_and_source():
    pytest.importorskip("distributed")
    from mlepi.pipeline.engines.dask_worker import Software, describe_software

    own = describe_software(["mlepi.units"])
    assert own.list_differences(own) == []
    assert {"python", "torch", "numpy", "scipy"} <= set(own.packages)
    other = Software({**own.packages, "torch": "1.0"}, "other")
    assert own.list_differences(other) == [
        f"torch {own.packages['torch']} instead of 1.0",
        "other source code of mlepi or of a plugin",
    ]


def test_no_worker_is_said_and_no_scheduler_is_refused(tmp_path, scheduler, alone):
    said = []

    class Told(Dask):
        def evaluate(self, work, tasks, say):
            def tell(text):
                said.append(text)
                if "no worker" in text:
                    scheduler.scale(1)

            return super().evaluate(work, tasks, tell)

    settings = {**SETTINGS, "cluster": scheduler.scheduler_address, "patience": 0.01}
    scheduler.scale(0)
    scheduler.sync(scheduler._correct_state)
    engine = Told(**settings)
    run = make_run(tmp_path, n_samples=8)
    run_with(engine, run)
    engine.close()
    assert digests(run) == alone
    assert any(text.startswith("WARNING: no worker for") for text in said)


def test_deaths_count_only_for_the_block_that_was_running(tmp_path):
    """Real workers: one that is killed is replaced, a sample that kills each of them is named."""
    pytest.importorskip("distributed")
    names = (*PREPARATION, "dying")

    def dying(folder, **settings):
        stage = {"dying": DyingStage(**settings)}
        return make_run(tmp_path / folder, n_samples=4, stages=stage)

    settings = {**SETTINGS, "workers": 1, "least_workers": 1}
    engine = Dask(**settings)
    try:
        reference, run = dying("one"), dying("two", kills=2, mark=str(tmp_path / "killed"))
        run_with(None, reference, names)
        text = run_with(engine, run, names)
        assert run.store.content("dying") == reference.store.content("dying")
        [death] = [line for line in text.splitlines() if "WARNING" in line]
        assert re.search(r"worker tcp://\S+ died in block \d \(samples .*, death 1 of 3", death)
        engine.deaths = 1
        with pytest.raises(DataError, match=r"(?s)samples .* got 1 workers .*Restarting worker"):
            run_with(engine, dying("three", kills=1), names)
    finally:
        engine.close()


@pytest.fixture(scope="module")
def connected():
    """A scheduler with workers of its own, and a connection to it."""
    distributed = pytest.importorskip("distributed")
    with (
        threads_as_workers() as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def test_lost_workers_are_replaced(connected):
    """By itself dask would wait for ever, once it has given up a worker."""
    dask_config, cluster = pytest.importorskip("dask.config"), connected.cluster
    [name, other] = cluster.workers
    with dask_config.set({"distributed.deploy.lost-worker-timeout": "0.1s"}):
        cluster.sync(cluster.workers[name].close)
        end = time.monotonic() + 20.0
        while name in cluster.workers and time.monotonic() < end:
            time.sleep(0.05)
    assert set(cluster.workers) == {other}
    replace_lost_workers(connected)
    connected.wait_for_workers(2, timeout=20)
    assert set(cluster.workers) == {name, other}


@pytest.mark.parametrize("system", ["slurm", "pbs", "sge", "lsf"])
def test_jobs_end_before_their_walltime_with_the_threads_asked_for(tmp_path, system):
    jobqueue = pytest.importorskip("dask_jobqueue")
    from mlepi.pipeline.engines.clusters import JOB_SYSTEMS

    wall = "02:00" if system == "lsf" else "02:00:00"
    options = JobOptions(4, "8 GB", wall, "long", "us", {"job_extra_directives": ["--hello"]})
    arguments = options.arguments(system, tmp_path)
    with getattr(jobqueue, JOB_SYSTEMS[system])(
        scheduler_options={"dashboard_address": ":0", "host": "127.0.0.1"}, **arguments
    ) as cluster:
        script = cluster.job_script()
    for expected in ("02:00", "long", "--hello", "export OMP_NUM_THREADS=4"):
        assert expected in script
    assert "export MALLOC_ARENA_MAX=1" in script
    assert "--lifetime 6480s --lifetime-stagger 360s" in script
    assert "export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False" in script


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="they are spawned elsewhere")
def test_workers_of_this_machine_are_forked_from_one_process(tmp_path, environment):
    engine = Dask(**{**SETTINGS, "least_workers": 2})
    with open_cluster(engine, tmp_path) as client:
        client.wait_for_workers(2, timeout=60)
        parents = set(client.run(os.getppid).values())
        variables = client.run(os.environ.get, "MALLOC_ARENA_MAX")
    assert len(parents) == 1
    assert parents != {os.getpid()}
    assert set(variables.values()) == {list_memory_variables()["MALLOC_ARENA_MAX"]}


def test_a_worker_may_take_its_time_to_start_again():
    """Fifteen seconds, the default of dask, are too few on a busy machine."""
    parse = pytest.importorskip("dask.utils").parse_timedelta
    assert parse(SCHEDULER["distributed.deploy.lost-worker-timeout"]) > 60


def test_walltimes():
    assert read_walltime("01:02:03") == 3723
    assert read_walltime("2-00:00:10") == 172810
    assert read_walltime("24:00") == 86400
    for wrong in ("1h", "", "1", "a-01:00:00", "1:2:3:4"):
        with pytest.raises(ConfigError, match=r"engine\.walltime: got"):
            read_walltime(wrong)
    for walltime in (600, 3600, 7 * 86400):
        lifetime, stagger = plan_lifetime(walltime)
        assert walltime - min(walltime // 20, 600) == lifetime + stagger
        assert lifetime > 0.8 * walltime


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"workers": 0}, "workers=0; expected positive integers"),
        ({"least_workers": 3}, "least_workers=3, workers=2"),
        ({"patience": 0.0}, r"engine\.patience: got 0\.0"),
    ],
)
def test_settings_without_meaning_are_refused(change, text):
    with pytest.raises(ConfigError, match=text):
        Dask(**{**SETTINGS, **change})


def test_engines_and_processes_that_do_not_go_together(monkeypatch):
    with pytest.raises(ConfigError, match=r"ranks with trainer\.devices=1"):
        Ranks().launch(1, 1)
    assert Local().launch(1, 1).n_processes == 1
    with pytest.raises(ConfigError, match=r"dask together with trainer\.devices"):
        Dask(**SETTINGS).launch(2, 1)
    monkeypatch.setattr("mlepi.pipeline.engines.dask_engine.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'mlepi\[dask\]'"):
        Dask(**{**SETTINGS, "cluster": "slurm"}).launch(1, 1)
