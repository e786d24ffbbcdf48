"""What a run says while it goes, and what to doubt of it at the end."""

import io
import logging
import re
import time

import pytest
from rich.console import Console

from mlepi.doubts import Doubt
from mlepi.pipeline import progress
from mlepi.pipeline.progress import ProgressReport, StageLine, write_time


@pytest.fixture
def report():
    made = ProgressReport(stream=io.StringIO())
    made.lines = lambda: made._stream.getvalue().splitlines()
    return made


@pytest.fixture
def clock(monkeypatch):
    """Seconds that stand still unless they are set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def on_terminal(report, width=100):
    report._console = Console(file=report._stream, force_terminal=True, width=width)
    return report


def test_plain_report_has_one_line_per_stage(report):
    with report.stage("phonon") as line:
        line.start(3)
        line.advance()
        line.note = "done well"
    report.say("bye")
    lines = report.lines()
    assert lines[0].split()[0] == "phonon"
    assert lines[0].endswith(" s  done well")
    assert lines[1:] == ["bye"]


def test_samples_have_a_line_per_minute(clock):
    said = []
    line = StageLine(None, "samples", said.append)
    line.start(200, 20)
    for _ in range(150):
        clock[0] += 1.5
        line.advance("slow")
    assert len(said) == 3  # of 225 s
    assert said[0].split()[:2] == ["samples", "60/200"]
    for text in ("1.5 s each", "GB", "about 3.5 min left", "slow"):
        assert text in said[0]
    assert (line.rate(), line.count()) == ("1.5 s each", "170/200")
    assert line.time_left() == pytest.approx(45.0)
    clock[0] += 10.0
    assert line.time_left() == pytest.approx(35.0)  # it goes on falling within a sample


def test_what_was_just_told_is_not_said_again(clock):
    said = []
    line = StageLine(None, "structure", said.append)
    clock[0] = 59.0
    line.tell("step 3")
    clock[0] = 61.0
    line.remind()
    assert said == [f"{'structure':<16} step 3"]
    clock[0] = 119.5
    line.remind()
    assert said[1].startswith(f"{'structure':<16} 2.0 min so far  ")
    assert line.time_left() is None


def test_work_that_is_not_counted_has_its_line_too(report, monkeypatch):
    monkeypatch.setattr(progress, "PAUSE", 0.02)
    with report.stage("phonon"):
        time.sleep(0.15)
    lines = report.lines()
    assert 2 < len(lines) < 12
    assert all("so far" in text and "GB" in text for text in lines[:-1])
    time.sleep(0.05)
    assert len(report.lines()) == len(lines)  # over with the stage


def test_a_terminal_shows_a_bar_and_the_log_a_line_per_minute(report, monkeypatch, caplog):
    monkeypatch.setattr(progress, "PAUSE", 0.02)
    caplog.set_level(logging.INFO)
    with on_terminal(report).stage("observables") as line:
        line.start(4, 1)
        time.sleep(0.05)
        line.advance()
        time.sleep(0.05)
    shown = report._stream.getvalue()
    for text in ("2/4", "/s", "GB", "left"):
        assert text in shown
    assert "about" not in shown  # that is in the log alone
    assert sum("about" in record.message for record in caplog.records) >= 1


@pytest.mark.parametrize("width", [60, 100])
def test_a_bar_fits_into_the_terminal(report, width):
    with on_terminal(report, width).stage("observables") as line:
        line.start(1000, 0)
        line.advance()
    frames = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", report._stream.getvalue()))
    bars = [text for text in frames if "1/1000" in text]
    assert bars
    assert max(map(len, bars)) <= width


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "0.12 s"), (9.0, "9 s"), (75.0, "75 s"), (240.0, "4.0 min"), (9000.0, "2.5 h")],
)
def test_times(seconds, text):
    assert write_time(seconds) == text


def test_quiet_report_says_nothing(capsys):
    report = ProgressReport(quiet=True)
    with report.stage("phonon") as line:
        line.advance()
    report.say("x")
    report.doubt("phonon", ["no"])
    report.tell_doubts([("gap", Doubt("no"))])
    assert capsys.readouterr().out == ""


def test_doubts_come_at_the_end_once_and_from_the_worst(report, caplog):
    caplog.set_level(logging.INFO)
    long = Doubt("word " * 40 + "end.", "It means much.", severity="note")
    report.doubt("fermi_velocity", [long, "as a text"])
    report.within("committee").doubt("phonon", [Doubt("unstable.", severity="serious")])
    report.within("committee", quiet=True).doubt("phonon", ["not heard"])
    assert report.lines() == []
    report.tell_doubts([("fermi velocity", Doubt("as a text")), ("gap", Doubt("as a text"))])
    lines = report.lines()
    assert max(map(len, lines)) <= 100
    heads = [text for text in lines if text.startswith("WARNING")]
    assert heads[:2] == [
        "WARNING (serious): committee/phonon: unstable.",
        "WARNING (caution): fermi velocity, gap: as a text",
    ]
    assert heads[2].startswith("WARNING (note): fermi velocity: word word")
    assert f"WARNING (note): {long.about('fermi velocity')}" in caplog.text  # one line in the log
    report.tell_doubts()
    assert report.lines() == lines
