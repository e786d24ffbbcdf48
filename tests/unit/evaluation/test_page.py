"""Tables, page and files of a judgement, and the command that makes them."""

import copy
import json
import re
import shutil

import numpy as np
import pytest
from toy_evaluation import bilayers, label, raised_electron, write_checkpoint, write_labels

from mlepi.checkpoint import load_model
from mlepi.commands.main import main
from mlepi.errors import DataError
from mlepi.evaluation import page
from mlepi.evaluation.findings import Points, thin
from mlepi.evaluation.judgement import Judgement, judge
from mlepi.evaluation.labels import LABELS
from mlepi.evaluation.labels import label as words_for
from mlepi.evaluation.settings import Settings
from mlepi.evaluation.tables import (
    WIDTH,
    format_screen,
    full_table,
    number,
    outlier_table,
    structure_table,
    summary_rows,
)
from mlepi.structures.ase_files import write_extxyz
from mlepi.structures.labelled_structure import LabelledStructure

SHIFT = 0.05


@pytest.fixture(scope="module")
def electron(tmp_path_factory):
    return raised_electron(tmp_path_factory.mktemp("electron"), SHIFT)


@pytest.fixture(scope="module")
def judgement(electron):
    settings = Settings(subsets=("test", "val"), kpoints=1, window=(-3.0, 0.0))
    return judge(electron / "e.ckpt", settings=settings)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (1.2345, "1.23"), (1593.6, "1594"), (1e-7, "1e-07"), (98.76, "98.8")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_every_metric_has_words(judgement):
    metrics = [*judgement.result["metrics"], *judgement.result["structures"]["c"]["metrics"]]
    assert {"bands_window_rms_mev", "lowest_level_from_dft_ev"} <= set(metrics)
    assert set(metrics) <= set(LABELS)
    assert words_for("forces_Mo_rmse_mev_per_angstrom") == "forces on Mo, RMSE (meV/Å)"


def test_the_screen_shows_every_part_within_its_width(judgement):
    shown = format_screen(judgement.result)
    assert shown.startswith("e.ckpt (electron network) on h.h5, split split.json")
    for text in (
        "levels at 1 k-points",
        "The window of --window is -3 to 0 eV from E_F.",
        "H gauge-free, MAE / RMSE (meV)",
        "  in the window of --window",
        "k with ghosts, plain / shifted (%)",
        "H gauge-free by distance",
        "H gauge-free by pair of shells",
        "largest errors",
        "  0 of 2 structures are outliers of their subset",
    ):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= WIDTH


def test_many_subsets_and_outliers_stay_within_the_width(judgement):
    result = copy.deepcopy(judgement.result)
    subset = result["subsets"]["test"]
    result["subsets"] |= {f"subset_with_a_long_name_{n}": subset for n in range(7)}
    row = {"metric": "hamiltonian_gauge_free_mae_mev", "value": 3.0, "median": 1.0, "score": 9.0}
    result["outliers"] = {"test": [{"structure": f"s{n}", **row} for n in range(9)]}
    result["structures"] |= {f"s{n}" + 60 * "x": result["structures"]["c"] for n in range(9)}
    shown = format_screen(result)
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert all(f"subset_with_a_long_name_{n}" in shown for n in range(7))
    assert "  9 of 11 structures are outliers of their subset" in shown
    assert len(outlier_table(result).rows) == 9


def test_tables_hold_the_numbers(judgement):
    result = judgement.result
    rows = {row[0]: row[1:] for row in summary_rows(result, "subsets")}
    metrics = [result["subsets"][name]["metrics"] for name in ("test", "val")]
    assert rows["subsets"] == ["test", "val"]
    assert rows["  within ±2 eV of E_F"] == [
        f"{number(m['bands_2ev_rms_mev'])} / {number(m['bands_2ev_aligned_rms_mev'])}"
        for m in metrics
    ]
    every = {row[0]: row[1:] for row in full_table(result).rows}
    assert every["H, MAE (meV)"] == [number(m["hamiltonian_mae_mev"]) for m in metrics]
    names = [row[0] for row in structure_table(result).rows]
    assert sorted(names) == ["b", "c"]
    errors = [result["structures"][n]["metrics"]["hamiltonian_gauge_free_mae_mev"] for n in names]
    assert errors == sorted(errors, reverse=True)


def test_points_keep_the_error_of_those_that_are_left_out():
    label, prediction = np.zeros(100), np.arange(100.0)
    points = thin(label, prediction, 7)
    assert len(points.label) == len(set(points.prediction)) == 7
    assert (points.error, points.count) == (4950.0, 100)
    both = Points.join([points, thin(label[:3], prediction[:3], 7)])
    assert len(both.label) == 10
    assert (both.error, both.count) == (4953.0, 103)


def test_the_page_stands_alone_and_is_replaced_as_a_whole(judgement, tmp_path, monkeypatch):
    numbers, html = page.write_files(judgement, tmp_path)
    assert json.loads(numbers.read_text("utf-8")) == judgement.result
    text = html.read_text("utf-8")
    names = ["parity_H_onsite", "parity_H_intra", "parity_H_inter", "levels", "distances"]
    assert re.findall(r'<img alt="(\w+)" src="data:image/png;base64,', text) == [
        *names,
        "orbitals",
    ]
    assert "http" not in text
    assert "<link" not in text
    for heading in ("By subset", "By distance", "By pair of shells", "By structure", "Provenance"):
        assert f"<h2>{heading}</h2>" in text
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {numbers, html}

    def fail(result, points):
        raise ZeroDivisionError

    monkeypatch.setattr(page, "draw_all", fail)
    with pytest.raises(ZeroDivisionError):
        page.write_files(Judgement({**judgement.result, "kind": "electron"}, {}), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file: got .*; expected a folder. Choose another"):
        page.write_files(judgement, tmp_path / "file")


def test_the_command_computes_anew_every_time(electron, tmp_path, capsys, monkeypatch):
    """The same arguments with other labels in the same file give other numbers."""
    monkeypatch.setattr("mlepi.pipeline.progress.PAUSE", 0.01)
    data, split = tmp_path / "h.h5", tmp_path / "split.json"
    shutil.copy(electron / "h.h5", data)
    shutil.copy(electron / "split.json", split)
    given = ["eval", str(electron / "e.ckpt"), str(data), "--split", str(split)]
    given += ["--subset", "test,val", "--kpoints", "0", "--output", str(tmp_path / "out")]
    assert main(given) == 0
    shown = capsys.readouterr()
    assert "H gauge-free, MAE / RMSE (meV)" in shown.out
    assert "levels, RMS" not in shown.out
    assert str(tmp_path / "out" / "eval.html") in shown.out
    assert re.search(r"structures +1/2  .* left  c, 16 atoms", shown.err)
    first = json.loads((tmp_path / "out" / "eval.json").read_text("utf-8"))
    assert first["data"]["n_structures"] == {"test": 1, "val": 1}
    predictor = load_model(electron / "e.ckpt")
    labelled = [label(predictor, n, a, lambda h, s: 3.0 * SHIFT * s) for n, a in bilayers()]
    write_labels(tmp_path, labelled, {"train": ["a"], "val": ["b"], "test": ["c"]})
    assert main(given) == 0
    second = json.loads((tmp_path / "out" / "eval.json").read_text("utf-8"))
    name = "hamiltonian_mae_mev"
    assert second["metrics"][name] == pytest.approx(3.0 * first["metrics"][name], rel=1e-3)
    digests = [found["provenance"]["inputs"]["data 1"] for found in (first, second)]
    assert digests[0] != digests[1]


def test_forces_on_the_screen_and_on_the_page(tmp_path, capsys):
    write_checkpoint(tmp_path / "p.ckpt", "phonon", {})
    predictor, labelled = load_model(tmp_path / "p.ckpt"), []
    for name, atoms in bilayers("abcdefghij", carbon=False):
        energies, forces = predictor.energy_and_forces([atoms])
        wrong = 0.03 if name == "e" else 0.01 + 1e-4 * ord(name)
        labelled.append(
            LabelledStructure(name, atoms, energy=energies[0], forces=forces[0] + wrong)
        )
    write_extxyz(tmp_path / "f.extxyz", labelled)
    given = ["eval", str(tmp_path / "p.ckpt"), str(tmp_path / "f.extxyz")]
    assert main([*given, "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    for text in ("p.ckpt (phonon network) on f.extxyz\n", "forces, MAE / RMSE (meV/Å)", "  on N"):
        assert text in shown
    assert re.search(r"largest errors +atoms .* outlier\ne +16 .* yes\nj +16", shown)
    assert "  1 of 10 structures are outliers of their subset" in shown
    text = (tmp_path / "out" / "eval.html").read_text("utf-8")
    assert re.findall(r'<img alt="(\w+)"', text) == ["parity_energy", "parity_forces"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["nowhere.ckpt"], "error: nowhere.ckpt: got no such file"),
        (["e.ckpt", "nowhere.h5"], "error: DATA: got 'nowhere.h5', which does not exist"),
        (["e.ckpt", "--subset", "tset"], "no subset 'tset'"),
        (["e.ckpt", "--split", "gone.json"], "error: --split: got 'gone.json'"),
        (["e.ckpt", "--kpoints", "many"], "error: --kpoints: got many"),
        (["e.ckpt", "--window", "2", "1"], "error: --window: got (2.0, 1.0)"),
        (["e.ckpt", "--device", "nothing"], "nothing"),
    ],
)
def test_mistakes_are_one_message(options, text, electron, monkeypatch, capsys):
    monkeypatch.chdir(electron)
    assert main(["eval", *options]) == 1
    shown = capsys.readouterr()
    assert text in shown.err
    assert "Traceback" not in shown.err
    assert not shown.out
    assert not (electron / "outputs").exists()
