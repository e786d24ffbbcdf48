"""Files of a configuration are found from any working folder."""

import subprocess

import pytest

from mlepi.errors import DataError
from mlepi.project_files import PROJECT_FOLDER, find_file, locate_file


def test_the_working_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate_file("infer.py") == PROJECT_FOLDER / "infer.py"
    (tmp_path / "infer.py").write_text("x")
    assert locate_file("infer.py") == tmp_path / "infer.py"
    assert find_file("key", "infer.py") == tmp_path / "infer.py"
    assert locate_file("nowhere.h5") is None
    with pytest.raises(
        DataError,
        match=r"data.path: got 'nowhere.h5', which does not exist; expected a file. Looked in",
    ):
        find_file("data.path", "nowhere.h5")


def test_the_files_of_the_project_can_travel():
    listed = subprocess.run(
        ["git", "-C", str(PROJECT_FOLDER), "ls-files", "-z"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("no repository")
    files = [PROJECT_FOLDER / name for name in listed.stdout.split("\0") if name]
    assert sum(file.stat().st_size for file in files if file.exists()) < 45e6
