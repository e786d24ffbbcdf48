"""The comparison of a sweep of trainings: rows, spreads, p-values, and what may be concluded."""

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats

from mlepi.errors import DataError
from mlepi.report.training_figures import find_number, plot_curves
from mlepi.report.training_rows import compare_rows, gather_rows, read_jobs
from mlepi.report.trainings import conclude, describe_sweep, finish_sweep, format_comparison

MAIN = "forces_mae_mev_per_angstrom"
STRUCTURES = [f"thermal_{i}" for i in range(6)] + [f"twist_{i}" for i in range(4)]


def write_job(folder, overrides, errors, *, state="finished", config=(), kind="phonon"):
    """Write what a job leaves; errors: structure → value of the main metric."""
    folder.mkdir(parents=True)
    given = dict(text.split("=") for text in overrides)
    settings = {**given, "seed": int(given["seed"]), "logger": {"wandb": None}, "name": folder.name}
    record = {"state": state, "overrides": overrides, "config": {**settings, **dict(config)}}
    if state == "failed":
        record["error"] = "it broke\nsomewhere"
        (folder / "job.json").write_text(json.dumps(record))
        return
    (folder / "job.json").write_text(json.dumps(record))
    subsets = {"test": STRUCTURES, "twisted": STRUCTURES[6:]}
    subsets = {name: [s for s in members if s in errors] for name, members in subsets.items()}
    table = {
        name: {"metrics": {MAIN: float(np.mean([errors[s] for s in members])), "other": None}}
        for name, members in subsets.items()
    }
    metrics = {
        "kind": kind,
        "main_metric": MAIN,
        "columns": {"energy": "energy", MAIN: "forces MAE (meV/Å)"},
        "parameters": 100,
        "steps": 7,
        "processor_seconds": 10.0 + settings["seed"],
        "metrics": table["test"]["metrics"],
        "subsets": table,
    }
    (folder / "test_metrics.json").write_text(json.dumps(metrics))
    found = {s: {MAIN: value, "other": None} for s, value in errors.items()}
    (folder / "test_structures.json").write_text(
        json.dumps({"subsets": subsets, "counts": dict.fromkeys(errors, 12.0), "structures": found})
    )


def draw(seed, level, structures=STRUCTURES, noise=0.2):
    """Return errors about a level, on top of what makes a structure hard."""
    rng = np.random.default_rng(seed)
    hard = {name: 2.0 * i for i, name in enumerate(STRUCTURES)}
    return {name: hard[name] + level + noise * rng.normal() for name in structures}


@pytest.fixture
def sweep(tmp_path):
    for model, level in (("mace", 12.0), ("hedgenet_phonon", 10.0)):
        for seed in (1, 2, 3):
            overrides = ["experiment=mine", f"model={model}", f"seed={seed}"]
            folder = tmp_path / f"model={model},seed={seed}"
            write_job(folder, overrides, draw(seed + int(level) * 10, level))
    return tmp_path


def test_rows_differ_in_more_than_the_start(sweep):
    jobs, unfinished = read_jobs(sweep)
    rows = gather_rows(jobs)
    assert not unfinished
    assert [row.label for row in rows] == ["hedgenet_phonon", "mace"]
    assert [[job.config["seed"] for job in row.jobs] for row in rows] == [[1, 2, 3]] * 2


def test_labels_say_what_differs(tmp_path):
    for i, overrides in enumerate(
        (
            ["experiment=a", "model=mace", "data.n_train=5", "optimizer.lr=1", "seed=1"],
            ["experiment=b", "model=mace", "data.n_train=10", "optimizer.lr=1", "seed=1"],
            ["experiment=b", "model=mace", "data.n_train=10", "optimizer.lr=1", "seed=2"],
        )
    ):
        write_job(tmp_path / f"job{i}", overrides, draw(i, 1.0), config={"experiment": 0}.items())
    rows = gather_rows(read_jobs(tmp_path)[0])
    assert [row.label for row in rows] == ["n_train=5", "n_train=10"]
    assert [len(row.jobs) for row in rows] == [1, 2]


def test_spread_and_significance(sweep):
    rows = gather_rows(read_jobs(sweep)[0])
    content = describe_sweep("x", [job for row in rows for job in row.jobs])
    best = content["rows"][0]["metrics"]["test"][MAIN]
    values = [job.metrics["test"][MAIN] for job in rows[0].jobs]
    assert best["mean"] == pytest.approx(np.mean(values))
    assert best["sd"] == pytest.approx(np.std(values, ddof=1))
    assert content["rows"][0]["processor_seconds"]["mean"] == 12.0
    found = compare_rows(rows, "test", MAIN)
    assert found["best"] == "hedgenet_phonon"
    against = found["rows"]["mace"]
    assert against["difference"] == pytest.approx(2.0, abs=0.3)
    assert against["p"] < 1e-4
    assert against["n_structures"] == 10
    assert compare_rows(rows, "twisted", MAIN)["rows"]["mace"]["n_structures"] == 4
    [verdict, *_] = conclude(content)
    assert verdict == (
        "Lowest forces MAE (meV/Å): hedgenet_phonon. Lower than every other row, p < 0.05 each."
    )


def test_single_starts_name_no_winner(tmp_path):
    errors = {model: draw(i, 10.0 + 5 * i) for i, model in enumerate(("a", "b"))}
    for model, each in errors.items():
        write_job(tmp_path / model, [f"model={model}", "seed=1"], each)
    jobs, _ = read_jobs(tmp_path)
    content = describe_sweep("x", jobs)
    exact = stats.ttest_rel(list(errors["b"].values()), list(errors["a"].values()))
    against = content["significance"]["test"]["rows"]["b"]
    assert against["p"] == pytest.approx(exact.pvalue, rel=1e-9)
    assert against["starts"] is False
    assert "No winner: not shown to be lower than b (one start)." in conclude(content)[0]
    assert f"{exact.pvalue:.2g}*" in format_comparison(content)


def test_equal_networks_have_no_winner(tmp_path):
    for model in ("a", "b"):
        for seed in (1, 2):
            errors = draw(10 * seed + ord(model), 10.0, noise=1.0)
            write_job(tmp_path / f"{model}{seed}", [f"model={model}", f"seed={seed}"], errors)
    verdict = conclude(describe_sweep("x", read_jobs(tmp_path)[0]))[0]
    assert "No winner: not shown to be lower than" in verdict
    assert "(p = " in verdict


def test_other_structures_are_not_compared(tmp_path):
    write_job(tmp_path / "a", ["data=a", "seed=1"], draw(1, 1.0))
    write_job(tmp_path / "b", ["data=b", "seed=1"], draw(2, 5.0, STRUCTURES[1:]))
    content = describe_sweep("x", read_jobs(tmp_path)[0])
    assert content["significance"]["test"] == {"best": "a", "rows": {}}
    assert "b (not on the same structures, or too few)" in conclude(content)[0]


def test_files_of_a_sweep(sweep):
    write_job(sweep / "z", ["model=z", "seed=1"], {}, state="failed")
    text = finish_sweep(sweep)
    assert "Not finished: z, failed: it broke." in text
    for ending in ("md", "csv", "json", "png", "pdf"):
        assert (sweep / f"comparison.{ending}").stat().st_size > 100
    assert (sweep / "comparison.md").read_text() in text
    content = json.loads((sweep / "comparison.json").read_text())
    assert [row["label"] for row in content["rows"]] == ["hedgenet_phonon", "mace"]
    with (sweep / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["hedgenet_phonon", "mace"]
    assert float(rows[0][MAIN]) == content["rows"][0]["metrics"]["test"][MAIN]["mean"]
    assert float(rows[1][f"twisted/{MAIN}"]) > float(rows[0][f"twisted/{MAIN}"])
    assert rows[0]["other"] == rows[0][f"{MAIN}_p"] == ""
    assert math.isclose(
        float(rows[1][f"{MAIN}_p"]), content["significance"]["test"]["rows"]["mace"]["p"]
    )
    assert not (sweep / "comparison_curves.png").exists()


def test_kinds_are_compared_by_themselves(sweep):
    write_job(sweep / "z", ["model=z", "seed=1"], draw(1, 1.0), kind="electron")
    finish_sweep(sweep)
    names = sorted(path.name for path in sweep.glob("*.md"))
    assert names == ["comparison_electron.md", "comparison_phonon.md"]


def test_a_number_that_was_swept_gives_curves(tmp_path):
    for model in ("a", "b"):
        for n_train in (5, 10, 20):
            overrides = [f"model={model}", f"data.n_train={n_train}", "seed=1"]
            write_job(tmp_path / f"{model}{n_train}", overrides, draw(n_train, 100.0 / n_train))
    content = describe_sweep("x", read_jobs(tmp_path)[0])
    assert find_number([row["settings"] for row in content["rows"]]) == "data.n_train"
    axes = plot_curves(content).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert axes.get_xscale() == "log"
    labels = [row["label"] for row in content["rows"]]
    assert labels == [f"{model}, n_train={n}" for model in ("a", "b") for n in (5, 10, 20)]
    finish_sweep(tmp_path)
    assert (tmp_path / "comparison_curves.png").is_file()


def test_trainings_without_a_test_are_compared_by_validation(tmp_path):
    for seed, value in ((1, 2.0), (2, 4.0)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        record = {
            "state": "finished",
            "overrides": [f"seed={seed}"],
            "config": {"seed": seed, "name": "mace", "logger": {}, "task": {"monitor": "val/loss"}},
            "metrics": {"val/loss": value, "train/loss": 1.0},
        }
        (folder / "job.json").write_text(json.dumps(record))
    assert "3 ± 1.4" in finish_sweep(tmp_path)


def test_a_folder_without_trainings_is_refused(tmp_path):
    with pytest.raises(DataError, match="got no training that was tested, and 0 others"):
        finish_sweep(tmp_path)


def test_the_table_goes_to_wandb_as_the_trainings_do(sweep, monkeypatch, caplog):
    for path in sweep.glob("*/job.json"):
        record = json.loads(path.read_text())
        record["config"]["logger"] = {"wandb": {"project": "x", "offline": True}}
        path.write_text(json.dumps(record))

    def fail(*arguments, **options):
        raise RuntimeError("no service")

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr("wandb.init", fail)
    finish_sweep(sweep)
    assert "wandb failed (RuntimeError: no service)" in caplog.text
    assert (sweep / "comparison.md").is_file()
