"""What every stage keeps: a class per stage inherits all of it.

Subclass ``SampledStageContract`` in ``tests/contracts/stages``, name the stage and settings small
enough for a toy, and make ``doubtful`` a record that deserves a word, if the stage knows any.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from toy_ensembles import OneGroup, evaluate, toy_ensemble, toy_settings

from mlepi.errors import ConfigError
from mlepi.observables import all_stages
from mlepi.report import write_report
from mlepi.report.run_records import list_doubts, list_figures, list_sections
from mlepi.report.templates import write_signs
from mlepi.results import PartFile, ResultsStore, hash_data
from mlepi.results.quantities import list_quantities

CONF = Path(__file__).parents[2] / "conf" / "stage"
NUMBERS = ("float", "int", "complex", "NDArray")


def assert_equal_records(found, expected):
    """Compare two records field by field, numbers to the last digit."""
    assert type(found) is type(expected)
    for field in dataclasses.fields(expected):
        values = getattr(found, field.name), getattr(expected, field.name)
        if dataclasses.is_dataclass(values[1]):
            assert_equal_records(*values)
        elif isinstance(values[1], np.ndarray):
            np.testing.assert_array_equal(*values, err_msg=field.name)
        elif isinstance(values[1], dict):
            assert values[0].keys() == values[1].keys()
        elif not hasattr(values[1], "get_scaled_positions"):
            np.testing.assert_array_equal(*values, err_msg=field.name)


def check_units(record_type):
    """Every number of a record says its unit, in the records inside it too."""
    for field in dataclasses.fields(record_type):
        if any(word in str(field.type) for word in NUMBERS):
            assert "unit" in field.metadata, f"{record_type.__name__}.{field.name} has no unit"


class StageContract:
    """For stages of any kind; ``record`` is a fixture of the subclass."""

    stage: type
    settings: dict = {}

    def make(self, **changes):
        return self.stage(**{**self.settings, **changes})

    def doubtful(self, record):
        """Return a record with a reason for caution; None where the stage knows none."""

    def companions(self, record):
        """Return records of other stages that belong to the same run."""
        return {}

    def store(self, folder, record):
        store = ResultsStore(folder)
        for name, each in {**self.companions(record), self.stage.name: record}.items():
            store.write(name, each, "inputs", {"commit": "none"})
        return store

    def test_it_is_found_by_its_place(self):
        assert all_stages()[self.stage.name] is self.stage

    def test_its_settings_are_those_of_its_file(self):
        given = OmegaConf.load(CONF / f"{self.stage.name}.yaml")
        assert set(given) == {field.name for field in dataclasses.fields(self.stage)}

    def test_it_is_a_frozen_value(self):
        stage = self.make()
        name = dataclasses.fields(stage)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(stage, name, None)
        assert dataclasses.replace(stage) == stage

    def test_its_inputs_are_plain_data(self):
        assert hash_data(self.make().inputs(self.run_settings()))

    def run_settings(self):
        return toy_settings()

    def test_units_are_written_and_the_record_comes_back(self, record, tmp_path):
        check_units(type(record))
        again = self.store(tmp_path, record).read(self.stage.name, self.stage.record)
        assert_equal_records(again, record)

    def test_summary_is_one_line(self, record):
        text = self.make().summarize(record)
        assert text
        assert "\n" not in text

    def test_report_shows_the_record_alone(self, record, tmp_path):
        """Figures, facts and sections come from what the store holds, without a run."""
        store = self.store(tmp_path, record)
        stages = all_stages()
        again = {name: store.read(name, stages[name].record) for name in store.stages()}
        for name, drawing in list_figures(again, stages):
            assert isinstance(drawing.plot(again[name]), Figure) or name != self.stage.name
            assert drawing.caption.endswith(".")
        shown = self.stage.presentation()
        for quantity, value in shown.facts(again[self.stage.name]) if shown.facts else ():
            assert quantity
            assert value
        page = write_report(tmp_path, stages).read_text(encoding="utf-8")
        for section in list_sections(again, stages):
            assert escape(section.title) in page
        for drawing in shown.drawings:
            assert escape(drawing.caption) in page

    def test_doubts_reach_the_report(self, record, tmp_path):
        assert all(isinstance(text, str) for text in self.stage.doubts(record))
        doubtful = self.doubtful(record)
        if doubtful is None:
            return
        stages = all_stages()
        texts = list_doubts({self.stage.name: doubtful}, stages)
        assert texts
        assert texts != list_doubts({self.stage.name: record}, stages)
        self.store(tmp_path, doubtful)
        page = write_report(tmp_path, stages).read_text(encoding="utf-8")
        for part in (texts[-1].seen, texts[-1].means, texts[-1].remedy):
            assert escape(write_signs(part)) in page


class SampledStageContract(StageContract):
    """For stages that look at samples."""

    amplitude = 0.02
    toy: dict = {}

    def ensemble(self, **changes):
        return toy_ensemble(self.amplitude, **{**self.toy, **changes})

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls):
        """Return ensemble, results in order, and the record of one run from begin to end."""
        stage, ensemble = cls().make(), cls().ensemble()
        prepared = stage.prepare(ensemble)
        results = evaluate(stage, ensemble, prepared)
        return ensemble, results, stage.finish(prepared, ensemble, results)

    @pytest.fixture
    def record(self, finished):
        return finished[2]

    def test_inputs_of_a_sample_do_not_know_the_ensemble(self):
        few, many = toy_settings(n_samples=3), toy_settings(n_samples=9, temperatures=(5.0,))
        stage = self.make()
        assert hash_data(stage.sample_inputs(few)) == hash_data(stage.sample_inputs(many))

    def test_one_sample_does_not_depend_on_how_many_there_are(self, finished):
        stage, ensemble = self.make(), self.ensemble(n_samples=8)
        sample = ensemble.predict([ensemble.sample_keys()[0]])[0]
        found = stage.evaluate(stage.prepare(ensemble), sample)
        expected = finished[1][0][1]
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)

    def test_neither_order_nor_sharding_of_the_samples_matters(self, finished, tmp_path):
        """Two processes take every other sample, backwards; what they wrote is read again."""
        ensemble, results, record = finished
        stage, keys = self.make(), ensemble.sample_keys()
        parts = [PartFile(tmp_path / f"x.{rank}.part", "inputs") for rank in (0, 1)]
        for rank, part in enumerate(parts):
            prepared = stage.prepare(ensemble)
            for key in reversed(keys[rank::2]):
                part.append(key, stage.evaluate(prepared, ensemble.predict([key])[0]))
        written = {key: (part, place) for part in parts for key, place in part.places().items()}
        again = [(key, written[tuple(key)][0].load(written[tuple(key)][1])) for key in keys]
        for (_, found), (_, expected) in zip(again, results, strict=True):
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values, err_msg=name)
        assert_equal_records(stage.finish(stage.prepare(ensemble), ensemble, again), record)

    def test_a_smaller_ensemble_is_the_beginning_of_a_larger_one(self, finished):
        ensemble, results, _ = finished
        stage, first = self.make(), ensemble.first(2)
        some = [(key, part) for key, part in results if key.sample < 2]
        small = self.ensemble(n_samples=2)
        expected = stage.finish(stage.prepare(small), small, evaluate(stage, small))
        assert_equal_records(stage.finish(stage.prepare(ensemble), first, some), expected)

    def test_results_are_gone_through_in_any_number_of_passes(self, finished):
        """``finish`` must not need its results in memory: an iterable gives them again."""
        ensemble, results, record = finished

        class Passes:
            def __iter__(self):
                return iter(results)

        stage = self.make()
        assert_equal_records(stage.finish(stage.prepare(ensemble), ensemble, Passes()), record)

    def test_one_group_of_samples_has_no_error_bar(self, finished):
        """It is not measured, neither zero nor an error."""
        ensemble, results, record = finished
        alone = dataclasses.replace(ensemble, sampler=OneGroup(ensemble.sampler))
        stage = self.make()
        again = stage.finish(stage.prepare(alone), alone, results)
        for quantity, usual in zip(list_quantities(again), list_quantities(record), strict=True):
            assert np.isnan(quantity.errors).all(), quantity.path
            # sums of single precision in another order
            np.testing.assert_allclose(quantity.values, usual.values, rtol=1e-4)
        assert stage.summarize(again)

    def test_quantities_know_their_degrees_of_freedom(self, finished):
        ensemble, _, record = finished
        for quantity in list_quantities(record):
            if np.isfinite(quantity.errors).any():
                assert quantity.degrees_of_freedom == pytest.approx(ensemble.n_samples - 1.0)

    def test_too_few_samples_are_refused(self):
        if self.stage.least_samples > 1:
            with pytest.raises(ConfigError, match=r"n_samples: got 1; expected at least 2"):
                self.make().prepare(self.ensemble(n_samples=1))

    def test_every_target_has_an_error_bar_at_each_temperature(self, record):
        bars = self.make().error_bars(record)
        assert set(bars) == set(self.stage.targets)
        for values in bars.values():
            assert np.shape(values) == np.shape(record.temperatures)
