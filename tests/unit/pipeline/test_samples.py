"""The pass over the samples.

One prediction for all stages, and ensembles that grow until an error bar is small enough.
"""

import io
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from toy_models import BatchedToy, LevelsStage, OtherLevelsStage
from toy_pipelines import PREPARATION, execute, make_run, seen

from mlepi.errors import ConfigError, PhysicsError
from mlepi.physics.vibrations.samplers import Antithetic, Sobol
from mlepi.pipeline import SampledStage, SampleKey
from mlepi.pipeline.growth import check_target, next_size
from mlepi.pipeline.precision import Precision
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
    target = spread / np.sqrt(60)  # reached after about 60 samples, and a few for safety
    settings = {"sampling_settings": {"target": "level", "target_error": target}, "n_samples": 200}
    run = make_run(tmp_path / "some", **settings)
    text = execute(run, BOTH)
    record = run.read("levels")
    cold, hot = record.counts
    assert cold <= hot
    assert 40 <= hot <= 100
    np.testing.assert_array_equal(run.read("other_levels").counts, record.counts)
    assert "32 samples: error bar of level" in text
    assert "at 300 K (target" in text
    assert "going on to" in text
    assert re.search(r"about \d+ more samples expected, .* s at .* s each", text)
    assert record.errors.max() <= target
    # the same target again: nothing to do; a weaker one: a new record from the same samples
    assert execute(make_run(tmp_path / "some", **settings), BOTH).count("unchanged") == 6
    settings["sampling_settings"] = {"target": "level", "target_error": 10.0 * spread}
    weaker = make_run(tmp_path / "some", **settings)
    execute(weaker)
    assert seen() == []
    np.testing.assert_array_equal(weaker.read("levels").counts, [32, 32])


def test_an_error_bar_that_is_not_reached_is_told(tmp_path):
    settings = {"target": "level", "target_error": 1e-9}
    run = make_run(tmp_path, sampling_settings=settings, n_samples=20)
    text = execute(run)
    told = " ".join(text.split())
    assert "WARNING (note): levels: 20 samples: error bar of level" in told
    assert "n_samples=20 allowed" in told
    assert "more than n_samples=20 allows" not in told  # that is said while there is more to come
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
    for key in ("target_error", "relative_error"):
        with pytest.raises(ConfigError, match=f"{key}: got 0.0; expected null or a positive error"):
            make_run(tmp_path, sampling_settings={key: 0.0})
    with pytest.raises(ConfigError, match=r"got 1\.0 and 0\.1; expected one of them"):
        make_run(tmp_path, sampling_settings={"target_error": 1.0, "relative_error": 0.1})


def test_a_relative_error_without_a_value_and_few_replicates_are_refused(tmp_path):
    class Silent(LevelsStage):
        target_values = SampledStage.target_values

    settings = {"sampling_settings": {"target": "level", "relative_error": 0.1}}
    run = make_run(tmp_path, stages={"levels": Silent()}, **settings)
    with pytest.raises(ConfigError, match="relative_error: got level of a stage that does not"):
        check_target(run, (*PREPARATION, "levels"))
    few = make_run(tmp_path, sampler=Sobol(n_replicates=4), **settings)
    with pytest.raises(ConfigError, match=r"sampler\.n_replicates: got 4 with an error to stop at"):
        check_target(few, (*PREPARATION, "levels"))


def test_next_size():
    assert next_size(32, growth=4.0, largest=1000) == 64
    assert next_size(100, growth=1.31, largest=1000) == 131
    assert next_size(100, growth=1.31, largest=120) == 120
    assert next_size(100, growth=1.0, largest=1000) == 101
    assert next_size(10, growth=float("inf"), largest=1000) == 20
    assert next_size(32, growth=1.1, largest=1000, whole=Sobol().whole) == 64
    assert next_size(64, growth=1.0, largest=1000, whole=Antithetic().whole) == 66


def test_every_temperature_stops_where_it_would_stop_alone(tmp_path):
    reference = make_run(tmp_path / "all", n_samples=300)
    execute(reference)
    spread = reference.read("levels").errors * np.sqrt(300)
    assert spread[1] > 1.2 * spread[0]  # otherwise this shows nothing
    target = float(spread[1]) / np.sqrt(100)
    settings = {"sampling_settings": {"target": "level", "target_error": target}, "n_samples": 300}
    both = make_run(tmp_path / "both", **settings)
    execute(both)
    record = both.read("levels")
    for column, temperature in enumerate((0.0, 300.0)):
        alone = make_run(tmp_path / f"{temperature}", temperatures=(temperature,), **settings)
        execute(alone)
        assert alone.read("levels").counts[0] == record.counts[column]
        assert alone.read("levels").mean[0] == record.mean[column]
    assert record.counts[0] < record.counts[1]
    # nothing was evaluated that no record needs
    assert len(both.ensemble().first(tuple(record.counts)).sample_keys()) == sum(record.counts)
    told = Precision.from_provenance(both.store.provenance("levels"))
    assert told.n_samples == tuple(record.counts)
    assert told.reached == (True, True)
    np.testing.assert_array_equal(told.errors, record.errors)
    assert told.rows()[1] == (
        "error bar of level at 300 K",
        f"± {record.errors[1]:.3g} (68 %) from {record.counts[1]} samples, asked for {target:.3g}",
    )


def test_a_run_that_was_interrupted_stops_at_the_same_samples(tmp_path):
    settings = {"sampling_settings": {"target": "level", "relative_error": 0.004}, "n_samples": 300}
    whole = make_run(tmp_path / "whole", **settings)
    execute(whole)
    counts = whole.read("levels").counts
    assert counts.max() > 32
    broken = make_run(tmp_path / "parts", levels_settings={"fail_at": 40}, **settings)
    with pytest.raises(PhysicsError, match="on purpose"):
        execute(broken)
    again = make_run(tmp_path / "parts", **settings)
    execute(again)
    assert {key.sample for key in seen()} == set(range(40, counts.max()))
    for name in ("counts", "mean", "errors"):
        np.testing.assert_array_equal(
            getattr(again.read("levels"), name), getattr(whole.read("levels"), name)
        )
    # and so does one whose samples were there before
    larger = make_run(tmp_path / "larger", n_samples=300)
    execute(larger)
    later = make_run(tmp_path / "larger", **settings)
    text = execute(later)
    assert seen() == []
    assert " each" not in text  # no sample was timed
    np.testing.assert_array_equal(later.read("levels").counts, counts)


def test_a_stage_that_needs_equal_numbers_takes_those_that_all_temperatures_have(tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Equal(OtherLevelsStage):
        uneven: ClassVar = False

    settings = {"sampling_settings": {"target": "level", "relative_error": 0.004}, "n_samples": 300}
    run = make_run(tmp_path / "beside", stages={"other_levels": Equal()}, **settings)
    text = " ".join(execute(run, BOTH).split())
    counts = run.read("levels").counts
    assert counts[0] < counts[1]
    np.testing.assert_array_equal(run.read("other_levels").counts, [counts[0]] * 2)
    assert f"from the first {counts[0]} samples, which all temperatures have" in text
    # as the stage that decides it keeps all temperatures going
    alone = make_run(tmp_path / "alone", stages={"other_levels": Equal()}, **settings)
    execute(alone, (*PREPARATION, "other_levels"))
    np.testing.assert_array_equal(alone.read("other_levels").counts, [counts[1]] * 2)
