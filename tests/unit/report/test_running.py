"""The page of a run that is still going."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mlepi.pipeline.sampled_stage import SampledStage
from mlepi.report import running


@pytest.fixture
def pages(monkeypatch):
    written = []
    monkeypatch.setattr(running, "write_report", lambda folder, stages, told: written.append(told))
    monkeypatch.setattr(running, "_written", {})
    monkeypatch.setattr(running, "_failed", set())
    return written


def make_run(*present):
    return SimpleNamespace(store=SimpleNamespace(stages=lambda: present, folder="run"))


class Sampled(SampledStage):
    pass


STAGES = {"structure": object, "gap": Sampled, "phonon": object}


def test_a_page_comes_before_the_samples(pages):
    running.show_progress(make_run("structure"), ["gap"], STAGES)
    (told,) = pages
    assert told.endswith("there are structure; gap come next.")


def test_no_page_of_nothing_of_what_is_there_and_of_quick_stages(pages, monkeypatch):
    running.show_progress(make_run(), ["gap"], STAGES)
    running.show_progress(make_run("structure", "gap"), ["gap"], STAGES)
    now = [0.0]
    monkeypatch.setattr(running.time, "monotonic", lambda: now[0])
    running.show_progress(make_run("structure"), ["phonon"], STAGES)
    assert pages == []
    now[0] = 61.0
    running.show_progress(make_run("structure"), ["phonon"], STAGES)
    assert len(pages) == 1


def test_a_page_that_fails_does_not_end_the_run(pages, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(running, "write_report", fail)
    for _ in range(2):
        running.show_progress(make_run("structure"), ["gap"], STAGES)
    assert capsys.readouterr().out == "no page of the run so far: no space left\n"
