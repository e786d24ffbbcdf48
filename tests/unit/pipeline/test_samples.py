"""The pass over the samples.

One prediction for all stages, and ensembles that grow until an error bar is small enough.
"""

import io

import numpy as np
import pytest
from toy_models import BatchedToy
from toy_pipelines import PREPARATION, execute, make_run, seen

from mlepi.errors import ConfigError
from mlepi.pipeline import SampleKey
from mlepi.pipeline.growth import next_size
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.runner import run_stages
from mlepi.pipeline.samples import find_results
from mlepi.report.run_records import list_doubts

BOTH = (*PREPARATION, "levels", "other_levels")


def test_two_stages_share_one_prediction_of_each_sample(tmp_path):
    BatchedToy.sizes.clear()
    run = make_run(tmp_path, own_electron=BatchedToy(), batch_size=2)
    text = execute(run, BOTH)
    assert BatchedToy.sizes == [2, 2, 2]
    assert seen("levels") == seen("other_levels") == run.ensemble().sample_keys()
    said = [line.split()[0] for line in text.splitlines()]
    assert said[4:] == ["samples", "levels", "other_levels"]
    assert "3 for levels, other_levels" in text
    np.testing.assert_array_equal(run.read("levels").mean, run.read("other_levels").mean)


def test_a_stage_that_comes_later_sees_all_samples_and_the_first_one_none_again(tmp_path):
    execute(make_run(tmp_path))
    text = execute(make_run(tmp_path), BOTH)
    assert "levels           unchanged\n" in text
    assert seen("levels") == []
    assert len(seen("other_levels")) == 6


def test_half_finished_stages_are_completed_separately(tmp_path):
    execute(make_run(tmp_path))
    execute(make_run(tmp_path, n_samples=2), (*PREPARATION, "other_levels"))
    execute(make_run(tmp_path, n_samples=4), BOTH)
    assert {key.sample for key in seen("levels")} == {3}
    assert {key.sample for key in seen("other_levels")} == {2, 3}


def test_results_can_be_gone_through_twice(tmp_path):
    run = make_run(tmp_path)
    execute(run)
    results = find_results(run, run.stages["levels"], run.ensemble())
    passes = [[(key, arrays["levels"].tolist()) for key, arrays in results] for _ in range(2)]
    assert passes[0] == passes[1]
    assert [key for key, _ in results] == [SampleKey(n, t) for n in range(3) for t in (0.0, 300.0)]


def test_the_ensemble_grows_until_the_error_bar_is_reached(tmp_path):
    reference = make_run(tmp_path / "all", n_samples=200)
    execute(reference)
    spread = float(reference.read("levels").errors.max()) * np.sqrt(200)
    target = spread / np.sqrt(60)  # reached after about 60 samples
    settings = {"sampling_settings": {"target": "level", "target_error": target}, "n_samples": 200}
    run = make_run(tmp_path / "some", **settings)
    text = execute(run, BOTH)
    record = run.read("levels")
    n_samples = record.n_results // 2
    assert 40 <= n_samples <= 90
    assert run.read("other_levels").n_results == 2 * n_samples
    assert "going on to" in text
    assert f"{n_samples} samples: error bar of level" in text
    assert record.errors.max() <= target
    # the same target again: nothing to do; a weaker one: a new record from the same samples
    assert execute(make_run(tmp_path / "some", **settings), BOTH).count("unchanged") == 6
    settings["sampling_settings"] = {"target": "level", "target_error": 10.0 * spread}
    weaker = make_run(tmp_path / "some", **settings)
    execute(weaker)
    assert seen() == []
    assert weaker.read("levels").n_results == 32


def test_an_error_bar_that_is_not_reached_is_told(tmp_path):
    settings = {"target": "level", "target_error": 1e-9}
    run = make_run(tmp_path, sampling_settings=settings, n_samples=20)
    text = execute(run)
    told = " ".join(text.split())
    assert "WARNING (note): levels: 20 samples: error bar of level" in told
    assert "n_samples=20 allowed" in told
    stages = {name: type(stage) for name, stage in run.stages.items()}
    (kept,) = list_doubts({"levels": run.read("levels")}, stages, run.store)
    assert kept.seen.startswith("levels: 20 samples: error bar of level")  # for the page as well
    assert run.read("levels").n_results == 40


def test_target_without_a_stage_is_refused(tmp_path):
    run = make_run(tmp_path, sampling_settings={"target": "colour", "target_error": 1.0})
    report = ProgressReport(stream=io.StringIO())
    with pytest.raises(ConfigError, match=r"stage\.sampling\.target: got 'colour'"):
        run_stages(run, (*PREPARATION, "levels"), Processes(), report)
    run_stages(run, PREPARATION, Processes(), report)
    with pytest.raises(ConfigError, match="positive error bar"):
        make_run(tmp_path, sampling_settings={"target_error": 0.0})


def test_next_size():
    # 4 × 1.1 × 16 is more than twice as many
    assert next_size(16, error=2.0, target=1.0, largest=1000) == 32
    assert next_size(100, error=1.1, target=1.0, largest=1000) == 134
    assert next_size(100, error=1.1, target=1.0, largest=120) == 120
    assert next_size(10, error=float("inf"), target=1.0, largest=1000) == 20
