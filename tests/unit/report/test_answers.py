"""The answer of a run: number, sentence, figure, and what its error leaves out."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from width_records import Widths

from mlepi.figures import Headline, Presentation
from mlepi.physics.averages.error_budget import CELL, ErrorPart
from mlepi.report.answers import draw_answer, find_answers, unit_after


class Stage:
    targets: ClassVar = ("width",)

    @classmethod
    def presentation(cls):
        rest = Headline("widths", "band width", lambda record: 2.0, scale=1e3, unit="meV")
        return Presentation(headlines=(rest, Headline("nothing", "of this name")))


class Other(Stage):
    targets: ClassVar = ("other",)


def record(*values):
    count = len(values)
    return Widths(np.arange(count) * 100.0, np.array(values), np.full(count, 0.03))


STAGES = {"width": Stage, "other": Other}


def test_number_and_sentence():
    cell = ErrorPart(CELL, "width/widths", np.full(2, 0.04), "a series")
    (answer,) = find_answers({"width": record(1.9, 1.8)}, STAGES, [cell])
    assert answer.number() == "1800 ± 50"
    assert answer.sentence() == (
        "Band width at 100 K: 1800 ± 50 meV, against 2000 meV of the undisplaced structure "
        "(−10.0 %). The error is the 68 % interval, without what was not measured: network, "
        "estimator, phonon energies."
    )


def test_the_highest_temperature_with_a_value_counts():
    (answer,) = find_answers({"width": record(1.9, np.nan)}, STAGES, [])
    assert answer.condition() == "0 K"
    assert find_answers({"width": record(np.nan, np.nan)}, STAGES, []) == []


def test_what_the_run_was_asked_for_comes_first():
    records = {"width": record(1.0), "other": record(1.0)}
    assert [answer.stage for answer in find_answers(records, STAGES, [])] == ["width", "other"]
    found = find_answers(records, STAGES, [], target="other")
    assert [answer.stage for answer in found] == ["other", "width"]


def test_the_figure_has_bars_of_samples_and_total_and_marks_what_is_missing():
    (answer,) = find_answers({"width": record(1.9, 1.8)}, STAGES, [])
    content = draw_answer(answer).content
    rest, total, samples, budget = content["data"]
    assert rest["y"] == [2000.0, 2000.0]
    assert total["error_y"]["array"] == samples["error_y"]["array"] == pytest.approx([30.0, 30.0])
    assert dict(zip(budget["y"], budget["x"], strict=True))["cell"] is None
    assert sum(each["text"] == "not measured" for each in content["layout"]["annotations"]) == 4


@pytest.mark.parametrize(("name", "told"), [("1", ""), ("eV", " eV"), ("10⁵ m/s", " × 10⁵ m/s")])
def test_units_behind_numbers(name, told):
    assert unit_after(name) == told
