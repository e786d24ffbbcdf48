"""The pass over the samples.

One prediction for all stages, and ensembles that grow until an error bar is small enough.
"""

import io
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from toy_models import BatchedToy, LevelsStage, NoisyStage
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


def make_asked(folder, sampling=None, other=None, fail_at=-1, **changes):
    """A run with an error bar that takes more than a pilot at 300 K, of normal numbers."""
    stages = {"levels": NoisyStage(fail_at=fail_at)} | ({"other_levels": other} if other else {})
    asked = {"target": "level", "target_error": 0.003} if sampling is None else sampling
    return make_run(
        folder,
        stages=stages,
        sampling_settings=asked,
        **{"n_samples": 120, "supercell": (2, 2, 1), **changes},
    )


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
    run = make_asked(tmp_path)
    text = execute(run, BOTH)
    record = run.read("levels")
    cold, hot = record.counts
    assert 32 <= cold < hot < 120
    np.testing.assert_array_equal(run.read("other_levels").counts, record.counts)
    assert "32 samples: error bar of level" in text
    assert "at 300 K (target 0.003)" in text
    assert "going on to" in text
    assert re.search(r"about \d+ more samples expected, .* s at .* s each", text)
    assert record.errors.max() <= 0.003
    # the same target again: nothing to do; a weaker one: a new record from the same samples
    assert execute(make_asked(tmp_path), BOTH).count("unchanged") == 6
    weaker = make_asked(tmp_path, {"target": "level", "target_error": 1.0})
    execute(weaker)
    assert seen() == []
    assert weaker.read("levels").counts.max() < hot


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
    few = make_run(tmp_path, sampler=Sobol(n_replicates=8), **settings)
    with pytest.raises(ConfigError, match=r"sampler\.n_replicates: got 8 with an error to stop at"):
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
    both = make_asked(tmp_path / "both")
    execute(both)
    record = both.read("levels")
    assert len(seen()) == sum(record.counts)  # and none that no record needs
    for column, temperature in enumerate((0.0, 300.0)):
        alone = make_asked(tmp_path / f"{temperature}", temperatures=(temperature,))
        execute(alone)
        assert alone.read("levels").counts[0] == record.counts[column]
        assert alone.read("levels").mean[0] == record.mean[column]
    told = Precision.from_provenance(both.store.provenance("levels"))
    assert told.n_samples == tuple(record.counts)
    assert told.reached == (True, True)
    np.testing.assert_array_equal(told.errors, record.errors)
    assert told.rows()[1] == (
        "error bar of level at 300 K",
        f"± {record.errors[1]:.3g} (68 %) from {record.counts[1]} samples, asked for 0.003",
    )


def test_a_run_that_was_interrupted_stops_at_the_same_samples(tmp_path):
    relative = {"target": "level", "relative_error": 0.003}  # of numbers around 1
    whole = make_asked(tmp_path / "whole", relative)
    execute(whole)
    counts = whole.read("levels").counts
    assert counts.max() > 40
    broken = make_asked(tmp_path / "parts", relative, fail_at=40)
    with pytest.raises(PhysicsError, match="on purpose"):
        execute(broken)
    again = make_asked(tmp_path / "parts", relative)
    execute(again)
    assert {key.sample for key in seen()} == set(range(40, counts.max()))
    # one whose samples were there before
    execute(make_asked(tmp_path / "later", {}, n_samples=64))
    later = make_asked(tmp_path / "later", relative)
    text = execute(later)
    assert seen() == []
    assert not re.search("more samples expected, ", text)  # no sample was timed
    for other in (again, later):
        for name in ("counts", "mean", "errors"):
            np.testing.assert_array_equal(
                getattr(other.read("levels"), name), getattr(whole.read("levels"), name)
            )


def test_a_stage_that_needs_equal_numbers_takes_those_that_all_temperatures_have(tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Equal(NoisyStage):
        name: ClassVar = "other_levels"
        uneven: ClassVar = False

    run = make_asked(tmp_path / "beside", other=Equal())
    text = " ".join(execute(run, BOTH).split())
    low, high = run.read("levels").counts
    assert low < high
    np.testing.assert_array_equal(run.read("other_levels").counts, [low, low])
    assert f"from the first {low} samples, which all temperatures have" in text
    # as the stage that decides it keeps all temperatures going
    alone = make_asked(tmp_path / "alone", other=Equal())
    execute(alone, (*PREPARATION, "other_levels"))
    np.testing.assert_array_equal(alone.read("other_levels").counts, [high, high])
