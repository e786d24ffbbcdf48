"""The pass over the samples.

One prediction for all stages, and ensembles that grow until an error bar is small enough.
"""

import io

import numpy as np
import pytest
from test_runner import execute, make_run
from toy_models import LevelsStage, OtherLevelsStage

from mlepi.errors import ConfigError
from mlepi.pipeline import SampleKey
from mlepi.pipeline.processes import Processes
from mlepi.pipeline.progress import ProgressReport
from mlepi.pipeline.runner import next_size, run_stages
from mlepi.pipeline.samples import find_results

PREPARATION = ("structure", "phonon", "sampling", "hamiltonian")


def make_pair(folder, other=None, **changes):
    run = make_run(folder, **changes)
    run.stages["gap"] = other or OtherLevelsStage()
    return run


def test_two_stages_share_one_prediction_of_each_sample(tmp_path, monkeypatch):
    run = make_pair(tmp_path)
    predicted = []
    hamiltonian = run.stages["hamiltonian"]
    original = hamiltonian.predict_samples
    monkeypatch.setattr(
        hamiltonian, "predict_samples", lambda r, keys: predicted.extend(keys) or original(r, keys)
    )
    text = execute(run, (*PREPARATION, "observables", "gap"))
    assert len(predicted) == len(set(predicted)) == 6
    assert [line.split()[0] for line in text.splitlines()][4:] == ["samples", "observables", "gap"]
    assert "6 for" not in text
    assert "3 for observables, gap" in text
    np.testing.assert_array_equal(run.read("observables").mean, run.read("gap").mean)


def test_a_stage_that_comes_later_sees_all_samples_and_the_first_one_none_again(tmp_path):
    execute(make_pair(tmp_path), (*PREPARATION, "observables"))
    run = make_pair(tmp_path)
    text = execute(run, (*PREPARATION, "observables", "gap"))
    assert "observables  unchanged" in text
    assert run.stages["observables"].evaluated == []
    assert len(run.stages["gap"].evaluated) == 6


def test_half_finished_stages_are_completed_separately(tmp_path):
    execute(make_pair(tmp_path), (*PREPARATION, "observables"))
    execute(make_pair(tmp_path, n_samples=2), (*PREPARATION, "gap"))
    run = make_pair(tmp_path, n_samples=4)
    execute(run, (*PREPARATION, "observables", "gap"))
    assert {key.sample for key in run.stages["observables"].evaluated} == {3}
    assert {key.sample for key in run.stages["gap"].evaluated} == {2, 3}


def test_results_can_be_gone_through_twice(tmp_path):
    run = make_pair(tmp_path)
    execute(run, (*PREPARATION, "gap"))
    first, second = run.stages["gap"].passes
    assert len(first) == 3
    assert first == second
    results = find_results(run, run.stages["gap"])
    assert [key for key, _ in results] == [SampleKey(n, t) for n in range(3) for t in (0.0, 300.0)]


def test_the_ensemble_grows_until_the_error_bar_is_reached(tmp_path):
    reference = make_pair(tmp_path / "all", n_samples=200)
    execute(reference, (*PREPARATION, "gap"))
    spread = np.std(reference.stages["gap"].passes[0])
    target = spread / np.sqrt(60)  # reached after about 60 samples
    settings = {"sampling_settings": {"target": "level", "target_error": target}, "n_samples": 200}
    run = make_pair(tmp_path / "some", **settings)
    text = execute(run, (*PREPARATION, "observables", "gap"))
    n_samples = run.read("gap").n_results // 2
    assert 40 <= n_samples <= 90
    assert run.read("observables").n_results == 2 * n_samples
    assert "going on to" in text
    assert f"{n_samples} samples: error bar of level" in text
    assert np.std(run.stages["gap"].passes[0]) / np.sqrt(n_samples) <= target
    # the same target again: nothing to do; a weaker one: a new record from the same samples
    again = make_pair(tmp_path / "some", **settings)
    assert execute(again, (*PREPARATION, "observables", "gap")).count("unchanged") == 6
    weaker = make_pair(
        tmp_path / "some",
        sampling_settings={"target": "level", "target_error": 10.0 * spread},
        n_samples=200,
    )
    execute(weaker, (*PREPARATION, "gap"))
    assert weaker.stages["gap"].evaluated == []
    assert weaker.read("gap").n_results == 32


def test_an_error_bar_that_is_not_reached_is_told(tmp_path):
    run = make_pair(
        tmp_path, sampling_settings={"target": "level", "target_error": 1e-9}, n_samples=20
    )
    text = execute(run, (*PREPARATION, "gap"))
    assert "WARNING: gap: 20 samples: error bar of level" in text
    assert "n_samples=20 allowed" in text
    assert run.read("gap").n_results == 40


def test_target_without_a_stage_is_refused(tmp_path):
    run = make_run(
        tmp_path,
        sampling_settings={"target": "colour", "target_error": 1.0},
        observables=LevelsStage(),
    )
    with pytest.raises(ConfigError, match=r"stage\.sampling\.target: got 'colour'"):
        run_stages(
            run, (*PREPARATION, "observables"), Processes(), ProgressReport(stream=io.StringIO())
        )
    run_stages(run, PREPARATION, Processes(), ProgressReport(stream=io.StringIO()))
    with pytest.raises(ConfigError, match="positive error bar"):
        make_run(tmp_path, sampling_settings={"target_error": 0.0})


def test_next_size():
    assert (
        next_size(16, error=2.0, target=1.0, largest=1000) == 32
    )  # 4 × 1.1 × 16 is more than twice as many
    assert next_size(100, error=1.1, target=1.0, largest=1000) == 134
    assert next_size(100, error=1.1, target=1.0, largest=120) == 120
    assert next_size(10, error=float("inf"), target=1.0, largest=1000) == 20
