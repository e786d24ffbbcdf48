"""Files of a configuration are found from any working folder, and the commit of the sources."""

import subprocess

import pytest

from mlepi import project_files
from mlepi.errors import DataError
from mlepi.project_files import (
    PROJECT_FOLDER,
    find_commit,
    find_file,
    find_project_folder,
    locate_file,
)


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


def test_the_commit_says_whether_its_folder_was_edited(tmp_path):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)  # noqa: S607

    assert find_commit(tmp_path) == "no repository"
    (tmp_path / "source").mkdir()
    for name in ("source/a.py", "notes.md"):
        (tmp_path / name).write_text("1")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "x")):
        git(*arguments)
    commit = find_commit(tmp_path / "source")
    assert len(commit) == 40
    (tmp_path / "notes.md").write_text("2")
    assert find_commit(tmp_path / "source") == commit
    (tmp_path / "source" / "a.py").write_text("2")
    assert find_commit(tmp_path / "source") == commit + "+changes"


def test_a_wheel_brings_its_files_inside_the_package(tmp_path):
    assert find_project_folder(tmp_path / "mlepi") == tmp_path
    (tmp_path / "mlepi" / "shipped").mkdir(parents=True)
    assert find_project_folder(tmp_path / "mlepi") == tmp_path / "mlepi" / "shipped"


def test_an_installed_package_names_the_commit_of_its_build(tmp_path, monkeypatch):
    """And not that of a repository around it, which is the user's own."""
    package = tmp_path / "mlepi"
    (package / "shipped").mkdir(parents=True)
    (package / "shipped" / "commit.txt").write_text("f00d\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)  # noqa: S607
    monkeypatch.setattr(project_files, "PACKAGE_FOLDER", package)
    assert find_commit(package / "results") == "f00d"
    assert find_commit(tmp_path) == "no repository"


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
    assert (
        sum(file.stat().st_size for file in files if file.exists()) < 65e6
    )  # bytes, so that a copy takes seconds
