"""Runs side by side: what differs, and by how many errors."""

import numpy as np
import pytest
from old_runs import unpack_run

from mlepi.errors import DataError
from mlepi.observables import all_stages
from mlepi.report.compare import (
    ComparedRun,
    compare_runs,
    list_differences,
    list_numbers,
    name_folders,
    print_comparison,
    write_comparison,
    write_number,
)


def run(name, config, numbers=None):
    return ComparedRun(name, config, {}, (), numbers or {}, ())


def test_only_settings_that_differ_are_listed():
    found = list_differences(
        [
            run("a", {"seed": 1, "folder": "x", "stage": {"gap": {"mesh": [2, 2]}}, "t": 0}),
            run(
                "b",
                {"seed": 2, "folder": "y", "stage": {"gap": {"mesh": [3, 3]}}, "t": 0, "n": None},
            ),
        ]
    )
    assert found.rows == [
        ["n", "–", "null"],
        ["seed", "1", "2"],
        ["stage.gap.mesh", "[2, 2]", "[3, 3]"],
    ]


def test_differences_are_counted_in_errors():
    rows = list_numbers(
        [
            run("a", {}, {("v", 0.0): (1.0, 0.3), ("w", 0.0): (1.0, 0.1)}),
            run("b", {}, {("v", 0.0): (2.0, 0.4), ("u", 0.0): (5.0, np.nan)}),
        ]
    ).rows
    assert rows == [
        ["v", "0", "1.00 ± 0.3", "2.00 ± 0.4", "+2.0"],
        ["w", "0", "1.00 ± 0.1", "–", "–"],
        ["u", "0", "–", "5 ± –", "–"],
    ]


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [(870123.0, 2100.0, "(8.701 ± 0.021)e5"), (0.0, 0.1, "0.00 ± 0.1"), (np.nan, 1.0, "–")],
)
def test_numbers(value, error, told):
    assert write_number(value, error) == told


def test_names_tell_folders_apart(tmp_path):
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run"]
    assert name_folders(paths) == ["a/run", "b/run"]
    assert name_folders([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]


def test_old_runs_are_compared(tmp_path, capsys):
    folders = [unpack_run(name, tmp_path) for name in ("finished", "half_done")]
    stages = all_stages()
    for wrong in (folders[:1], [folders[0]] * 2):
        with pytest.raises(DataError, match="Name two or more run folders"):
            compare_runs(wrong, stages)
    found = compare_runs(folders, stages)
    print_comparison(found)
    said = capsys.readouterr().out
    assert "Settings that differ" in said
    assert max(map(len, said.splitlines())) <= 110
    page = write_comparison(found, tmp_path / "pages" / "c.html").read_text(encoding="utf-8")
    assert "<h1>2 runs side by side</h1>" in page
    assert "<td>fermi velocity: spectral: slopes (m/s)</td>" in page
