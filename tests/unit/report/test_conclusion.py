"""How a run ends: one summary, then every doubt once, and the same in services."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from recorded_service import record_into
from width_records import Widths

from mlepi.doubts import Doubt
from mlepi.figures import Drawing, Headline, Presentation, Section, Table, new_figure
from mlepi.pipeline import PlainStage
from mlepi.pipeline.progress import ProgressReport
from mlepi.report import format_summary
from mlepi.report.conclusion import conclude_run
from mlepi.report.screen import MOST_TEMPERATURES
from mlepi.results import ResultsStore

LOGGER = {"wandb": {"project": "x", "name": None}, "tensorboard": None}


def draw(record):
    figure = new_figure(1.0, 1.0)
    figure.subplots().plot(record.temperatures, record.widths)
    return figure


def tabulate(records):
    return Section("All", [Table(("T", "v"), [["0", "1"]], title="Widths; eV/K")])


class WidthStage(PlainStage):
    name: ClassVar = "band_width"
    requires: ClassVar = ()
    record: ClassVar = Widths

    def inputs(self, settings):
        return {}

    def summarize(self, record):
        return ""

    def compute(self, run, line):
        raise AssertionError("the end of a run computes nothing")

    @staticmethod
    def doubts(record):
        return [Doubt("few samples.", severity="note"), "wide."]

    @classmethod
    def presentation(cls):
        return Presentation(
            drawings=(Drawing("widths", draw, "Widths."),),
            facts=lambda record: [("widths", f"{len(record.widths)}")],
            sections=(tabulate,),
            headlines=(Headline("widths", "band width", lambda record: 2.0, 1e3, "meV"),),
        )


class Other(WidthStage):
    name: ClassVar = "other_width"

    @staticmethod
    def doubts(record):
        return [Doubt("not stable.", severity="serious"), "wide."]


class Plain(WidthStage):
    name: ClassVar = "plain"

    @classmethod
    def presentation(cls):
        return Presentation(facts=lambda record: [("a fact", "of [this] run")])


STAGES = {"band_width": WidthStage, "other_width": Other}


def make_run(folder, stages=STAGES, count=2, report=True):
    store = ResultsStore(folder)
    temperatures = np.arange(count) * 300.0 / max(1, count - 1)
    record = Widths(temperatures, 1.9 - 0.1 * temperatures / 300.0, np.full(count, 0.03))
    for name in stages:
        store.write(name, record, "digest", {"commit": "a", "config": {}})
    config = {"report": report, "logger": LOGGER, "api_key": "secret", "seed": 1}
    return SimpleNamespace(store=store, settings=SimpleNamespace(config=config))


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    def conclude(run, sweep=""):
        service, jobs = record_into(monkeypatch, "mlepi.report.tracked_run")
        conclude_run(run, STAGES, ProgressReport(), sweep)
        return capsys.readouterr().out, service, jobs

    return conclude


def test_the_table_then_every_doubt_once_from_the_worst_then_the_page(tmp_path, said):
    text, _, _ = said(make_run(tmp_path / "run"))
    lines = text.splitlines()
    assert max(map(len, lines[:-1])) <= 100
    places = [
        text.index(words)
        for words in (
            "Summary",
            "WARNING (serious): other width: not stable.",
            "WARNING (caution): band width, other width: wide.",
            "WARNING (note): band width: few samples.",
            "report  ",
        )
    ]
    assert places == sorted(places)
    assert text.count("wide.") == 1
    row = next(text for text in lines if "Band width" in text)
    told = " ".join(row.split())
    assert told.startswith("Band width (meV) 2000 0 1900 ± 30 −5.0 % network")
    assert lines[-1] == f"report           {tmp_path / 'run' / 'report.html'}"


def test_without_a_report_the_rest_is_said(tmp_path, said):
    text, service, _ = said(make_run(tmp_path / "run", report=False))
    assert "Summary" in text
    assert "WARNING (serious)" in text
    assert not (tmp_path / "run" / "report.html").exists()
    assert service.files == {}
    assert service.images == {}


def test_many_temperatures_are_thinned_and_narrow_screens_respected(tmp_path):
    folder = make_run(tmp_path / "run", {"band_width": WidthStage}, count=31).store.folder
    text = format_summary(folder, STAGES, width=70)
    assert max(map(len, text.splitlines())) <= 70
    rows = [line for line in text.splitlines() if "±" in line and "error" not in line]
    assert len(rows) == MOST_TEMPERATURES
    assert "1900 ± 30" in rows[0]
    assert "1800 ± 30" in rows[-1]


def test_a_run_without_averages_has_facts(tmp_path):
    folder = make_run(tmp_path, {"plain": Plain}).store.folder
    lines = format_summary(folder, {"plain": Plain}).splitlines()
    assert lines[-1].split() == ["a", "fact", "of", "[this]", "run"]


def test_services_get_tables_plots_doubts_and_figures(tmp_path, said):
    _, service, [(settings, job)] = said(make_run(tmp_path / "run"), "a sweep")
    assert settings == LOGGER
    assert (job.name, job.sweep, job.kind) == ("a sweep/run", "a sweep", "infer")
    assert job.config == {"report": True, "api_key": "***", "seed": 1}
    header, rows = service.tables["band width/table"]
    assert header[:4] == ["T (K)", "value (meV)", "total error", "samples"]
    assert rows[1][:2] == pytest.approx([300.0, 1800.0])
    assert rows[1][4:] == [None] * 4  # not measured
    labels, x, y = service.curves["band width/band width against temperature"]
    assert labels == ("T (K)", "band width (meV)")
    assert (x, y) == ([0.0, 300.0], pytest.approx([1900.0, 1800.0]))
    assert service.tables["doubts"][1][0][:2] == ["serious", "other width: not stable."]
    assert "tables/Widths" in service.tables
    assert set(service.images) == {"figures/widths"}
    assert service.files["report"] == (tmp_path / "run" / "report.html", "report")
    assert service.summary["band width"] == pytest.approx(1800.0)
    assert service.summary["band width at rest"] == 2000.0
    assert service.summary["doubts/serious"] == 1.0
    assert service.closed
