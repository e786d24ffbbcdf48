"""What a sweep of inferences ends with: tables against what was swept, numbers, figure, page."""

import csv

import numpy as np
import pytest
from old_runs import unpack_run
from omegaconf import OmegaConf
from series_records import of_size
from velocity_records import fermi_velocity_record

from mlepi.command_line import Inferences
from mlepi.errors import DataError
from mlepi.observables import all_stages
from mlepi.project_files import CONFIG_FOLDER
from mlepi.report.inference_figure import plot_inferences
from mlepi.report.inferences import finish_inferences, read_runs
from mlepi.results import ResultsStore

STAGES = all_stages()
COMMON = ["folder=X", "experiment=demo"]


def write_job(folder, swept, record=None):
    """Write what Hydra and the pipeline leave of one job."""
    (folder / ".hydra").mkdir(parents=True)
    lines = "".join(f"- {text}\n" for text in [*COMMON, *swept])
    (folder / ".hydra" / "overrides.yaml").write_text(lines)
    if record is not None:
        ResultsStore(folder).write("fermi_velocity", record, "digest", {})
    return folder


@pytest.fixture
def sweep(tmp_path):
    """Three sizes of cells, in an order that is not that of letters, and a failure."""
    sizes = {"2": 3, "10": 4, "11": 6}
    records = {name: of_size(fermi_velocity_record(), n) for name, n in sizes.items()}
    for name, record in records.items():
        write_job(tmp_path / name, [f"n_samples={sizes[name]}", "~electron"], record)
    failed = write_job(tmp_path / "12", ["n_samples=0"])
    text = "Traceback (most recent call last):\n  here\nmlepi.errors.ConfigError: n_samples: got 0"
    (failed / "traceback.txt").write_text(text)
    return tmp_path, dict(zip(sizes.values(), records.values(), strict=True))


def test_a_sweep_ends_with_one_comparison(sweep, capsys):
    folder, records = sweep
    Inferences().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}}))
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith("| n_samples=")]
    assert [row.split(" | ")[0] for row in rows] == [f"| n_samples={n}" for n in records]
    assert "|  | at rest | 0 K | 150 K | 300 K |" in text
    assert "Not finished: 12, failed: ConfigError: n_samples: got 0." in text
    with (folder / "comparison.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 9
    for row in found:
        record = records[int(row["n_samples"])]
        place = record.temperatures.tolist().index(float(row["temperature_K"]))
        scale = 1e5 if "10⁵" in row["quantity"] else 1.0
        assert float(row["value"]) * scale == pytest.approx(record.spectral.slopes[place])
    assert (folder / "comparison.png").stat().st_size > 0
    assert "3 runs side by side" in (folder / "comparison.html").read_text(encoding="utf-8")


def test_the_figure_is_drawn_against_the_number_that_was_swept(sweep):
    runs, _ = read_runs(sweep[0], STAGES)
    axes = plot_inferences([(each.settings, each.run) for each in runs]).axes[0]
    assert axes.get_xlabel() == "n_samples"
    lines = [bar.lines[0] for bar in axes.containers]
    assert len(lines) == 3  # one per temperature
    np.testing.assert_array_equal(lines[0].get_xdata(), [3.0, 4.0, 6.0])
    named = plot_inferences([({}, each.run) for each in runs]).axes[0]
    assert [tick.get_text() for tick in named.get_xticklabels()] == [e.run.name for e in runs]


def test_runs_without_averages_are_compared_by_what_they_say(tmp_path):
    unpack_run("bands", tmp_path)
    text = finish_inferences(tmp_path, STAGES)
    assert "gaps below and above them" in text or "gap along" in text
    assert "| bands | " in text
    assert not list(tmp_path.glob("comparison.png"))


def test_a_folder_without_results_is_refused(tmp_path):
    write_job(tmp_path / "0", [])
    with pytest.raises(DataError, match=r"got no run with results, and 1 others; .*infer.py -m"):
        finish_inferences(tmp_path, STAGES)


def test_sweeps_of_inferences_end_so_unless_an_experiment_says_otherwise():
    places = (CONFIG_FOLDER / "infer.yaml", CONFIG_FOLDER / "experiment" / "headline.yaml")
    targets = [OmegaConf.load(path).hydra.callbacks.comparison._target_ for path in places]
    assert targets == ["mlepi.command_line.Inferences", "mlepi.command_line.CellSizes"]
