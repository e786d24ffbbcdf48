"""What a release is checked for, piece by piece, and the files that people cite, read and call."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import tomllib
import zipfile
from importlib.metadata import version as installed_version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

from mlepi.commands.environment import describe_environment
from mlepi.errors import DataError

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")


def load_script(name):
    specification = spec_from_file_location(Path(name).stem, ROOT / name)
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


release = load_script("tools/release.py")


@pytest.fixture
def project(tmp_path):
    """A repository with one commit, which could be released."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2027-01-31\n\n- A reader.\n\n## [1.1.0]\n"
    )
    (tmp_path / "CITATION.cff").write_text('version: 1.2.0\ndate-released: "2027-01-31"\n')
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True)  # noqa: S607


def commit(folder):
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "x")


def test_a_project_that_can_be_released(project):
    assert release.check_sources(project) == ("1.2.0", "- A reader.")


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("pyproject.toml", "1.2.0", "1.2", r"project.version: got '1.2'; expected MAJOR.MINOR"),
        ("CHANGELOG.md", "## [1.2.0]", "## [1.3.0]", r"CHANGELOG.md: got no section of 1.2.0"),
        ("CHANGELOG.md", " - 2027-01-31", "", r"got a section without a date; expected ## \[1.2.0"),
        ("CHANGELOG.md", "- A reader.", "", r"CHANGELOG.md: got an empty section"),
        ("CITATION.cff", "1.2.0", "1.1.0", r"got version 1.1.0 of 2027-01-31; expected version 1"),
        ("CITATION.cff", "01-31", "01-30", r"got version 1.2.0 of 2027-01-30; expected version 1"),
    ],
)
def test_what_does_not_agree_is_refused(project, name, old, new, words):
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))
    commit(project)
    with pytest.raises(DataError, match=words):
        release.check_sources(project)


def test_changes_and_tags_are_refused(project, tmp_path_factory):
    (project / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"got 1 changed files \(\?\? notes.txt …\); expected a cl"):
        release.check_sources(project)
    commit(project)
    git(project, "tag", "v1.2.0")
    with pytest.raises(DataError, match=r"v1.2.0: got a tag that exists"):
        release.check_sources(project)
    with pytest.raises(DataError, match=r"git status --porcelain: got .*; expected a repository"):
        release.check_repository(tmp_path_factory.mktemp("elsewhere"), "v1.2.0")


def write_distributions(folder, *, version="1.2.0", commit="abc", left_out=""):
    wheel, sdist = folder / "mlepi.whl", folder / "mlepi.tar.gz"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"mlepi-{version}.dist-info/METADATA", f"Name: mlepi\nVersion: {version}\n")
        file.writestr("mlepi/shipped/commit.txt", f"{commit}\n")
        for name in ("mlepi/units.py", "mlepi/shipped/conf/infer.yaml"):
            file.writestr(name, "x")
    names = {"mlepi/units.py", "conf/infer.yaml", "pyproject.toml", "setup.py", "README.md"}
    with tarfile.open(sdist, "w:gz") as archive:
        for name in {*names, "LICENSE"} - {left_out}:
            archive.addfile(tarfile.TarInfo(f"mlepi-{version}/{name}"), io.BytesIO())
    return wheel, sdist


def test_wheel_and_sdist_are_compared(tmp_path):
    release.check_distributions(*write_distributions(tmp_path), "1.2.0", "abc")
    other = write_distributions(tmp_path, commit="no repository")
    with pytest.raises(DataError, match=r"got 1.2.0 of commit no repository; expected 1.2.0 of co"):
        release.check_distributions(*other, "1.2.0", "abc")
    missing = write_distributions(tmp_path, left_out="conf/infer.yaml")
    with pytest.raises(DataError, match=r"got 1 files of the wheel missing, conf/infer.yaml among"):
        release.check_distributions(*missing, "1.2.0", "abc")


def test_a_refusal_is_one_line(project, monkeypatch, capsys):
    monkeypatch.setattr(release, "ROOT", project)
    (project / "notes.txt").write_text("x")
    assert release.main([]) == 1
    assert re.fullmatch(r"error: .*clean tree.*\n", capsys.readouterr().err)


def test_the_version_has_one_source():
    """What names it beside pyproject.toml agrees."""
    assert release.read_version(ROOT) == VERSION
    assert describe_environment().startswith(f"mlepi {installed_version('mlepi')}\n")
    assert release.read_section(CHANGELOG, VERSION)
    dates = {found["version"]: found["date"] for found in release.SECTION.finditer(CHANGELOG)}
    release.check_citation(ROOT, VERSION, dates[VERSION])
    assert next(iter(dates)) == "Unreleased"


def test_citation_has_what_its_schema_asks_for():
    """Version 1.2.0 of the Citation File Format: required keys, and those of its parts."""
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(content)
    assert content["cff-version"] == "1.2.0"
    assert content["authors"] == [{"name": "The mlepi developers"}]
    assert content["type"] == "software"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", content["date-released"])
    for reference in (content["preferred-citation"], *content["references"]):
        assert {"type", "title", "authors"} <= set(reference)
        assert all({"name", "family-names"} & set(author) for author in reference["authors"])
        for identifier in reference.get("identifiers", []):
            assert identifier["type"] in {"doi", "url", "swh", "other"}


def test_workflows_and_hooks_call_what_is_there():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    calls = {
        step["run"]
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values()
        for step in job["steps"]
        if "run" in step
    }
    assert calls == {".ci/run", "make coverage", "make docs"}
    assert {call.split()[1] for call in calls - {".ci/run"}} <= targets
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (local,) = hooks["repos"]
    lint = makefile.split("\nlint:")[1].split("\n\n")[0].replace("$(BIN)/", "")
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        assert f"\t{hook['entry']}" in lint
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text("utf-8"))
        assert {"name", "description", "body"} <= set(form)
        names = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(names) == len(set(names)) > 0


def test_the_readme_shows_numbers_of_the_files():
    """And fits on a screen and a half of text."""
    front = load_script("docs/make_front.py")
    readme = (ROOT / "README.md").read_text("utf-8")
    table = front.read_table()
    assert front.replace_numbers(readme, table) == readme, "run: python docs/make_front.py"
    assert len(readme.splitlines()) < 60
    assert "make test" in readme
    for command in (
        "make demo",
        "python train.py model=hedgenet_phonon",
        "python infer.py temperature=[0,60,120,180,240,300]",
        "python train.py -m experiment=ablation_phonon",
    ):
        assert f"\n{command}" in readme
    with pytest.raises(DataError, match="no comments <!-- numbers -->"):
        front.replace_numbers("# mlepi\n", table)
    demo = json.loads((ROOT / "docs" / "pictures" / "demo.json").read_text("utf-8"))
    assert len(demo["temperatures"]) == len(demo["slope_ratios"]) == 6
