"""The page and the screen ask stages for their records, figures, facts, sections and doubts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

import matplotlib as mpl
import numpy as np
import pytest

from mlepi.errors import DataError
from mlepi.figures import (
    Comparison,
    Drawing,
    Paragraph,
    Presentation,
    Section,
    Table,
    new_figure,
)
from mlepi.pipeline import PlainStage
from mlepi.report import print_tables, write_report
from mlepi.report.run_facts import find_command, list_packages
from mlepi.report.run_records import list_doubts, list_figures, list_sections, read_records
from mlepi.report.templates import write_signs
from mlepi.results import ResultsStore, unit


@dataclass(frozen=True)
class Numbers:
    values: np.ndarray = field(metadata=unit("eV"))


def draw(record):
    figure = new_figure(1.0, 1.0)
    figure.subplots().plot(record.values)
    return figure


def draw_both(records):
    assert {"early", "late"} <= set(records)
    return draw(records["late"])


def describe(records):
    """Name what both stages found; nothing without the later one."""
    if "late" not in records:
        return None
    rows = [[name, f"{record.values[0]:g} <eV>"] for name, record in records.items()]
    return Section(
        "Both & more",
        [
            Paragraph("a < b", heading="Where"),
            Table(("stage", "value"), rows, title="v", screen_columns=(1,)),
            Table(("stage", "value"), rows),
        ],
    )


class Early(PlainStage):
    name: ClassVar = "early"
    requires: ClassVar = ()
    record: ClassVar = Numbers
    shown: ClassVar = Presentation(
        drawings=(Drawing("first", draw, "The first <figure>."),),
        facts=lambda record: [("first value", f"{record.values[0]:g} eV")],
        sections=(describe,),
    )

    def inputs(self, settings):
        return {}

    def summarize(self, record):
        return ""

    def compute(self, run, line):
        raise AssertionError("a report computes nothing")

    @classmethod
    def presentation(cls):
        return cls.shown

    @staticmethod
    def doubts(record):
        return ["negative <value>"] if record.values[0] < 0 else []


class Late(Early):
    name: ClassVar = "late"
    requires: ClassVar = ("early",)
    shown: ClassVar = Presentation(
        drawings=(Drawing("second", draw, "The second figure."),),
        sections=(describe,),
        comparisons=(
            Comparison("together", draw_both, "Both together.", lambda records: len(records) > 1),
        ),
    )


STAGES = {"late": Late, "early": Early}
PROVENANCE = {"commit": "0123abc", "seed": 7, "config": {"text": "</pre><script>"}}


@pytest.fixture
def write(tmp_path):
    def write_some(**values):
        store = ResultsStore(tmp_path)
        for name, value in values.items():
            store.write(name, Numbers(np.array([value, 2.0])), "digest", PROVENANCE)
        return tmp_path

    return write_some


def test_records_come_in_the_order_in_which_stages_run(write):
    store = ResultsStore(write(late=1.0, early=3.0))
    assert list(read_records(store, STAGES)) == ["early", "late"]
    store.write("stranger", Numbers(np.zeros(1)), "digest", {})
    assert "stranger" not in read_records(store, STAGES)  # a stage of a package that is not here


def test_the_page_is_complete_and_self_contained(write):
    folder = write(early=-1.0, late=4.0)
    before = dict(mpl.rcParams)
    page = write_report(folder, STAGES).read_text(encoding="utf-8")
    assert dict(mpl.rcParams) == before
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "</pre><script>" not in page
    assert page.count("<figure id=") == 4  # one of them is the answer
    for statement in (
        '<span class="grade">Caution</span>early: negative &lt;value&gt;',
        "<h3>Both &amp; more</h3>",
        "<h4>Where</h4>\n<p>a &lt; b</p>",
        "<td>early</td><td>-1 &lt;eV&gt;</td>",
        "The first &lt;figure&gt;.</figcaption>",
        "<td>first value</td><td>-1 eV</td>",
        "<summary>late: commit 0123abc, content ",
    ):
        assert statement in page, statement
    assert page.count("<h3>Both") == 1  # two stages name it
    for name in ("first", "second", "together"):
        assert (folder / "figures" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert (folder / "figures" / f"{name}.pdf").read_bytes()[:4] == b"%PDF"


def test_a_partial_run_gives_what_there_is(write, capsys):
    folder = write(early=1.0)
    page = write_report(folder, STAGES).read_text(encoding="utf-8")
    assert page.count("<figure id=") == 2
    assert [path.name for path in (folder / "figures").glob("*.png")] == ["first.png"]
    assert "Both" not in page
    assert 'class="doubt' not in page
    print_tables(folder, STAGES)
    assert capsys.readouterr().out == ""


def test_tables_with_a_title_are_printed_with_the_columns_that_fit(write, capsys):
    print_tables(write(early=1.0, late=4.0), STAGES)
    text = capsys.readouterr().out
    assert text.split() == ["v", "value", "─" * 8, "1", "<eV>", "4", "<eV>"]
    assert "4 <eV>" in text
    assert "stage" not in text  # the other column


def test_figures_of_several_records_come_last(write):
    records = read_records(ResultsStore(write(early=1.0, late=4.0)), STAGES)
    assert [drawing.name for _, drawing in list_figures(records, STAGES)] == [
        "first",
        "second",
        "together",
    ]
    assert len(list_sections(records, STAGES)) == 1
    assert list_doubts(records, STAGES) == []


def test_a_missing_store_is_one_error(tmp_path):
    for action in (write_report, print_tables):
        with pytest.raises(DataError, match="got no records; expected the folder of a run"):
            action(tmp_path, STAGES)


def test_a_figure_that_cannot_be_converted_is_shown_as_a_picture(write, monkeypatch):
    monkeypatch.setattr("mlepi.report.page_parts.convert_figure", lambda figure: None)
    page = write_report(write(early=1.0), STAGES).read_text(encoding="utf-8")
    assert '<img alt="The first &lt;figure&gt;." src="data:image/png;base64,' in page


def test_a_run_that_is_going_has_a_page_without_files(write):
    folder = write(early=1.0)
    page = write_report(folder, STAGES, "early is done.").read_text(encoding="utf-8")
    assert '<body data-reload="20">' in page
    assert "early is done." in page
    assert not (folder / "figures").exists()
    assert "data-reload" not in write_report(folder, STAGES).read_text("utf-8").split("<script")[0]


def test_the_command_line_is_told_where_it_was_kept(write):
    folder = write(early=1.0)
    assert find_command(folder) == ""
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "overrides.yaml").write_text("- a=[1,2]\n- 'b=it''s'\n- \"c=\\u00e9\"\n")
    assert find_command(folder) == """python infer.py 'a=[1,2]' 'b=it'"'"'s' 'c=é'"""
    page = write_report(folder, STAGES).read_text(encoding="utf-8")
    assert "<pre>python infer.py &#39;a=[1,2]&#39;" in page


def test_digests_of_networks_are_those_of_the_stages_that_have_them():
    provenance = {
        "hamiltonian": {"inputs": {"settings": {"electron": "1974c0"}}},
        "domain": {"inputs": {"settings": {"electron": []}}},  # no committee
        "committee": {"inputs": {"settings": {"phonon": ["a", "b"]}}},
    }
    rows = dict(list_packages(provenance, {"electron": "e.ckpt"}).rows)
    assert rows["digest: electron"] == "1974c0"
    assert rows["digest: phonon"] == '["a", "b"]'


def test_numbers_of_sentences_have_a_sign_and_names_keep_their_hyphens():
    told = "-4.4 cm⁻¹ (-0.5, +1), 0-9, hBN-2, ± -1"
    assert write_signs(told) == "−4.4 cm⁻¹ (−0.5, +1), 0-9, hBN-2, ± −1"
