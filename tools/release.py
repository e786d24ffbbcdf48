"""Build, check and tag a release.

    make release                  # check the tree, build wheel and sdist into dist/, check both
    python tools/release.py --tag # the same, and tag the commit as vX.Y.Z

The version stands in pyproject.toml and nowhere else: what else names it (CITATION.cff, the section
of CHANGELOG.md) is compared with it. A tree with changes, a version that has a tag and a changelog
without a section of the version are refused before anything is built. Nothing is sent anywhere.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mlepi.errors import DataError, MlepiError, message  # noqa: E402
from mlepi.project_files import COMMIT_FILE, SHIPPED  # noqa: E402

VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(rc[1-9]\d*)?")
"""MAJOR.MINOR.PATCH of Semantic Versioning, or a candidate for it in the form of Python."""
SECTION = re.compile(r"^## \[(?P<version>[^\]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.M)


def run_git(root: Path, *arguments: str) -> str:
    """Return what git prints.

    Raises:
        DataError: git refuses.
    """
    done = subprocess.run(  # noqa: S603 - arguments of this file
        ["git", "-C", str(root), *arguments],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = f"git {' '.join(arguments)}"
        fix = "Run it in a clone."
        raise DataError(message(words, done.stderr.strip(), "a repository", fix))
    return done.stdout.strip()


def read_version(root: Path) -> str:
    """Return the version of ``pyproject.toml``.

    Raises:
        DataError: it is not MAJOR.MINOR.PATCH.
    """
    content = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    version = str(content["project"]["version"])
    if not VERSION.fullmatch(version):
        raise DataError(
            message(
                "pyproject.toml:project.version",
                repr(version),
                "MAJOR.MINOR.PATCH, perhaps with rc1",
                "Choose the next number as CHANGELOG.md says.",
            )
        )
    return version


def read_section(changelog: str, version: str) -> str:
    """Return what the changelog says of a version, without the heading.

    Raises:
        DataError: there is no section, it has no date, or it says nothing.
    """
    headings = list(SECTION.finditer(changelog))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        if heading["version"] != version:
            continue
        text = changelog[heading.end() : following.start() if following else None].strip()
        if heading["date"] and text:
            return text
        found = "an empty section" if heading["date"] else "a section without a date"
        break
    else:
        found = f"no section of {version}"
    raise DataError(
        message(
            "CHANGELOG.md",
            found,
            f"## [{version}] - YYYY-MM-DD with what changed",
            "Give the section Unreleased this heading, and begin a new one.",
        )
    )


def check_citation(root: Path, version: str, date: str) -> None:
    """Compare CITATION.cff with the version and its date.

    Raises:
        DataError: it names another one.
    """
    content = yaml.safe_load((root / "CITATION.cff").read_text("utf-8"))
    found = str(content.get("version")), str(content.get("date-released"))
    if found != (version, date):
        raise DataError(
            message(
                "CITATION.cff",
                f"version {found[0]} of {found[1]}",
                f"version {version} of {date}, as in CHANGELOG.md",
                "Set version and date-released.",
            )
        )


def check_repository(root: Path, tag: str) -> None:
    """Refuse a tree with changes, and a tag that exists.

    Raises:
        DataError: one of both.
    """
    if changes := run_git(root, "status", "--porcelain"):
        fix = "Commit them, or put them away with git stash -u."
        found = f"{len(changes.splitlines())} changed files ({changes.splitlines()[0].strip()} …)"
        raise DataError(message(str(root), found, "a clean tree", fix))
    if run_git(root, "tag", "--list", tag):
        fix = "Raise the version in pyproject.toml."
        raise DataError(message(tag, "a tag that exists", "a version without one", fix))


def check_sources(root: Path) -> tuple[str, str]:
    """Check all that needs no build.

    Returns:
        Version, and its section of the changelog.

    Raises:
        DataError: something is missing or does not agree.
    """
    version = read_version(root)
    check_repository(root, f"v{version}")
    changelog = (root / "CHANGELOG.md").read_text("utf-8")
    section = read_section(changelog, version)
    dates = {found["version"]: found["date"] for found in SECTION.finditer(changelog)}
    check_citation(root, version, dates[version])
    return version, section


def build(root: Path, target: Path) -> tuple[Path, Path]:
    """Build wheel and sdist from a clone of the commit, so that nothing else gets into them.

    Those of earlier builds in the target are removed.

    Returns:
        Wheel and sdist.
    """
    target.mkdir(parents=True, exist_ok=True)
    for old in (*target.glob("mlepi-*.whl"), *target.glob("mlepi-*.tar.gz")):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "mlepi"
        run_git(root, "clone", "--quiet", str(root), str(clone))
        code = (
            "import sys; from setuptools import build_meta as b; target = sys.argv[1];"
            "b.build_wheel(target); b.build_sdist(target)"  # both change sys.argv
        )
        command = [sys.executable, "-c", code, str(target.resolve())]
        subprocess.run(command, cwd=clone, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    version = read_version(root)
    (wheel,) = target.glob(f"mlepi-{version}-*.whl")
    return wheel, target / f"mlepi-{version}.tar.gz"


def check_distributions(wheel: Path, sdist: Path, version: str, commit: str) -> None:
    """Check that the wheel is of this version and commit, and that it can be built from the sdist.

    Raises:
        DataError: a file is missing or of another version.
    """
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        found = str(Parser().parsestr(file.read(metadata).decode())["Version"])
        commit_file = f"mlepi/{SHIPPED}/{COMMIT_FILE}"
        built_from = file.read(commit_file).decode().strip() if commit_file in names else "none"
    if (found, built_from) != (version, commit):
        fix = "Delete dist/ and build again."
        got, expected = f"{found} of commit {built_from}", f"{version} of commit {commit}"
        raise DataError(message(wheel.name, got, expected, fix))
    needed = {
        name.removeprefix(f"mlepi/{SHIPPED}/")
        for name in names - {commit_file}
        if not name.startswith(f"mlepi-{version}.dist-info/")
    }
    with tarfile.open(sdist) as archive:
        held = {name.removeprefix(f"mlepi-{version}/") for name in archive.getnames()}
    if missing := sorted((needed | {"pyproject.toml", "setup.py", "README.md", "LICENSE"}) - held):
        got = f"{len(missing)} files of the wheel missing, {missing[0]} among them"
        fix = "Name them in get_source_files of setup.py."
        raise DataError(message(sdist.name, got, "all that a wheel is built from", fix))


def check_installation(wheel: Path, version: str) -> None:
    """Install the wheel alone into an empty environment and ask it for its version.

    Raises:
        DataError: it answers something else.
    """
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        scripts = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin")
        pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python"), "install"]
        subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)  # noqa: S603
        done = subprocess.run(  # noqa: S603
            [str(scripts / "mlepi"), "--version"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if not done.stdout.startswith(f"mlepi {version}\n"):
        got = repr((done.stdout or done.stderr)[:200])
        fix = "Install it by hand to see why."
        raise DataError(message("mlepi --version of the wheel", got, f"mlepi {version}", fix))


def main(arguments: list[str] | None = None) -> int:
    """Make a release; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tag", action="store_true", help="tag the commit when all is well")
    parser.add_argument("--target", type=Path, default=ROOT / "dist", help="folder of the files")
    options = parser.parse_args(arguments)
    try:
        version, section = check_sources(ROOT)
        wheel, sdist = build(ROOT, options.target)
        check_distributions(wheel, sdist, version, run_git(ROOT, "rev-parse", "HEAD"))
        check_installation(wheel, version)
        for path in (wheel, sdist):
            print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
        if options.tag:
            text = f"mlepi {version}\n\n{section}"
            run_git(ROOT, "tag", "--annotate", "--cleanup=verbatim", f"v{version}", "-m", text)
            print(f"tagged v{version}; publish it with: git push origin v{version}")
        else:
            print(f"{version} can be tagged: python tools/release.py --tag")
    except MlepiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
