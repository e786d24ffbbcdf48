"""The worked example of the documentation: a new observable in a copy of the project."""

import os
import re
import shutil
import subprocess
import sys

import h5py
import pytest

from mlepi.project_files import PROJECT_FOLDER

PAGE = PROJECT_FOLDER / "docs" / "adding_an_observable.md"
FILES = dict(
    re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.S)
)
"""Path → content of the files that the page shows."""


def call(folder, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name in ("mlepi", "conf", "tests"):
        shutil.copytree(
            PROJECT_FOLDER / name,
            folder / name,
            ignore=shutil.ignore_patterns("__pycache__", "references"),
        )
    for name in ("infer.py", "pyproject.toml"):
        shutil.copy(PROJECT_FOLDER / name, folder / name)
    (folder / "data").symlink_to(PROJECT_FOLDER / "data")
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")
    return folder


def test_the_page_costs_one_folder_and_one_file_of_settings():
    folders = {path.rpartition("/")[0] for path in FILES}
    assert folders == {
        "mlepi/observables/valence_width",
        "conf/stage",
        "tests/contracts/stages",
    }
    assert not [path for path in FILES if (PROJECT_FOLDER / path).exists()]


@pytest.mark.slow
def test_the_new_observable_runs_and_shows_up_in_the_report(copy):
    done = call(
        copy,
        "infer.py",
        "experiment=toy_monolayer",
        "stage=valence_width",
        "supercell=[2,2,1]",
        "n_samples=3",
        "folder=run",
    )
    assert done.returncode == 0, done.stderr
    # M folds onto Γ of the 2×2 cell: from −3t to −t with t = 2.7 eV
    assert re.search(r"valence_width +\d+\.\d s +5\.400 → ", done.stdout)
    with h5py.File(copy / "run" / "results.h5") as file:
        assert file["valence_width/record/widths"].attrs["unit"] == "eV"
    assert (copy / "run" / "figures" / "valence_width.pdf").is_file()
    page = (copy / "run" / "report.html").read_text("utf-8")
    assert "Width of the occupied bands at Γ of the supercell; bars: standard errors." in page
    assert "width of the occupied bands at Γ, undisplaced" in page
    assert "<td>widths (eV)</td><td>300</td>" in page, "it has rows in the error budget"
    again = call(copy, "infer.py", "experiment=toy_monolayer", "stage=full", "--cfg", "job")
    assert "valence_width" in again.stdout


@pytest.mark.slow
def test_the_new_observable_keeps_the_contract_and_the_style(copy):
    tests = call(copy, "-m", "pytest", "-q", "tests/contracts/stages/test_valence_width.py")
    assert tests.returncode == 0, tests.stdout
    own = ("mlepi/observables/valence_width", "tests/contracts/stages/test_valence_width.py")
    for command in (["check"], ["format", "--check"]):
        style = call(copy, "-m", "ruff", *command, *own)
        assert style.returncode == 0, style.stdout
