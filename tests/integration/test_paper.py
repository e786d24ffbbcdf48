"""The page of reproductions is what its script writes from the numbers that are kept."""

import json
import subprocess
from dataclasses import replace

import paper
import pytest
from plain_records import phonon_reference_record

from mlepi.observables import all_stages
from mlepi.project_files import CONFIG_FOLDER
from mlepi.report import write_report
from mlepi.report.trainings import format_comparison
from mlepi.results import ResultsStore

ORIGINALS = "<!-- begin originals -->\nNot run yet.\n<!-- end originals -->\n"


def test_the_page_is_up_to_date():
    text = paper.PAGE.read_text(encoding="utf-8")
    assert paper.fill_page(text, paper.KEPT) == text


def test_every_part_is_an_experiment_with_that_folder():
    for part in paper.PARTS:
        text = (CONFIG_FOLDER / "experiment" / f"{part.name}.yaml").read_text(encoding="utf-8")
        folder = part.folder.removesuffix("_small")
        assert f"dir: runs/{folder}_${{hydra.runtime.choices.size}}" in text
        assert f"experiment={part.name}" in paper.PAGE.read_text(encoding="utf-8")


def test_all_runs_every_sweep_with_its_controls_and_names_what_failed(tmp_path, monkeypatch):
    ran = []

    def run(command, cwd, check):
        ran.append(command[1:])
        return subprocess.CompletedProcess(command, int("experiment=paper_table2" in command))

    monkeypatch.setattr(paper.subprocess, "run", run)
    assert paper.run_long(tmp_path) == ["paper_table2"]
    first, second, *_ = ran
    folder = f"hydra.sweep.dir={tmp_path / 'paper_table1_small'}"
    assert first == ["train.py", "experiment=paper_table1", folder]
    assert second == ["train.py", "experiment=paper_table1_controls", folder]
    assert ran[-1] == ["infer.py", "experiment=tbg_magic", f"folder={tmp_path / 'tbg_magic'}"]
    named = {words[1].removeprefix("experiment=") for words in ran}
    assert named == {
        path.stem
        for path in (CONFIG_FOLDER / "experiment").glob("*.yaml")
        if path.stem.startswith(("paper_table", "learning_curve", "shape_curve"))
    } | set(paper.LONG)


def test_sweeps_are_kept_and_shown(tmp_path, monkeypatch):
    part = replace(paper.PARTS[0], folder="sweep")
    monkeypatch.setattr(paper, "PARTS", (part,))
    monkeypatch.setattr(paper, "FIGURES", ())
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    assert not paper.keep(part, runs, kept)
    page = f"before\n<!-- begin {part.name} -->\nold\n<!-- end {part.name} -->\nafter\n{ORIGINALS}"
    assert paper.fill_page(page, kept) == page.replace("old", "Not run yet.")
    for seed in (1, 2):
        folder = runs / "sweep" / f"seed={seed}"
        folder.mkdir(parents=True)
        config = {"seed": seed, "name": "mace", "logger": {}}
        record = {"state": "finished", "overrides": [f"seed={seed}"], "config": config}
        metrics = {"a": float(seed)}
        table = {
            "kind": "phonon",
            "main_metric": "a",
            "columns": {"a": "A"},
            "parameters": 1,
            "steps": 1,
            "processor_seconds": 1.0,
            "metrics": metrics,
            "subsets": {"test": {"metrics": metrics}},
        }
        found = {"subsets": {"test": ["x"]}, "counts": {"x": 1.0}, "structures": {"x": metrics}}
        for name, content in (("job", record), ("test_metrics", table), ("test_structures", found)):
            (folder / f"{name}.json").write_text(json.dumps(content))
    assert paper.keep(part, runs, kept)
    content = json.loads((kept / f"{part.name}.json").read_text())
    assert content["rows"][0]["metrics"]["test"]["a"]["values"] == [1.0, 2.0]
    text = paper.fill_page(page, kept)
    assert format_comparison(content).strip() in text
    assert text.startswith("before\n")
    assert text.endswith(f"after\n{ORIGINALS}")
    with pytest.raises(ValueError, match="has no place for paper_table1"):
        paper.fill_page("nothing", kept)


def test_every_figure_is_an_experiment_that_runs_its_stage():
    for part in paper.FIGURES:
        text = (CONFIG_FOLDER / "experiment" / f"{part.name}.yaml").read_text(encoding="utf-8")
        assert f"run: {part.stage}" in text
        assert f"infer.py experiment={part.name}" in paper.PAGE.read_text(encoding="utf-8")


def test_figures_are_kept_and_shown(tmp_path, monkeypatch):
    part = paper.FigurePart("figure", "phonon_reference")
    monkeypatch.setattr(paper, "PARTS", ())
    monkeypatch.setattr(paper, "FIGURES", (part,))
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    assert not paper.keep_figure(part, runs, kept)
    page = f"before\n<!-- begin figure -->\nold\n<!-- end figure -->\nafter\n{ORIGINALS}"
    assert paper.fill_page(page, kept) == page.replace("old", "Not run yet.")
    store = ResultsStore(runs / "figure")
    provenance = {"commit": "abc", "config": {"folder": "somewhere"}}
    store.write("phonon_reference", phonon_reference_record(), "inputs", provenance)
    write_report(runs / "figure", all_stages())
    assert paper.keep_figure(part, runs, kept)
    content = json.loads((kept / "figure.json").read_text(encoding="utf-8"))
    assert content["provenance"] == {"commit": "abc"}
    assert (kept / "figure.png").stat().st_size > 1000
    text = paper.fill_page(page, kept)
    assert "| M | 100, 500, 1000 | 100, 504, 1000 | 2.3 |" in text
    assert "![figure](../benchmarks/results/paper/figure.png)" in text


def test_a_figure_is_run_as_a_user_types_it(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(paper.subprocess, "run", lambda line, **given: lines.append((line, given)))
    paper.run_figure(paper.FIGURES[0], tmp_path)
    ((line, given),) = lines
    assert line[1:3] == ["infer.py", "experiment=paper_phonons"]
    assert line[3] == f"folder={tmp_path / 'paper_phonons'}"
    assert given == {"cwd": paper.ROOT, "check": True}
